/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Sixteen bytes of text at once, in the vector registers that every x86-64 and arm64 has; the
 * compiler makes plain code of it for other machines. Comparing a block with a byte gives a
 * block of marks: -1 where it is so, else 0. Bytes are signed: those from 0x80 up are below
 * 0x20 too.
 *
 * Give each block a name of its own, for a register: an array of them leaves what may be a
 * secret on the stack. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef signed char block __attribute__((vector_size(16)));
typedef uint64_t block_halves __attribute__((vector_size(16)));

/* Reads all sixteen: they must be there. */
static inline block block_load(const char *p)
{
	block b;

	memcpy(&b, p, sizeof(b));
	return b;
}

static inline bool block_any(block marks)
{
	block_halves h = (block_halves)marks;

	return h[0] | h[1];
}

/* The place of the first mark; 16 if there is none. */
static inline size_t block_first(block marks)
{
	block_halves h = (block_halves)marks;
	uint64_t half = h[0] ? h[0] : h[1];
	int zeros;

	if (!half)
		return sizeof(block);
	zeros = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_ctzll(half)
							  : __builtin_clzll(half);
	return (size_t)zeros / 8 + (h[0] ? 0 : 8);
}

/* How many bytes at `p` are text: 0x20 to 0x7e and `also`, but never `except`. Both are
 * literals; a space and 0x7f change nothing. */
static inline size_t block_text_run(const char *p, size_t n, char also, char except)
{
	size_t i = 0;

	while (n - i >= sizeof(block)) {
		block b = block_load(p + i);
		size_t run = block_first(((b < 0x20) & (b != (signed char)also)) | (b == 0x7f) |
					 (b == (signed char)except));

		i += run;
		if (run < sizeof(block))
			return i;
	}
	while (i < n && ((p[i] >= 0x20 && p[i] < 0x7f) || p[i] == also) && p[i] != except)
		i++;
	return i;
}
