/* SPDX-License-Identifier: Apache-2.0 */
#include "http_reply.h"

#include "failing_malloc.h"
#include "limit.h"
#include "wire_table.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Bytes in an allocation of their own, just as long, so that a sanitizer sees an overread; they
 * are gone when the reader returns. */
static enum reply_result read_piece(struct http_reply *reply, struct slice bytes, size_t *used)
{
	char *p = malloc(bytes.n ? bytes.n : 1);
	enum reply_result result;

	ck_assert_ptr_nonnull(p);
	memcpy(p, bytes.p, bytes.n);
	result = http_reply_read(reply, (struct slice){p, bytes.n}, used);
	memset(p, 'Z', bytes.n);
	free(p);
	return result;
}

/* Pieces of `first` bytes and then of `step`; *ret_used over all of them. */
static enum reply_result read_pieces(struct http_reply *reply, struct slice bytes, size_t first,
				     size_t step, size_t *ret_used)
{
	enum reply_result result = REPLY_NEED_MORE;
	size_t at = 0, n = first, used;

	http_reply_init(reply, LIMIT_REPLY_BODY);
	while (result == REPLY_NEED_MORE && at < bytes.n) {
		n = MIN(n, bytes.n - at);
		result = read_piece(reply, (struct slice){bytes.p + at, n}, &used);
		ck_assert_uint_le(used, n);
		ck_assert(result != REPLY_NEED_MORE || used == n);
		at += used;
		n = step;
	}
	*ret_used = at;
	return result;
}

static bool has_word(struct slice words, const char *word)
{
	return memmem(words.p, words.n, word, strlen(word)) != NULL;
}

static bool as_expected(const struct http_reply *reply, size_t used, const struct wire_row *row)
{
	size_t rest = has_word(row->columns[2], "more") ? strlen("MORE") : 0;

	return reply->status == (int)strtol(row->columns[0].p, NULL, 10) &&
	       slice_eq(buf_slice(&reply->body), row->columns[1]) &&
	       reply->keep_alive == !has_word(row->columns[2], "close") &&
	       reply->has_age == has_word(row->columns[2], "age") &&
	       used == row->bytes.n - rest;
}

/* The next place to split after `n`; see test-http_head.c. */
static size_t next_split(size_t n)
{
	return n < KIB / 2 || n + 30 > LIMIT_REPLY_HEAD ? n + 1 : n + 61;
}

static void check_accepted(const struct wire_row *row, size_t first, size_t step)
{
	struct http_reply reply;
	size_t used;

	ck_assert_msg(read_pieces(&reply, row->bytes, first, step, &used) == REPLY_DONE,
		      "line %u, pieces of %zu and %zu: %s", row->line, first, step,
		      reply.fault ? reply.fault : "not done");
	ck_assert_msg(as_expected(&reply, used, row), "line %u, pieces of %zu and %zu",
		      row->line, first, step);
	http_reply_done(&reply);
}

START_TEST(accepts)
{
	struct wire_table table = wire_table_load("good-replies.txt", 4);

	for (size_t i = 0; i < table.n; i++) {
		const struct wire_row *row = &table.rows[i];

		for (size_t n = 1; n < row->bytes.n; n = next_split(n))
			check_accepted(row, n, row->bytes.n);
		check_accepted(row, row->bytes.n, row->bytes.n);
		check_accepted(row, 1, 1);
		check_accepted(row, 1, 7);
	}
	wire_table_done(&table);
}
END_TEST

/* The end of the stream ends no reply. */
START_TEST(needs_every_byte)
{
	struct wire_table table = wire_table_load("good-replies.txt", 4);

	for (size_t i = 0; i < table.n; i++) {
		const struct wire_row *row = &table.rows[i];
		size_t end = row->bytes.n - (has_word(row->columns[2], "more") ? 4 : 0);
		struct http_reply reply;
		size_t used;

		for (size_t n = 0; n < end; n = next_split(n)) {
			ck_assert_msg(read_pieces(&reply, (struct slice){row->bytes.p, n}, n, n,
						  &used) == REPLY_NEED_MORE,
				      "line %u: the first %zu bytes", row->line, n);
			http_reply_done(&reply);
		}
	}
	wire_table_done(&table);
}
END_TEST

