/* SPDX-License-Identifier: Apache-2.0 */
#include "slice.h"

#include "block.h"

#include <assert.h>
#include <stdint.h>

static unsigned char fold(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/* The same for eight bytes at once. In each byte the highest bit is made, by sums that can't
 * carry into the next, to say "from A up" and "above Z"; where they differ is a letter. */
static uint64_t fold_eight(const char *p)
{
	const uint64_t each = 0x0101010101010101, high = 0x80 * each;
	uint64_t x, low, letter;

	memcpy(&x, p, sizeof(x));
	low = x & ~high;
	letter = (low + (0x80 - 'A') * each) ^ (low + (0x7f - 'Z') * each);
	letter &= ~x & high; /* no byte from 0x80 up is one */
	return x | letter >> 2;
}

/* Not strncasecmp(): it stops at a NUL, and it asks the locale. */
bool slice_eq_nocase(struct slice a, struct slice b)
{
	if (a.n != b.n)
		return false;
	if (a.n < 8) {
		for (size_t i = 0; i < a.n; i++)
			if (fold(a.p[i]) != fold(b.p[i]))
				return false;
		return true;
	}
	for (size_t i = 0; i < a.n - 8; i += 8)
		if (fold_eight(a.p + i) != fold_eight(b.p + i))
			return false;
	/* The last eight, some of them for the second time. */
	return fold_eight(a.p + a.n - 8) == fold_eight(b.p + a.n - 8);
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

		if (digit > 9 || v > max / 10 || digit > max - v * 10)
			return false;
		v = v * 10 + digit;
	}
	*ret_value = v;
	return true;
}

struct slice slice_from_number(unsigned long long value, char *room)
{
	char *end = room + SLICE_NUMBER_SIZE, *at = end;

	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	return (struct slice){at, (size_t)(end - at)};
}

static bool is_plain(char c)
{
	return c >= 0x20 && c <= 0x7e && c != '\\';
}

/* Writes one byte's text into out[4]; returns how many characters it has. */
static size_t escape_byte(char c, char *out)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char byte = (unsigned char)c;

	if (is_plain(c)) {
		out[0] = c;
		return 1;
	}
	memcpy(out, (char[]){'\\', 'x', hex[byte >> 4], hex[byte & 15]}, 4);
	return 4;
}

const char *slice_escape(struct slice s, char *out, size_t size)
{
	static const char mark[] = "...";
	size_t o = 0, cut = 0; /* `cut`: the last place between two bytes where the mark fits */

	assert(size >= 8);
	/* Nearly all values are plain, and fit. */
	if (s.n < size && block_text_run(s.p, s.n, ' ', '\\') == s.n) {
		if (s.n)
			memcpy(out, s.p, s.n);
		out[s.n] = '\0';
		return out;
	}
	for (size_t i = 0; i < s.n; i++) {
		char text[4];
		size_t n = escape_byte(s.p[i], text);

		if (o + sizeof(mark) <= size)
			cut = o;
		if (o + n + 1 > size) {
			memcpy(out + cut, mark, sizeof(mark));
			return out;
		}
		memcpy(out + o, text, n);
		o += n;
	}
	out[o] = '\0';
	return out;
}
