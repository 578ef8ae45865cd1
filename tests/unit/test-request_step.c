/* SPDX-License-Identifier: Apache-2.0 */

/* The whole way of a request, and each place where it is refused: the answer's bytes, the
 * record, and what is held meanwhile. world_end() sees that nothing is in the end. */

#include "credentials.h"
#include "request_world.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define ATTESTED                                                                               \
	"\"Recipient\":{\"AttestationDocument\":\"AAAA\","                                     \
	"\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}"

static uint64_t counted(enum counter counter)
{
	return world_enclave("app")->counters[counter];
}

/* ---- the table ---- */

START_TEST(the_steps_have_names_and_ascending_numbers)
{
	unsigned last = 3; /* those before are the connection's */

	for (enum request_step step = STEP_LIMIT; step < _STEP_MAX; step++) {
		const struct request_step_info *info = request_step_info(step);

		ck_assert_ptr_nonnull(info->name);
		ck_assert_str_ne(info->name, "");
		if (info->number == 0)
			continue;
		ck_assert_uint_eq(info->number, last + 1);
		last = info->number;
	}
	ck_assert_uint_eq(request_step_info(STEP_RECORD)->number, last);
	ck_assert_uint_eq(request_step_info(STEP_ENDED)->number, 0);
	ck_assert_ptr_null(request_step_info(STEP_BODY)->run);
	ck_assert_ptr_null(request_step_info(STEP_RECORD)->run);
	ck_assert_ptr_null(request_step_info(STEP_ENDED)->run);
}
END_TEST

/* ---- allowed ---- */

static void assert_allowed(const struct world_client *c, const char *connection)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\n"
		 "x-amzn-RequestId: aws-1\r\nDate: " WORLD_DATE "\r\n%s"
		 "Content-Length: %zu\r\n\r\n" WORLD_SEALED,
		 connection, strlen(WORLD_SEALED));
	ck_assert_uint_eq(c->answers, 1);
	ck_assert_str_eq(c->answer, text);
	ck_assert(c->close == (connection[0] != '\0'));
}

/* The steps one by one, with the body in pieces of every size. */
START_TEST(the_whole_way)
{
	struct world_client *c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);
	struct gauge *in_flight = &world_enclave("app")->in_flight;
	struct gauge *memory = &world_enclave("app")->memory;
	struct request *r = c->request;
	const char *head = "POST / HTTP/1.1\r\nHost: " WORLD_HOST "\r\n"
			   "Content-Type: application/x-amz-json-1.1\r\n"
			   "X-Amz-Target: TrentService.Encrypt\r\nX-Amz-Date: " WORLD_AMZ_DATE
			   "\r\nX-Amz-Security-Token: the-first-token-of-all\r\n"
			   "Authorization: AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE01/";
	uint64_t held;
	struct slice room;

	ck_assert_int_eq(r->step, STEP_BODY);
	ck_assert_int_eq(r->refusal, REFUSAL_NONE);
	ck_assert_uint_eq(gauge_read(in_flight), 1);
	held = gauge_read(memory);
	ck_assert_uint_gt(held, strlen(WORLD_BODY) + 4 * KIB);
	while ((room = request_room(r)).n) {
		size_t n = MIN(room.n, (size_t)_i);

		memcpy((char *)room.p, &WORLD_BODY[r->body_n], n);
		r->body_n += n;
	}
	ck_assert_uint_eq(r->body_n, strlen(WORLD_BODY));
	ck_assert_int_eq(r->step, STEP_BODY);

	request_run(r, world.now);
	ck_assert_int_eq(r->step, STEP_SEND);
	ck_assert_int_eq(r->wait, WAIT_NOTHING);
	ck_assert_ptr_nonnull(r->call.upstream);
	ck_assert_uint_eq(gauge_read(in_flight), 1);
	ck_assert_uint_eq(gauge_read(memory), held);

	world_pass(1000);
	world_send(r, SENT_ALL);
	ck_assert_int_eq(r->step, STEP_SEND);
	ck_assert_int_eq(strncmp(world.sent, head, strlen(head)), 0);
	ck_assert_str_eq(strstr(world.sent, "\r\n\r\n") + 4, WORLD_BODY);
	ck_assert_uint_eq(c->answers, 0);

	world_pass(20000);
	world_answer(r, world_reply("200 OK", WORLD_REPLY_HEAD "X-Other: 1\r\n", WORLD_SEALED));
	assert_allowed(c, "");
	ck_assert_int_eq(c->step, STEP_RECORD);
	ck_assert_uint_eq(c->in_flight, 0); /* whoever has the answer may ask again at once */
	ck_assert_int_eq(r->step, STEP_RECORD);
	ck_assert_uint_eq(gauge_read(memory), held); /* it holds the answer's bytes */
	ck_assert_uint_eq(world.n_records, 0);

	world_pass(300);
	world_written(c);
	ck_assert_int_eq(r->step, STEP_ENDED);
	ck_assert_uint_eq(gauge_read(memory), 0);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
}
END_TEST

