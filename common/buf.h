/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Growing bytes with a maximum. A buffer can't be made without its maximum, and it is wiped
 * when it is freed or moved, since request and reply bodies hold plaintext. */

#include "macro.h"
#include "slice.h"

#include <stddef.h>
#include <string.h>

struct buf {
	char *p;
	size_t n;   /* bytes in use */
	size_t cap; /* bytes allocated */
	size_t max; /* never more than this */
};

#define BUF_INIT(maximum) ((struct buf){.max = (maximum)})

/* Wipes and frees the bytes; the buffer is empty and usable afterwards. */
void buf_done(struct buf *b);

/* What buf_reserve() does when the room is not there yet. */
_must_check_ int buf_grow(struct buf *b, size_t more);

/* Makes room for `more` bytes after the ones in use, growing by doubling. -EMSGSIZE: would pass
 * the maximum. -ENOMEM. The buffer is unchanged on failure. Here and not in buf.c, as
 * buf_append() is, because the room is nearly always there. */
_must_check_ static inline int buf_reserve(struct buf *b, size_t more)
{
	return more <= b->cap - b->n ? 0 : buf_grow(b, more);
}

/* Grows to exactly `cap` bytes, for a length known beforehand. Errors as above. */
_must_check_ int buf_reserve_exact(struct buf *b, size_t cap);

_must_check_ static inline int buf_append(struct buf *b, struct slice s)
{
	int r = buf_reserve(b, s.n);

	if (r < 0 || s.n == 0) /* memcpy() takes no NULL */
		return r;
	memcpy(b->p + b->n, s.p, s.n);
	b->n += s.n;
	return 0;
}

/* All of the parts, or none. */
_must_check_ int buf_append_all(struct buf *b, const struct slice *parts, size_t n);
_must_check_ _printf_(2, 3) int buf_printf(struct buf *b, const char *format, ...);

/* Drops the first `n` bytes; the rest moves to the front. */
void buf_consume(struct buf *b, size_t n);

static inline struct slice buf_slice(const struct buf *b)
{
	return (struct slice){b->p, b->n};
}
