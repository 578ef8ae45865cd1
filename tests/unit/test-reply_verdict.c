/* SPDX-License-Identifier: Apache-2.0 */
#include "reply_verdict.h"

#include "kms.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define TOKEN "FwoGZXIvYXdzEBYaDHqa0AP1ZJEXAMPLEtokenThatIsLongEnough0123456789abcdefghijklmn"
#define CIPHERTEXT "\"CiphertextForRecipient\":\"bWFnaWM=\""
#define HOUR (3600 * USEC_PER_SEC)

static struct json_doc doc;

/* One answer, and what it is. */
static const struct {
	const char *what;
	int status;
	const char *body, *error_type; /* the header; NULL: none */
	bool open;                     /* the rule allows plaintext */
	bool slow;                     /* our clock is an hour late, and that was learned */
	enum reply_is is;
	enum refusal refusal; /* unless it is relayed */
	bool accepted;
	enum kms_blame blame;
	const char *detail;
	const char *error; /* NULL: none is noted */
} rows[] = {
	/* successes */
	{"sealed", 200, "{" CIPHERTEXT "}", NULL, false, false, REPLY_IS_RELAYED, REFUSAL_NONE,
	 true, KMS_BLAME_REQUEST, ""},
	{"plaintext where it is allowed", 200, "{\"Plaintext\":\"c2VjcmV0\"}", NULL, true,
	 false, REPLY_IS_RELAYED, REFUSAL_NONE, true, KMS_BLAME_REQUEST, ""},
	{"plaintext where it is not", 200, "{" CIPHERTEXT ",\"Plaintext\":\"c2VjcmV0\"}", NULL,
	 false, false, REPLY_IS_REFUSED, REFUSAL_REPLY_LEAKS, true, KMS_BLAME_REQUEST, ""},
	{"nothing sealed in it", 200, "{\"KeyId\":\"x\"}", NULL, false, false, REPLY_IS_REFUSED,
	 REFUSAL_REPLY_NO_CIPHERTEXT, true, KMS_BLAME_REQUEST, ""},
	{"not JSON where it is looked at", 200, "<html>", NULL, false, false, REPLY_IS_REFUSED,
	 REFUSAL_REPLY_UNREADABLE, true, KMS_BLAME_REQUEST, ""},
	{"not JSON where it isn't", 200, "<html>", NULL, true, false, REPLY_IS_RELAYED,
	 REFUSAL_NONE, true, KMS_BLAME_REQUEST, ""},
	{"an empty success", 299, "", NULL, true, false, REPLY_IS_RELAYED, REFUSAL_NONE, true,
	 KMS_BLAME_REQUEST, ""},
	{"a success that blames us", 200, "{" CIPHERTEXT "}", "ExpiredTokenException", false,
	 false, REPLY_IS_REFUSED, REFUSAL_UPSTREAM_MALFORMED, false, KMS_BLAME_REQUEST,
	 "the endpoint answered 200 with the error type ExpiredTokenException"},
	{"a success with an error of the request's", 200, "{" CIPHERTEXT "}",
	 "NotFoundException", false, false, REPLY_IS_RELAYED, REFUSAL_NONE, true,
	 KMS_BLAME_REQUEST, ""},
	/* errors of the request */
	{"an error", 400, "{\"__type\":\"NotFoundException\"}", NULL, false, false,
	 REPLY_IS_RELAYED, REFUSAL_NONE, true, KMS_BLAME_REQUEST, "", "NotFoundException"},
	{"an error without a type", 400, "{}", NULL, false, false, REPLY_IS_RELAYED,
	 REFUSAL_NONE, true, KMS_BLAME_REQUEST, "", "unknown"},
	{"KMS's own failure", 500, "{\"__type\":\"KMSInternalException\"}", NULL, false, false,
	 REPLY_IS_RELAYED, REFUSAL_NONE, false, KMS_BLAME_REQUEST, "", "KMSInternalException"},
	{"an error with a plaintext", 400, "{\"__type\":\"A\",\"Plaintext\":\"c2VjcmV0\"}",
	 NULL, false, false, REPLY_IS_REFUSED, REFUSAL_REPLY_LEAKS, false, KMS_BLAME_REQUEST,
	 ""},
	{"an error with a plaintext where it is allowed", 400,
	 "{\"__type\":\"A\",\"Plaintext\":\"c2VjcmV0\"}", NULL, true, false, REPLY_IS_RELAYED,
	 REFUSAL_NONE, true, KMS_BLAME_REQUEST, "", "A"},
	{"an error with the token", 400, "{\"__type\":\"A\",\"message\":\"" TOKEN "\"}", NULL,
	 false, false, REPLY_IS_REFUSED, REFUSAL_REPLY_LEAKS, false, KMS_BLAME_REQUEST,
	 "an error of the endpoint holds the proxy's session token"},
	{"an error with the token in a header", 400, "{\"__type\":\"A\"}", "A:" TOKEN, false,
	 false, REPLY_IS_REFUSED, REFUSAL_REPLY_LEAKS, false, KMS_BLAME_REQUEST,
	 "an error of the endpoint holds the proxy's session token"},
	/* no errors of KMS */
	{"a page", 400, "<html>", NULL, false, false, REPLY_IS_REFUSED,
	 REFUSAL_UPSTREAM_MALFORMED, false, KMS_BLAME_REQUEST,
	 "the endpoint answered 400 without a KMS error"},
	{"a gateway's page", 502, "<html>", NULL, false, false, REPLY_IS_REFUSED,
	 REFUSAL_NO_UPSTREAM, false, KMS_BLAME_REQUEST,
	 "the endpoint answered 502 without a KMS error"},
	{"elsewhere", 302, "{\"__type\":\"A\"}", NULL, false, false, REPLY_IS_REFUSED,
	 REFUSAL_UPSTREAM_MALFORMED, false, KMS_BLAME_REQUEST,
	 "the endpoint answered 302 without a KMS error"},
	{"a list", 400, "[{\"Plaintext\":\"c2VjcmV0\"}]", NULL, false, false, REPLY_IS_REFUSED,
	 REFUSAL_UPSTREAM_MALFORMED, false, KMS_BLAME_REQUEST,
	 "the endpoint answered 400 without a KMS error"},
	/* what blames us */
	{"credentials that are over", 400, "{\"__type\":\"ExpiredTokenException\"}", NULL,
	 false, false, REPLY_BLAMES_US, REFUSAL_BAD_CREDENTIALS, false, KMS_BLAME_CREDENTIALS,
	 "AWS KMS answered ExpiredTokenException", "ExpiredTokenException"},
	{"the same in the header, over a page", 403, "<html>", "UnrecognizedClientException",
	 true, false, REPLY_BLAMES_US, REFUSAL_BAD_CREDENTIALS, false, KMS_BLAME_CREDENTIALS,
	 "AWS KMS answered UnrecognizedClientException", "UnrecognizedClientException"},
	{"a wrong signature", 400, "{\"__type\":\"InvalidSignatureException\"}", NULL, false,
	 false, REPLY_BLAMES_US, REFUSAL_BAD_CREDENTIALS, false, KMS_BLAME_SIGNATURE,
	 "AWS KMS answered InvalidSignatureException", "InvalidSignatureException"},
	{"a wrong signature of a wrong clock", 400,
	 "{\"__type\":\"InvalidSignatureException\"}", NULL, false, true, REPLY_IS_WRONG_CLOCK,
	 REFUSAL_BAD_CREDENTIALS, false, KMS_BLAME_REQUEST,
	 "AWS KMS answered InvalidSignatureException", "InvalidSignatureException"},
	{"credentials that are over, and a wrong clock", 400,
	 "{\"__type\":\"UnrecognizedClientException\"}", NULL, false, true, REPLY_BLAMES_US,
	 REFUSAL_BAD_CREDENTIALS, false, KMS_BLAME_CREDENTIALS,
	 "AWS KMS answered UnrecognizedClientException", "UnrecognizedClientException"},
	{"a wrong signature of a wrong clock, after another type", 400,
	 "{\"__type\":\"A\",\"code\":\"InvalidSignatureException\"}", NULL, false, true,
	 REPLY_IS_WRONG_CLOCK, REFUSAL_BAD_CREDENTIALS, false, KMS_BLAME_REQUEST,
	 "AWS KMS answered InvalidSignatureException", "InvalidSignatureException"},
	{"a type that is no word", 400, "{\"__type\":\"a\\u0000\\n\"}", NULL, false, false,
	 REPLY_IS_RELAYED, REFUSAL_NONE, true, KMS_BLAME_REQUEST, "", "a\\x5cu0000\\x5cn"},
	{"a secret comes before the blame", 400,
	 "{\"__type\":\"ExpiredTokenException\",\"Plaintext\":\"c2VjcmV0\"}", NULL, false,
	 false, REPLY_IS_REFUSED, REFUSAL_REPLY_LEAKS, false, KMS_BLAME_REQUEST, ""},
};

