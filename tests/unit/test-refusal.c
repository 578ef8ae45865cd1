/* SPDX-License-Identifier: Apache-2.0 */
#include "refusal.h"

#include "failing_malloc.h"

#include <check.h>
#include <errno.h>
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define ID "6b21b0e0-6e4f-4b0d-9d36-7c7a2f5a3a11"
#define WALL (1795323226 * USEC_PER_SEC + 999999) /* Sun, 22 Nov 2026 04:53:46 GMT */

/* What the design says of each: status, type, whether the connection ends, whether it is
 * critical. */
static const struct {
	enum refusal refusal;
	int status;
	const char *type, *reason;
	bool close, critical;
} rows[] = {
	{REFUSAL_FRAMING, 400, "SerializationException", "framing", true, false},
	{REFUSAL_HEAD_TOO_LARGE, 431, "SerializationException", "head-too-large", true, false},
	{REFUSAL_BODY_TOO_LARGE, 413, "RequestEntityTooLargeException", "body-too-large", true,
	 false},
	{REFUSAL_EXPECTATION, 417, "SerializationException", "expectation", true, false},
	{REFUSAL_TOO_SLOW, 408, "RequestTimeoutException", "too-slow", true, false},
	{REFUSAL_RATE, 400, "ThrottlingException", "rate", false, false},
	{REFUSAL_IN_FLIGHT, 400, "ThrottlingException", "in-flight", false, false},
	{REFUSAL_MEMORY, 400, "ThrottlingException", "memory", false, false},
	{REFUSAL_CONNECTIONS, 400, "ThrottlingException", "connections", true, false},
	{REFUSAL_JSON, 400, "SerializationException", "json", false, false},
	{REFUSAL_UNKNOWN_ACTION, 400, "UnknownOperationException", "unknown-action", false,
	 false},
	{REFUSAL_HOST, 400, "AccessDeniedException", "host", false, false},
	{REFUSAL_POLICY, 400, "AccessDeniedException", "policy", false, false},
	{REFUSAL_NO_CREDENTIALS, 503, "ServiceUnavailableException", "no-credentials", false,
	 false},
	{REFUSAL_BAD_CREDENTIALS, 503, "ServiceUnavailableException", "bad-credentials", false,
	 false},
	{REFUSAL_NO_UPSTREAM, 503, "ServiceUnavailableException", "no-upstream", false, false},
	{REFUSAL_NO_PROXY, 503, "ServiceUnavailableException", "proxy-unreachable", false,
	 false},
	{REFUSAL_PROXY_REFUSED, 503, "ServiceUnavailableException", "proxy-refused", false,
	 false},
	{REFUSAL_PROXY_BROKEN, 503, "ServiceUnavailableException", "proxy-broken", false,
	 false},
	{REFUSAL_QUEUE_TIMEOUT, 503, "ServiceUnavailableException", "queue-timeout", false,
	 false},
	{REFUSAL_UPSTREAM_LOST, 503, "ServiceUnavailableException", "upstream-lost", false,
	 false},
	{REFUSAL_UPSTREAM_TIMEOUT, 504, "DependencyTimeoutException", "upstream-timeout", false,
	 false},
	{REFUSAL_UPSTREAM_MALFORMED, 502, "KMSInternalException", "upstream-malformed", false,
	 false},
	{REFUSAL_REPLY_LEAKS, 502, "KMSInternalException", "reply-leaks", false, true},
	{REFUSAL_REPLY_UNREADABLE, 502, "KMSInternalException", "reply-unreadable", false,
	 true},
	{REFUSAL_REPLY_NO_CIPHERTEXT, 502, "KMSInternalException", "reply-no-ciphertext", false,
	 true},
	{REFUSAL_RELOADED, 503, "ServiceUnavailableException", "reloaded", false, false},
	{REFUSAL_SHUTTING_DOWN, 503, "ServiceUnavailableException", "shutting-down", true,
	 false},
	{REFUSAL_INTERNAL, 500, "KMSInternalException", "internal", false, false},
};

START_TEST(the_table_is_what_the_design_says)
{
	ck_assert_uint_eq(ELEMENTSOF(rows), _REFUSAL_MAX - 1);
	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		const struct refusal_info *info = refusal_info(rows[i].refusal);

		ck_assert_int_eq(rows[i].refusal, (int)i + 1);
		ck_assert_int_eq(info->status, rows[i].status);
		ck_assert_str_eq(info->type, rows[i].type);
		ck_assert_str_eq(reason_word(info->reason), rows[i].reason);
		ck_assert_int_eq(info->close, rows[i].close);
		ck_assert_int_eq(info->critical, rows[i].critical);
		ck_assert_uint_gt(strlen(info->message), 10);
		ck_assert_str_ne(http_reason_phrase(info->status), "Unknown");
	}
}
END_TEST