START_TEST(the_record_says_it_all)
{
	struct world_client *c = world_ask("app", WORLD_HOST, "Decrypt",
					   "{\"KeyId\":\"" WORLD_KEY "\","
					   "\"EncryptionContext\":{\"app\":\"payments\"},"
					   "\"CiphertextBlob\":\"AAAA\"," ATTESTED "}");
	const struct audit_record *record;
	size_t body_n;

	world_pass(1000);
	world_send(c->request, SENT_ALL);
	world_pass(20000);
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD,
					     "{\"CiphertextForRecipient\":\"AAAA\"}"));
	world_pass(300);
	body_n = c->request->content_length;
	world_written(c);
	record = world_record();
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
	ck_assert_str_eq(record->enclave, "app");
	ck_assert(record->has_cid && record->allowed);
	ck_assert_uint_eq(record->cid, 16);
	ck_assert_str_eq(record->action, "Decrypt");
	ck_assert_str_eq(record->key, WORLD_KEY);
	ck_assert_str_eq(record->grantee, "");
	ck_assert_str_eq(record->endpoint, "kms");
	ck_assert_str_eq(record->rule, "unwrap");
	ck_assert_str_eq(record->recipient, "present");
	ck_assert_str_eq(record->aws_request_id, "aws-1");
	ck_assert_int_eq(record->status, 200);
	ck_assert_int_eq(record->duration, 21300);
	ck_assert_int_eq(record->upstream, 20000);
	ck_assert_int_eq(record->bytes_in, 100 + (int64_t)body_n);
	ck_assert_int_eq(record->bytes_out, (int64_t)c->answer_n);
	ck_assert_uint_eq(counted(COUNTER_REQUESTS), 1);
	ck_assert_uint_eq(counted(COUNTER_ALLOWED), 1);
	ck_assert_uint_eq(counted(COUNTER_BYTES_IN), (uint64_t)record->bytes_in);
	ck_assert_uint_eq(counted(COUNTER_BYTES_OUT), c->answer_n);
}
END_TEST

START_TEST(the_record_names_who_is_granted)
{
	struct world_client *c =
		world_ask("app", WORLD_HOST, "CreateGrant",
			  "{\"KeyId\":\"" WORLD_KEY "\",\"Operations\":[\"Decrypt\"],"
			  "\"GranteePrincipal\":\"arn:aws:iam::1:role/r\"}");

	world_send(c->request, SENT_ALL);
	ck_assert(!c->request->call.repeatable);
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, "{}"));
	world_written(c);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
	ck_assert_str_eq(world_record()->grantee, "arn:aws:iam::1:role/r");
	ck_assert_str_eq(world_record()->recipient, "none");
}
END_TEST

