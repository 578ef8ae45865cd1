/* SPDX-License-Identifier: Apache-2.0 */
#include "mutate.h"

#include <stdlib.h>

#define OUT_MAX ((size_t)64 << 10)

static const char *const tokens[] = {
	"\r\n",
	"\n",
	"\r",
	"\r\n\r\n",
	" ",
	"\t",
	":",
	",",
	";",
	"0",
	"1",
	"00",
	"\x80",
	"\x01",
	"HTTP/1.1",
	"HTTP/1.0",
	"close",
	"keep-alive",
	"chunked",
	"identity",
	"Content-Length: 2\r\n",
	"Content-Length: 0\r\n",
	"Transfer-Encoding: chunked\r\n",
	"Host: a\r\n",
	"Connection: close\r\n",
	"Connection: keep-alive\r\n",
	"Connection: keep-alive, close\r\n",
	"Connection: Upgrade\r\n",
	"Connection: TE, upgrade, http2-settings\r\n",
	"upgrade",
	"te, ",
	"Upgrade: h2c\r\n",
	"TE: trailers\r\n",
	"POST http://127.0.0.1:8000/ HTTP/1.1\r\n",
	"http://",
	":80",
	"/",
	"; charset=utf-8",
	"Expect: 100-continue\r\n",
	"Keep-Alive: timeout=5\r\n",
	"Content-Encoding: identity\r\n",
	"Age: 1\r\n",
	"Date: x\r\n",
	"X: y\r\n",
	"X:\r\n",
	" folded\r\n",
	"TrentService.Encrypt",
	"application/x-amz-json-1.1",
	"HTTP/1.1 100 Continue\r\n\r\n",
	"0\r\n\r\n",
	"1\r\na\r\n",
};

/* xorshift64*: the same everywhere, unlike random(3). */
size_t mutator_random(struct mutator *m, size_t n)
{
	m->random ^= m->random >> 12;
	m->random ^= m->random << 25;
	m->random ^= m->random >> 27;
	return (size_t)((m->random * 0x2545f4914f6cdd1dULL) >> 33) % n;
}

static void append(struct buf *b, struct slice s)
{
	if (s.n <= b->max - b->n && buf_append(b, s) < 0)
		abort();
}

/* Replaces `n` bytes at `at` by `s`. */
static void replace(struct mutator *m, size_t at, size_t n, struct slice s)
{
	struct buf swap = m->out;

	m->spare.n = 0;
	append(&m->spare, (struct slice){m->out.p, at});
	append(&m->spare, s);
	append(&m->spare, (struct slice){m->out.p + at + n, m->out.n - at - n});
	m->out = m->spare;
	m->spare = swap;
}

static size_t somewhere(struct mutator *m)
{
	return mutator_random(m, m->out.n + 1);
}

/* A line of the head but the first, with its line end; empty when there is none. */
static struct slice some_line(struct mutator *m, struct slice of)
{
	const char *end = memmem(of.p, of.n, "\r\n\r\n", 4), *from, *line, *next;

	if (!end)
		return (struct slice){of.p, 0};
	from = of.p + mutator_random(m, (size_t)(end - of.p) + 1);
	line = memmem(from, (size_t)(end + 2 - from), "\r\n", 2);
	if (!line || line == end)
		return (struct slice){of.p, 0};
	line += 2;
	next = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
	return (struct slice){line, (size_t)(next - line) + 2};
}

static void flip_case(struct mutator *m)
{
	size_t at = somewhere(m);

	if (at < m->out.n && ((m->out.p[at] | 0x20) >= 'a' && (m->out.p[at] | 0x20) <= 'z'))
		m->out.p[at] ^= 0x20;
}

static void add_blank(struct mutator *m)
{
	struct slice line = some_line(m, buf_slice(&m->out));
	const char *colon = memchr(line.p, ':', line.n);
	size_t at = (size_t)(colon ? colon + 1 - m->out.p : 0);

	if (colon && mutator_random(m, 2))
		at = (size_t)(line.p - m->out.p) + line.n - 2;
	if (colon)
		replace(m, at, 0, mutator_random(m, 2) ? SLICE(" ") : SLICE("\t"));
}

