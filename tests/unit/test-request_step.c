/* SPDX-License-Identifier: Apache-2.0 */

/* The whole way of a request, beside a made-up client and a KMS of ours: where it is after each
 * thing that happens, what the client is told, what is recorded, and that it gives everything
 * back. */

#include "request_step.h"

#include "connection_world.h"
#include "credentials.h"
#include "sigv4.h"
#include "tls_peer.h"
#include "upstreams.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DESCRIBE "{\"KeyId\":\"alias/x\"}"
#define LONG (100 * USEC_PER_SEC)

struct client {
	struct request_client client; /* first */
	struct request *request;
	bool closing, gone; /* what it says of itself */
	bool keep;          /* it doesn't end the request with its answer */
	unsigned answers, losses;
	char answer[4096];
	bool close;
	enum reason why; /* it was lost */
};

static struct tls_peer *kms;
static struct client client;
static uint64_t last_serial;

/* ---- the client ---- */

static struct client *client_of(const struct request_client *c)
{
	return (struct client *)(uintptr_t)c;
}

static bool closing(const struct request_client *c)
{
	return client_of(c)->closing;
}

static bool gone(const struct request_client *c)
{
	return client_of(c)->gone;
}

static void answer(struct request_client *c, struct slice head, struct slice body, bool close,
		   struct instant now)
{
	struct client *me = client_of(c);

	ck_assert_int_eq(me->request->step, STEP_RECORD);
	me->answers++;
	me->close = close;
	snprintf(me->answer, sizeof(me->answer), "%.*s%.*s", (int)head.n, head.p, (int)body.n,
		 body.p);
	if (!me->keep)
		request_end(me->request, REASON_NONE, head.n + body.n, now);
}

static void lost(struct request_client *c, enum reason why, struct instant now)
{
	struct client *me = client_of(c);

	me->losses++;
	me->why = why;
	request_lose_client(me->request, why, 0, now);
}

static const struct request_client_ops ops = {closing, gone, answer, lost};

/* ---- the request ---- */

static struct instant now_and(usec_t after)
{
	return world_later(after);
}

static struct credentials *make_credentials(void)
{
	struct credentials *c;

	ck_assert_int_eq(credentials_new(SLICE("ASIAEXAMPLEEXAMPLE77"), SLICE("s3cret"),
					 SLICE("a-session-token-that-is-long-enough"), 0, &c),
			 0);
	c->serial = ++last_serial;
	return c;
}

static void come_credentials(void)
{
	credentials_unref(world.credentials);
	world.credentials = make_credentials();
	signer_forget(world.signer);
	requests_wake(world.requests, WAIT_CREDENTIALS, clock_now());
}

/* Its head has come, and been limited. */
static struct request *arrive(const char *host, const char *action, size_t length)
{
	static char text[512];
	const struct http_head_options options = {.body_max = 512 * KIB};
	const struct identity identity = world_identity("one");
	const struct request_origin origin = {
		.context = &world,
		.client = &client.client,
		.identity = &identity,
		.generation = world.generation,
		.enclave_index = (unsigned)generation_find(world.generation, &identity),
	};
	struct http_head head;
	int n = snprintf(text, sizeof(text),
			 "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n"
			 "Content-Type: application/x-amz-json-1.1\r\n"
			 "X-Amz-Target: TrentService.%s\r\n\r\n",
			 host, length, action);

	http_head_init(&head);
	ck_assert_int_eq(http_head_read(&head, (struct slice){text, (size_t)n}, &options),
			 HEAD_DONE);
	client.request = request_new(&origin, &head, clock_now());
	ck_assert_ptr_nonnull(client.request);
	ck_assert_int_eq(client.request->step, STEP_BODY);
	return client.request;
}

/* Its body too, and it is run. */
static struct request *run(const char *host, const char *action, const char *body)
{
	struct request *r = arrive(host, action, strlen(body));
	struct slice room = request_room(r);

