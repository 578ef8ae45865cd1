/* SPDX-License-Identifier: Apache-2.0 */

/* A request that waits: for the first credentials, for others than rejected ones, and, in a
 * build that has it, within a made-up step that stands for any that asks another thread. What
 * may happen to one that waits is the same for all of them. */

#include "credentials.h"
#include "request_world.h"

#include <check.h>
#include <string.h>

#define REJECTED "{\"__type\":\"ExpiredTokenException\",\"message\":\"x\"}"
#define PATIENCE (3 * USEC_PER_SEC) /* of each of them */
#define NO_NEW_ONES "AWS KMS rejected the proxy's credentials, and there are no new ones"

static void answer_rejected(struct world_client *c)
{
	world_answer(c->request, world_reply("400 Bad Request", WORLD_REPLY_HEAD, REJECTED));
}

static void assert_answered(struct world_client *c)
{
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	ck_assert_uint_eq(c->answers, 1);
	ck_assert_int_eq(strncmp(c->answer, "HTTP/1.1 200 OK\r\n", 17), 0);
	world_written(c);
	world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
	ck_assert_uint_eq(world.n_calls, 0);
}

/* ---- the kinds of waiting ---- */

static struct world_client *await_first(void)
{
	world_take_credentials(NULL);
	return world_encrypt();
}

static void bring_first(void)
{
	world_take_credentials(world.first);
}

static struct world_client *await_others(void)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, SENT_ALL);
	answer_rejected(c);
	return c;
}

static void bring_others(void)
{
	world_take_credentials(world.second);
}

#ifdef TEST_HOOKS
static bool is_attested;

/* As a step would be that has another thread do something. */
static void attest(struct request *r, struct instant now)
{
	usec_t deadline = r->decided + PATIENCE;

	if (is_attested)
		request_go(r, STEP_SIGN);
	else if (now.monotonic < deadline)
		request_wait(r, WAIT_TEST, deadline);
	else
		request_refuse(r, REFUSAL_INTERNAL, "no attestation came", now);
}

static struct world_client *await_attestation(void)
{
	is_attested = false;
	request_test_step = attest;
	return world_encrypt();
}

static void bring_attestation(void)
{
	is_attested = true;
}
#endif

static const struct kind {
	struct world_client *(*begin)(void);
	void (*bring)(void); /* what it waits for */
	enum request_step step;
	enum request_wait wait;
	unsigned sent; /* how often it was sent before it waits */
	enum refusal late;
	const char *message; /* NULL: the row's */
} kinds[] = {
	{await_first, bring_first, STEP_SIGN, WAIT_CREDENTIALS, 0, REFUSAL_NO_CREDENTIALS,
	 NULL},
	{await_others, bring_others, STEP_SIGN, WAIT_CREDENTIALS, 1, REFUSAL_BAD_CREDENTIALS,
	 NO_NEW_ONES},
#ifdef TEST_HOOKS
	{await_attestation, bring_attestation, STEP_TEST, WAIT_TEST, 0, REFUSAL_INTERNAL,
	 "no attestation came"},
#endif
};

static void assert_waits(const struct kind *k, const struct world_client *c)
{
	const struct request *r = c->request;

	ck_assert_int_eq(r->step, k->step);
	ck_assert_int_eq(r->wait, k->wait);
	ck_assert_int_eq(r->wait_deadline, (WORLD_START).monotonic + PATIENCE);
	ck_assert_ptr_eq(LIST_FIRST(&world.requests.waiting), r);
	ck_assert_ptr_null(LIST_NEXT(r, link));
	ck_assert_ptr_null(r->call.upstream);
	ck_assert_uint_eq(world.n_sent, k->sent);
	ck_assert_uint_eq(gauge_read(&world_enclave("app")->in_flight), 1);
	ck_assert_uint_gt(gauge_read(&world_enclave("app")->memory), 0);
	ck_assert_uint_eq(c->answers, 0);
}

/* One that KMS had seen is no mere refusal. */
static void assert_refused(const struct kind *k, const struct world_client *c,
			   enum refusal refusal, const char *message, bool close)
{
	const struct refusal_info *info = refusal_info(refusal);

