/* SPDX-License-Identifier: Apache-2.0 */

/* What becomes of the endpoint's answer, or of a call without one: relayed, refused, or signed
 * and sent once more. Whether an answer may be relayed is reply_verdict.c's. */

#include "credentials.h"
#include "credentials_health.h"
#include "failing_malloc.h"
#include "request_world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REJECTED "{\"__type\":\"ExpiredTokenException\",\"message\":\"x\"}"
#define BAD_SIGNATURE "{\"__type\":\"InvalidSignatureException\",\"message\":\"x\"}"
#define OTHERS_TIME (3 * USEC_PER_SEC)
#define TOKEN "the-first-token-of-all"
#define UNSEALED                                                                               \
	"{\"KeyId\":\"" WORLD_KEY "\",\"EncryptionContext\":{\"app\":\"payments\"},"           \
	"\"Recipient\":{\"AttestationDocument\":\"AAAA\","                                     \
	"\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}}"

static struct world_client *sent_encrypt(void)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	return c;
}

/* Under a rule that refuses answers with a secret in clear. */
static struct world_client *sent_decrypt(void)
{
	struct world_client *c = world_ask("app", WORLD_HOST, "Decrypt", UNSEALED);

	world_send(c->request, SENT_ALL);
	return c;
}

static void assert_answer(const struct world_client *c, const char *status, const char *head,
			  const char *body)
{
	char text[8192];

	snprintf(text, sizeof(text), "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status,
		 head, strlen(body), body);
	ck_assert_uint_eq(c->answers, 1);
	ck_assert_str_eq(c->answer, text);
}

static int number_of(const char *status)
{
	return (int)strtol(status, NULL, 10);
}

/* ---- relayed ---- */

static const struct {
	const char *in, *out;
} heads[] = {
	{"", ""},
	{WORLD_REPLY_HEAD, "Content-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: "
			   "aws-1\r\nDate: " WORLD_DATE "\r\n"},
	{"X-AMZN-REQUESTID: aws-1\r\ncontent-type:  a/b  \r\n",
	 "Content-Type: a/b\r\nx-amzn-RequestId: aws-1\r\n"},
	{"Cache-Control: no-cache\r\nCache-Control: no-store\r\nPragma: no-cache\r\n"
	 "Expires: 0\r\nRetry-After: 1\r\nx-amz-retry-after: 2\r\n",
	 "Cache-Control: no-cache\r\nPragma: no-cache\r\nExpires: 0\r\nRetry-After: 1\r\n"
	 "x-amz-retry-after: 2\r\n"},
	{"Server: x\r\nSet-Cookie: a\r\nX-Amz-Security-Token: b\r\nConnection: close\r\n"
	 "Age: 1\r\nVia: c\r\n",
	 ""},
};

START_TEST(only_known_headers_are_relayed)
{
	struct world_client *c = sent_encrypt();

	world_answer(c->request, world_reply("200 Fine", heads[_i].in, WORLD_SEALED));
	assert_answer(c, "200 OK", heads[_i].out, WORLD_SEALED);
	ck_assert(!c->close); /* that KMS closes is no affair of the client's */
	world_written(c);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
}
END_TEST

START_TEST(a_closing_client_is_told_so)
{
	struct world_client *c = sent_encrypt();

	c->closing = true;
	world_answer(c->request, world_reply("200 OK", "Expires: 0\r\n", WORLD_SEALED));
	assert_answer(c, "200 OK", "Expires: 0\r\nConnection: close\r\n", WORLD_SEALED);
	ck_assert(c->close);
	world_written(c);
}
END_TEST

START_TEST(framing_is_ours)
{
	struct world_client *c = sent_encrypt();

	world_answer(c->request, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
				 "Transfer-Encoding: chunked\r\n\r\n"
				 "4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n");
	assert_answer(c, "200 OK", "", "{\"a\":1}");
	world_written(c);
}
END_TEST