/* A connection is idle: it is sent before upstream_submit() returns. */
START_TEST(it_is_sent_at_once)
{
	struct world_client *c;

	world.is_idle = true;
	c = world_encrypt();
	ck_assert_int_eq(c->request->step, STEP_SEND);
	ck_assert_uint_eq(world.n_sent, 1);
	ck_assert(c->request->call.repeatable);
	c->manner = CLIENT_ENDS;
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	assert_allowed(c, "");
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
}
END_TEST

START_TEST(a_closing_client_is_told_so)
{
	struct world_client *c = world_encrypt();

	c->closing = true;
	world_send(c->request, SENT_ALL);
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	assert_allowed(c, "Connection: close\r\n");
	world_written(c);
}
END_TEST

START_TEST(the_client_goes_before_the_answer_has_left)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	request_lose_client(c->request, REASON_CLIENT_TOO_SLOW, 7, world.now);
	world_assert_record(EVENT_UNANSWERED, REASON_CLIENT_TOO_SLOW, 200, "");
	ck_assert_int_eq(world_record()->bytes_out, 7);
}
END_TEST

/* `audit: refusals`. */
START_TEST(what_is_allowed_may_leave_no_record)
{
	struct world_client *c;

	world_load("memory:", "audit: refusals\nmemory:");
	c = world_encrypt();
	world_send(c->request, SENT_ALL);
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	world_written(c);
	ck_assert_uint_eq(world.n_records, 0);
	ck_assert_uint_eq(counted(COUNTER_ALLOWED), 1);

	world_written(world_ask("app", WORLD_HOST, "Encrypt", "{"));
	ck_assert_uint_eq(world.n_records, 1);
}
END_TEST

/* ---- refused by a limit ---- */

/* The body is dropped, and then it is answered. */
static void assert_limited(struct world_client *c, enum refusal refusal, enum reason reason,
			   const char *detail)
{
	struct request *r = c->request;

	ck_assert_int_eq(r->step, STEP_BODY);
	ck_assert_int_eq(r->refusal, refusal);
	ck_assert_ptr_eq(request_room(r).p, world.context.scratch);
	ck_assert_uint_eq(c->answers, 0);
	world_run(c, WORLD_BODY);
	ck_assert_int_eq(r->step, STEP_RECORD);
	world_written(c);
	world_assert_refused(c, refusal, detail, false);
	world_assert_record(EVENT_REFUSED, reason, 0, detail);
	ck_assert(!world_record()->allowed);
	ck_assert_str_eq(world_record()->action, "Encrypt");
	ck_assert_str_eq(world_record()->endpoint, "kms");
	ck_assert_int_eq(world_record()->status, 400);
	ck_assert_uint_eq(counted(COUNTER_THROTTLED), 1);
	ck_assert_uint_eq(world.n_submitted, 0);
}

START_TEST(the_rate_is_used_up)
{
	const struct enclave_config *config = &world.context.generation->config->enclaves[0];
	struct enclave *e = world_enclave("app");

	for (unsigned i = 0; i < WORLD_RATE_BURST; i++)
		ck_assert(enclave_take_token(e, config, world.now.monotonic, NULL));
	world_pass(USEC_PER_SEC / 4);
	assert_limited(
		world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY), REFUSAL_RATE, REASON_RATE,
		"limits.requests of enclave app is used up; the next request may come in "
		"751 ms");
	ck_assert_uint_eq(gauge_read(&e->in_flight), 0);
}
END_TEST