	ck_assert_uint_eq(c->in_flight, 0);
	ck_assert(LIST_EMPTY(&world.requests.waiting));
	world_assert_refused(c, refusal, message, close);
	world_assert_record(k->sent ? EVENT_UNANSWERED : EVENT_REFUSED, info->reason,
			    k->sent ? 400 : 0, message ?: info->message);
	ck_assert_uint_eq(world.n_sent, k->sent);
}

/* Nothing that comes later touches it. */
static void assert_nothing_follows(void)
{
	unsigned records = world.n_records, sent = world.n_sent;

	world_turn();
	world_pass(2 * PATIENCE);
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	requests_sweep(&world.requests, world.now);
	ck_assert_uint_eq(world.n_records, records);
	ck_assert_uint_eq(world.n_sent, sent);
	ck_assert_uint_eq(world.n_calls, 0);
}

START_TEST(it_comes)
{
	const struct kind *k = &kinds[_i];
	struct world_client *c = k->begin();

	assert_waits(k, c);
	world_pass(PATIENCE / 2);
	k->bring();
	ck_assert_int_eq(c->request->step, k->step); /* nobody has woken it */
	requests_wake(&world.requests, k->wait, world.now);
	ck_assert_int_eq(c->request->step, STEP_SEND);
	ck_assert_int_eq(c->request->wait, WAIT_NOTHING);
	ck_assert(LIST_EMPTY(&world.requests.waiting));
	world_send(c->request, SENT_ALL);
	ck_assert_uint_eq(world.n_sent, k->sent + 1);
	assert_answered(c);
	assert_nothing_follows();
}
END_TEST

/* It is woken for nothing, for another reason, and by a sweep that comes too early. */
START_TEST(it_does_not_come_yet)
{
	const struct kind *k = &kinds[_i];
	struct world_client *c = k->begin();

	for (usec_t passed = 0; passed < PATIENCE; passed += PATIENCE / 4) {
		requests_wake(&world.requests, k->wait, world.now);
		assert_waits(k, c);
		requests_sweep(&world.requests, world.now);
		assert_waits(k, c);
		world_pass(PATIENCE / 4);
	}
	world_pass(-1);
	requests_sweep(&world.requests, world.now);
	assert_waits(k, c);
	request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
}
END_TEST

START_TEST(it_does_not_come_in_time)
{
	const struct kind *k = &kinds[_i];
	struct world_client *c = k->begin();

	world_pass(PATIENCE);
	requests_sweep(&world.requests, world.now);
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	world_written(c);
	assert_refused(k, c, k->late, k->message, false);
	assert_nothing_follows();
}
END_TEST

/* It may come so late that the sweep sees both. */
START_TEST(it_comes_late_but_before_the_sweep)
{
	const struct kind *k = &kinds[_i];
	struct world_client *c = k->begin();

	world_pass(2 * PATIENCE);
	k->bring();
	requests_sweep(&world.requests, world.now);
	ck_assert_int_eq(c->request->step, STEP_SEND);
	world_send(c->request, SENT_ALL);
	assert_answered(c);
}
END_TEST

START_TEST(its_client_is_lost)
{
	const struct kind *k = &kinds[_i];
	struct world_client *c = k->begin();

	request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
	ck_assert_int_eq(c->request->step, STEP_ENDED);
	ck_assert(LIST_EMPTY(&world.requests.waiting));
	ck_assert_uint_eq(c->answers + c->losses, 0);
	world_assert_record(k->sent ? EVENT_UNANSWERED : EVENT_REFUSED, REASON_CLIENT_GONE,
			    k->sent ? 400 : 0, "");
	k->bring();
	assert_nothing_follows();
}
END_TEST

/* The client has gone, and only sending finds that out. */
START_TEST(its_client_has_gone_unseen)
{
	const struct kind *k = &kinds[_i];
	struct world_client *c = k->begin();

	world.is_idle = true;
	c->gone = true;
	world_pass(1);
	k->bring();
	requests_wake(&world.requests, k->wait, world.now);
	ck_assert_int_eq(c->request->step, STEP_ENDED);
	ck_assert_uint_eq(c->losses, 1);
	ck_assert_int_eq(c->why, REASON_CLIENT_GONE);
	ck_assert_uint_eq(world.n_sent, k->sent);
	assert_nothing_follows();
}
END_TEST