	ck_assert_uint_eq(room.n, strlen(body));
	if (!r->refusal)
		memcpy((char *)room.p, body, room.n);
	r->body_n += room.n;
	request_run(r, clock_now());
	return r;
}

static struct request *run_describe(void)
{
	return run("kms.test", "DescribeKey", DESCRIBE);
}

static void assert_answer(const char *status, const char *type, bool close)
{
	char line[64];

	ck_assert_uint_eq(client.answers, 1);
	ck_assert_uint_eq(client.losses, 0);
	snprintf(line, sizeof(line), "HTTP/1.1 %s ", status);
	ck_assert_msg(strncmp(client.answer, line, strlen(line)) == 0, "%s", client.answer);
	ck_assert_msg(!type || strstr(client.answer, type), "%s", client.answer);
	ck_assert(client.close == close);
	ck_assert((strstr(client.answer, "\r\nConnection: close\r\n") != NULL) == close);
}

static void setup(void)
{
	world_begin();
	kms = tls_peer_new(world.base);
	world_use_kms(kms);
	world.credentials = make_credentials();
	client = (struct client){.client.ops = &ops};
}

static void teardown(void)
{
#ifdef TEST_HOOKS
	request_test_step = NULL;
#endif
	world.credentials = credentials_unref(world.credentials);
	tls_peer_free(kms);
	world_end();
}

/* ---- the whole way ---- */

START_TEST(an_allowed_request_goes_all_the_way)
{
	struct request *r;

	tls_peer_set(kms, TLS_PEER_ANSWER);
	r = run_describe();
	ck_assert_int_eq(r->step, STEP_SEND);
	RUN_UNTIL(client.answers);
	assert_answer("200", "{}", false);
	ck_assert_int_eq(world_record()->kms_status, 200);
	ck_assert_uint_eq(tls_peer_requests(kms), 1);
}
END_TEST

START_TEST(a_client_that_closes_is_told_so)
{
	tls_peer_set(kms, TLS_PEER_ANSWER);
	client.closing = true;
	(void)run_describe();
	RUN_UNTIL(client.answers);
	assert_answer("200", "{}", true);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED);
}
END_TEST

/* What is over can be looked at until the turn is. */
START_TEST(a_request_that_ended_says_so)
{
	struct request *r;

	client.keep = true;
	r = run("kms.test", "Nothing", DESCRIBE);
	assert_answer("400", "UnknownOperationException", false);
	ck_assert_int_eq(r->step, STEP_RECORD);
	world_assert_no_record();
	request_end(r, REASON_NONE, 7, clock_now());
	ck_assert_int_eq(r->step, STEP_ENDED);
	ck_assert_int_eq(world_record()->bytes_out, 7);
	request_end(r, REASON_NONE, 7, clock_now()); /* nothing more */
	world_assert_no_record();
}
END_TEST

/* ---- refusals ---- */

#define LIMITED(limits) "one: {" WORLD_ENCLAVE("4") ", limits: {" limits "}}"

static const struct {
	const char *host, *action, *body;
	const char *enclaves; /* in force instead; NULL: the usual */
	const char *status, *type;
	enum reason reason;
} refusals[] = {
	{"kms.test", "Nothing", DESCRIBE, NULL, "400", "UnknownOperationException",
	 REASON_UNKNOWN_ACTION},
	{"kms.test", "DescribeKey", "{", NULL, "400", "SerializationException", REASON_JSON},
	{"kms.test", "DescribeKey", "{\"A\":1}", NULL, "400", "SerializationException",
	 REASON_JSON},
	{"other.test", "DescribeKey", DESCRIBE, NULL, "400", "AccessDeniedException",
	 REASON_HOST},
	{"kms.test", "Encrypt", "{\"KeyId\":\"alias/x\",\"Plaintext\":\"\"}", NULL, "400",
	 "AccessDeniedException", REASON_ACTION},
	{"kms.test", "DescribeKey", DESCRIBE, LIMITED("requests: 1/h, burst: 1"), "400",
	 "ThrottlingException", REASON_RATE},
	{"kms.test", "DescribeKey", DESCRIBE, LIMITED("in_flight: 1"), "400",
	 "ThrottlingException", REASON_IN_FLIGHT},
};