static const struct {
	const char *status, *lines, *body, *out, *type;
} errors[] = {
	{"400 Bad Request", "", "{\"__type\":\"NotFoundException\"}",
	 "{\"__type\":\"NotFoundException\"}", "NotFoundException"},
	{"400 Bad Request", "", "{ \"__type\" : \"a.b#DisabledException\" }",
	 "{\"__type\":\"a.b#DisabledException\"}", "DisabledException"},
	{"400 Bad Request", "x-amzn-ErrorType: KMSInvalidStateException:http://x\r\n", "{}",
	 "{}", "KMSInvalidStateException"},
	{"500 Internal Server Error", "", "{\"__type\":\"KMSInternalException\"}",
	 "{\"__type\":\"KMSInternalException\"}", "KMSInternalException"},
};

START_TEST(an_error_about_the_request_is_relayed)
{
	struct world_client *c = _i % 2 ? sent_decrypt() : sent_encrypt();

	world_answer(c->request,
		     world_reply(errors[_i].status, errors[_i].lines, errors[_i].body));
	assert_answer(c, errors[_i].status, errors[_i].lines, errors[_i].out);
	world_written(c);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, number_of(errors[_i].status), "");
	ck_assert_str_eq(world_record()->kms_error, errors[_i].type);
	ck_assert_int_eq(world_record()->priority, LOG_WARNING);
	ck_assert_int_eq(world_record()->status, number_of(errors[_i].status));
}
END_TEST

/* ---- not to be relayed ---- */

static const struct {
	const char *status, *lines, *body;
	enum refusal refusal;
	const char *message; /* NULL: the row's, as in the record */
	const char *detail;  /* NULL: the message */
} withheld[] = {
	{"200 OK", "", "{\"CiphertextForRecipient\":\"A\",\"Plaintext\":\"s3cret\"}",
	 REFUSAL_REPLY_LEAKS, NULL, NULL},
	{"200 OK", "", "{\"Plaintext\":\"s3cret\"}", REFUSAL_REPLY_LEAKS, NULL, NULL},
	{"200 OK", "", "{}", REFUSAL_REPLY_NO_CIPHERTEXT, NULL, NULL},
	{"200 OK", "", "s3cret", REFUSAL_REPLY_UNREADABLE, NULL, NULL},
	{"200 OK", "", "", REFUSAL_REPLY_UNREADABLE, NULL, NULL},
	{"400 Bad Request", "", "{\"__type\":\"XException\",\"Plaintext\":\"s3cret\"}",
	 REFUSAL_REPLY_LEAKS, NULL, NULL},
	{"400 Bad Request", "", "{\"__type\":\"XException\",\"message\":\"" TOKEN "\"}",
	 REFUSAL_REPLY_LEAKS, NULL, "an error of the endpoint holds the proxy's session token"},
	{"400 Bad Request", "x-amzn-RequestId: " TOKEN "\r\n", "{\"__type\":\"XException\"}",
	 REFUSAL_REPLY_LEAKS, NULL, "an error of the endpoint holds the proxy's session token"},
	{"400 Bad Request", "x-amzn-RequestId: " TOKEN "\r\n", BAD_SIGNATURE,
	 REFUSAL_BAD_CREDENTIALS, "AWS KMS answered InvalidSignatureException", NULL},
	{"503 Slow Down", "x-amzn-RequestId: " TOKEN "\r\n", "<html>", REFUSAL_NO_UPSTREAM,
	 "the endpoint answered 503 without a KMS error", NULL},
	{"200 OK", "x-amzn-ErrorType: ExpiredTokenException\r\n",
	 "{\"CiphertextForRecipient\":\"A\"}", REFUSAL_UPSTREAM_MALFORMED,
	 "the endpoint answered 200 with the error type ExpiredTokenException", NULL},
	{"302 Found", "", "{}", REFUSAL_UPSTREAM_MALFORMED,
	 "the endpoint answered 302 without a KMS error", NULL},
	{"400 Bad Request", "", "<html>", REFUSAL_UPSTREAM_MALFORMED,
	 "the endpoint answered 400 without a KMS error", NULL},
	{"503 Slow Down", "", "<html>", REFUSAL_NO_UPSTREAM,
	 "the endpoint answered 503 without a KMS error", NULL},
};

