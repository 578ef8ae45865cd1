/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* SHA-256, and HMAC with it, by OpenSSL. Digest and context are made once: EVP_sha256() takes a
 * lock and looks for a provider at each use, which costs more than the hash of a short body.
 * All return 0, or -EIO when OpenSSL fails, as it does without memory. */

#include "buf.h"
#include "macro.h"
#include "slice.h"

#include <openssl/types.h>

#define SHA256_SIZE 32
#define SHA256_BLOCK 64 /* what it works on at once */

struct sha256 {
	EVP_MD *md;
	EVP_MD_CTX *context;
};

_must_check_ int sha256_init(struct sha256 *h);
void sha256_done(struct sha256 *h);

/* Of two texts, one after the other. */
_must_check_ int sha256_of(struct sha256 *h, struct slice first, struct slice second,
			   unsigned char *ret_digest);

/* Begins a hash that is kept, in a context of the caller's. Where `text` is whole blocks the
 * context holds none of its bytes, and it can't be calculated back. */
_must_check_ int sha256_begin(struct sha256 *h, struct slice text, EVP_MD_CTX *kept);

/* Of the text that `kept` was begun with and `text` after it; `kept` stays as it is. */
_must_check_ int sha256_end(struct sha256 *h, const EVP_MD_CTX *kept, struct slice text,
			    unsigned char *ret_digest);

/* HMAC (RFC 2104). `ret_mac` may be the key's place. */
_must_check_ int sha256_mac(struct sha256 *h, struct slice key, struct slice text,
			    unsigned char *ret_mac);

/* In hexadecimal, two digits a byte, small letters. */
void sha256_to_hex(const unsigned char *digest, char *out);
_must_check_ int sha256_append_hex(const unsigned char *digest, struct buf *out);
