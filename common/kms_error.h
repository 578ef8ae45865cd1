/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an error answer of KMS says of itself: its types, and whether one of them blames us
 * rather than the request. A type may stand in the body, in the header x-amzn-ErrorType or in
 * both, and the SDKs don't agree on which one counts; so all of them do. Pure. */

#include "json.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>

/* Borrows both. */
struct kms_error {
	struct slice header;        /* x-amzn-ErrorType; .p NULL where absent */
	const struct json_doc *doc; /* of the body; NULL where it is no JSON object */
};

/* Reads an answer. `body` is rewritten in place also when it isn't JSON; *ret_n is its
 * canonical length. False: it is no unambiguous JSON object, so that only the header's type
 * counts, and *ret_n is untouched. */
_must_check_ bool kms_error_read(char *body, size_t n, struct slice header,
				 struct json_doc *doc, struct kms_error *ret_error,
				 size_t *ret_n);

/* Where the last type stood; zero before the first. */
struct kms_error_place {
	unsigned place;
	size_t offset;
};

/* One type after the other, those of the body first. A text may list several with commas; each
 * is what stands before the first ':' and after the last '#', without spaces around it, and
 * never empty. False: no more. */
_must_check_ bool kms_error_next(const struct kms_error *error, struct kms_error_place *at,
				 struct slice *ret_type);

/* The first of them; empty where there is none. */
struct slice kms_error_type(const struct kms_error *error);

/* Whether a client that is told so should come more slowly. */
bool kms_error_throttles(struct slice type);

/* What an error answer says of us. */
enum kms_blame {
	KMS_BLAME_REQUEST,     /* nothing */
	KMS_BLAME_SIGNATURE,   /* the signature is wrong: the secret key, the clock */
	KMS_BLAME_CREDENTIALS, /* others may be better */
};

/* The worst of its types; *ret_type (may be NULL) is its name, static text, and untouched where
 * nothing is blamed. */
enum kms_blame kms_error_blame(const struct kms_error *error, const char **ret_type);

/* Whether the text holds the secret, or so much of it that it would be given away: a piece of
 * some 64 bytes, or all of one that is shorter (below 16 bytes nothing is looked for). The
 * beginning of a long secret doesn't count: that of a session token says only who made it and
 * where. */
_must_check_ bool kms_error_tells(struct slice text, struct slice secret);