/* The second of two: the first has what there is. */
START_TEST(what_may_not_pass_is_refused_where_it_stands)
{
	struct request *r, *first = NULL;
	struct client other = {0};

	if (refusals[_i].enclaves) {
		world_configure(refusals[_i].enclaves);
		first = arrive("kms.test", "DescribeKey", strlen(DESCRIBE));
		other = client;
	}
	r = run(refusals[_i].host, refusals[_i].action, refusals[_i].body);
	ck_assert_int_eq(r->step, STEP_ENDED);
	assert_answer(refusals[_i].status, refusals[_i].type, false);
	world_assert_record(EVENT_REFUSED, refusals[_i].reason);
	ck_assert_uint_eq(tls_peer_requests(kms), 0);
	if (first) {
		client = other;
		request_end(first, REASON_CUT_OFF, 0, clock_now());
		world_assert_record(EVENT_REFUSED, REASON_CUT_OFF);
	}
}
END_TEST

START_TEST(memory_that_is_used_up_throttles)
{
	struct enclave *e = world_enclave("one");

	ck_assert(gauge_take(&e->memory, world.generation->memory_share, UINT64_MAX));
	(void)run_describe();
	assert_answer("400", "ThrottlingException", false);
	world_assert_record(EVENT_REFUSED, REASON_MEMORY);
	gauge_return(&e->memory, world.generation->memory_share);
}
END_TEST

/* Hanging up before the answer is no way to be counted otherwise. */
START_TEST(what_was_refused_counts_as_that)
{
	struct enclave *e = world_enclave("one");
	struct request *r;

	client.keep = true;
	ck_assert(gauge_take(&e->memory, world.generation->memory_share, UINT64_MAX));
	r = run_describe();
	request_lose_client(r, REASON_CLIENT_GONE, 0, clock_now());
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
	gauge_return(&e->memory, world.generation->memory_share);
	ck_assert_uint_eq(atomic_load(&e->counters[COUNTER_THROTTLED]), 1);
	ck_assert_uint_eq(atomic_load(&e->counters[COUNTER_FAILED]), 0);

	r = run_describe(); /* it waits for KMS */
	request_lose_client(r, REASON_CLIENT_GONE, 0, clock_now());
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
	ck_assert_uint_eq(atomic_load(&e->counters[COUNTER_FAILED]), 1);
	ck_assert_uint_eq(atomic_load(&e->counters[COUNTER_REQUESTS]), 2);
}
END_TEST

START_TEST(a_head_that_can_not_be_read_costs_a_token)
{
	const struct identity identity = world_identity("one");
	const struct request_origin origin = {&world, &client.client, &identity,
					      world.generation, 0};

	client.request = request_new_bad(&origin, clock_now());
	request_refuse(client.request, REFUSAL_HEAD_TOO_LARGE, NULL, clock_now());
	assert_answer("431", "SerializationException", true);
	world_assert_record(EVENT_REFUSED, REASON_HEAD_TOO_LARGE);
}
END_TEST

/* ---- what KMS does ---- */

static void close_kms(void)
{
	tls_peer_set(kms, TLS_PEER_CLOSE);
}

static void stay_silent(void)
{
	RUN_UNTIL(tls_peer_requests(kms) == 1);
	upstreams_sweep(&world, now_and(LONG));
}

static void talk_nonsense(void)
{
	tls_peer_say(kms, "nonsense\r\n\r\n");
	tls_peer_set(kms, TLS_PEER_ANSWER);
}

static void let_it_wait(void)
{
	upstreams_sweep(&world, now_and(6 * USEC_PER_SEC)); /* queue_timeout is 5 s */
}