static void move_line(struct mutator *m)
{
	struct slice line = some_line(m, buf_slice(&m->out)), target;
	char copy[512];
	size_t n = line.n;

	if (n == 0 || n > sizeof(copy))
		return;
	memcpy(copy, line.p, n);
	replace(m, (size_t)(line.p - m->out.p), n, (struct slice){NULL, 0});
	target = some_line(m, buf_slice(&m->out));
	if (target.n)
		replace(m, (size_t)(target.p - m->out.p), 0, (struct slice){copy, n});
}

static void add_line(struct mutator *m)
{
	struct slice seed = m->seeds[mutator_random(m, m->n_seeds)];
	struct slice line = some_line(m, seed), target = some_line(m, buf_slice(&m->out));

	if (target.n)
		replace(m, (size_t)(target.p - m->out.p), 0, line);
}

static void remove_line(struct mutator *m)
{
	struct slice line = some_line(m, buf_slice(&m->out));

	if (line.n)
		replace(m, (size_t)(line.p - m->out.p), line.n, (struct slice){NULL, 0});
}

/* A line that stands between two others, where most tokens are lines of their own. */
static void add_token_line(struct mutator *m)
{
	struct slice target = some_line(m, buf_slice(&m->out));

	if (target.n)
		replace(m, (size_t)(target.p - m->out.p), 0,
			slice_from(tokens[mutator_random(m, ELEMENTSOF(tokens))]));
}

static void add_token(struct mutator *m)
{
	replace(m, somewhere(m), 0, slice_from(tokens[mutator_random(m, ELEMENTSOF(tokens))]));
}

static void change_byte(struct mutator *m)
{
	size_t at = somewhere(m);

	if (at < m->out.n)
		m->out.p[at] = (char)mutator_random(m, 256);
}

static void change_digit(struct mutator *m)
{
	size_t at = somewhere(m);

	while (at < m->out.n && !(m->out.p[at] >= '0' && m->out.p[at] <= '9'))
		at++;
	if (at < m->out.n)
		m->out.p[at] = (char)('0' + mutator_random(m, 10));
}

static void remove_bytes(struct mutator *m)
{
	size_t at = somewhere(m);

	replace(m, at, MIN(1 + mutator_random(m, 4), m->out.n - at), (struct slice){NULL, 0});
}

static void splice(struct mutator *m)
{
	struct slice seed = m->seeds[mutator_random(m, m->n_seeds)];
	size_t from = mutator_random(m, seed.n + 1), at = somewhere(m);

	replace(m, at, m->out.n - at, (struct slice){seed.p + from, seed.n - from});
}

void mutator_init(struct mutator *m, uint64_t seed, const struct slice *seeds, size_t n_seeds)
{
	*m = (struct mutator){
		.random = seed ^ 0x9e3779b97f4a7c15ULL,
		.seeds = seeds,
		.n_seeds = n_seeds,
		.out = BUF_INIT(OUT_MAX),
		.spare = BUF_INIT(OUT_MAX),
	};
}

void mutator_done(struct mutator *m)
{
	buf_done(&m->out);
	buf_done(&m->spare);
}

struct slice mutator_next(struct mutator *m)
{
	static void (*const gentle[])(struct mutator *) = {flip_case, add_blank, move_line,
							   add_line, add_token_line};
	static void (*const harsh[])(struct mutator *) = {
		change_byte, change_digit, remove_bytes, remove_line, add_token, splice};

	m->out.n = 0;
	append(&m->out, m->seeds[mutator_random(m, m->n_seeds)]);
	for (size_t n = mutator_random(m, 5); n > 0; n--)
		gentle[mutator_random(m, ELEMENTSOF(gentle))](m);
	for (size_t n = mutator_random(m, 4); n > 1; n--) /* none, for half of them */
		harsh[mutator_random(m, ELEMENTSOF(harsh))](m);
	return buf_slice(&m->out);
}