static void assert_record_without_token(void)
{
	const struct audit_record *r = world_record();

	ck_assert_ptr_null(strstr(r->detail, TOKEN));
	ck_assert_ptr_null(strstr(r->kms_error, TOKEN));
	ck_assert_ptr_null(strstr(r->aws_request_id, TOKEN));
}

/* Of a secret the enclave is told nothing, and nor is the journal. */
START_TEST(it_is_withheld)
{
	const struct refusal_info *info = refusal_info(withheld[_i].refusal);
	const char *message = withheld[_i].message;
	struct world_client *c = sent_decrypt();

	world_answer(c->request,
		     world_reply(withheld[_i].status, withheld[_i].lines, withheld[_i].body));
	world_written(c);
	world_assert_refused(c, withheld[_i].refusal, message, false);
	world_assert_record(info->critical ? EVENT_LEAK : EVENT_UNANSWERED, info->reason,
			    number_of(withheld[_i].status),
			    withheld[_i].detail ?: message ?: info->message);
	ck_assert_int_eq(world_record()->status, info->status);
	ck_assert_ptr_null(strstr(c->answer, "s3cret"));
	ck_assert_ptr_null(strstr(c->answer, TOKEN));
	assert_record_without_token();
}
END_TEST

/* Nobody is there to be told, and it is recorded all the same. */
START_TEST(an_orphan_is_withheld)
{
	const struct refusal_info *info = refusal_info(withheld[_i].refusal);
	struct world_client *c = sent_decrypt();

	request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
	world_answer(c->request,
		     world_reply(withheld[_i].status, withheld[_i].lines, withheld[_i].body));
	ck_assert_uint_eq(c->answers + c->losses, 0);
	world_assert_record(info->critical ? EVENT_LEAK : EVENT_UNANSWERED,
			    info->critical ? info->reason : REASON_CLIENT_GONE,
			    number_of(withheld[_i].status),
			    withheld[_i].detail ?: withheld[_i].message ?: info->message);
	ck_assert_int_eq(world_record()->status, 0);
	assert_record_without_token();
}
END_TEST

/* The client goes before the refusal has left: why it was withheld is what is recorded. */
START_TEST(a_leak_is_recorded_as_one)
{
	struct world_client *c = sent_decrypt();

	c->manner = CLIENT_BREAKS;
	world_answer(c->request, world_reply("200 OK", "", "{\"Plaintext\":\"s3cret\"}"));
	world_assert_record(EVENT_LEAK, REASON_REPLY_LEAKS, 200,
			    refusal_info(REFUSAL_REPLY_LEAKS)->message);
}
END_TEST

/* `plaintext: allow`, or an action without secrets. */
START_TEST(what_is_not_sealed_is_relayed)
{
	struct world_client *c;

	world_load("encryption_context: {app: payments}", "plaintext: allow");
	c = _i ? sent_encrypt() : sent_decrypt();
	world_answer(c->request, world_reply("200 OK", "", "{\"Plaintext\":\"AAAA\"}"));
	assert_answer(c, "200 OK", "", "{\"Plaintext\":\"AAAA\"}");
	world_written(c);
}
END_TEST

/* A refusal takes the place of what can't be relayed, and nothing of that is left in it. */
START_TEST(no_memory_to_relay)
{
	struct world_client *c = sent_encrypt();
	struct upstream_call *call = &c->request->call;
	size_t used;

	ck_assert_int_eq(http_reply_read(&call->reply,
					 slice_from(world_reply("200 OK", WORLD_REPLY_HEAD,
								WORLD_SEALED)),
					 &used),
			 REPLY_DONE);
	upstream_cancel(call);
	failing_malloc_begin(1);
	call->ops->done(call, UPSTREAM_REPLY, NULL, world.now);
	ck_assert(failing_malloc_end());
	world_written(c);
	world_assert_refused(c, REFUSAL_INTERNAL, NULL, false);
	world_assert_record(EVENT_UNANSWERED, REASON_INTERNAL, 200,
			    refusal_info(REFUSAL_INTERNAL)->message);
}
END_TEST

