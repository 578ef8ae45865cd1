/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as what an upstream sends: whole, split at a place that follows from the bytes, and
 * byte by byte, with the same answer. The same as the answer of a proxy to a CONNECT. */

#include "clock.h"
#include "http_reply.h"
#include "limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BODY_MAX 4000 /* small enough to be passed */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() would go with -DNDEBUG. */
static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-reply: %s\n", what);
		abort();
	}
}

struct outcome {
	struct http_reply reply;
	enum reply_result result;
	size_t used;
};

static void read_here(struct outcome *o, struct slice piece)
{
	size_t used = piece.n + 1;

	o->result = http_reply_read(&o->reply, piece, &used);
	must(used <= piece.n, "used more than there was");
	must(o->result != REPLY_NEED_MORE || used == piece.n, "used less");
	o->used += used;
}

/* One piece, in an allocation just as long that is gone when it was read. */
static void read_piece(struct outcome *o, struct slice piece)
{
	char *p = malloc(piece.n ? piece.n : 1);

	must(p != NULL, "no memory");
	if (piece.n)
		memcpy(p, piece.p, piece.n);
	read_here(o, (struct slice){p, piece.n});
	free(p);
}

static bool connecting;

static void begin(struct outcome *o)
{
	*o = (struct outcome){.result = REPLY_NEED_MORE};
	if (connecting)
		http_reply_init_connect(&o->reply);
	else
		http_reply_init(&o->reply, BODY_MAX);
}

/* The first `n` bytes, then the others. */
static void read_split(struct outcome *o, struct slice bytes, size_t n)
{
	begin(o);
	if (n)
		read_piece(o, (struct slice){bytes.p, n});
	if (o->result == REPLY_NEED_MORE && n < bytes.n)
		read_piece(o, (struct slice){bytes.p + n, bytes.n - n});
}

/* All of them in one and the same byte of memory: what is kept of a byte must be a copy. An
 * allocation for each took most of this target's time. */
static void read_bytes(struct outcome *o, struct slice bytes)
{
	char *p = malloc(1);

	must(p != NULL, "no memory");
	begin(o);
	for (size_t i = 0; i < bytes.n && o->result == REPLY_NEED_MORE; i++) {
		*p = bytes.p[i];
		read_here(o, (struct slice){p, 1});
	}
	free(p);
}

/* A Date that is taken is the one that glibc reads there. */
static void check_date(struct slice date)
{
	char copy[CLOCK_HTTP_DATE_SIZE] = "";
	struct tm tm = {0};
	const char *end;
	usec_t at;

	if (!date.p || !clock_parse_http_date(date, &at))
		return;
	must(date.n == sizeof(copy) - 1, "a Date of another length");
	memcpy(copy, date.p, date.n);
	end = strptime(copy, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	must(end && *end == '\0', "a Date that glibc doesn't read");
	must((usec_t)timegm(&tm) * USEC_PER_SEC == at, "another time than glibc reads");
}

static void check_done(const struct http_reply *reply)
{
	must(reply->status >= 200 && reply->status <= 599, "status");
	must(reply->head.n <= LIMIT_REPLY_HEAD && reply->head.n >= 4 &&
		     memcmp(reply->head.p + reply->head.n - 4, "\r\n\r\n", 4) == 0,
	     "head");
	for (size_t i = 0; i < _REPLY_HEADER_MAX; i++) {
		struct slice h = reply->headers[i];

		if (!h.p)
			continue;
		must(h.p >= reply->head.p && h.p + h.n <= reply->head.p + reply->head.n,
		     "slice");
		for (size_t c = 0; c < h.n; c++)
			must(h.p[c] >= 0x20 && h.p[c] < 0x7f, "a byte that may not be relayed");
	}
	check_date(reply->headers[REPLY_DATE]);
}

static void compare(const struct outcome *a, const struct outcome *b)
{
	must(a->result == b->result, "another result");
	if (a->result == REPLY_BAD)
		must(a->reply.fault == b->reply.fault, "another fault");
	if (a->result != REPLY_DONE)
		return;
	must(a->used == b->used && a->reply.status == b->reply.status &&
		     a->reply.keep_alive == b->reply.keep_alive &&
		     a->reply.has_age == b->reply.has_age &&
		     slice_eq(buf_slice(&a->reply.body), buf_slice(&b->reply.body)),
	     "other values");
	for (size_t i = 0; i < _REPLY_HEADER_MAX; i++)
		must(slice_eq(a->reply.headers[i], b->reply.headers[i]), "another header");
}

static size_t place_of_split(struct slice bytes)
{
	uint32_t hash = 2166136261u; /* FNV-1a: every change of the input moves the split */

	for (size_t i = 0; i < bytes.n; i++)
		hash = (hash ^ (unsigned char)bytes.p[i]) * 16777619u;
	return hash % (bytes.n + 1);
}

static void check(struct slice bytes)
{
	struct outcome whole, pieces;

	read_split(&whole, bytes, bytes.n);
	must(whole.reply.body.n <= whole.reply.body.cap && whole.reply.body.cap <= BODY_MAX,
	     "body");
	if (whole.result == REPLY_DONE)
		check_done(&whole.reply);
	if (connecting && whole.result == REPLY_DONE)
		must(whole.used >= 4 && memcmp(bytes.p + whole.used - 4, "\r\n\r\n", 4) == 0 &&
			     !whole.reply.body.n,
		     "more than a head");
	if (whole.result == REPLY_BAD)
		must(whole.reply.fault != NULL, "no fault");

	read_split(&pieces, bytes, place_of_split(bytes));
	compare(&whole, &pieces);
	http_reply_done(&pieces.reply);

	read_bytes(&pieces, bytes);
	compare(&whole, &pieces);
	http_reply_done(&pieces.reply);
	http_reply_done(&whole.reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice bytes = {(const char *)data, size};

	connecting = false;
	check(bytes);
	connecting = true;
	check(bytes);
	return 0;
}
