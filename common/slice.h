/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Bytes somebody else owns. All that comes from outside is a slice, never a C string. */

#include "macro.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
	const char *p;
	size_t n;
};

/* A slice of a string literal. */
#define SLICE(lit) ((struct slice){(lit), sizeof(lit) - 1})

static inline struct slice slice_from(const char *s)
{
	return (struct slice){s, s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *s)
{
	return slice_eq(a, slice_from(s));
}

/* Equal but for the case of ASCII letters. */
bool slice_eq_nocase(struct slice a, struct slice b);

bool slice_starts(struct slice a, struct slice prefix);

/* Decimal digits only, at least one, no sign, no leading zero but "0" itself, at most `max`.
 * Returns false, with *ret_value untouched, on anything else. */
_must_check_ bool slice_to_u64(struct slice s, unsigned long long max,
			       unsigned long long *ret_value);

#define SLICE_NUMBER_SIZE 20 /* of 2^64 - 1 */

/* `value` in decimal, in room[SLICE_NUMBER_SIZE]. */
struct slice slice_from_number(unsigned long long value, char *room);

/* Writes a printable copy of `s` into out[size], always NUL-terminated: bytes outside 0x20-0x7e
 * and the backslash become \xNN; what doesn't fit is cut and marked "...". For log values and
 * messages only. `size` is at least 8. Returns out. */
const char *slice_escape(struct slice s, char *out, size_t size);
