/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* AWS credentials: a counted value, immutable once it is published (credentials_cache.h). From
 * then on who holds a reference may use it on any thread. */

#include "clock.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

struct credentials {
	_Atomic unsigned refs;
	uint64_t serial;   /* given by who publishes them; newer ones have a larger one, so that
			    * no two are alike: what signers keep is kept by it. 0: none yet */
	usec_t expiration; /* wall clock; 0: does not expire */
	char *access_key_id; /* not secret, but secure heap as well */
	char *secret_access_key;
	char *session_token; /* NULL: long-term credentials */
};

/* Checks the characters (access key id: 16 to 128 of [A-Za-z0-9_]; secret and token: printable
 * ASCII without space, secret 1 to 256 bytes, token up to 16 KiB; an empty token is none),
 * since both go into a header. They have no serial yet. -EINVAL if they aren't, -ENOMEM. */
_must_check_ int credentials_new(struct slice access_key_id, struct slice secret_access_key,
				 struct slice session_token, usec_t expiration,
				 struct credentials **ret_credentials);

struct credentials *credentials_ref(struct credentials *c);   /* accepts NULL */
struct credentials *credentials_unref(struct credentials *c); /* returns NULL */
DEFINE_CLEANUP(struct credentials *, credentials_unref)

/* The same keys, token and expiration; the serial doesn't count. */
bool credentials_equal(const struct credentials *a, const struct credentials *b);