static void check_refused(const struct wire_row *row, size_t first, size_t step)
{
	struct http_reply reply;
	size_t used;

	ck_assert_msg(read_pieces(&reply, row->bytes, first, step, &used) == REPLY_BAD,
		      "line %u, pieces of %zu and %zu: not refused", row->line, first, step);
	ck_assert_msg(slice_eq_str(row->columns[0], reply.fault),
		      "line %u, pieces of %zu and %zu: %s", row->line, first, step,
		      reply.fault);
	http_reply_done(&reply);
}

START_TEST(refuses)
{
	struct wire_table table = wire_table_load("bad-replies.txt", 2);

	ck_assert_uint_ge(table.n, 50);
	for (size_t i = 0; i < table.n; i++) {
		const struct wire_row *row = &table.rows[i];

		for (size_t n = 1; n < row->bytes.n; n = next_split(n))
			check_refused(row, n, row->bytes.n);
		check_refused(row, row->bytes.n, row->bytes.n);
		check_refused(row, 1, 1);
		check_refused(row, 1, 7);
	}
	wire_table_done(&table);
}
END_TEST

/* ---- the answer to a CONNECT ---- */

#define HEAD_END "\r\n\r\n"

static const struct {
	struct slice bytes;
	int status;        /* 0: it is refused */
	const char *fault; /* or what is behind it */
} connects[] = {
	{SLICE("HTTP/1.1 200 Connection established" HEAD_END), 200, ""},
	{SLICE("HTTP/1.0 200 OK\r\nProxy-agent: x" HEAD_END), 200, ""},
	{SLICE("HTTP/1.1 200 " HEAD_END "\x16\x03"), 200, "\x16\x03"},
	{SLICE("HTTP/1.1 204 No Content" HEAD_END), 204, ""},
	{SLICE("HTTP/1.1 304 No" HEAD_END), 304, ""},
	{SLICE("HTTP/1.1 200 OK\r\nContent-Length: 5" HEAD_END "hello"), 200, "hello"},
	{SLICE("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: x" HEAD_END), 200, ""},
	{SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" HEAD_END "0\r\n"), 200, "0\r\n"},
	{SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1" HEAD_END), 200,
	 ""},
	{SLICE("HTTP/1.1 407 No\r\nContent-Length: 5" HEAD_END "sorry"), 407, "sorry"},
	{SLICE("HTTP/1.1 100 Continue" HEAD_END "HTTP/1.1 200 OK" HEAD_END), 200, ""},
	{SLICE("HTTP/1.1 101 Switching Protocols" HEAD_END), 0,
	 "status is none of an answer to CONNECT"},
	{SLICE("HTTP/1.1 600 x" HEAD_END), 0, "status is none of an answer to CONNECT"},
	{SLICE("HTTP/1.1 099 x" HEAD_END), 0, "status is none of an answer to CONNECT"},
	{SLICE("HTTP/2 200 OK" HEAD_END), 0, "version is neither HTTP/1.1 nor HTTP/1.0"},
	{SLICE("HTTP/1.1 200" HEAD_END), 0, "malformed status line"},
	{SLICE("HTTP/1.1 2x0 OK" HEAD_END), 0, "malformed status line"},
	{SLICE("HTTP/1.1 200 OK\n\n"), 0, "bare LF"},
	{SLICE("HTTP/1.1 200 OK\r\nA : b" HEAD_END), 0, NULL},
	{SLICE("HTTP/1.1 200 OK\r\n folded: b" HEAD_END), 0, NULL},
	{SLICE("HTTP/1.1 200 OK\r\nno colon" HEAD_END), 0, NULL},
	{SLICE("HTTP/1.1 200 \xc3\xa9" HEAD_END), 0, NULL},
};

START_TEST(answers_a_connect)
{
	struct slice bytes = connects[_i].bytes;

	for (size_t step = 1; step <= bytes.n; step++) {
		enum reply_result result = REPLY_NEED_MORE;
		struct http_reply reply;
		size_t at = 0, used;

		http_reply_init_connect(&reply);
		while (result == REPLY_NEED_MORE) {
			size_t n = MIN(step, bytes.n - at);

			ck_assert_uint_gt(n, 0);
			result = read_piece(&reply, (struct slice){bytes.p + at, n}, &used);
			at += used;
		}
		ck_assert_int_eq(result, connects[_i].status ? REPLY_DONE : REPLY_BAD);
		if (result == REPLY_DONE) {
			ck_assert_int_eq(reply.status, connects[_i].status);
			ck_assert_uint_eq(bytes.n - at, strlen(connects[_i].fault));
			ck_assert_uint_eq(reply.body.n, 0);
		} else if (connects[_i].fault) {
			ck_assert_str_eq(reply.fault, connects[_i].fault);
		}
		http_reply_done(&reply);
	}
}
END_TEST

START_TEST(hands_out_the_relayed_headers)
{
	static const struct slice bytes = SLICE("HTTP/1.1 100 Continue\r\n"
						"Content-Type: not this\r\n"
						"Retry-After: nor this\r\n"
						"\r\n"
						"HTTP/1.1 400 Bad Request\r\n"
						"x-amzn-requestid:  abc-1  \r\n"
						"Server: Server\r\n"
						"cache-control: no-cache, no-store\r\n"
						"Cache-Control: public\r\n"
						"Expires:\r\n"
						"PRAGMA: no-cache\r\n"
						"DATE: Fri, 05 Mar 2021 15:01:40 GMT\r\n"
						"Content-type: application/x-amz-json-1.1\r\n"
						"X-Amz-Retry-After: 5\r\n"
						"X-Amzn-Errortype: AccessDeniedException\r\n"
						"Content-Length: 2\r\n"
						"\r\n{}");
	static const struct {
		const char *name, *value;
	} want[_REPLY_HEADER_MAX] = {
		[REPLY_CONTENT_TYPE] = {"Content-Type", "application/x-amz-json-1.1"},
		[REPLY_REQUEST_ID] = {"x-amzn-RequestId", "abc-1"},
		[REPLY_DATE] = {"Date", "Fri, 05 Mar 2021 15:01:40 GMT"},
		[REPLY_CACHE_CONTROL] = {"Cache-Control", "no-cache, no-store"},
		[REPLY_PRAGMA] = {"Pragma", "no-cache"},
		[REPLY_EXPIRES] = {"Expires", ""},
		[REPLY_RETRY_AFTER] = {"Retry-After", NULL},
		[REPLY_AMZ_RETRY_AFTER] = {"x-amz-retry-after", "5"},
		[REPLY_ERROR_TYPE] = {"x-amzn-ErrorType", "AccessDeniedException"},
	};

	for (size_t step = 1; step <= bytes.n; step++) {
		struct http_reply reply;
		size_t used;

		ck_assert(read_pieces(&reply, bytes, step, step, &used) == REPLY_DONE);
		for (size_t i = 0; i < _REPLY_HEADER_MAX; i++) {
			ck_assert_str_eq(http_reply_header_name(i), want[i].name);
			ck_assert_msg(!reply.headers[i].p == !want[i].value, "%s",
				      want[i].name);
			ck_assert(!want[i].value ||
				  slice_eq_str(reply.headers[i], want[i].value));
		}
		http_reply_done(&reply);
		ck_assert_ptr_null(reply.headers[REPLY_DATE].p);
		http_reply_done(&reply); /* may be called twice */
	}
}
END_TEST

#define REPLY_SIZE (LIMIT_REPLY_BODY + 200)

/* One reply of `n` bytes into out[REPLY_SIZE], sized or in two chunks; returns its length. */
static size_t write_reply(char *out, size_t n, bool chunked)
{
	static const char end[] = "\r\n0\r\n\r\n";
	size_t rest = chunked ? n - 1 : n;
	int at = snprintf(out, REPLY_SIZE,
			  chunked ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
				    "1\r\nx\r\n%zx\r\n"
				  : "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
			  rest);

	memset(out + at, 'x', rest);
	memcpy(out + at + rest, end, sizeof(end));
	return (size_t)at + rest + (chunked ? strlen(end) : 0);
}

START_TEST(limits_of_a_body)
{
	static const size_t limits[] = {2, 100, LIMIT_REPLY_BODY};
	char *out = malloc(REPLY_SIZE);

	ck_assert_ptr_nonnull(out);
	for (size_t i = 0; i < ELEMENTSOF(limits) * 2; i++) {
		size_t max = limits[i / 2];

		for (size_t n = max - (max > 2); n <= max + 1; n++) {
			struct slice bytes = {out, write_reply(out, n, i % 2)};
			struct http_reply reply;
			enum reply_result result;
			size_t used;

			http_reply_init(&reply, max);
			result = http_reply_read(&reply, bytes, &used);
			ck_assert_int_eq(result, n <= max ? REPLY_DONE : REPLY_BAD);
			ck_assert_uint_le(reply.body.cap, max);
			if (result == REPLY_DONE)
				ck_assert_uint_eq(reply.body.n, n);
			else
				ck_assert_str_eq(reply.fault, "body above the limit");
			http_reply_done(&reply);
		}
	}
	free(out);
}
END_TEST

/* A length known beforehand is allocated once. */
START_TEST(reserves_a_body_exactly)
{
	static const struct slice head =
		SLICE("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nx");
	struct http_reply reply;
	size_t used;

	http_reply_init(&reply, LIMIT_REPLY_BODY);
	ck_assert_int_eq(http_reply_read(&reply, head, &used), REPLY_NEED_MORE);
	ck_assert_uint_eq(reply.body.cap, 5000);
	ck_assert_uint_eq(reply.body.n, 1);
	http_reply_done(&reply);
}
END_TEST

/* Each allocation fails once: of the head, of a body, of a chunk. */
START_TEST(out_of_memory)
{
	struct wire_table table = wire_table_load("good-replies.txt", 4);

	for (size_t i = 0; i < table.n; i++) {
		struct slice bytes = table.rows[i].bytes;
		enum reply_result result = REPLY_BAD;

		for (unsigned nth = 1; result == REPLY_BAD; nth++) {
			struct http_reply reply;
			size_t used;

			http_reply_init(&reply, LIMIT_REPLY_BODY);
			failing_malloc_begin(nth);
			result = http_reply_read(&reply, bytes, &used);
			ck_assert_int_eq(failing_malloc_end(), result == REPLY_BAD);
			if (result == REPLY_BAD)
				ck_assert_str_eq(reply.fault, "out of memory");
			else
				ck_assert_uint_gt(nth, 1);
			http_reply_done(&reply);
		}
	}
	wire_table_done(&table);
}
END_TEST

START_TEST(an_empty_piece_changes_nothing)
{
	struct http_reply reply;
	size_t used = 7;

	http_reply_init(&reply, 10);
	ck_assert_int_eq(http_reply_read(&reply, (struct slice){NULL, 0}, &used),
			 REPLY_NEED_MORE);
	ck_assert_uint_eq(used, 0);
	http_reply_done(&reply);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_reply");
	TCase *tc = tcase_create("http_reply");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, accepts);
	tcase_add_test(tc, needs_every_byte);
	tcase_add_test(tc, refuses);
	tcase_add_test(tc, hands_out_the_relayed_headers);
	tcase_add_loop_test(tc, answers_a_connect, 0, ELEMENTSOF(connects));
	tcase_add_test(tc, limits_of_a_body);
	tcase_add_test(tc, reserves_a_body_exactly);
	tcase_add_test(tc, out_of_memory);
	tcase_add_test(tc, an_empty_piece_changes_nothing);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