static const struct {
	void (*act)(void);
	const char *status;
	enum reason reason;
	int kms_status;
	enum event_kind event;
} failures[] = {
	{close_kms, "503", REASON_UPSTREAM_LOST, KMS_STATUS_UNKNOWN, EVENT_UNANSWERED},
	{stay_silent, "504", REASON_UPSTREAM_TIMEOUT, KMS_STATUS_UNKNOWN, EVENT_UNANSWERED},
	{talk_nonsense, "502", REASON_UPSTREAM_MALFORMED, KMS_STATUS_UNKNOWN, EVENT_UNANSWERED},
	{let_it_wait, "503", REASON_QUEUE_TIMEOUT, 0, EVENT_REFUSED},
};

START_TEST(what_goes_wrong_at_kms_is_told_and_recorded)
{
	const struct audit_record *r;

	(void)run_describe();
	failures[_i].act();
	RUN_UNTIL(client.answers);
	assert_answer(failures[_i].status, NULL, false);
	r = world_record();
	ck_assert_str_eq(reason_word(r->reason), reason_word(failures[_i].reason));
	ck_assert_int_eq(r->kms_status, failures[_i].kms_status);
	ck_assert_int_eq(r->event, failures[_i].event);
}
END_TEST

START_TEST(an_error_of_kms_is_relayed)
{
	tls_peer_say(kms, "HTTP/1.1 400 Bad Request\r\nContent-Length: 30\r\n"
			  "x-amzn-RequestId: kms-1\r\nServer: x\r\n\r\n"
			  "{\"__type\":\"NotFoundException\"}");
	tls_peer_set(kms, TLS_PEER_ANSWER);
	(void)run_describe();
	RUN_UNTIL(client.answers);
	assert_answer("400", "NotFoundException", false);
	ck_assert_ptr_nonnull(strstr(client.answer, "\r\nx-amzn-RequestId: kms-1\r\n"));
	ck_assert_ptr_null(strstr(client.answer, "Server"));
	ck_assert_str_eq(world_record()->aws_request_id, "kms-1");
}
END_TEST

#define DECRYPT                                                                                \
	"{\"KeyId\":\"alias/x\",\"CiphertextBlob\":\"AA==\",\"Recipient\":{"                   \
	"\"AttestationDocument\":\"AA==\",\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}}"

/* A plaintext where none may come back, beside a client and without one. */
START_TEST(an_answer_that_leaks_is_withheld)
{
	const struct audit_record *record;

	world_configure("one: {cid: 4, endpoints: [kms], "
			"allow: [{name: open, actions: [Decrypt], keys: any}]}");
	tls_peer_say(kms, "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n"
			  "{\"Plaintext\":\"c2VjcmV0\"}");
	(void)run("kms.test", "Decrypt", DECRYPT);
	RUN_UNTIL(tls_peer_requests(kms) == 1);
	if (_i == 1)
		request_lose_client(client.request, REASON_CLIENT_GONE, 0, clock_now());
	tls_peer_set(kms, TLS_PEER_ANSWER);
	RUN_UNTIL(client.answers || (_i == 1 && LIST_EMPTY(&world.requests->orphans)));
	if (_i == 0) {
		assert_answer("502", "KMSInternalException", false);
		ck_assert_ptr_null(strstr(client.answer, "c2VjcmV0"));
	}
	record = world_record();
	ck_assert_int_eq(record->event, EVENT_LEAK);
	ck_assert_int_eq(record->reason, REASON_REPLY_LEAKS);
	ck_assert_str_eq(record->recipient, "present");
	ck_assert_int_eq(record->kms_status, 200);
	ck_assert_uint_eq(client.answers, _i == 0 ? 1 : 0);
}
END_TEST

/* ---- waiting for credentials ---- */

static void forget_credentials(void)
{
	world.credentials = credentials_unref(world.credentials);
}

