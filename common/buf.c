/* SPDX-License-Identifier: Apache-2.0 */
#include "buf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BUF_FIRST 512 /* the first allocation, when nothing is known of the size */

void buf_done(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	free(b->p);
	*b = BUF_INIT(b->max);
}

/* Not realloc(): it would leave an unwiped copy behind. The byte above `cap` is for the NUL
 * that vsnprintf() writes, which isn't counted. */
static int buf_move(struct buf *b, size_t cap)
{
	char *p = malloc(cap + 1);

	if (!p)
		return -ENOMEM;
	if (b->p) {
		memcpy(p, b->p, b->n);
		explicit_bzero(b->p, b->cap);
	}
	free(b->p);
	b->p = p;
	b->cap = cap;
	return 0;
}

int buf_grow(struct buf *b, size_t more)
{
	size_t want, cap;

	if (more > b->max || b->n > b->max - more)
		return -EMSGSIZE;
	want = b->n + more;
	cap = MAX(b->cap, (size_t)BUF_FIRST);
	while (cap < want)
		cap *= 2;
	return buf_move(b, MIN(cap, b->max));
}

int buf_reserve_exact(struct buf *b, size_t cap)
{
	if (cap > b->max)
		return -EMSGSIZE;
	if (cap <= b->cap)
		return 0;
	return buf_move(b, cap);
}

int buf_append_all(struct buf *b, const struct slice *parts, size_t n)
{
	size_t more = 0;
	int r;

	for (size_t i = 0; i < n; i++)
		more += parts[i].n;
	r = buf_reserve(b, more);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = buf_append(b, parts[i]);
	return r;
}

int buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;
	int n, r;

	/* Into the room that is there; what doesn't fit is formatted again below. */
	va_start(args, format);
	n = vsnprintf(b->p ? b->p + b->n : NULL, b->p ? b->cap - b->n + 1 : 0, format, args);
	va_end(args);
	if (n < 0)
		return -EINVAL;
	if (b->p && (size_t)n <= b->cap - b->n) {
		b->n += (size_t)n;
		return 0;
	}

	r = buf_reserve(b, (size_t)n);
	if (r < 0 || n == 0)
		return r;

	va_start(args, format);
	vsnprintf(b->p + b->n, (size_t)n + 1, format, args);
	va_end(args);
	b->n += (size_t)n;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->n);
	if (n && b->n > n)
		memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}
