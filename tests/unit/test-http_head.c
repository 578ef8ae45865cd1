/* SPDX-License-Identifier: Apache-2.0 */
#include "http_head.h"

#include "limit.h"
#include "wire_table.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static const struct http_head_options kms_options = {.body_max = LIMIT_BODY_DEFAULT};
static const struct http_head_options connect_options = {.body_max = LIMIT_BODY_DEFAULT,
							 .allow_connect = true};

/* Bytes in an allocation of their own, just as long, so that a sanitizer sees an overread and a
 * slice into an older buffer. */
static struct slice own(struct slice s)
{
	char *p = malloc(s.n ? s.n : 1);

	ck_assert_ptr_nonnull(p);
	memcpy(p, s.p, s.n);
	return (struct slice){p, s.n};
}

static void disown(struct slice s)
{
	memset((char *)s.p, 'Z', s.n);
	free((char *)s.p);
}

static enum head_result read_whole(struct http_head *head, struct slice bytes,
				   const struct http_head_options *options)
{
	http_head_init(head);
	return http_head_read(head, bytes, options);
}

/* The first `split` bytes, then all of them in another place. */
static enum head_result read_split(struct http_head *head, struct slice bytes, size_t split,
				   const struct http_head_options *options)
{
	struct slice part = own((struct slice){bytes.p, split});
	enum head_result result = read_whole(head, part, options);

	disown(part);
	return result == HEAD_NEED_MORE ? http_head_read(head, bytes, options) : result;
}

static enum head_result read_bytewise(struct http_head *head, struct slice bytes,
				      const struct http_head_options *options)
{
	enum head_result result = HEAD_NEED_MORE;

	http_head_init(head);
	for (size_t n = 1; n <= bytes.n && result == HEAD_NEED_MORE; n++)
		result = http_head_read(head, (struct slice){bytes.p, n}, options);
	return result;
}

static bool same(const struct http_head *a, const struct http_head *b)
{
	return a->kind == b->kind && a->length == b->length && slice_eq(a->host, b->host) &&
	       a->host_is_address == b->host_is_address && a->port == b->port &&
	       slice_eq(a->action, b->action) && a->content_length == b->content_length &&
	       a->expect_continue == b->expect_continue && a->close == b->close;
}

static bool refused(const struct http_head *head, const struct wire_row *row)
{
	return slice_eq_str(row->columns[0],
			    reason_word(refusal_info(head->refusal)->reason)) &&
	       slice_eq_str(row->columns[1], head->fault);
}

/* The next place to split after `n`: every one, but for the long runs of one letter, where
 * every 61st does, and all around the limit. Byte by byte sees the rest. */
static size_t next_split(size_t n)
{
	return n < KIB || n + 30 > LIMIT_HEAD ? n + 1 : n + 61;
}

static void check_refused(const char *file, const struct http_head_options *options,
			  size_t least)
{
	struct wire_table table = wire_table_load(file, 3);
	struct http_head head;

	ck_assert_uint_ge(table.n, least);
	for (size_t i = 0; i < table.n; i++) {
		struct wire_row *row = &table.rows[i];
		struct slice bytes = own(row->bytes);

		ck_assert_msg(read_whole(&head, bytes, options) == HEAD_REFUSED,
			      "%s:%u: not refused", file, row->line);
		ck_assert_msg(refused(&head, row), "%s:%u: %s, %s", file, row->line,
			      reason_word(refusal_info(head.refusal)->reason), head.fault);
		for (size_t n = 0; n < MIN(bytes.n, LIMIT_HEAD + 2); n = next_split(n))
			ck_assert_msg(read_split(&head, bytes, n, options) == HEAD_REFUSED &&
					      refused(&head, row),
				      "%s:%u: split at %zu", file, row->line, n);
		ck_assert_msg(read_bytewise(&head, bytes, options) == HEAD_REFUSED &&
				      refused(&head, row),
			      "%s:%u: byte by byte", file, row->line);
		disown(bytes);
	}
	wire_table_done(&table);
}

/* Whole, at every split and byte by byte; `want` has slices into row->bytes. */
static void check_accepted_row(const char *file, const struct wire_row *row,
			       const struct http_head_options *options,
			       const struct http_head *want)
{
	struct slice bytes = own(row->bytes);
	struct http_head head;

	ck_assert_msg(read_whole(&head, bytes, options) == HEAD_DONE, "%s:%u: %s", file,
		      row->line, head.fault);
	ck_assert_msg(same(&head, want), "%s:%u: wrong values", file, row->line);
	for (size_t n = 0; n < want->length; n = next_split(n))
		ck_assert_msg(read_split(&head, bytes, n, options) == HEAD_DONE &&
				      same(&head, want),
			      "%s:%u: split at %zu", file, row->line, n);
	for (size_t n = 0; n <= bytes.n; n = next_split(n)) {
		struct slice part = own((struct slice){bytes.p, n});
		enum head_result result = read_whole(&head, part, options);

		ck_assert_msg(result == (n < want->length ? HEAD_NEED_MORE : HEAD_DONE),
			      "%s:%u: the first %zu bytes", file, row->line, n);
		ck_assert(result == HEAD_NEED_MORE || same(&head, want));
		disown(part);
	}
	ck_assert(read_bytewise(&head, bytes, options) == HEAD_DONE && same(&head, want));
	disown(bytes);
}