START_TEST(the_first_credentials_are_waited_for)
{
	struct request *r;

	forget_credentials();
	tls_peer_set(kms, TLS_PEER_ANSWER);
	r = run_describe();
	ck_assert_int_eq(r->step, STEP_SIGN);
	ck_assert_int_eq(r->wait, WAIT_CREDENTIALS);
	requests_sweep(world.requests, clock_now()); /* too early */
	ck_assert_int_eq(r->step, STEP_SIGN);
	come_credentials();
	ck_assert_int_eq(r->step, STEP_SEND);
	ck_assert_int_eq(r->wait, WAIT_NOTHING);
	RUN_UNTIL(client.answers);
	assert_answer("200", "{}", false);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED);
}
END_TEST

START_TEST(who_waits_is_refused_when_its_time_is_over)
{
	struct request *r;

	forget_credentials();
	r = run_describe();
	requests_sweep(world.requests,
		       (struct instant){world.credentials_due, clock_now().wall});
	ck_assert_int_eq(r->step, STEP_ENDED);
	assert_answer("503", "ServiceUnavailableException", false);
	world_assert_record(EVENT_REFUSED, REASON_NO_CREDENTIALS);
}
END_TEST

/* The ways in which somebody else ends the waiting. */
static void client_goes(struct request *r)
{
	request_lose_client(r, REASON_CLIENT_GONE, 0, clock_now());
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
}

static void reload_withdraws(struct request *r)
{
	world_configure("one: {cid: 4, endpoints: [kms], "
			"allow: [{name: look, actions: [ListKeys], keys: any}]}");
	ck_assert(request_revoke(r, world.generation));
	request_refuse(r, REFUSAL_RELOADED, NULL, clock_now());
	assert_answer("503", "ServiceUnavailableException", false);
	world_assert_record(EVENT_REFUSED, REASON_RELOADED);
}

static void reload_lets_it_be(struct request *r)
{
	world_configure(WORLD_ONE ", " WORLD_TWO);
	ck_assert(!request_revoke(r, world.generation));
	ck_assert_int_ne(r->wait, WAIT_NOTHING);
	request_end(r, REASON_CUT_OFF, 0, clock_now());
	world_assert_record(EVENT_REFUSED, REASON_CUT_OFF);
}

static void drain_is_over(struct request *r)
{
	request_withdraw(r);
	request_refuse(r, REFUSAL_SHUTTING_DOWN, NULL, clock_now());
	assert_answer("503", "ServiceUnavailableException", true);
	world_assert_record(EVENT_REFUSED, REASON_SHUTTING_DOWN);
}

static void (*const interruptions[])(struct request *r) = {client_goes, reload_withdraws,
							   reload_lets_it_be, drain_is_over};

START_TEST(waiting_for_credentials_can_be_interrupted)
{
	struct request *r;

	forget_credentials();
	r = run_describe();
	interruptions[_i](r);
	ck_assert_int_eq(r->step, STEP_ENDED);
	ck_assert(LIST_EMPTY(&world.requests->waiting));
	come_credentials(); /* nobody waits */
	requests_sweep(world.requests, now_and(LONG));
	ck_assert_uint_le(client.answers, 1);
}
END_TEST

#define EXPIRED                                                                                \
	"HTTP/1.1 400 Bad Request\r\nContent-Length: 34\r\n\r\n"                               \
	"{\"__type\":\"ExpiredTokenException\"}"

/* Sent and rejected; it waits for others. */
static struct request *run_rejected(void)
{
	struct request *r;

	tls_peer_say(kms, EXPIRED);
	tls_peer_set(kms, TLS_PEER_ANSWER);
	r = run_describe();
	RUN_UNTIL(r->step == STEP_SIGN);
	ck_assert_int_eq(r->wait, WAIT_CREDENTIALS);
	ck_assert_uint_eq(world_told_control, 0); /* it is told when it looks */
	ck_assert_uint_eq(client.answers, 0);
	return r;
}

