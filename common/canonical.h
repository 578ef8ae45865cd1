/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The canonical request of a signature (see sigv4.h) and its hash. The session token is most of
 * it, and of what is hashed for a short body. So the hash of what requests begin with, up to
 * the token, is kept: it is the same for one host and one second. */

#include "clock.h"
#include "credentials.h"
#include "sha256.h"
#include "sigv4.h"

#define CANONICAL_PREFIXES 4 /* hosts whose hash is kept; endpoints may be used in turn */

struct canonical {
	struct sha256 *sha256;
	struct buf text; /* wiped after each use */
	usec_t second;   /* of amz_date: most signatures share their second */
	char amz_date[CLOCK_AMZ_DATE_SIZE];
	struct canonical_prefix {
		EVP_MD_CTX *state;
		uint64_t serial; /* 0: the slot is empty */
		usec_t second;
		size_t content_type_n, host_n;
		size_t left; /* bytes at the token's end, after the last whole block */
		char content_type[64], host[264]; /* longer ones aren't kept */
	} prefixes[CANONICAL_PREFIXES];
	unsigned next; /* the slot that is given away next */
};

/* Borrows `sha256`. 0 or -EIO; canonical_done() in both cases. */
_must_check_ int canonical_init(struct canonical *c, struct sha256 *sha256);
void canonical_done(struct canonical *c);

/* Wipes what is kept. */
void canonical_forget(struct canonical *c);

/* X-Amz-Date; valid until another second is asked for. */
struct slice canonical_amz_date(struct canonical *c, usec_t wall);

struct slice canonical_signed_headers(const struct credentials *credentials,
				      const struct sigv4_request *request);

/* Appends the text. 0, -EMSGSIZE, -ENOMEM, -EIO. */
_must_check_ int canonical_write(struct canonical *c, const struct credentials *credentials,
				 const struct sigv4_request *request, usec_t wall,
				 struct buf *out);

/* The SHA-256 of the text. Errors as above. */
_must_check_ int canonical_hash(struct canonical *c, const struct credentials *credentials,
				const struct sigv4_request *request, usec_t wall,
				unsigned char *ret_digest);