static size_t length_of_head(struct slice bytes)
{
	const char *end = memmem(bytes.p, bytes.n, "\r\n\r\n", 4);

	ck_assert_ptr_nonnull(end);
	return (size_t)(end - bytes.p) + 4;
}

static bool has_word(struct slice words, const char *word)
{
	return memmem(words.p, words.n, word, strlen(word)) != NULL;
}

START_TEST(accepts_requests)
{
	static const char file[] = "good-requests.txt";
	struct wire_table table = wire_table_load(file, 5);

	for (size_t i = 0; i < table.n; i++) {
		const struct wire_row *row = &table.rows[i];

		check_accepted_row(
			file, row, &kms_options,
			&(struct http_head){
				.kind = HEAD_KMS,
				.length = length_of_head(row->bytes),
				.host = row->columns[0],
				.host_is_address = has_word(row->columns[3], "address"),
				.action = row->columns[1],
				.content_length = strtoull(row->columns[2].p, NULL, 10),
				.expect_continue = has_word(row->columns[3], "expect"),
				.close = has_word(row->columns[3], "close"),
			});
	}
	wire_table_done(&table);
}
END_TEST

START_TEST(accepts_requests_where_connect_is_allowed_too)
{
	struct wire_table table = wire_table_load("good-requests.txt", 5);
	struct http_head head;

	for (size_t i = 0; i < table.n; i++)
		ck_assert(read_whole(&head, table.rows[i].bytes, &connect_options) ==
			  HEAD_DONE);
	wire_table_done(&table);
}
END_TEST

START_TEST(accepts_connects)
{
	static const char file[] = "good-connects.txt";
	struct wire_table table = wire_table_load(file, 4);

	for (size_t i = 0; i < table.n; i++) {
		const struct wire_row *row = &table.rows[i];

		check_accepted_row(
			file, row, &connect_options,
			&(struct http_head){
				.kind = HEAD_CONNECT,
				.length = length_of_head(row->bytes),
				.host = row->columns[0],
				.host_is_address = has_word(row->columns[2], "address"),
				.port = (unsigned)strtoul(row->columns[1].p, NULL, 10),
				.close = has_word(row->columns[2], "close"),
			});
	}
	wire_table_done(&table);
}
END_TEST

START_TEST(refuses_requests)
{
	check_refused("bad-requests.txt", &kms_options, 120);
}
END_TEST

START_TEST(refuses_connects)
{
	check_refused("bad-connects.txt", &connect_options, 40);
}
END_TEST

