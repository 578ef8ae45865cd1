/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reading credentials from the JSON that IMDS, a container endpoint or a file gives. Pure. */

#include "credentials.h"
#include "error.h"
#include "macro.h"

enum credentials_form {
	CREDENTIALS_FORM_IMDS, /* Code is there and says Success; token and Expiration too */
	CREDENTIALS_FORM_CONTAINER, /* token and Expiration are there */
	CREDENTIALS_FORM_FILE, /* long-term keys have neither; also `credential_process` output
				*/
};

/* Reads text[0..n), rewriting it in place; the caller wipes it. The session token is the member
 * Token or SessionToken; members that aren't needed are passed over. -EINVAL: not credentials,
 * or an error that came with status 200; -ENOMEM: no room in the secure heap. Then `error` (may
 * be NULL) says so in a phrase without a subject ("can't be read: ..."), never quoting a
 * secret.
 */
_must_check_ int credentials_reply_parse(enum credentials_form form, char *text, size_t n,
					 struct credentials **ret_credentials,
					 struct error *error);

/* Makes the credentials, once their parts are read, with the errors above. */
_must_check_ int credentials_reply_make(struct slice access_key_id,
					struct slice secret_access_key,
					struct slice session_token, usec_t expiration,
					struct credentials **ret_credentials,
					struct error *error);

/* The Expiration of an answer or file. -EINVAL: not a time like 2026-01-02T03:04:05Z; then
 * `error` says so as above. */
_must_check_ int credentials_reply_expiration(struct slice text, usec_t *ret_expiration,
					      struct error *error);
