/* SPDX-License-Identifier: Apache-2.0 */

/* The pool of one endpoint: whose call gets a connection, and what becomes of it. Nobody sweeps
 * here, so that what must happen at once can't be done by a sweep. */

#include "upstream.h"

#include "generation.h"
#include "tls_peer.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

#define ENCLAVES 3
#define PATIENCE (20 * USEC_PER_SEC) /* on a busy machine */
#define QUIET 40                     /* turns of the loop in which nothing more may happen */

#define RUN_UNTIL(condition)                                                                   \
	do {                                                                                   \
		usec_t end_ = clock_monotonic() + PATIENCE;                                    \
		while (!(condition)) {                                                         \
			ck_assert_msg(clock_monotonic() < end_, "not in time: %s",             \
				      #condition);                                             \
			turn();                                                                \
		}                                                                              \
	} while (0)

struct call {
	struct upstream_call call;
	size_t size;
	unsigned prepared, done;
	enum upstream_result result;
};

static struct event_base *base;
static struct tls_peer *peer;
static struct upstream *upstream;
static struct endpoint_config endpoint;
static struct call calls[ENCLAVES * 10];
/* More than the kernel takes of a peer that reads nothing. */
static char request[32 << 20];
static struct context context;

static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	bin_empty(&context.bin);
	usleep(500);
}

static void stay_quiet(void)
{
	for (int i = 0; i < QUIET; i++)
		turn();
}

static int prepare(struct upstream_call *call, struct instant now, struct slice *ret_bytes)
{
	struct call *c = (struct call *)call;

	(void)now;
	c->prepared++;
	*ret_bytes = (struct slice){request + sizeof(request) - c->size, c->size};
	return 0;
}

static bool grow(struct upstream_call *call)
{
	(void)call;
	return true;
}

static void done(struct upstream_call *call, enum upstream_result result, const char *why,
		 struct instant now)
{
	struct call *c = (struct call *)call;

	(void)why;
	(void)now;
	c->done++;
	c->result = result;
}

static const struct upstream_call_ops ops = {prepare, grow, done};

/* A pool of so many connections, of which all enclaves may use. */
static void start(unsigned connections)
{
	static unsigned first[1];
	static struct enclave_config enclave;
	static struct slot_config slots[ENCLAVES];
	static struct config config;
	static struct trust trust;
	static struct generation generation;

	/* All are slots of one enclave: it is they that share the endpoint, not the enclaves.
	 */
	enclave = (struct enclave_config){.endpoints = first, .n_endpoints = 1};
	for (unsigned i = 0; i < ENCLAVES; i++)
		slots[i] = (struct slot_config){.enclave = 0, .cid = 16 + i};
	endpoint = (struct endpoint_config){
		.name = (char *)"kms",
		.host = (char *)"kms.test",
		.connect_to = (char *)"127.0.0.1",
		.connect_port = tls_peer_port(peer),
		.connections = connections,
		.connect_timeout = PATIENCE,
		.reply_timeout = PATIENCE,
		.queue_timeout = PATIENCE,
	};
	config = (struct config){.endpoints = &endpoint,
				 .n_endpoints = 1,
				 .enclaves = &enclave,
				 .n_enclaves = 1,
				 .slots = slots,
				 .n_slots = ENCLAVES};
	trust.store = tls_peer_store(peer);
	generation = (struct generation){.config = &config, .trusts = &trust};
	ck_assert_int_eq(upstream_new(&context, &generation, 0, &upstream), 0);
}

static struct call *submit(unsigned enclave, size_t size)
{
	struct call *c = calls;

	while (c->call.ops)
		c++;
	c->call.ops = &ops;
	c->call.enclave_index = enclave;
	c->call.repeatable = true;
	c->size = size;
	upstream_submit(upstream, &c->call, clock_now());
	return c;
}

/* One that the peer has as a whole. */
static struct call *submit_sent(unsigned enclave)
{
	unsigned before = tls_peer_requests(peer);
	struct call *c = submit(enclave, 100);

	RUN_UNTIL(tls_peer_requests(peer) > before);
	return c;
}

static void setup(void)
{
	base = context.base = event_base_new();
	peer = tls_peer_new(base);
	memset(calls, 0, sizeof(calls));
	memcpy(request + sizeof(request) - 4, "\r\n\r\n", 4);
}

static void teardown(void)
{
	for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
		upstream_cancel(&calls[i].call);
		http_reply_done(&calls[i].call.reply);
	}
	upstream = upstream_free(upstream);
	bin_empty(&context.bin);
	tls_peer_free(peer);
	event_base_free(base);
}

/* ---- places ---- */

static const struct {
	unsigned connections, hogs; /* enclaves that want more than they may have */
	unsigned started;           /* of their calls */
} shares[] = {
	{8, 1, 6}, {8, 2, 7}, {8, 3, 8}, {4, 1, 2}, {4, 2, 3}, {3, 1, 1}, /* one for each */
	{3, 2, 2}, {3, 3, 3}, {2, 1, 1}, /* fewer than enclaves: each one in turn */
	{2, 2, 2}, {1, 1, 1}, {1, 2, 1},
};

static unsigned count_prepared(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < ELEMENTSOF(calls); i++)
		n += calls[i].prepared;
	return n;
}

/* No group of enclaves holds the last connections of one that holds none. */
START_TEST(places)
{
	unsigned free_for_others = shares[_i].connections - shares[_i].started;

	start(shares[_i].connections);
	for (unsigned k = 0; k < 10; k++)
		for (unsigned enclave = 0; enclave < shares[_i].hogs; enclave++)
			submit(enclave, 100);
	RUN_UNTIL(count_prepared() == shares[_i].started);
	stay_quiet();
	ck_assert_uint_eq(count_prepared(), shares[_i].started);

	for (unsigned e = shares[_i].hogs; e < ENCLAVES && free_for_others--; e++) {
		struct call *quick = submit(e, 100);

		RUN_UNTIL(quick->prepared == 1);
	}
}
END_TEST