/* ---- no answer ---- */

static const struct {
	enum upstream_result result;
	enum world_sent sent;
	const char *why;
	enum refusal refusal;
	const char *detail; /* NULL: the row's */
} failures[] = {
	{UPSTREAM_NO_CONNECTION, SENT_NOTHING, "connection refused", REFUSAL_NO_UPSTREAM,
	 "endpoint kms: connection refused"},
	{UPSTREAM_NO_PROXY, SENT_NOTHING, "refused", REFUSAL_NO_PROXY, "endpoint kms: refused"},
	{UPSTREAM_PROXY_REFUSED, SENT_NOTHING, "status 407", REFUSAL_PROXY_REFUSED,
	 "endpoint kms: status 407"},
	{UPSTREAM_PROXY_BROKEN, SENT_NOTHING, "bare LF", REFUSAL_PROXY_BROKEN,
	 "endpoint kms: bare LF"},
	{UPSTREAM_QUEUE_TIMEOUT, SENT_NOTHING, NULL, REFUSAL_QUEUE_TIMEOUT, NULL},
	{UPSTREAM_QUEUE_TIMEOUT, SENT_NOTHING, "no route", REFUSAL_QUEUE_TIMEOUT,
	 "endpoint kms: no route"},
	{UPSTREAM_NOT_SENT, SENT_NOTHING, NULL, REFUSAL_INTERNAL, NULL},
	{UPSTREAM_LOST, SENT_NOTHING, "it broke", REFUSAL_UPSTREAM_LOST,
	 "endpoint kms: it broke"},
	{UPSTREAM_LOST, SENT_PART, "it broke", REFUSAL_UPSTREAM_LOST, "endpoint kms: it broke"},
	{UPSTREAM_LOST, SENT_ALL, "it broke", REFUSAL_UPSTREAM_LOST, "endpoint kms: it broke"},
	{UPSTREAM_TIMEOUT, SENT_NOTHING, NULL, REFUSAL_UPSTREAM_TIMEOUT, NULL},
	{UPSTREAM_TIMEOUT, SENT_ALL, NULL, REFUSAL_UPSTREAM_TIMEOUT, NULL},
	{UPSTREAM_MALFORMED, SENT_ALL, "bare LF", REFUSAL_UPSTREAM_MALFORMED,
	 "endpoint kms: bare LF"},
	{UPSTREAM_NO_MEMORY, SENT_ALL, NULL, REFUSAL_MEMORY, NULL},
};

/* The enclave is told the row's sentence, the journal what happened; what KMS may have acted
 * upon is no mere refusal. */
START_TEST(the_upstream_fails)
{
	const struct refusal_info *info = refusal_info(failures[_i].refusal);
	bool exposed = failures[_i].sent != SENT_NOTHING;
	struct world_client *c = world_encrypt();

	if (failures[_i].result > UPSTREAM_NOT_SENT)
		world_send(c->request, failures[_i].sent);
	world_pass(5000);
	c->closing = _i % 2;
	world_fail(c->request, failures[_i].result, failures[_i].why);
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	ck_assert_uint_eq(c->in_flight, 0);
	world_written(c);
	world_assert_refused(c, failures[_i].refusal, NULL, c->closing);
	world_assert_record(exposed ? EVENT_UNANSWERED : EVENT_REFUSED, info->reason,
			    exposed ? KMS_STATUS_UNKNOWN : 0,
			    failures[_i].detail ?: info->message);
	ck_assert(world_record()->allowed);
	ck_assert_int_eq(world_record()->upstream,
			 failures[_i].result > UPSTREAM_NOT_SENT ? 5000 : -1);
}
END_TEST