START_TEST(no_refusal_has_no_row)
{
	refusal_info(REFUSAL_NONE); /* asserted */
}
END_TEST

START_TEST(reason_phrases)
{
	ck_assert_str_eq(http_reason_phrase(200), "OK");
	ck_assert_str_eq(http_reason_phrase(400), "Bad Request");
	ck_assert_str_eq(http_reason_phrase(431), "Request Header Fields Too Large");
	ck_assert_str_eq(http_reason_phrase(299), "Unknown");
	ck_assert_str_eq(http_reason_phrase(0), "Unknown");
}
END_TEST

static int write_refusal(enum refusal refusal, const char *message, bool close, struct buf *out)
{
	const struct refusal_answer answer = {
		.refusal = refusal,
		.message = message,
		.request_id = ID,
		.wall = WALL,
		.close = close,
	};

	return refusal_write(&answer, out);
}

START_TEST(writes_an_answer)
{
	struct buf out = BUF_INIT(1000);

	ck_assert_int_eq(buf_append(&out, SLICE("before")), 0);
	ck_assert_int_eq(write_refusal(REFUSAL_POLICY, "no rule allows Encrypt", false, &out),
			 0);
	ck_assert(slice_eq(buf_slice(&out), SLICE("before"
						  "HTTP/1.1 400 Bad Request\r\n"
						  "Content-Type: application/x-amz-json-1.1\r\n"
						  "x-amzn-RequestId: " ID "\r\n"
						  "Date: Sun, 22 Nov 2026 04:53:46 GMT\r\n"
						  "Content-Length: 69\r\n"
						  "\r\n"
						  "{\"__type\":\"AccessDeniedException\","
						  "\"message\":\"no rule allows Encrypt\"}")));
	buf_done(&out);
}
END_TEST

/* The body of an answer, which must be as long as the head says. */
static struct json_object *parse_body(struct slice answer)
{
	const char *end = memmem(answer.p, answer.n, "\r\n\r\n", 4);
	const char *length = memmem(answer.p, answer.n, "Content-Length: ", 16);
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *body;
	size_t n;

	ck_assert(end && length);
	end += 4;
	n = answer.n - (size_t)(end - answer.p);
	ck_assert_uint_eq(strtoul(length + 16, NULL, 10), n);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	body = json_tokener_parse_ex(tokener, end, (int)n);
	ck_assert_msg(json_tokener_get_error(tokener) == json_tokener_success, "%.*s", (int)n,
		      end);
	json_tokener_free(tokener);
	return body;
}

static const char *member(struct json_object *body, const char *name)
{
	struct json_object *value;

	ck_assert(json_object_object_get_ex(body, name, &value));
	return json_object_get_string(value);
}

START_TEST(writes_every_row)
{
	for (size_t i = 0; i < ELEMENTSOF(rows) * 2; i++) {
		enum refusal refusal = rows[i / 2].refusal;
		struct buf out = BUF_INIT(1000);
		struct json_object *body;
		char line[100];
		bool close;

		ck_assert_int_eq(write_refusal(refusal, NULL, i % 2, &out), 0);
		body = parse_body(buf_slice(&out));
		ck_assert_str_eq(member(body, "__type"), rows[i / 2].type);
		ck_assert_str_eq(member(body, "message"), refusal_info(refusal)->message);
		json_object_put(body);

		snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", rows[i / 2].status,
			 http_reason_phrase(rows[i / 2].status));
		ck_assert(slice_starts(buf_slice(&out), slice_from(line)));
		close = memmem(out.p, out.n, "\r\nConnection: close\r\n", 21);
		ck_assert_int_eq(close, i % 2 || rows[i / 2].close);
		buf_done(&out);
	}
}
END_TEST

/* What a client that is throttled is told to wait, in milliseconds; -1: nothing. */
static long told_to_wait(const struct refusal_answer *answer)
{
	struct buf out = BUF_INIT(1000);
	const char *found;
	long msec = -1;

	ck_assert_int_eq(refusal_write(answer, &out), 0);
	found = memmem(out.p, out.n, "\r\nx-amz-retry-after: ", 21);
	if (found)
		msec = strtol(found + 21, NULL, 10);
	buf_done(&out);
	return msec;
}