static void learn_that_we_are_late(struct skew *skew)
{
	char date[CLOCK_HTTP_DATE_SIZE];
	struct skew_sample sample = {.sent = 1000 * HOUR, .received = 1000 * HOUR};

	clock_format_http_date(1001 * HOUR, date);
	sample.date = slice_from(date);
	skew_learn(skew, &sample);
}

START_TEST(an_answer_is_what_it_is)
{
	struct skew skew = {0};
	const struct reply_case about = {
		.action = kms_action_named(SLICE("Decrypt")),
		.checked = !rows[_i].open,
		.token = SLICE(TOKEN),
		.skew = &skew,
	};
	struct http_reply reply = {.status = rows[_i].status, .body = BUF_INIT(4096)};
	struct reply_verdict v;

	ck_assert_ptr_nonnull(about.action);
	if (rows[_i].slow)
		learn_that_we_are_late(&skew);
	ck_assert_int_eq(buf_append(&reply.body, slice_from(rows[_i].body)), 0);
	if (rows[_i].error_type)
		reply.headers[REPLY_ERROR_TYPE] = slice_from(rows[_i].error_type);
	reply_judge(&about, &reply, &doc, &v);
	ck_assert_msg(v.is == rows[_i].is, "%s: %d", rows[_i].what, v.is);
	ck_assert_msg(v.accepted == rows[_i].accepted, "%s", rows[_i].what);
	ck_assert_msg(v.blame == rows[_i].blame, "%s", rows[_i].what);
	ck_assert_str_eq(v.detail, rows[_i].detail);
	ck_assert_str_eq(v.error, rows[_i].error ?: "");
	if (v.is == REPLY_IS_RELAYED)
		ck_assert_uint_eq(v.body_n, strlen(rows[_i].body));
	else
		ck_assert_msg(v.refusal == rows[_i].refusal, "%s: %d", rows[_i].what,
			      v.refusal);
	if (v.blame != KMS_BLAME_REQUEST)
		ck_assert_ptr_nonnull(strstr(v.detail, v.type));
	buf_done(&reply.body);
}
END_TEST