START_TEST(too_many_are_in_flight)
{
	struct gauge *in_flight = &world_enclave("app")->in_flight;
	struct world_client *c;

	ck_assert(gauge_take(in_flight, WORLD_IN_FLIGHT, WORLD_IN_FLIGHT));
	c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);
	ck_assert_int_eq(c->request->wait, WAIT_PLACE);
	world_pass(LIMIT_PLACE_TIME);
	requests_sweep(&world.requests, world.now);
	assert_limited(c, REFUSAL_IN_FLIGHT, REASON_IN_FLIGHT,
		       "limits.in_flight (4) of enclave app was reached for 2 s");
	ck_assert_int_eq(world_record()->wait, LIMIT_PLACE_TIME);
	ck_assert_int_eq(world_record()->duration, LIMIT_PLACE_TIME);
	ck_assert_uint_eq(counted(COUNTER_WAITED), 1);
	ck_assert_uint_eq(gauge_read(in_flight), WORLD_IN_FLIGHT);
	gauge_return(in_flight, WORLD_IN_FLIGHT);
}
END_TEST

START_TEST(the_memory_is_used_up)
{
	size_t share = world.context.generation->memory_share, other = 0;
	struct enclave *e = world_enclave("app");
	char detail[128];

	ck_assert(enclave_charge(e, share, &other, share - 4 * KIB));
	snprintf(detail, sizeof(detail),
		 "enclave app has used its share of `memory` (%zu bytes)", share);
	assert_limited(world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY), REFUSAL_MEMORY,
		       REASON_MEMORY, detail);
	ck_assert_uint_eq(gauge_read(&e->memory), share - 4 * KIB);
	enclave_uncharge(e, &other);
}
END_TEST

START_TEST(a_bad_head_takes_a_token)
{
	struct world_client *c;

	for (unsigned i = 0; i < WORLD_RATE_BURST; i++) {
		c = world_client_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);
		c->request = request_new_bad(&c->origin, world.now);
		ck_assert_ptr_nonnull(c->request);
		world.n_records = 0;
		request_refuse(c->request, REFUSAL_FRAMING, "bare LF", world.now);
		world_written(c);
		world_assert_refused(c, REFUSAL_FRAMING, "bare LF", true);
		world_assert_record(EVENT_REFUSED, REASON_FRAMING, 0, "bare LF");
	}
	c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);
	ck_assert_int_eq(c->request->refusal, REFUSAL_RATE);
	request_end(c->request, REASON_CLIENT_GONE, 0, world.now);
}
END_TEST

START_TEST(a_flood_of_refusals_is_recorded_in_part)
{
	struct enclave *e = world_enclave("app");

	for (unsigned i = 0; i < 2 * LIMIT_AUDIT_BURST; i++)
		(void)!flood_admit(&e->flood, world.now.monotonic);
	world_written(world_ask("app", WORLD_HOST, "Encrypt", "{"));
	ck_assert_uint_eq(world.n_records, 0);
	ck_assert_uint_eq(counted(COUNTER_REFUSED), 1);
	world_pass(USEC_PER_SEC);
	world_written(world_ask("app", WORLD_HOST, "Encrypt", "{"));
	ck_assert_uint_eq(world.n_records, 1);
}
END_TEST

/* ---- refused for what it is ---- */