START_TEST(rejected_credentials_are_replaced_and_signed_with_again)
{
	struct request *r = run_rejected();

	tls_peer_say(kms, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
	come_credentials();
	ck_assert_int_eq(r->step, STEP_SEND);
	RUN_UNTIL(client.answers);
	assert_answer("200", "{}", false);
	ck_assert_uint_eq(tls_peer_requests(kms), 2);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED);
}
END_TEST

START_TEST(others_that_are_rejected_too_are_not_waited_for)
{
	struct request *r = run_rejected();

	come_credentials();
	ck_assert_int_eq(r->step, STEP_SEND);
	RUN_UNTIL(client.answers);
	assert_answer("503", "ServiceUnavailableException", false);
	ck_assert_int_eq(world_record()->kms_status, 400);
}
END_TEST

START_TEST(without_others_in_time_it_is_refused)
{
	struct request *r = run_rejected();

	requests_sweep(world.requests, now_and(LONG));
	ck_assert_int_eq(r->step, STEP_ENDED);
	assert_answer("503", "there are no new ones", false);
	ck_assert_str_eq(reason_word(world_record()->reason), "bad-credentials");
}
END_TEST

/* KMS's clock is an hour ahead, as its Date says. */
START_TEST(a_wrong_clock_is_corrected_once)
{
	static char text[256];
	char date[CLOCK_HTTP_DATE_SIZE];
	struct request *r;
	usec_t hour = 3600 * USEC_PER_SEC;

	clock_format_http_date(clock_wall() + hour, date);
	snprintf(text, sizeof(text),
		 "HTTP/1.1 400 Bad Request\r\nDate: %s\r\nContent-Length: 38\r\n\r\n"
		 "{\"__type\":\"InvalidSignatureException\"}",
		 date);
	tls_peer_say(kms, text);
	tls_peer_set(kms, TLS_PEER_ANSWER);
	r = run_describe();
	RUN_UNTIL(tls_peer_requests(kms) == 1);
	tls_peer_set(kms, TLS_PEER_HOLD);
	RUN_UNTIL(client.answers || tls_peer_requests(kms) == 2);
	ck_assert_uint_eq(client.answers, 0);
	ck_assert_int_eq(r->step, STEP_SEND);
	ck_assert_int_gt(r->correction, hour - 10 * USEC_PER_SEC);
	tls_peer_set(kms, TLS_PEER_ANSWER); /* the same again */
	RUN_UNTIL(client.answers);
	assert_answer("503", "InvalidSignatureException", false);
	(void)world_record();
}
END_TEST

/* ---- without a client ---- */

static struct request *run_and_lose(void)
{
	struct request *r = run_describe();

	RUN_UNTIL(tls_peer_requests(kms) == 1);
	request_lose_client(r, REASON_CLIENT_GONE, 0, clock_now());
	ck_assert_ptr_null(r->client);
	ck_assert_int_eq(r->step, STEP_SEND);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->in_flight), 0);
	world_assert_no_record();
	return r;
}

START_TEST(what_kms_has_is_recorded_when_its_answer_comes)
{
	const struct audit_record *record;
	struct request *r = run_and_lose();

	(void)r;
	tls_peer_set(kms, TLS_PEER_ANSWER);
	RUN_UNTIL(LIST_EMPTY(&world.requests->orphans));
	record = world_record();
	ck_assert_int_eq(record->event, EVENT_UNANSWERED);
	ck_assert_int_eq(record->reason, REASON_CLIENT_GONE);
	ck_assert_int_eq(record->kms_status, 200);
	ck_assert_int_eq(record->status, 0);
	ck_assert_uint_eq(client.answers + client.losses, 0);
}
END_TEST