START_TEST(knows_the_preface_of_http2)
{
	static const char text[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4";
	struct wire_row row = {.line = 1, .bytes = {text, sizeof(text) - 1}};
	struct http_head want = {.kind = HEAD_HTTP2, .length = 24};

	check_accepted_row("preface", &row, &kms_options, &want);
	check_accepted_row("preface", &row, &connect_options, &want);
}
END_TEST

/* Builds a head of exactly `n` bytes and `fields` fields around the five that it needs. */
static char *make_head(size_t n, unsigned fields)
{
	static const char start[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
				    "Content-Type: application/x-amz-json-1.1\r\n"
				    "X-Amz-Target: TrentService.Decrypt\r\n";
	char *p = malloc(n + 1);
	size_t at = strlen(start);

	ck_assert_ptr_nonnull(p);
	memcpy(p, start, at);
	for (unsigned i = 5; i < fields; i++, at += 5)
		memcpy(p + at, "X: \r\n", 5);
	memcpy(p + at, "X: ", 3);
	memset(p + at + 3, 'x', n - at - 3 - 4);
	memcpy(p + n - 4, "\r\n\r\n", 5);
	return p;
}

START_TEST(limits_of_a_head)
{
	static const struct {
		size_t n;
		unsigned fields;
		enum head_result result;
		const char *fault;
	} rows[] = {
		{LIMIT_HEAD - 1, 5, HEAD_DONE, NULL},
		{LIMIT_HEAD, 5, HEAD_DONE, NULL},
		{LIMIT_HEAD + 1, 5, HEAD_REFUSED, "head above the limit"},
		{LIMIT_HEAD + 2, 5, HEAD_REFUSED, "head above the limit"},
		{LIMIT_HEAD + 1000, 5, HEAD_REFUSED, "head above the limit"},
		{2000, LIMIT_FIELDS - 1, HEAD_DONE, NULL},
		{2000, LIMIT_FIELDS, HEAD_DONE, NULL},
		{2000, LIMIT_FIELDS + 1, HEAD_REFUSED, "too many fields"},
		{LIMIT_HEAD, LIMIT_FIELDS, HEAD_DONE, NULL},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		struct http_head head;
		char *p = make_head(rows[i].n, rows[i].fields);

		ck_assert_int_eq(read_whole(&head, (struct slice){p, rows[i].n}, &kms_options),
				 rows[i].result);
		if (rows[i].fault) {
			ck_assert_str_eq(head.fault, rows[i].fault);
			ck_assert_int_eq(head.refusal, REFUSAL_HEAD_TOO_LARGE);
		} else {
			ck_assert_uint_eq(head.length, rows[i].n);
		}
		free(p);
	}
}
END_TEST

START_TEST(a_head_that_fills_the_limit_is_refused_without_waiting_for_more)
{
	struct http_head head;
	char *p = make_head(LIMIT_HEAD + 1, 5);

	ck_assert_int_eq(read_whole(&head, (struct slice){p, LIMIT_HEAD - 1}, &kms_options),
			 HEAD_NEED_MORE);
	ck_assert_int_eq(http_head_read(&head, (struct slice){p, LIMIT_HEAD}, &kms_options),
			 HEAD_REFUSED);
	ck_assert_int_eq(head.refusal, REFUSAL_HEAD_TOO_LARGE);
	free(p);
}
END_TEST

START_TEST(limits_of_a_body)
{
	static const struct {
		uint64_t max;
		const char *length;
		enum head_result result;
	} rows[] = {
		{0, "0", HEAD_DONE},
		{0, "1", HEAD_REFUSED},
		{1, "1", HEAD_DONE},
		{1, "2", HEAD_REFUSED},
		{LIMIT_BODY_MAX, "1048575", HEAD_DONE},
		{LIMIT_BODY_MAX, "1048576", HEAD_DONE},
		{LIMIT_BODY_MAX, "1048577", HEAD_REFUSED},
		{UINT64_MAX, "18446744073709551615", HEAD_DONE},
		{UINT64_MAX, "18446744073709551616", HEAD_REFUSED},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		struct http_head_options options = {.body_max = rows[i].max};
		struct http_head head;
		char text[256];

		snprintf(text, sizeof(text),
			 "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: "
			 "application/x-amz-json-1.1\r\n"
			 "X-Amz-Target: TrentService.Decrypt\r\nContent-Length: %s\r\n\r\n",
			 rows[i].length);
		ck_assert_int_eq(read_whole(&head, slice_from(text), &options), rows[i].result);
		if (rows[i].result == HEAD_DONE)
			ck_assert_uint_eq(head.content_length,
					  strtoull(rows[i].length, NULL, 10));
		else
			ck_assert_int_eq(head.refusal, REFUSAL_BODY_TOO_LARGE);
	}
}
END_TEST

/* The answer comes with the byte or line that decides, not with the end of the head. */
START_TEST(refuses_at_once)
{
	static const char *const rows[] = {
		"G",
		"\n",
		"\r",
		"POST /?",
		"PR0",
		"PRI * HTTP/2.0\r\n\r\nM",
		"POST http:\x0f",
		"POST https",
		"POST http://a\n",
		"POST http://a/x HTTP/1.1\r\n",
		"POST http://a/ HTTP/1.1\r\nHost: b\r\n",
		"POST / HTTP/1.0",
		"POST / HTTP/1.1\n",
		"POST / HTTP/1.1\r\n ",
		"POST / HTTP/1.1\r\nHo\x01",
		"POST / HTTP/1.1\r\nHost: a\n",
		"POST / HTTP/1.1\r\nHost: a\rX",
		"POST / HTTP/1.1\r\nHost: a\r\n\t",
		"POST / HTTP/1.1\r\nContent-Length: 600000\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT ",
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		struct slice bytes = slice_from(rows[i]);
		struct http_head head;

		ck_assert_msg(read_whole(&head, bytes, &kms_options) == HEAD_REFUSED, "row %zu",
			      i);
		bytes.n--;
		ck_assert_msg(read_whole(&head, bytes, &kms_options) == HEAD_NEED_MORE,
			      "row %zu", i);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_head");
	TCase *tc = tcase_create("http_head");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, accepts_requests);
	tcase_add_test(tc, accepts_requests_where_connect_is_allowed_too);
	tcase_add_test(tc, accepts_connects);
	tcase_add_test(tc, refuses_requests);
	tcase_add_test(tc, refuses_connects);
	tcase_add_test(tc, knows_the_preface_of_http2);
	tcase_add_test(tc, limits_of_a_head);
	tcase_add_test(tc, a_head_that_fills_the_limit_is_refused_without_waiting_for_more);
	tcase_add_test(tc, limits_of_a_body);
	tcase_add_test(tc, refuses_at_once);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
