/* SPDX-License-Identifier: Apache-2.0 */

/* How a request ends: by whom, from within which call, with its client or without, and what a
 * reload does to it. */

#include "failing_malloc.h"
#include "request_world.h"

#include <check.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- its end, from within a call of its own ---- */

static struct world_client *sent(enum world_sent how)
{
	struct world_client *c = world_encrypt();

	world_send(c->request, how);
	return c;
}

static struct world_client *waiting(void)
{
	world_take_credentials(NULL);
	return world_encrypt();
}

static void be_refused_by_a_limit(enum world_manner manner)
{
	struct world_client *c;

	ck_assert(
		gauge_take(&world_enclave("app")->in_flight, WORLD_IN_FLIGHT, WORLD_IN_FLIGHT));
	c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);
	c->manner = manner;
	world_pass(LIMIT_PLACE_TIME);
	requests_sweep(&world.requests, world.now);
	world_run(c, WORLD_BODY);
	gauge_return(&world_enclave("app")->in_flight, WORLD_IN_FLIGHT);
}

static void be_refused_by_policy(enum world_manner manner)
{
	struct world_client *c = world_new("bare", WORLD_HOST, "Encrypt", WORLD_BODY);

	c->manner = manner;
	world_run(c, WORLD_BODY);
}

static void be_refused_without_upstream(enum world_manner manner)
{
	struct world_client *c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);

	world.is_missing = true;
	c->manner = manner;
	world_run(c, WORLD_BODY);
}

static void fail_upstream(enum world_manner manner)
{
	struct world_client *c = world_encrypt();

	c->manner = manner;
	world_fail(c->request, UPSTREAM_NO_CONNECTION, NULL);
}

static void fail_within_submit(enum world_manner manner)
{
	struct world_client *c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);

	world.fails_at_once = true;
	c->manner = manner;
	world_run(c, WORLD_BODY);
}

static void be_answered(enum world_manner manner)
{
	struct world_client *c = sent(SENT_ALL);

	c->manner = manner;
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
}

static void be_swept(enum world_manner manner)
{
	waiting()->manner = manner;
	world_pass(10 * USEC_PER_SEC);
	requests_sweep(&world.requests, world.now);
}

static void be_drained(enum world_manner manner)
{
	struct world_client *c = sent(SENT_ALL);

	c->manner = manner;
	request_withdraw(c->request);
	request_refuse(c->request, REFUSAL_SHUTTING_DOWN, NULL, world.now);
}

static void (*const answered[])(enum world_manner manner) = {
	be_refused_by_a_limit,
	be_refused_by_policy,
	be_refused_without_upstream,
	fail_upstream,
	fail_within_submit,
	be_answered,
	be_swept,
	be_drained,
};

static const enum world_manner manners[] = {CLIENT_ENDS, CLIENT_VANISHES, CLIENT_BREAKS};

/* Whatever the client does within answer(), what called it finds it ended, and no more: nothing
 * that has ended is touched, which a build with AddressSanitizer sees. */
START_TEST(it_may_end_within_its_answer)
{
	answered[_i / (int)ELEMENTSOF(manners)](manners[_i % (int)ELEMENTSOF(manners)]);
	ck_assert_uint_eq(world.n_records, 1);
	ck_assert_uint_eq(world.n_calls, 0);
	world_turn();
	world_pass(10 * USEC_PER_SEC);
	requests_sweep(&world.requests, world.now);
	requests_wake(&world.requests, WAIT_CREDENTIALS, world.now);
	ck_assert_uint_eq(world.n_records, 1);
}
END_TEST

START_TEST(it_may_end_when_it_is_lost)
{
	struct world_client *c = world_encrypt();

	c->gone = true;
	world_pass(1);
	world_send(c->request, SENT_ALL); /* lost within prepare() and done() */
	ck_assert_uint_eq(c->losses, 1);
	ck_assert_uint_eq(c->answers, 0);
	ck_assert_int_eq(c->request->step, STEP_ENDED);
	ck_assert_uint_eq(world.n_records, 1);
}
END_TEST