START_TEST(an_answer_that_is_not_http)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	world_answer(c->request, "SSH-2.0-OpenSSH\r\n");
	world_written(c);
	world_assert_refused(c, REFUSAL_UPSTREAM_MALFORMED, NULL, false);
	ck_assert_int_eq(world_record()->event, EVENT_UNANSWERED);
	ck_assert_int_eq(strncmp(world_record()->detail, "endpoint kms: ", 14), 0);
}
END_TEST

/* A whole Content-Length is reserved at once, and given back. */
START_TEST(an_answer_that_its_memory_cannot_hold)
{
	struct world_client *c = world_encrypt();
	struct enclave *e = world_enclave("app");
	size_t share = world.context.generation->memory_share, other = 0;

	ck_assert(enclave_charge(e, share, &other, share - gauge_read(&e->memory) - 100));
	world_send(c->request, SENT_ALL);
	world_answer(c->request, "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n");
	world_written(c);
	world_assert_refused(c, REFUSAL_MEMORY, NULL, false);
	world_assert_record(EVENT_UNANSWERED, REASON_MEMORY, KMS_STATUS_UNKNOWN,
			    refusal_info(REFUSAL_MEMORY)->message);
	enclave_uncharge(e, &other);
}
END_TEST

/* ---- rejected credentials ---- */

static void answer_rejected(struct world_client *c)
{
	world_answer(c->request, world_reply("400 Bad Request", WORLD_REPLY_HEAD, REJECTED));
}

static struct world_client *rejected(void)
{
	struct world_client *c = sent_encrypt();

	answer_rejected(c);
	return c;
}

static void assert_answered(struct world_client *c)
{
	world_answer(c->request, world_reply("200 OK", "", WORLD_SEALED));
	assert_answer(c, "200 OK", "", WORLD_SEALED);
	world_written(c);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
}

/* What they had rejected before, and take now. */
START_TEST(the_control_thread_is_told_of_a_success)
{
	struct credentials_health *health = world.context.generation->health[0];
	struct world_client *c = sent_encrypt();

	health->rejected = world.first->serial;
	assert_answered(c);
	world_read_mail();
	ck_assert_uint_eq(world.n_told, 1);
	ck_assert_int_eq(world.told.kind, MESSAGE_RECOVERED);
	ck_assert_ptr_eq(world.told.health, health);
	ck_assert_uint_eq(world.told.id, world.first->serial);
}
END_TEST

START_TEST(the_control_thread_is_told)
{
	struct world_client *c = rejected();

	world_read_mail();
	ck_assert_uint_eq(world.n_told, 1);
	ck_assert_int_eq(world.told.kind, MESSAGE_REJECTED);
	ck_assert_uint_eq(world.told.id, world.first->serial);
	ck_assert_int_eq(world.told.number, 1);
	ck_assert_str_eq(world.told.why, "ExpiredTokenException");
	ck_assert_uint_eq(c->request->rejected, world.first->serial);
	request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
}
END_TEST

START_TEST(it_is_signed_again_with_the_others)
{
	struct world_client *c = rejected();

	ck_assert_ptr_nonnull(strstr(world.sent, "the-first-token-of-all"));
	world_take_credentials(world.second);
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	world_send(c->request, SENT_ALL);
	ck_assert_ptr_nonnull(strstr(world.sent, "the-other-token-of-all"));
	ck_assert_ptr_nonnull(strstr(world.sent, "Credential=ASIAEXAMPLEEXAMPLE02/"));
	assert_answered(c);
}
END_TEST

START_TEST(others_are_here_already)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	world_take_credentials(world.second);
	answer_rejected(c);
	ck_assert_int_eq(c->request->step, STEP_SEND);
	world_send(c->request, SENT_ALL);
	ck_assert_ptr_nonnull(strstr(world.sent, "the-other-token-of-all"));
	world_read_mail();
	ck_assert_uint_eq(world.n_told, 0); /* nobody need ask for what is here */
	assert_answered(c);
}
END_TEST