static const struct {
	const char *enclave, *host, *action, *body;
	enum refusal refusal;
	enum reason reason;
	const char *rule, *detail;
} refused[] = {
	{"app", WORLD_HOST, "Encrypt", "{", REFUSAL_JSON, REASON_JSON, "",
	 "JSON, byte 1: expected a member's name"},
	{"app", WORLD_HOST, "Encrypt", "{\"Other\":1}", REFUSAL_JSON, REASON_JSON, "",
	 "Encrypt has no member \"Other\""},
	{"app", WORLD_HOST, "Encrypt", "", REFUSAL_JSON, REASON_JSON, "",
	 "JSON, byte 0: expected a value"},
	{"app", WORLD_HOST, "Frobnicate", "{}", REFUSAL_UNKNOWN_ACTION, REASON_UNKNOWN_ACTION,
	 "", "X-Amz-Target names no action of AWS KMS: Frobnicate"},
	{"app", WORLD_FOREIGN_HOST, "Encrypt", WORLD_BODY, REFUSAL_HOST, REASON_HOST, "",
	 "Host " WORLD_FOREIGN_HOST " is no endpoint of enclave app; it has " WORLD_HOST
	 ", " WORLD_OTHER_HOST},
	{"bare", WORLD_HOST, "Encrypt", WORLD_BODY, REFUSAL_POLICY, REASON_NO_RULES, "",
	 "no rule allows action Encrypt: the enclave has none"},
	{"app", WORLD_OTHER_HOST, "Encrypt", WORLD_BODY, REFUSAL_POLICY, REASON_ENDPOINT,
	 "unwrap", "no rule allows this endpoint"},
	{"app", WORLD_HOST, "ListKeys", "{}", REFUSAL_POLICY, REASON_ACTION, "unwrap",
	 "no rule allows action ListKeys at this endpoint"},
	{"app", WORLD_HOST, "Encrypt", "{\"KeyId\":\"alias/x\"}", REFUSAL_POLICY, REASON_KEY,
	 "seal",
	 "rule \"seal\" (world.yaml:19) does not allow key alias/x as KeyId: compared as "
	 "written; an alias is not its key's ARN"},
	{"app", WORLD_HOST, "Decrypt", "{\"KeyId\":\"" WORLD_KEY "\"}", REFUSAL_POLICY,
	 REASON_ENCRYPTION_CONTEXT, "unwrap",
	 "rule \"unwrap\" (world.yaml:14) requires one of its values for \"app\" in "
	 "EncryptionContext"},
	{"app", WORLD_HOST, "Decrypt",
	 "{\"KeyId\":\"" WORLD_KEY "\",\"EncryptionContext\":{\"app\":\"payments\"}}",
	 REFUSAL_POLICY, REASON_RECIPIENT, "unwrap",
	 "rule \"unwrap\" (world.yaml:14) has plaintext: refuse; Decrypt must have a "
	 "Recipient"},
};

START_TEST(refusals)
{
	struct world_client *c = world_new(refused[_i].enclave, refused[_i].host,
					   refused[_i].action, refused[_i].body);

	c->closing = _i % 2;
	world_run(c, refused[_i].body);
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	ck_assert_uint_eq(c->in_flight, 0);
	ck_assert_uint_gt(c->memory, 0);
	world_written(c);
	world_assert_record(EVENT_REFUSED, refused[_i].reason, 0, refused[_i].detail);
	world_assert_refused(c, refused[_i].refusal, refused[_i].detail, c->closing);
	ck_assert_str_eq(world_record()->rule, refused[_i].rule);
	ck_assert_str_eq(world_record()->enclave, refused[_i].enclave);
	ck_assert(!world_record()->allowed);
	ck_assert_int_eq(world_record()->upstream, -1);
	ck_assert_uint_eq(world.n_submitted, 0);
	ck_assert_uint_eq(world_enclave(refused[_i].enclave)->counters[COUNTER_REFUSED], 1);
}
END_TEST

/* ---- refused on its way out ---- */

START_TEST(no_memory_for_an_upstream)
{
	struct world_client *c;

	world.is_missing = true;
	c = world_encrypt();
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	world_written(c);
	world_assert_refused(c, REFUSAL_INTERNAL, NULL, false);
	world_assert_record(EVENT_REFUSED, REASON_INTERNAL, 0,
			    "The proxy failed to handle the request.");
	ck_assert(world_record()->allowed);
}
END_TEST