/* Under a rule with extra members each reply is looked at. */
static const struct {
	const char *action, *body;
	unsigned status;
	enum refusal refusal;
} others[] = {
	{"DescribeKey", "{\"KeyMetadata\":{}}", 200, REFUSAL_NONE},
	{"EnableKey", "", 200, REFUSAL_NONE},
	{"DescribeKey", "{\"Plaintext\":\"c2VjcmV0\"}", 200, REFUSAL_REPLY_LEAKS},
	{"DescribeKey", "{\"__type\":\"A\",\"SharedSecret\":\"c2VjcmV0\"}", 400,
	 REFUSAL_REPLY_LEAKS},
	{"DescribeKey", "{\"__type\":\"A\"}", 400, REFUSAL_NONE},
	{"DescribeKey", "<html>", 200, REFUSAL_REPLY_UNREADABLE},
};

START_TEST(an_action_without_secrets)
{
	struct skew skew = {0};
	const struct reply_case about = {
		.action = kms_action_named(slice_from(others[_i].action)),
		.checked = true,
		.skew = &skew,
	};
	struct http_reply reply = {.status = (int)others[_i].status, .body = BUF_INIT(4096)};
	struct reply_verdict v;

	ck_assert_int_eq(buf_append(&reply.body, slice_from(others[_i].body)), 0);
	reply_judge(&about, &reply, &doc, &v);
	ck_assert_int_eq(v.is, others[_i].refusal ? REPLY_IS_REFUSED : REPLY_IS_RELAYED);
	if (others[_i].refusal)
		ck_assert_int_eq(v.refusal, others[_i].refusal);
	else
		ck_assert_uint_eq(v.body_n, strlen(others[_i].body));
	buf_done(&reply.body);
}
END_TEST

/* What is relayed of a body that was looked at is its canonical form. */
START_TEST(what_is_relayed_is_canonical)
{
	static const char body[] = "  { " CIPHERTEXT " }\n";
	struct skew skew = {0};
	const struct reply_case about = {
		.action = kms_action_named(SLICE("Decrypt")),
		.checked = true,
		.skew = &skew,
	};
	struct http_reply reply = {.status = 200, .body = BUF_INIT(4096)};
	struct reply_verdict v;

	ck_assert_int_eq(buf_append(&reply.body, SLICE(body)), 0);
	reply_judge(&about, &reply, &doc, &v);
	ck_assert_int_eq(v.is, REPLY_IS_RELAYED);
	ck_assert(slice_eq_str((struct slice){reply.body.p, v.body_n}, "{" CIPHERTEXT "}"));
	buf_done(&reply.body);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reply_verdict");
	TCase *tcase = tcase_create("reply_verdict");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, an_answer_is_what_it_is, 0, ELEMENTSOF(rows));
	tcase_add_test(tcase, what_is_relayed_is_canonical);
	tcase_add_loop_test(tcase, an_action_without_secrets, 0, ELEMENTSOF(others));
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