static const struct {
	const char *old, *text;
	bool trust; /* only who vouches for the endpoints */
	bool goes_on;
} reloads[] = {
	{NULL, NULL, false, true},
	{"workers: 1", "workers: 2", false, true},
	{"cid: 17", "cid: 19", false, true}, /* another's */
	{"actions: [Encrypt, ", "actions: [", false, false},
	{"cid: 16", "cid: 19", false, false},
	{"  app:", "  apps:", false, false},
	{"region: us-east-1", "region: us-east-2", false, false},
	{"in_flight: 4", "in_flight: 5", false, false},
	{NULL, NULL, true, false},
};

/* What a thread does for each connection and orphan. */
static void reload(int i, struct world_client *c)
{
	if (reloads[i].trust)
		world_load_trust();
	else
		world_load(reloads[i].old, reloads[i].text);
	if (request_revoke(c->request, world.context.generation))
		request_refuse(c->request, REFUSAL_RELOADED, NULL, world.now);
}

START_TEST(a_reload)
{
	const struct kind *k = &kinds[_i / (int)ELEMENTSOF(reloads)];
	int i = _i % (int)ELEMENTSOF(reloads);
	struct world_client *c = k->begin();

	reload(i, c);
	if (reloads[i].goes_on) {
		assert_waits(k, c);
		k->bring();
		requests_wake(&world.requests, k->wait, world.now);
		world_send(c->request, SENT_ALL);
		assert_answered(c);
	} else {
		ck_assert_int_eq(c->request->step, STEP_RECORD);
		world_written(c);
		assert_refused(k, c, REFUSAL_RELOADED, NULL, false);
	}
	assert_nothing_follows();
}
END_TEST

START_TEST(the_end_of_a_drain)
{
	const struct kind *k = &kinds[_i];
	struct world_client *c = k->begin();

	request_withdraw(c->request);
	ck_assert(LIST_EMPTY(&world.requests.waiting));
	c->manner = CLIENT_ENDS;
	request_refuse(c->request, REFUSAL_SHUTTING_DOWN, NULL, world.now);
	assert_refused(k, c, REFUSAL_SHUTTING_DOWN, NULL, true);
	k->bring();
	assert_nothing_follows();
}
END_TEST

/* ---- several ---- */

/* In the order they came; one that is told takes another along that is due as well. */
START_TEST(several_are_woken)
{
	struct world_client *c[WORLD_IN_FLIGHT];

	world_take_credentials(NULL);
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		c[i] = world_encrypt();
	c[0]->takes_along = c[2];
	c[0]->manner = c[1]->manner = CLIENT_ENDS;
	c[3]->manner = CLIENT_BREAKS;
	world_pass(PATIENCE);
	requests_sweep(&world.requests, world.now);
	for (size_t i = 0; i < ELEMENTSOF(c); i++) {
		ck_assert_int_eq(c[i]->request->step, STEP_ENDED);
		ck_assert_uint_eq(c[i]->answers, i != 2);
	}
	ck_assert_uint_eq(world.n_records, 4);
	ck_assert_int_eq(world.records[0].reason, REASON_CLIENT_GONE); /* the third */
	ck_assert_int_eq(world.records[1].reason, REASON_NO_CREDENTIALS);
	ck_assert_int_eq(world.records[2].reason, REASON_NO_CREDENTIALS);
	ck_assert_int_eq(world.records[3].reason, REASON_CLIENT_GONE);
	assert_nothing_follows();
}
END_TEST

START_TEST(the_first_to_wait_is_the_first_to_be_sent)
{
	struct world_client *c[WORLD_IN_FLIGHT];

	world_take_credentials(NULL);
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		c[i] = world_encrypt();
	bring_first();
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	ck_assert_uint_eq(world.n_submitted, ELEMENTSOF(c));
	for (size_t i = 0; i < ELEMENTSOF(c); i++) {
		ck_assert_ptr_eq(world.submitted[i], &c[i]->request->call);
		request_end(c[i]->request, REASON_CLIENT_GONE, 0, world.now);
	}
}
END_TEST

