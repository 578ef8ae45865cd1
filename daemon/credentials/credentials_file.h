/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Credentials from a file, as systemd's LoadCredential= hands one over; read again when it
 * changes. A relative path is one under $CREDENTIALS_DIRECTORY. */

#include "config.h"
#include "error.h"
#include "macro.h"
#include "slice.h"
#include "source.h"

_must_check_ int credentials_file_new(const struct credentials_config *config,
				      struct source **ret_source);

/* Whether the source can read credentials from the file `path`. 0, 1 where
 * $CREDENTIALS_DIRECTORY would be needed and there is none, or negative errno; each but 0 with
 * an error. */
_must_check_ int credentials_file_check(const char *path, struct error *error);

/* Reads what such a file holds; `text` is rewritten, the caller wipes it. Either the JSON that
 * `credential_process` prints (AccessKeyId, SecretAccessKey, SessionToken or Token,
 * Expiration), or the shared credentials file of the AWS tools: `name = value` lines in a
 * section [default], where aws_access_key_id, aws_secret_access_key and aws_session_token
 * count. Errors as credentials_reply_parse(). */
_must_check_ int credentials_file_parse(char *text, size_t n,
					struct credentials **ret_credentials,
					struct error *error);
