/* SPDX-License-Identifier: Apache-2.0 */
#include "slice.h"

#include <assert.h>
#include <strings.h>

bool slice_eq_nocase(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

bool slice_starts(struct slice a, struct slice prefix)
{
	return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}

bool slice_to_u64(struct slice s, unsigned long long max, unsigned long long *ret_value)
{
	unsigned long long v = 0;

	if (s.n == 0 || (s.n > 1 && s.p[0] == '0'))
		return false;

	for (size_t i = 0; i < s.n; i++) {
		unsigned digit = (unsigned char)s.p[i] - '0';

		if (digit > 9 || v > (max - MIN((unsigned long long)digit, max)) / 10)
			return false;
		v = v * 10 + digit;
	}

	if (v > max)
		return false;
	*ret_value = v;
	return true;
}

const char *slice_escape(struct slice s, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	size_t o = 0;

	assert(size >= 8);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool plain = c >= 0x20 && c <= 0x7e && c != '\\';

		/* Room for this byte, the mark of a cut and the NUL. */
		if (o + (plain ? 1 : 4) + 3 + 1 > size) {
			memcpy(out + o, "...", 3);
			o += 3;
			break;
		}
		if (plain) {
			out[o++] = (char)c;
		} else {
			out[o++] = '\\';
			out[o++] = 'x';
			out[o++] = hex[c >> 4];
			out[o++] = hex[c & 15];
		}
	}
	out[o] = '\0';
	return out;
}