#ifdef TEST_HOOKS
/* Whoever waits for one thing isn't woken for another. */
START_TEST(each_is_woken_for_its_own_reason)
{
	struct world_client *attested = await_attestation(), *c;

	request_test_step = NULL;
	c = await_first();
	bring_first();
	request_test_step = attest;
	bring_attestation();
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	ck_assert_int_eq(c->request->step, STEP_SEND);
	ck_assert_int_eq(attested->request->step, STEP_TEST);
	requests_wake(&world.requests, WAIT_TEST, world.now);
	ck_assert_int_eq(attested->request->step, STEP_SEND);
	request_end(c->request, REASON_CLIENT_GONE, 0, world.now);
	request_end(attested->request, REASON_CLIENT_GONE, 0, world.now);
}
END_TEST

/* One step may wait after the other: each has its own reason and time. */
START_TEST(one_wait_after_another)
{
	struct world_client *c = await_attestation();

	world_take_credentials(NULL);
	world.context.credentials_due += 2 * PATIENCE;
	world_pass(PATIENCE / 2);
	bring_attestation();
	requests_wake(&world.requests, WAIT_TEST, world.now);
	ck_assert_int_eq(c->request->step, STEP_SIGN);
	ck_assert_int_eq(c->request->wait, WAIT_CREDENTIALS);
	ck_assert_int_eq(c->request->wait_deadline, world.context.credentials_due);
	world_pass(PATIENCE);
	requests_sweep(&world.requests, world.now);
	requests_wake(&world.requests, WAIT_TEST, world.now);
	ck_assert_int_eq(c->request->step, STEP_SIGN);
	bring_first();
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	world_send(c->request, SENT_ALL);
	assert_answered(c);
}
END_TEST
#endif

/* ---- the first credentials ---- */

START_TEST(none_are_due_any_more)
{
	struct world_client *c;

	world_take_credentials(NULL);
	world_pass(PATIENCE);
	c = world_encrypt();
	ck_assert_int_eq(c->request->step, STEP_RECORD);
	world_written(c);
	world_assert_refused(c, REFUSAL_NO_CREDENTIALS, NULL, false);
	world_assert_record(EVENT_REFUSED, REASON_NO_CREDENTIALS, 0,
			    "The proxy has no credentials yet.");
	ck_assert(world_record()->allowed);
}
END_TEST

static void setup(void)
{
	world_begin();
#ifdef TEST_HOOKS
	request_test_step = NULL;
#endif
}

static void add_all(TCase *tcase)
{
	int n = (int)ELEMENTSOF(kinds);

	tcase_add_loop_test(tcase, it_comes, 0, n);
	tcase_add_loop_test(tcase, it_does_not_come_yet, 0, n);
	tcase_add_loop_test(tcase, it_does_not_come_in_time, 0, n);
	tcase_add_loop_test(tcase, it_comes_late_but_before_the_sweep, 0, n);
	tcase_add_loop_test(tcase, its_client_is_lost, 0, n);
	tcase_add_loop_test(tcase, its_client_has_gone_unseen, 0, n);
	tcase_add_loop_test(tcase, a_reload, 0, n * (int)ELEMENTSOF(reloads));
	tcase_add_loop_test(tcase, the_end_of_a_drain, 0, n);
	tcase_add_test(tcase, several_are_woken);
	tcase_add_test(tcase, the_first_to_wait_is_the_first_to_be_sent);
	tcase_add_test(tcase, none_are_due_any_more);
#ifdef TEST_HOOKS
	tcase_add_test(tcase, each_is_woken_for_its_own_reason);
	tcase_add_test(tcase, one_wait_after_another);
#endif
}

int main(void)
{
	Suite *suite = suite_create("request_wait");
	TCase *tcase = tcase_create("request_wait");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, world_end);
	add_all(tcase);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