/* That the first were rejected is known, and no news; that the second try failed is. */
START_TEST(what_becomes_of_the_second_try_is_a_warning)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	world.context.generation->health[0]->rejected = world.first->serial;
	world_take_credentials(world.second);
	answer_rejected(c);
	ck_assert_int_eq(c->request->step, STEP_SEND);
	world_fail(c->request, UPSTREAM_NO_CONNECTION, NULL);
	world_written(c);
	world_assert_record(EVENT_UNANSWERED, REASON_NO_UPSTREAM, 400,
			    refusal_info(REFUSAL_NO_UPSTREAM)->message);
	ck_assert_int_eq(world_record()->priority, -1);
}
END_TEST

START_TEST(it_is_signed_again_once_only)
{
	struct world_client *c = rejected();

	world_take_credentials(world.second);
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	world_send(c->request, SENT_ALL);
	answer_rejected(c);
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	world_written(c);
	world_assert_refused(c, REFUSAL_BAD_CREDENTIALS,
			     "AWS KMS answered ExpiredTokenException", false);
	world_assert_record(EVENT_UNANSWERED, REASON_BAD_CREDENTIALS, 400,
			    "AWS KMS answered ExpiredTokenException");
	ck_assert_uint_eq(world.n_sent, 2);
}
END_TEST

/* What is rejected while one waits waits along, until the same moment; then none waits. */
START_TEST(those_that_come_later_wait_no_longer)
{
	struct world_client *first = rejected(), *second, *late;
	usec_t deadline = first->request->wait_deadline;

	world_pass(OTHERS_TIME / 2);
	second = rejected();
	ck_assert_int_eq(second->request->wait, WAIT_CREDENTIALS);
	ck_assert_int_eq(second->request->wait_deadline, deadline);
	world_pass(OTHERS_TIME / 2);
	requests_sweep(&world.requests, world.now);
	ck_assert_uint_eq(first->answers + second->answers, 2);
	late = rejected();
	ck_assert_int_eq(late->request->step, STEP_RECORD);
	world_written(first);
	world_written(second);
	world_written(late);
	ck_assert_int_eq(world_record()->reason, REASON_BAD_CREDENTIALS);
	ck_assert_str_eq(world_record()->detail, "AWS KMS answered ExpiredTokenException");
}
END_TEST

/* Others wouldn't help. */
START_TEST(a_bad_signature_waits_for_nothing)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	world_answer(c->request,
		     world_reply("400 Bad Request", WORLD_REPLY_HEAD, BAD_SIGNATURE));
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	world_written(c);
	world_assert_refused(c, REFUSAL_BAD_CREDENTIALS,
			     "AWS KMS answered InvalidSignatureException", false);
	world_read_mail();
	ck_assert_uint_eq(world.n_told, 1);
	ck_assert_int_eq(world.told.number, 0);
}
END_TEST

/* It is in the middle of the first try when the rules change: it is not tried again. */
START_TEST(what_a_reload_lets_end_is_not_signed_again)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	world_load("actions: [Encrypt, ", "actions: [");
	ck_assert(!request_revoke(c->request, world.context.generation));
	ck_assert_uint_eq(c->answers, 0);
	answer_rejected(c);
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	world_written(c);
	world_assert_refused(c, REFUSAL_BAD_CREDENTIALS,
			     "AWS KMS answered ExpiredTokenException", false);
	ck_assert_uint_eq(world.n_sent, 1);
}
END_TEST

/* ---- a wrong clock ---- */

#define LATER_HEAD                                                                             \
	"Content-Type: application/x-amz-json-1.1\r\nDate: Thu, 01 Jan 2026 00:10:00 GMT\r\n"

static struct world_client *signed_for_a_wrong_time(void)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	ck_assert_ptr_nonnull(strstr(world.sent, "\r\nX-Amz-Date: " WORLD_AMZ_DATE "\r\n"));
	world_answer(c->request, world_reply("400 Bad Request", LATER_HEAD, BAD_SIGNATURE));
	return c;
}

