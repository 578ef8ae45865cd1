/* SPDX-License-Identifier: Apache-2.0 */

/* What becomes of an answer of the endpoint: relayed, withheld, or signed and tried once more.
 * What an answer is, test-reply_verdict has in full. */

#include "reply.h"

#include "credentials.h"
#include "request_world.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define ATTESTED                                                                               \
	"{\"KeyId\":\"" WORLD_KEY "\",\"EncryptionContext\":{\"app\":\"payments\"},"           \
	"\"CiphertextBlob\":\"AAAA\",\"Recipient\":{\"AttestationDocument\":\"AAAA\","         \
	"\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}}"
#define REJECTED "{\"__type\":\"ExpiredTokenException\",\"message\":\"x\"}"
#define WRONG_SIGNATURE "{\"__type\":\"InvalidSignatureException\"}"
#define HOUR (3600 * USEC_PER_SEC)

static uint64_t counted(enum counter counter)
{
	return world_enclave("app")->counters[counter];
}

static void answer(struct world_client *c, const char *status, const char *body)
{
	world_answer(c->request, world_reply(status, WORLD_REPLY_HEAD, body));
}

static struct world_client *sent(struct world_client *c)
{
	world_send(c->request, SENT_ALL);
	return c;
}

/* ---- relayed ---- */

static const struct {
	int code;
	const char *status, *body, *detail;
	bool closing;
} relayed[] = {
	{200, "200 OK", WORLD_SEALED, "", false},
	{200, "200 OK", WORLD_SEALED, "", true},
	{200, "200 OK", "not JSON, and nobody looks", "", false},
	{400, "400 Bad Request", "{\"__type\":\"NotFoundException\"}", "NotFoundException",
	 false},
	{500, "500 Internal Server Error", "{\"__type\":\"KMSInternalException\"}",
	 "KMSInternalException", true},
};

START_TEST(what_may_pass_is_relayed)
{
	struct world_client *c = world_encrypt();
	char want[1024];

	sent(c);
	c->closing = relayed[_i].closing;
	world_answer(c->request, world_reply(relayed[_i].status,
					     WORLD_REPLY_HEAD "Server: x\r\nSet-Cookie: y\r\n",
					     relayed[_i].body));
	snprintf(want, sizeof(want),
		 "HTTP/1.1 %s\r\nContent-Type: application/x-amz-json-1.1\r\n"
		 "x-amzn-RequestId: aws-1\r\nDate: " WORLD_DATE
		 "\r\n%sContent-Length: %zu\r\n\r\n%s",
		 relayed[_i].status, relayed[_i].closing ? "Connection: close\r\n" : "",
		 strlen(relayed[_i].body), relayed[_i].body);
	ck_assert_str_eq(c->answer, want);
	ck_assert(c->close == relayed[_i].closing);
	world_written(c);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, relayed[_i].code,
			    relayed[_i].detail);
	ck_assert_str_eq(world_record()->aws_request_id, "aws-1");
	ck_assert_uint_eq(counted(COUNTER_ALLOWED), 1);
}
END_TEST

/* ---- withheld ---- */

/* Beside a client and without one: it is recorded all the same, and never as a mere refusal. */
START_TEST(a_secret_in_clear_is_withheld)
{
	struct world_client *c = sent(world_ask("app", WORLD_HOST, "Decrypt", ATTESTED));

	if (_i == 1)
		request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
	answer(c, "200 OK", "{\"CiphertextForRecipient\":\"AAAA\",\"Plaintext\":\"c2VjcmV0\"}");
	if (_i == 0) {
		world_written(c);
		world_assert_refused(c, REFUSAL_REPLY_LEAKS, NULL, false);
		ck_assert_ptr_null(strstr(c->answer, "c2VjcmV0"));
	}
	ck_assert_uint_eq(c->answers, _i == 0 ? 1 : 0);
	world_assert_record(EVENT_LEAK, REASON_REPLY_LEAKS, 200,
			    refusal_info(REFUSAL_REPLY_LEAKS)->message);
	ck_assert_str_eq(world_record()->recipient, "present");
}
END_TEST

/* The enclave is told that something was withheld, and not what. */
START_TEST(an_error_with_the_token_is_withheld)
{
	struct world_client *c = sent(world_encrypt());
	char body[1024];

	snprintf(body, sizeof(body), "{\"__type\":\"A\",\"message\":\"%s\"}",
		 world.first->session_token);
	answer(c, "400 Bad Request", body);
	world_written(c);
	world_assert_refused(c, REFUSAL_REPLY_LEAKS, NULL, false);
	ck_assert_ptr_null(strstr(c->answer, world.first->session_token));
	world_assert_record(EVENT_LEAK, REASON_REPLY_LEAKS, 400,
			    "an error of the endpoint holds the proxy's session token");
}
END_TEST

/* ---- tried once more ---- */

