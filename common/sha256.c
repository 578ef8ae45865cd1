/* SPDX-License-Identifier: Apache-2.0 */
#include "sha256.h"

#include <errno.h>
#include <openssl/evp.h>

int sha256_init(struct sha256 *h)
{
	h->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	h->context = EVP_MD_CTX_new();
	return h->md && h->context ? 0 : -EIO;
}

void sha256_done(struct sha256 *h)
{
	EVP_MD_CTX_free(h->context);
	EVP_MD_free(h->md);
	*h = (struct sha256){0};
}

int sha256_of(struct sha256 *h, struct slice first, struct slice second,
	      unsigned char *ret_digest)
{
	if (!EVP_DigestInit_ex2(h->context, h->md, NULL) ||
	    !EVP_DigestUpdate(h->context, first.p, first.n) ||
	    !EVP_DigestUpdate(h->context, second.p, second.n) ||
	    !EVP_DigestFinal_ex(h->context, ret_digest, NULL))
		return -EIO;
	return 0;
}

int sha256_begin(struct sha256 *h, struct slice text, EVP_MD_CTX *kept)
{
	if (!EVP_DigestInit_ex2(kept, h->md, NULL) || !EVP_DigestUpdate(kept, text.p, text.n))
		return -EIO;
	return 0;
}

int sha256_end(struct sha256 *h, const EVP_MD_CTX *kept, struct slice text,
	       unsigned char *ret_digest)
{
	if (!EVP_MD_CTX_copy_ex(h->context, kept) ||
	    !EVP_DigestUpdate(h->context, text.p, text.n) ||
	    !EVP_DigestFinal_ex(h->context, ret_digest, NULL))
		return -EIO;
	return 0;
}

/* Made with the hash that is at hand. OpenSSL's own HMAC keeps the key in the ordinary heap
 * until another is set, and costs three times as much for a text this short. Here nothing of
 * the key stays: the hash of the outer pad writes over the state of the inner one, and OpenSSL
 * wipes the block it ended with. The result stays until the next hash, and the last one is
 * public. The states after the pads would save two blocks, but who has them can sign, and
 * OpenSSL has no place for them in the secure heap. */
int sha256_mac(struct sha256 *h, struct slice key, struct slice text, unsigned char *ret_mac)
{
	struct {
		unsigned char inner[SHA256_BLOCK], outer[SHA256_BLOCK], digest[SHA256_SIZE];
	} s = {0}; /* all that is to be wiped */
	int r = 0;

	if (key.n > SHA256_BLOCK)
		r = sha256_of(h, key, (struct slice){0}, s.inner);
	else
		memcpy(s.inner, key.p, key.n);
	for (size_t i = 0; i < SHA256_BLOCK; i++) {
		s.outer[i] = s.inner[i] ^ 0x5c;
		s.inner[i] ^= 0x36;
	}
	if (r >= 0)
		r = sha256_of(h, (struct slice){(char *)s.inner, SHA256_BLOCK}, text, s.digest);
	if (r >= 0)
		r = sha256_of(h, (struct slice){(char *)s.outer, SHA256_BLOCK},
			      (struct slice){(char *)s.digest, SHA256_SIZE}, ret_mac);
	explicit_bzero(&s, sizeof(s));
	return r;
}

/* Two plain loops: the compiler makes vectors of them. */
void sha256_to_hex(const unsigned char *digest, char *out)
{
	char digits[2 * SHA256_SIZE];

	for (size_t i = 0; i < SHA256_SIZE; i++) {
		digits[2 * i] = (char)(digest[i] >> 4);
		digits[2 * i + 1] = (char)(digest[i] & 15);
	}
	for (size_t i = 0; i < sizeof(digits); i++)
		out[i] = (char)(digits[i] + (digits[i] < 10 ? '0' : 'a' - 10));
}

int sha256_append_hex(const unsigned char *digest, struct buf *out)
{
	char hex[2 * SHA256_SIZE];

	sha256_to_hex(digest, hex);
	return buf_append(out, (struct slice){hex, sizeof(hex)});
}
