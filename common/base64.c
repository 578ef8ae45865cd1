/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

#include <stdint.h>

static const char alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct slice s, char *out)
{
	for (size_t i = 0; i < s.n; i += 3) {
		size_t here = MIN((size_t)3, s.n - i);
		uint32_t bits = 0;

		for (size_t k = 0; k < 3; k++)
			bits = bits << 8 | (k < here ? (unsigned char)s.p[i + k] : 0u);
		for (size_t k = 0; k < 4; k++)
			*out++ = (char)(k <= here ? alphabet[bits >> (18 - 6 * k) & 63] : '=');
	}
}

/* 64 for what is no letter. */
static uint32_t value_of(char c)
{
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (uint32_t)(at - alphabet) : 64;
}

bool base64_decode(struct slice s, char *out, size_t *ret_n)
{
	size_t padding, n = 0;

	if (s.n % 4 != 0)
		return false;
	padding = s.n == 0 || s.p[s.n - 1] != '=' ? 0 : s.p[s.n - 2] != '=' ? 1 : 2;
	for (size_t i = 0; i < s.n; i += 4) {
		size_t letters = i + 4 < s.n ? 4 : 4 - padding;
		uint32_t bits = 0;

		for (size_t k = 0; k < 4; k++) {
			uint32_t value = k < letters ? value_of(s.p[i + k]) : 0;

			if (value == 64)
				return false;
			bits = bits << 6 | value;
		}
		if (bits & ((UINT32_C(1) << 8 * (4 - letters)) - 1))
			return false; /* spare bits */
		for (size_t k = 0; k + 1 < letters; k++)
			out[n++] = (char)(bits >> (16 - 8 * k));
	}
	*ret_n = n;
	return true;
}