START_TEST(others_that_are_rejected_too_are_not_waited_for)
{
	struct world_client *c = sent(world_encrypt());

	answer(c, "400 Bad Request", REJECTED);
	ck_assert_int_eq(c->request->step, STEP_SIGN);
	world_take_credentials(world.second);
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	ck_assert_int_eq(c->request->step, STEP_SEND);
	world_send(c->request, SENT_ALL);
	answer(c, "400 Bad Request", REJECTED);
	world_written(c);
	world_assert_refused(c, REFUSAL_BAD_CREDENTIALS,
			     "AWS KMS answered ExpiredTokenException", false);
	ck_assert_uint_eq(world.n_sent, 2);
	ck_assert_uint_eq(counted(COUNTER_FAILED), 1);
}
END_TEST

/* They came while KMS was looking at the old ones: nobody is told, nothing waits. */
START_TEST(others_that_are_here_already_sign_at_once)
{
	struct world_client *c = sent(world_encrypt());

	world_take_credentials(world.second);
	answer(c, "400 Bad Request", REJECTED);
	ck_assert_int_eq(c->request->step, STEP_SEND);
	world_read_mail();
	ck_assert_uint_eq(world.n_told, 0);
	world_send(c->request, SENT_ALL);
	answer(c, "200 OK", WORLD_SEALED);
	world_written(c);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
}
END_TEST

/* A signature that is wrong though the clock is right: others would not be better. */
START_TEST(a_wrong_signature_is_told_and_not_tried_again)
{
	struct world_client *c = sent(world_encrypt());

	answer(c, "400 Bad Request", WRONG_SIGNATURE);
	world_written(c);
	world_assert_refused(c, REFUSAL_BAD_CREDENTIALS,
			     "AWS KMS answered InvalidSignatureException", false);
	world_read_mail();
	ck_assert_uint_eq(world.n_told, 1);
	ck_assert_int_eq(world.told.number, 0); /* the source isn't asked */
}
END_TEST

/* KMS's clock is an hour ahead, as its Date says. */
START_TEST(a_wrong_clock_is_corrected_once)
{
	struct world_client *c = sent(world_encrypt());
	char date[CLOCK_HTTP_DATE_SIZE], head[128];

	clock_format_http_date(world.now.wall + HOUR, date);
	snprintf(head, sizeof(head), "Date: %s\r\n", date);
	world_answer(c->request, world_reply("400 Bad Request", head, WRONG_SIGNATURE));
	ck_assert_int_eq(c->request->step, STEP_SEND);
	ck_assert_uint_eq(c->answers, 0);
	world_send(c->request, SENT_ALL);
	ck_assert_ptr_nonnull(strstr(world.sent, "X-Amz-Date: 20260101T010000Z\r\n"));
	world_answer(c->request, world_reply("400 Bad Request", head, WRONG_SIGNATURE));
	world_written(c);
	ck_assert_ptr_nonnull(strstr(c->answer, "AWS KMS answered InvalidSignatureException"));
	ck_assert_ptr_nonnull(strstr(c->answer, date)); /* by the corrected clock */
	ck_assert_uint_eq(world.n_sent, 2);
}
END_TEST

/* ---- counted ---- */

/* Hanging up before the answer has left is no way to be counted otherwise. */
START_TEST(what_was_refused_counts_as_that)
{
	struct enclave *e = world_enclave("app");
	struct world_client *c;
	size_t other = 0, share = world.context.generation->memory_share;

	ck_assert(enclave_charge(e, share, &other, share - gauge_read(&e->memory)));
	c = world_encrypt();
	ck_assert_ptr_nonnull(strstr(c->answer, "ThrottlingException"));
	request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
	enclave_uncharge(e, &other);
	ck_assert_int_eq(world_record()->reason, REASON_CLIENT_GONE);
	ck_assert_uint_eq(counted(COUNTER_THROTTLED), 1);
	ck_assert_uint_eq(counted(COUNTER_FAILED), 0);
	world_turn();

	c = world_encrypt(); /* it waits for KMS */
	request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
	ck_assert_uint_eq(counted(COUNTER_FAILED), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reply");
	TCase *tcase = tcase_create("reply");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, world_begin, world_end);
	tcase_add_loop_test(tcase, what_may_pass_is_relayed, 0, ELEMENTSOF(relayed));
	tcase_add_loop_test(tcase, a_secret_in_clear_is_withheld, 0, 2);
	tcase_add_test(tcase, an_error_with_the_token_is_withheld);
	tcase_add_test(tcase, others_that_are_rejected_too_are_not_waited_for);
	tcase_add_test(tcase, others_that_are_here_already_sign_at_once);
	tcase_add_test(tcase, a_wrong_signature_is_told_and_not_tried_again);
	tcase_add_test(tcase, a_wrong_clock_is_corrected_once);
	tcase_add_test(tcase, what_was_refused_counts_as_that);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