START_TEST(it_ends_once)
{
	struct world_client *c = world_encrypt();

	for (int i = 0; i < 3; i++) {
		request_end(c->request, REASON_CLIENT_GONE, 0, world.now);
		ck_assert_int_eq(c->request->step, STEP_ENDED);
		ck_assert_uint_eq(gauge_read(&world_enclave("app")->in_flight), 0);
		ck_assert_uint_eq(gauge_read(&world_enclave("app")->memory), 0);
	}
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE, 0, "");
	ck_assert_uint_eq(world_enclave("app")->counters[COUNTER_REQUESTS], 1);
}
END_TEST

/* While its body is read nothing of it has been decided. */
START_TEST(it_ends_while_its_body_is_read)
{
	struct world_client *c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);

	request_lose_client(c->request, REASON_CUT_OFF, 0, world.now);
	ck_assert_int_eq(c->request->step, STEP_ENDED);
	world_assert_record(EVENT_REFUSED, REASON_CUT_OFF, 0, "");
	ck_assert(!world_record()->allowed);
}
END_TEST

#ifdef WITH_ASAN
/* What AddressSanitizer says when a byte of an ended request is touched; "": nothing. */
static const char *touch(const volatile char *p)
{
	static char text[65536];
	int pipes[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	ck_assert_int_eq(pipe(pipes), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		dup2(pipes[1], STDERR_FILENO);
		(void)*p;
		_exit(0);
	}
	close(pipes[1]);
	while ((got = read(pipes[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(pipes[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert((WIFEXITED(status) && WEXITSTATUS(status) == 0) == (n == 0));
	return text;
}

START_TEST(what_has_ended_is_not_touched)
{
	struct world_client *c = world_encrypt();
	struct request *r = c->request;

	ck_assert_str_eq(touch((const char *)&r->client), "");
	request_end(r, REASON_CLIENT_GONE, 0, world.now);
	ck_assert_str_eq(touch((const char *)&r->step), "");
	ck_assert_ptr_nonnull(strstr(touch((const char *)&r->client), "use-after-poison"));
	ck_assert_ptr_nonnull(strstr(touch((const char *)&r->record), "use-after-poison"));
	ck_assert_ptr_nonnull(strstr(touch((const char *)(r + 1) - 1), "use-after-poison"));
	world_turn();
	ck_assert_ptr_nonnull(strstr(touch((const char *)&r->step), "heap-use-after-free"));
}
END_TEST
#endif

/* ---- memory runs out ---- */

START_TEST(no_memory_to_begin)
{
	unsigned nth = 0;
	bool failed;

	do {
		struct world_client *c =
			world_client_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);

		failing_malloc_begin(++nth);
		c->request = request_new(&c->origin, &c->head, world.now);
		failed = failing_malloc_end();
		ck_assert((c->request == NULL) == (nth == 1));
		if (!c->request)
			continue;
		ck_assert_int_eq(c->request->refusal, failed ? REFUSAL_MEMORY : REFUSAL_NONE);
		world_run(c, WORLD_BODY);
		request_end(c->request, REASON_CLIENT_GONE, 0, world.now);
	} while (failed && nth < WORLD_RATE_BURST);
	ck_assert(!failed);
	ck_assert_uint_gt(nth, 2);
}
END_TEST

/* Not even for a refusal: then the client is told that there is none. */
START_TEST(no_memory_to_refuse)
{
	unsigned nth = 0;
	bool failed;

	do {
		struct world_client *c = world_encrypt();

		request_withdraw(c->request);
		failing_malloc_begin(++nth);
		request_refuse(c->request, REFUSAL_UPSTREAM_LOST, NULL, world.now);
		failed = failing_malloc_end();
		ck_assert_uint_eq(c->losses, failed);
		ck_assert_uint_eq(c->answers, !failed);
		if (!failed)
			world_written(c);
		else
			ck_assert_int_eq(c->why, REASON_MEMORY);
		ck_assert_int_eq(c->request->step, STEP_ENDED);
		ck_assert_int_eq(world_record()->reason,
				 failed ? REASON_MEMORY : REASON_UPSTREAM_LOST);
		world_turn();
	} while (failed && nth < WORLD_RATE_BURST);
	ck_assert_uint_gt(nth, 1);
	ck_assert(!failed);
}
END_TEST

/* ---- orphans ---- */

static struct world_client *orphan(enum world_sent how)
{
	struct world_client *c = sent(how);

	world_pass(1000);
	request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
	return c;
}

static void assert_orphaned(const struct world_client *c)
{
	const struct request *r = c->request;

	ck_assert_int_eq(r->step, STEP_SEND);
	ck_assert_ptr_null(r->client);
	ck_assert_ptr_eq(LIST_FIRST(&world.requests.orphans), r);
	ck_assert_uint_eq(world.n_records, 0);
	ck_assert_uint_eq(world.n_calls, 1);
	/* Its place is another's, its memory isn't. */
	ck_assert_uint_eq(gauge_read(&world_enclave("app")->in_flight), 0);
	ck_assert_uint_gt(gauge_read(&world_enclave("app")->memory), 0);
}

static void assert_ended_unanswered(const struct world_client *c, int kms_status)
{
	ck_assert_int_eq(c->request->step, STEP_ENDED);
	ck_assert_uint_eq(c->answers + c->losses, 0);
	ck_assert_uint_eq(world.n_records, 1);
	ck_assert_int_eq(world_record()->event, EVENT_UNANSWERED);
	ck_assert_int_eq(world_record()->reason, REASON_CLIENT_GONE);
	ck_assert_int_eq(world_record()->kms_status, kms_status);
	ck_assert_int_eq(world_record()->status, 0);
	ck_assert_int_eq(world_record()->bytes_out, 0);
	ck_assert(world_record()->allowed);
	ck_assert(LIST_EMPTY(&world.requests.orphans));
}

static const struct {
	const char *status, *body;
	int kms_status;
} replies[] = {
	{"200 OK", WORLD_SEALED, 200},
	{"400 Bad Request", "{\"__type\":\"NotFoundException\"}", 400},
	{"400 Bad Request", "{\"__type\":\"ExpiredTokenException\"}", 400}, /* not again */
	{"500 Internal Server Error", "{\"__type\":\"KMSInternalException\"}", 500},
	{"200", "x", KMS_STATUS_UNKNOWN}, /* not HTTP */
};

START_TEST(the_answer_to_an_orphan_is_recorded)
{
	struct world_client *c = orphan(_i % 2 ? SENT_PART : SENT_ALL);

	assert_orphaned(c);
	world_pass(4000);
	world_answer(c->request,
		     world_reply(replies[_i].status, WORLD_REPLY_HEAD, replies[_i].body));
	assert_ended_unanswered(c, replies[_i].kms_status);
	ck_assert_int_eq(world_record()->upstream, 5000);
	ck_assert_uint_eq(world.n_sent, 1);
}
END_TEST

START_TEST(the_call_of_an_orphan_fails)
{
	struct world_client *c = orphan(SENT_ALL);

	world_fail(c->request, UPSTREAM_TIMEOUT, NULL);
	assert_ended_unanswered(c, KMS_STATUS_UNKNOWN);
}
END_TEST

/* KMS has nothing of it. */
START_TEST(who_has_sent_nothing_is_no_orphan)
{
	struct world_client *c = _i ? orphan(SENT_NOTHING) : world_encrypt();

	if (!_i)
		request_lose_client(c->request, REASON_CLIENT_GONE, 0, world.now);
	ck_assert_int_eq(c->request->step, STEP_ENDED);
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE, 0, "");
	ck_assert_uint_eq(world.n_calls, 0);
}
END_TEST

/* Neither a mode nor a flood leaves out what KMS may have acted upon. */
START_TEST(an_orphan_is_always_recorded)
{
	struct flood *flood = &world_enclave("app")->flood;
	struct world_client *c;

	world_load("memory:", "audit: refusals\nmemory:");
	for (unsigned i = 0; i < 2 * LIMIT_AUDIT_BURST; i++)
		(void)!flood_admit(flood, world.now.monotonic);
	c = orphan(SENT_ALL);
	world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	assert_ended_unanswered(c, 200);
}
END_TEST

START_TEST(all_orphans_end)
{
	struct world_client *c[WORLD_IN_FLIGHT];

	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		c[i] = orphan(SENT_ALL);
	ck_assert_uint_eq(world.n_calls, ELEMENTSOF(c));
	requests_end(&world.requests, world.now);
	ck_assert_uint_eq(world.n_calls, 0);
	ck_assert_uint_eq(world.n_records, ELEMENTSOF(c));
	for (size_t i = 0; i < ELEMENTSOF(c); i++) {
		ck_assert_int_eq(c[i]->request->step, STEP_ENDED);
		ck_assert_int_eq(world.records[i].event, EVENT_UNANSWERED);
		ck_assert_int_eq(world.records[i].kms_status, KMS_STATUS_UNKNOWN);
	}
	requests_end(&world.requests, world.now);
	ck_assert_uint_eq(world.n_records, ELEMENTSOF(c));
}
END_TEST

/* What KMS hasn't as a whole, and never will have. */
START_TEST(a_reload_ends_orphans)
{
	struct world_client *part = orphan(SENT_PART), *whole = orphan(SENT_ALL);

	world_load(NULL, NULL);
	requests_reload(&world.requests, world.context.generation, world.now);
	ck_assert_uint_eq(world.n_records, 0); /* nothing has changed */

	world_load("actions: [Encrypt, ", "actions: [");
	requests_reload(&world.requests, world.context.generation, world.now);
	ck_assert_int_eq(part->request->step, STEP_ENDED);
	world_assert_record(EVENT_UNANSWERED, REASON_CLIENT_GONE, KMS_STATUS_UNKNOWN, "");
	ck_assert_int_eq(whole->request->step, STEP_SEND);
	world.n_records = 0;
	world_answer(whole->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	assert_ended_unanswered(whole, 200);
}
END_TEST

/* ---- a reload while the client is there ---- */

/* How much of it is out when its action is no longer allowed; -1: it waits for a connection. */
START_TEST(a_reload_withdraws_what_is_not_out)
{
	struct world_client *c = world_encrypt();

	if (_i >= 0)
		world_send(c->request, (enum world_sent)_i);
	world_load("actions: [Encrypt, ", "actions: [");
	if (_i == SENT_ALL) {
		ck_assert(!request_revoke(c->request, world.context.generation));
		ck_assert(c->request->call.final);
		world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
		world_written(c);
		world_assert_record(EVENT_REQUEST, REASON_ALLOWED, 200, "");
		return;
	}
	ck_assert(request_revoke(c->request, world.context.generation));
	ck_assert_uint_eq(world.n_calls, 0);
	request_refuse(c->request, REFUSAL_RELOADED, NULL, world.now);
	world_written(c);
	world_assert_refused(c, REFUSAL_RELOADED, NULL, false);
	world_assert_record(_i == SENT_PART ? EVENT_UNANSWERED : EVENT_REFUSED, REASON_RELOADED,
			    _i == SENT_PART ? KMS_STATUS_UNKNOWN : 0,
			    refusal_info(REFUSAL_RELOADED)->message);
}
END_TEST

static const struct {
	const char *old, *text;
	enum refusal at_once;
	enum reason later; /* once its body is there */
} renewals[] = {
	{NULL, NULL, REFUSAL_NONE, REASON_ALLOWED},
	{"actions: [Encrypt, ", "actions: [", REFUSAL_NONE, REASON_ACTION},
	{"body: 16KiB", "body: 1KiB", REFUSAL_NONE, REASON_ALLOWED},
	{"  kms: {", "  first: {region: sa-east-1}\n  kms: {", REFUSAL_NONE, REASON_ALLOWED},
	{"region: eu-central-1", "region: eu-central-1, dualstack: true", REFUSAL_NONE,
	 REASON_HOST},
	{"cid: 16", "cid: 19", REFUSAL_RELOADED, REASON_NONE},
	{"  app:", "  apps:", REFUSAL_RELOADED, REASON_NONE},
};

START_TEST(a_reload_while_the_body_is_read)
{
	struct world_client *c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);
	uint64_t memory = gauge_read(&world_enclave("app")->memory);

	world_load(renewals[_i].old, renewals[_i].text);
	ck_assert_int_eq(request_renew(c->request, world.context.generation),
			 renewals[_i].at_once);
	ck_assert_int_eq(c->request->step, STEP_BODY);
	ck_assert_uint_eq(gauge_read(&world_enclave("app")->memory), memory);
	ck_assert_uint_eq(gauge_read(&world_enclave("app")->in_flight), 1);
	if (renewals[_i].at_once) {
		request_end(c->request, REASON_RELOADED, 0, world.now);
		return;
	}
	ck_assert_ptr_eq(c->request->generation, world.context.generation);
	world_run(c, WORLD_BODY);
	if (renewals[_i].later == REASON_ALLOWED) {
		world_send(c->request, SENT_ALL);
		ck_assert_ptr_nonnull(strstr(world.sent, "\r\nHost: " WORLD_HOST "\r\n"));
		world_answer(c->request, world_reply("200 OK", WORLD_REPLY_HEAD, WORLD_SEALED));
	}
	world_written(c);
	ck_assert_int_eq(world_record()->reason, renewals[_i].later);
}
END_TEST

START_TEST(a_reload_makes_its_body_too_large)
{
	static char body[2 * KIB + 1];
	struct world_client *c;

	memset(body, ' ', sizeof(body) - 1);
	c = world_new("app", WORLD_HOST, "Encrypt", body);
	world_load("body: 16KiB", "body: 1KiB");
	ck_assert_int_eq(request_renew(c->request, world.context.generation),
			 REFUSAL_BODY_TOO_LARGE);
	request_refuse(c->request, REFUSAL_BODY_TOO_LARGE, NULL, world.now);
	world_written(c);
	world_assert_refused(c, REFUSAL_BODY_TOO_LARGE, NULL, true);
}
END_TEST

/* For its refusal it needs no rules. */
START_TEST(a_reload_while_a_refused_body_is_dropped)
{
	struct gauge *in_flight = &world_enclave("app")->in_flight;
	struct world_client *c;

	ck_assert(gauge_take(in_flight, WORLD_IN_FLIGHT, WORLD_IN_FLIGHT));
	c = world_new("app", WORLD_HOST, "Encrypt", WORLD_BODY);
	world_pass(LIMIT_PLACE_TIME);
	requests_sweep(&world.requests, world.now);
	gauge_return(in_flight, WORLD_IN_FLIGHT);
	world_load("  app:", "  apps:");
	ck_assert_int_eq(request_renew(c->request, world.context.generation), REFUSAL_NONE);
	world_run(c, WORLD_BODY);
	world_written(c);
	ck_assert_int_eq(world_record()->reason, REASON_IN_FLIGHT);
}
END_TEST

static void add_ends(TCase *tcase)
{
	tcase_add_loop_test(tcase, it_may_end_within_its_answer, 0,
			    ELEMENTSOF(answered) * ELEMENTSOF(manners));
	tcase_add_test(tcase, it_may_end_when_it_is_lost);
	tcase_add_test(tcase, it_ends_once);
	tcase_add_test(tcase, it_ends_while_its_body_is_read);
#ifdef WITH_ASAN
	tcase_add_test(tcase, what_has_ended_is_not_touched);
#endif
	tcase_add_test(tcase, no_memory_to_begin);
	tcase_add_test(tcase, no_memory_to_refuse);
}

static void add_orphans_and_reloads(TCase *tcase)
{
	tcase_add_loop_test(tcase, the_answer_to_an_orphan_is_recorded, 0, ELEMENTSOF(replies));
	tcase_add_test(tcase, the_call_of_an_orphan_fails);
	tcase_add_loop_test(tcase, who_has_sent_nothing_is_no_orphan, 0, 2);
	tcase_add_test(tcase, an_orphan_is_always_recorded);
	tcase_add_test(tcase, all_orphans_end);
	tcase_add_test(tcase, a_reload_ends_orphans);
	tcase_add_loop_test(tcase, a_reload_withdraws_what_is_not_out, -1, SENT_ALL + 1);
	tcase_add_loop_test(tcase, a_reload_while_the_body_is_read, 0, ELEMENTSOF(renewals));
	tcase_add_test(tcase, a_reload_makes_its_body_too_large);
	tcase_add_test(tcase, a_reload_while_a_refused_body_is_dropped);
}

int main(void)
{
	Suite *suite = suite_create("request");
	TCase *tcase = tcase_create("request");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, world_begin, world_end);
	add_ends(tcase);
	add_orphans_and_reloads(tcase);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