START_TEST(all_are_served_in_the_end)
{
	unsigned n = 0;

	start(2);
	tls_peer_set(peer, TLS_PEER_ANSWER);
	for (; n < ELEMENTSOF(calls); n++)
		submit(n % ENCLAVES, 100);
	for (unsigned i = 0; i < n; i++) {
		RUN_UNTIL(calls[i].done == 1);
		ck_assert_int_eq(calls[i].result, UPSTREAM_REPLY);
		ck_assert_uint_eq(calls[i].prepared, 1);
		ck_assert(calls[i].call.exposed);
	}
	ck_assert_uint_le(tls_peer_connections(peer), 2);
	ck_assert_uint_eq(upstream_calls(upstream), 0);
}
END_TEST

START_TEST(a_place_that_is_given_back_is_given_on_at_once)
{
	struct call *held, *waits;

	start(1);
	held = submit_sent(0);
	waits = submit(1, 100);
	stay_quiet();
	ck_assert_uint_eq(waits->prepared, 0);
	ck_assert(!waits->call.exposed);
	tls_peer_set(peer, TLS_PEER_ANSWER);
	upstream_cancel(&held->call);
	RUN_UNTIL(waits->done);
	ck_assert_int_eq(waits->result, UPSTREAM_REPLY);
	ck_assert_uint_eq(held->done, 0);
}
END_TEST

/* ---- calls whose owner has lost interest, or the right ---- */

START_TEST(an_abandoned_call_ends_and_leaves_its_connection)
{
	struct call *gone, *waits, *other;

	start(1);
	gone = submit_sent(0);
	waits = submit(0, 100);
	ck_assert(upstream_abandon(&gone->call));
	ck_assert(!upstream_abandon(&waits->call)); /* it never left */
	ck_assert_uint_eq(upstream_calls(upstream), 1);
	other = submit(1, 100);
	stay_quiet();
	ck_assert_uint_eq(other->prepared, 0); /* the place is held until KMS has answered */
	tls_peer_set(peer, TLS_PEER_ANSWER);
	RUN_UNTIL(gone->done && other->done);
	ck_assert_int_eq(gone->result, UPSTREAM_REPLY);
	ck_assert_int_eq(other->result, UPSTREAM_REPLY);
	ck_assert_uint_eq(tls_peer_connections(peer), 1);
	ck_assert_uint_eq(waits->prepared, 0);
	ck_assert(!upstream_abandon(&gone->call)); /* nothing is left to wait for */
}
END_TEST

/* Its connection dies without an answer: a call that may be sent twice, one whose owner has
 * gone, one that is no longer allowed. */
START_TEST(what_is_final_is_not_repeated)
{
	struct call *c;

	start(1);
	c = submit_sent(0);
	if (_i == 1)
		ck_assert(upstream_abandon(&c->call));
	if (_i == 2)
		ck_assert(upstream_revoke(&c->call));
	tls_peer_set(peer, TLS_PEER_CLOSE);
	tls_peer_set(peer, TLS_PEER_ANSWER);
	RUN_UNTIL(c->done);
	ck_assert_int_eq(c->result, _i == 0 ? UPSTREAM_REPLY : UPSTREAM_LOST);
	ck_assert_uint_eq(c->prepared, _i == 0 ? 2 : 1);
	ck_assert(c->call.exposed);
}
END_TEST

START_TEST(what_is_revoked_goes_on_only_as_a_whole)
{
	struct call *sent, *partly, *waits;

	start(4);
	tls_peer_set(peer, TLS_PEER_DEAF);
	partly = submit(0, sizeof(request));
	RUN_UNTIL(partly->call.exposed);
	stay_quiet();
	tls_peer_set(peer, TLS_PEER_HOLD);
	sent = submit_sent(1);
	waits = submit(0, 100);
	ck_assert(upstream_revoke(&sent->call));
	ck_assert(!upstream_revoke(&partly->call));
	ck_assert(!upstream_revoke(&waits->call));
	ck_assert_uint_eq(upstream_calls(upstream), 1);
	tls_peer_set(peer, TLS_PEER_ANSWER);
	RUN_UNTIL(sent->done);
	ck_assert_int_eq(sent->result, UPSTREAM_REPLY);
	stay_quiet();
	ck_assert_uint_eq(tls_peer_requests(peer), 1);
	ck_assert_uint_eq(partly->done + waits->done, 0);
}
END_TEST

/* Bytes are out, so that it is waited for; unlike with a revoked one, all of it goes out. */
START_TEST(what_is_partly_sent_may_be_abandoned)
{
	struct call *c;

	start(1);
	tls_peer_set(peer, TLS_PEER_DEAF);
	c = submit(0, sizeof(request));
	RUN_UNTIL(c->call.exposed);
	ck_assert(upstream_abandon(&c->call));
	ck_assert_uint_eq(upstream_calls(upstream), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("upstream");
	TCase *tcase = tcase_create("upstream");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, places, 0, ELEMENTSOF(shares));
	tcase_add_test(tcase, all_are_served_in_the_end);
	tcase_add_test(tcase, a_place_that_is_given_back_is_given_on_at_once);
	tcase_add_test(tcase, an_abandoned_call_ends_and_leaves_its_connection);
	tcase_add_loop_test(tcase, what_is_final_is_not_repeated, 0, 3);
	tcase_add_test(tcase, what_is_revoked_goes_on_only_as_a_whole);
	tcase_add_test(tcase, what_is_partly_sent_may_be_abandoned);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