START_TEST(it_is_signed_again_by_the_right_clock)
{
	struct world_client *c = signed_for_a_wrong_time();

	ck_assert_int_eq(c->request->step, STEP_SEND);
	world_send(c->request, SENT_ALL);
	ck_assert_ptr_nonnull(strstr(world.sent, "\r\nX-Amz-Date: 20260101T001000Z\r\n"));
	assert_answered(c);
	world_read_mail();
	ck_assert_uint_eq(world.n_told, 0); /* nothing is wrong with the credentials */
}
END_TEST

START_TEST(a_clock_is_corrected_once_only)
{
	struct world_client *c = signed_for_a_wrong_time();

	world_send(c->request, SENT_ALL);
	world_answer(c->request,
		     world_reply("400 Bad Request", WORLD_REPLY_HEAD, BAD_SIGNATURE));
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	world_written(c);
	world_assert_refused(c, REFUSAL_BAD_CREDENTIALS,
			     "AWS KMS answered InvalidSignatureException", false);
	ck_assert_uint_eq(world.n_sent, 2);
}
END_TEST

/* The clock is known when the next is signed, and the refusals' Date is right. */
START_TEST(the_clock_stays_corrected)
{
	struct world_client *c = signed_for_a_wrong_time(), *next = world_encrypt();

	request_end(c->request, REASON_CLIENT_GONE, 0, world.now);
	world_send(next->request, SENT_ALL);
	ck_assert_ptr_nonnull(strstr(world.sent, "\r\nX-Amz-Date: 20260101T001000Z\r\n"));
	world_fail(next->request, UPSTREAM_TIMEOUT, NULL);
	ck_assert_ptr_nonnull(
		strstr(next->answer, "\r\nDate: Thu, 01 Jan 2026 00:10:00 GMT\r\n"));
	world_written(next);
}
END_TEST

static void add_answers(TCase *tcase)
{
	tcase_add_loop_test(tcase, only_known_headers_are_relayed, 0, ELEMENTSOF(heads));
	tcase_add_test(tcase, a_closing_client_is_told_so);
	tcase_add_test(tcase, framing_is_ours);
	tcase_add_loop_test(tcase, an_error_about_the_request_is_relayed, 0,
			    ELEMENTSOF(errors));
	tcase_add_loop_test(tcase, it_is_withheld, 0, ELEMENTSOF(withheld));
	tcase_add_loop_test(tcase, an_orphan_is_withheld, 0, ELEMENTSOF(withheld));
	tcase_add_test(tcase, a_leak_is_recorded_as_one);
	tcase_add_loop_test(tcase, what_is_not_sealed_is_relayed, 0, 2);
	tcase_add_test(tcase, no_memory_to_relay);
	tcase_add_loop_test(tcase, the_upstream_fails, 0, ELEMENTSOF(failures));
	tcase_add_test(tcase, an_answer_that_is_not_http);
	tcase_add_test(tcase, an_answer_that_its_memory_cannot_hold);
}

static void add_what_blames_us(TCase *tcase)
{
	tcase_add_test(tcase, the_control_thread_is_told_of_a_success);
	tcase_add_test(tcase, the_control_thread_is_told);
	tcase_add_test(tcase, it_is_signed_again_with_the_others);
	tcase_add_test(tcase, others_are_here_already);
	tcase_add_test(tcase, what_becomes_of_the_second_try_is_a_warning);
	tcase_add_test(tcase, it_is_signed_again_once_only);
	tcase_add_test(tcase, those_that_come_later_wait_no_longer);
	tcase_add_test(tcase, a_bad_signature_waits_for_nothing);
	tcase_add_test(tcase, what_a_reload_lets_end_is_not_signed_again);
	tcase_add_test(tcase, it_is_signed_again_by_the_right_clock);
	tcase_add_test(tcase, a_clock_is_corrected_once_only);
	tcase_add_test(tcase, the_clock_stays_corrected);
}

/* ---- counted ---- */

static uint64_t counted(enum counter counter)
{
	return world_enclave("app")->counters[counter];
}

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
	add_answers(tcase);
	add_what_blames_us(tcase);
	tcase_add_test(tcase, what_was_refused_counts_as_that);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
