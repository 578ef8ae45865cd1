/* SPDX-License-Identifier: Apache-2.0 */
#include "check_head.h"

#include "limit.h"

#include <stdio.h>
#include <stdlib.h>

/* assert() would go with -DNDEBUG. */
static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "check_head: %s\n", what);
		abort();
	}
}

static bool within(struct slice inner, struct slice outer)
{
	return inner.p >= outer.p && inner.p + inner.n <= outer.p + outer.n;
}

/* What any head that is accepted must be, said without the reader's own tables. */
static void check_bytes(struct slice head)
{
	must(head.n <= LIMIT_HEAD, "too long");
	must(memmem(head.p, head.n, "\r\n\r\n", 4) == head.p + head.n - 4, "ends elsewhere");
	for (size_t i = 0; i < head.n; i++) {
		char c = head.p[i];

		if (c == '\r')
			must(head.p[i + 1] == '\n', "bare CR");
		else if (c == '\n')
			must(i > 0 && head.p[i - 1] == '\r', "bare LF");
		else
			must(c == '\t' || (c >= 0x20 && c < 0x7f), "control byte");
		if (i > 0 && head.p[i - 1] == '\n')
			must(c != ' ' && c != '\t', "folded line");
	}
}

/* The first line, said once more: POST, and / or http://HOST[:PORT][/]. */
static void check_post_line(const struct http_head *head, struct slice own)
{
	static const char version[] = " HTTP/1.1\r\n", post[] = "POST ", scheme[] = "http://";
	const char *end = memmem(own.p, own.n, "\r\n", 2);
	struct slice line = {own.p, (size_t)(end - own.p) + 2}, target;

	must(slice_starts(line, SLICE("POST ")) && line.n > strlen(post) + strlen(version) &&
		     memcmp(line.p + line.n - strlen(version), version, strlen(version)) == 0,
	     "request line");
	target = (struct slice){line.p + strlen(post), line.n - strlen(post) - strlen(version)};
	if (slice_eq_str(target, "/"))
		return;
	must(target.n > strlen(scheme) &&
		     slice_eq_nocase((struct slice){target.p, strlen(scheme)},
				     SLICE("http://")),
	     "scheme");
	target = (struct slice){target.p + strlen(scheme), target.n - strlen(scheme)};
	target.n -= target.p[target.n - 1] == '/';
	must(within(head->host, target), "host of another place than the target");
	for (size_t i = 0; i < target.n; i++)
		must(!memchr("/?#@% \\", target.p[i], 7), "not a mere authority");
}

static void check_done(const struct http_head *head, struct slice bytes,
		       const struct http_head_options *options)
{
	struct slice own = {bytes.p, head->length};

	must(head->length <= bytes.n, "longer than its bytes");
	if (head->kind == HEAD_HTTP2) {
		must(slice_eq_str(own, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "preface");
		return;
	}
	check_bytes(own);
	must(head->host.n > 0 && head->host.n <= 253 && within(head->host, own), "host");
	if (head->kind == HEAD_CONNECT) {
		must(options->allow_connect, "CONNECT without a tunnel");
		must(head->port >= 1 && head->port <= 65535, "port");
		must(head->content_length == 0 && !head->action.p && !head->expect_continue,
		     "a CONNECT of a request");
		return;
	}
	check_post_line(head, own);
	must(head->action.n > 0 && head->action.n <= 129 && within(head->action, own),
	     "action");
	must(head->content_length <= options->body_max, "body");
}

static void check_refused(const struct http_head *head)
{
	must(head->fault != NULL, "no fault");
	must(head->refusal == REFUSAL_FRAMING || head->refusal == REFUSAL_HEAD_TOO_LARGE ||
		     head->refusal == REFUSAL_BODY_TOO_LARGE ||
		     head->refusal == REFUSAL_EXPECTATION,
	     "another refusal");
}

/* `a` and `b` were read from equal bytes at different places. */
static bool same(const struct http_head *a, const struct http_head *b)
{
	return a->kind == b->kind && a->length == b->length && slice_eq(a->host, b->host) &&
	       a->host_is_address == b->host_is_address && a->port == b->port &&
	       slice_eq(a->action, b->action) && a->content_length == b->content_length &&
	       a->expect_continue == b->expect_continue && a->close == b->close;
}

static void compare(enum head_result result, const struct http_head *head,
		    enum head_result want, const struct http_head *whole)
{
	must(result == want, "another result");
	if (result == HEAD_REFUSED)
		must(head->refusal == whole->refusal && head->fault == whole->fault,
		     "another fault");
	if (result == HEAD_DONE)
		must(same(head, whole), "other values");
}

static enum head_result read_split(struct http_head *head, struct slice bytes, size_t split,
				   const struct http_head_options *options)
{
	char *part = malloc(split ? split : 1); /* just as long: an overread is seen */
	enum head_result result;

	must(part != NULL, "no memory");
	if (split)
		memcpy(part, bytes.p, split);
	http_head_init(head);
	result = http_head_read(head, (struct slice){part, split}, options);
	/* Its slices point into `part`: the same bytes, where the caller keeps them. */
	if (result == HEAD_DONE) {
		if (head->host.p)
			head->host.p = bytes.p + (head->host.p - part);
		if (head->action.p)
			head->action.p = bytes.p + (head->action.p - part);
	}
	free(part);
	return result == HEAD_NEED_MORE ? http_head_read(head, bytes, options) : result;
}

static size_t place_of_split(struct slice bytes)
{
	uint32_t hash = 2166136261u; /* FNV-1a: every change of the input moves the split */

	for (size_t i = 0; i < bytes.n; i++)
		hash = (hash ^ (unsigned char)bytes.p[i]) * 16777619u;
	return hash % (bytes.n + 1);
}

void check_head(struct slice bytes, const struct http_head_options *options)
{
	enum head_result result, want;
	struct http_head whole, head;

	http_head_init(&whole);
	want = http_head_read(&whole, bytes, options);
	if (want == HEAD_DONE)
		check_done(&whole, bytes, options);
	else if (want == HEAD_REFUSED)
		check_refused(&whole);
	else
		must(bytes.n < LIMIT_HEAD, "wants more than the limit");

	result = read_split(&head, bytes, place_of_split(bytes), options);
	compare(result, &head, want, &whole);

	http_head_init(&head);
	result = HEAD_NEED_MORE;
	for (size_t n = 1; n <= bytes.n && result == HEAD_NEED_MORE; n++)
		result = http_head_read(&head, (struct slice){bytes.p, n}, options);
	compare(result, &head, want, &whole);
}