START_TEST(a_throttled_client_is_told_to_wait)
{
	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		struct refusal_answer answer = {.refusal = rows[i].refusal, .request_id = ID};
		bool throttled =
			rows[i].status == 400 && !strcmp(rows[i].type, "ThrottlingException");
		bool told = throttled && rows[i].refusal != REFUSAL_RATE;

		/* by the row, and spread by the id, whose last digits are 3a11 */
		ck_assert_int_eq(told_to_wait(&answer), told ? 100 + 0x3a11 % 100 : -1);
		/* by whoever knows, as a bucket does; never too short, never 0 */
		answer.retry_after = 1;
		ck_assert_int_eq(told_to_wait(&answer), 1);
		answer.retry_after = 1999;
		ck_assert_int_eq(told_to_wait(&answer), 2);
		answer.retry_after = 60 * USEC_PER_SEC;
		ck_assert_int_eq(told_to_wait(&answer), 60001);
	}
}
END_TEST

START_TEST(escapes_messages)
{
	static const struct {
		const char *message, *read_back;
	} messages[] = {
		{"", ""},
		{"a \"quoted\" \\ name", "a \"quoted\" \\ name"},
		{"\\u0041", "\\u0041"},
		{"</script>", "</script>"},
		{"line\r\nHeader: x\ttab", "line\r\nHeader: x\ttab"},
		{"\x01\x1f\x7f", "\x01\x1f\x7f"},
		{"caf\xc3\xa9 \xff", "caf?? ?"},
	};

	for (size_t i = 0; i < ELEMENTSOF(messages); i++) {
		struct buf out = BUF_INIT(1000);
		struct json_object *body;

		ck_assert_int_eq(write_refusal(REFUSAL_JSON, messages[i].message, false, &out),
				 0);
		body = parse_body(buf_slice(&out));
		ck_assert_str_eq(member(body, "message"), messages[i].read_back);
		json_object_put(body);
		for (size_t n = 0; n < out.n; n++) /* no byte that a reader could trip over */
			ck_assert((out.p[n] >= 0x20 && out.p[n] < 0x7f) || out.p[n] == '\r' ||
				  out.p[n] == '\n');
		ck_assert_ptr_null(memmem(out.p, out.n, "\nHeader", 7));
		buf_done(&out);
	}
}
END_TEST

START_TEST(a_full_buffer_stays_as_it_was)
{
	struct buf whole = BUF_INIT(1000);

	ck_assert_int_eq(write_refusal(REFUSAL_RATE, NULL, true, &whole), 0);
	for (size_t max = 0; max <= whole.n + 2; max++) {
		struct buf out = BUF_INIT(max);
		int r;

		if (max >= 2)
			ck_assert_int_eq(buf_append(&out, SLICE("ab")), 0);
		r = write_refusal(REFUSAL_RATE, NULL, true, &out);
		ck_assert_int_eq(r, max == whole.n + 2 ? 0 : -EMSGSIZE);
		if (r < 0)
			ck_assert_uint_eq(out.n, max >= 2 ? 2 : 0);
		buf_done(&out);
	}
	buf_done(&whole);
}
END_TEST

START_TEST(out_of_memory)
{
	int r = -ENOMEM;

	for (unsigned nth = 1; r == -ENOMEM; nth++) {
		struct buf out = BUF_INIT(1000);

		ck_assert_int_eq(buf_append(&out, SLICE("ab")), 0);
		failing_malloc_begin(nth);
		r = write_refusal(REFUSAL_RATE, NULL, true, &out);
		ck_assert_int_eq(failing_malloc_end(), r == -ENOMEM);
		ck_assert(r == 0 || slice_eq(buf_slice(&out), SLICE("ab")));
		ck_assert(r < 0 || nth > 1);
		buf_done(&out);
	}
	ck_assert_int_eq(r, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("refusal");
	TCase *tc = tcase_create("refusal");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_add_test(tc, the_table_is_what_the_design_says);
	tcase_add_test_raise_signal(tc, no_refusal_has_no_row, SIGABRT);
	tcase_add_test(tc, reason_phrases);
	tcase_add_test(tc, writes_an_answer);
	tcase_add_test(tc, writes_every_row);
	tcase_add_test(tc, a_throttled_client_is_told_to_wait);
	tcase_add_test(tc, escapes_messages);
	tcase_add_test(tc, a_full_buffer_stays_as_it_was);
	tcase_add_test(tc, out_of_memory);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