/* The longer token of other credentials needs room, and there is none. */
START_TEST(no_memory_for_a_longer_head)
{
	char token[2001];
	struct credentials *longer;
	struct world_client *c = world_encrypt();
	struct enclave *e = world_enclave("app");
	size_t share = world.context.generation->memory_share, other = 0;

	memset(token, 't', sizeof(token));
	token[sizeof(token) - 1] = '\0';
	ck_assert_int_eq(credentials_new(SLICE("ASIAEXAMPLEEXAMPLE03"), SLICE("s3cret"),
					 slice_from(token), 0, &longer),
			 0);
	longer->serial = 1000;
	world_take_credentials(longer);
	credentials_unref(longer);
	if (_i == 1)
		ck_assert(
			enclave_charge(e, share, &other, share - gauge_read(&e->memory) - 100));
	world_send(c->request, SENT_ALL);
	if (_i == 0) {
		ck_assert_ptr_nonnull(strstr(world.sent, token));
		ck_assert_str_eq(strstr(world.sent, "\r\n\r\n") + 4, WORLD_BODY);
		world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	}
	world_written(c);
	if (_i == 0)
		assert_allowed(c, "");
	else
		world_assert_refused(c, REFUSAL_MEMORY, NULL, false);
	ck_assert_uint_eq(world.n_sent, _i == 0);
	world_assert_record(_i ? EVENT_REFUSED : EVENT_REQUEST,
			    _i ? REASON_MEMORY : REASON_ALLOWED, _i ? 0 : 200,
			    _i ? refusal_info(REFUSAL_MEMORY)->message : "");
	enclave_uncharge(e, &other);
}
END_TEST

/* It has waited, and nobody is there any more: nothing is sent for nobody. */
START_TEST(the_client_has_gone_before_it_is_sent)
{
	struct world_client *c = world_encrypt();

	c->gone = true;
	world_pass(1);
	world_send(c->request, SENT_ALL);
	ck_assert_uint_eq(world.n_sent, 0);
	ck_assert_uint_eq(c->losses, 1);
	ck_assert_int_eq(c->why, REASON_CLIENT_GONE);
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE, 0, "");
}
END_TEST

/* Within one turn of the loop it isn't asked: that would cost each request a system call. */
START_TEST(who_has_not_waited_is_not_asked_for_its_client)
{
	struct world_client *c = world_encrypt();

	c->gone = true;
	world_send(c->request, SENT_ALL);
	ck_assert_uint_eq(world.n_sent, 1);
	ck_assert_uint_eq(c->losses, 0);
	request_end(c->request, REASON_CLIENT_GONE, 0, world.now);
}
END_TEST

static void add_allowed(TCase *tcase)
{
	tcase_add_test(tcase, the_steps_have_names_and_ascending_numbers);
	tcase_add_loop_test(tcase, the_whole_way, 1, sizeof(WORLD_BODY));
	tcase_add_test(tcase, the_record_says_it_all);
	tcase_add_test(tcase, the_record_names_who_is_granted);
	tcase_add_test(tcase, it_is_sent_at_once);
	tcase_add_test(tcase, a_closing_client_is_told_so);
	tcase_add_test(tcase, the_client_goes_before_the_answer_has_left);
	tcase_add_test(tcase, what_is_allowed_may_leave_no_record);
}

static void add_refused(TCase *tcase)
{
	tcase_add_test(tcase, the_rate_is_used_up);
	tcase_add_test(tcase, too_many_are_in_flight);
	tcase_add_test(tcase, the_memory_is_used_up);
	tcase_add_test(tcase, a_bad_head_takes_a_token);
	tcase_add_test(tcase, a_flood_of_refusals_is_recorded_in_part);
	tcase_add_loop_test(tcase, refusals, 0, ELEMENTSOF(refused));
	tcase_add_test(tcase, no_memory_for_an_upstream);
	tcase_add_loop_test(tcase, no_memory_for_a_longer_head, 0, 2);
	tcase_add_test(tcase, the_client_has_gone_before_it_is_sent);
	tcase_add_test(tcase, who_has_not_waited_is_not_asked_for_its_client);
}

int main(void)
{
	Suite *suite = suite_create("request_step");
	TCase *tcase = tcase_create("request_step");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, world_begin, world_end);
	add_allowed(tcase);
	add_refused(tcase);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