START_TEST(it_is_neither_repeated_nor_signed_again)
{
	(void)run_and_lose();
	tls_peer_say(kms, EXPIRED);
	tls_peer_set(kms, TLS_PEER_ANSWER);
	RUN_UNTIL(LIST_EMPTY(&world.requests->orphans));
	ck_assert_int_eq(world_record()->kms_status, 400);
	come_credentials();
	world_stay_quiet();
	ck_assert_uint_eq(tls_peer_requests(kms), 1);
}
END_TEST

START_TEST(the_end_records_what_is_not_known)
{
	(void)run_and_lose();
	requests_end(world.requests, clock_now());
	ck_assert_int_eq(world_record()->kms_status, KMS_STATUS_UNKNOWN);
}
END_TEST

/* The whole of it has left: the reload can't take it back. */
START_TEST(a_reload_lets_it_end)
{
	(void)run_and_lose();
	world_configure("one: {cid: 4, endpoints: [kms], "
			"allow: [{name: look, actions: [ListKeys], keys: any}]}");
	requests_reload(world.requests, world.generation, clock_now());
	world_assert_no_record();
	tls_peer_set(kms, TLS_PEER_ANSWER);
	RUN_UNTIL(LIST_EMPTY(&world.requests->orphans));
	ck_assert_int_eq(world_record()->kms_status, 200);
}
END_TEST

/* It waited, and its client went: KMS is not asked. */
START_TEST(who_went_before_it_was_sent_is_not_sent)
{
	forget_credentials();
	(void)run_describe();
	client.gone = true;
	usleep(10);
	come_credentials();
	RUN_UNTIL(client.losses);
	ck_assert_int_eq(client.why, REASON_CLIENT_GONE);
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
	ck_assert_uint_eq(tls_peer_requests(kms), 0);
}
END_TEST

/* ---- a step that waits for something else ---- */

#ifdef TEST_HOOKS

/* What another thread says of it: as of an attestation document that is verified there. */
static enum { NOT_YET, YES } verified;

#define TIME_FOR_IT USEC_PER_SEC

static void wait_for_verification(struct request *r, struct instant now)
{
	if (verified == YES)
		request_go(r, STEP_SIGN);
	else if (now.monotonic >= r->decided + TIME_FOR_IT)
		request_refuse(r, REFUSAL_INTERNAL, "not verified in time", now);
	else
		request_wait(r, WAIT_TEST, r->decided + TIME_FOR_IT);
}

static struct request *run_to_the_test_step(void)
{
	struct request *r;

	verified = NOT_YET;
	request_test_step = wait_for_verification;
	r = run_describe();
	ck_assert_int_eq(r->step, STEP_TEST);
	ck_assert_int_eq(r->wait, WAIT_TEST);
	return r;
}

START_TEST(another_step_may_wait_and_go_on)
{
	struct request *r = run_to_the_test_step();

	tls_peer_set(kms, TLS_PEER_ANSWER);
	come_credentials(); /* not what it waits for */
	ck_assert_int_eq(r->step, STEP_TEST);
	requests_wake(world.requests, WAIT_TEST, clock_now()); /* not yet: it waits again */
	ck_assert_int_eq(r->step, STEP_TEST);
	ck_assert_int_eq(r->wait, WAIT_TEST);
	verified = YES;
	requests_wake(world.requests, WAIT_TEST, clock_now());
	ck_assert_int_eq(r->step, STEP_SEND);
	RUN_UNTIL(client.answers);
	assert_answer("200", "{}", false);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED);
}
END_TEST

START_TEST(two_steps_may_wait_one_after_the_other)
{
	struct request *r;

	forget_credentials();
	r = run_to_the_test_step();
	verified = YES;
	requests_wake(world.requests, WAIT_TEST, clock_now());
	ck_assert_int_eq(r->step, STEP_SIGN);
	ck_assert_int_eq(r->wait, WAIT_CREDENTIALS);
	tls_peer_set(kms, TLS_PEER_ANSWER);
	come_credentials();
	RUN_UNTIL(client.answers);
	assert_answer("200", "{}", false);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED);
}
END_TEST

START_TEST(another_step_may_wait_too_long)
{
	struct request *r = run_to_the_test_step();

	requests_sweep(world.requests, now_and(TIME_FOR_IT));
	ck_assert_int_eq(r->step, STEP_ENDED);
	assert_answer("500", "not verified in time", false);
	world_assert_record(EVENT_REFUSED, REASON_INTERNAL);
}
END_TEST

START_TEST(another_step_can_be_interrupted)
{
	struct request *r = run_to_the_test_step();

	interruptions[_i](r);
	ck_assert_int_eq(r->step, STEP_ENDED);
	verified = YES;
	requests_wake(world.requests, WAIT_TEST, clock_now()); /* nobody waits */
	requests_sweep(world.requests, now_and(LONG));
	ck_assert_uint_le(client.answers, 1);
	ck_assert_uint_eq(tls_peer_requests(kms), 0);
}
END_TEST

#endif

/* ---- the table ---- */

START_TEST(each_step_has_its_row)
{
	unsigned last = 3; /* the first three are the connection's */

	for (enum request_step i = STEP_LIMIT; i < _STEP_MAX; i++) {
		const struct request_step_info *info = request_step_info(i);

		ck_assert_ptr_nonnull(info->name);
		if (!info->number)
			continue;
		ck_assert_uint_eq(info->number, last + 1);
		last = info->number;
	}
	ck_assert_uint_eq(last, request_step_info(STEP_RECORD)->number);
	ck_assert_ptr_null(request_step_info(STEP_ENDED)->run);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("request_step");
	TCase *tcase = tcase_create("request_step");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, an_allowed_request_goes_all_the_way);
	tcase_add_test(tcase, a_client_that_closes_is_told_so);
	tcase_add_test(tcase, a_request_that_ended_says_so);
	tcase_add_loop_test(tcase, what_may_not_pass_is_refused_where_it_stands, 0,
			    ELEMENTSOF(refusals));
	tcase_add_test(tcase, memory_that_is_used_up_throttles);
	tcase_add_test(tcase, what_was_refused_counts_as_that);
	tcase_add_test(tcase, a_head_that_can_not_be_read_costs_a_token);
	tcase_add_loop_test(tcase, what_goes_wrong_at_kms_is_told_and_recorded, 0,
			    ELEMENTSOF(failures));
	tcase_add_test(tcase, an_error_of_kms_is_relayed);
	tcase_add_loop_test(tcase, an_answer_that_leaks_is_withheld, 0, 2);
	tcase_add_test(tcase, the_first_credentials_are_waited_for);
	tcase_add_test(tcase, who_waits_is_refused_when_its_time_is_over);
	tcase_add_loop_test(tcase, waiting_for_credentials_can_be_interrupted, 0,
			    ELEMENTSOF(interruptions));
	tcase_add_test(tcase, rejected_credentials_are_replaced_and_signed_with_again);
	tcase_add_test(tcase, others_that_are_rejected_too_are_not_waited_for);
	tcase_add_test(tcase, without_others_in_time_it_is_refused);
	tcase_add_test(tcase, a_wrong_clock_is_corrected_once);
	tcase_add_test(tcase, what_kms_has_is_recorded_when_its_answer_comes);
	tcase_add_test(tcase, it_is_neither_repeated_nor_signed_again);
	tcase_add_test(tcase, the_end_records_what_is_not_known);
	tcase_add_test(tcase, a_reload_lets_it_end);
	tcase_add_test(tcase, who_went_before_it_was_sent_is_not_sent);
#ifdef TEST_HOOKS
	tcase_add_test(tcase, another_step_may_wait_and_go_on);
	tcase_add_test(tcase, two_steps_may_wait_one_after_the_other);
	tcase_add_test(tcase, another_step_may_wait_too_long);
	tcase_add_loop_test(tcase, another_step_can_be_interrupted, 0,
			    ELEMENTSOF(interruptions));
#endif
	tcase_add_test(tcase, each_step_has_its_row);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
