/* SPDX-License-Identifier: Apache-2.0 */

/* Which upstream a request gets, and when those of an old configuration go. */

#include "upstreams.h"

#include "generation.h"
#include "tls_peer.h"

#include <check.h>
#include <string.h>

static struct context context;
static struct upstreams upstreams;
static struct tls_peer *peer;
static struct endpoint_config endpoints[2];
static struct enclave_config enclave;
static struct slot_config slot = {.cid = 16};
static unsigned both[] = {0, 1};
static struct config config;
static struct trust trusts[2];
static struct generation old, new;

static void setup(void)
{
	context.base = event_base_new();
	context.upstreams = &upstreams;
	peer = tls_peer_new(context.base);
	for (size_t i = 0; i < ELEMENTSOF(endpoints); i++) {
		endpoints[i] = (struct endpoint_config){
			.name = (char *)"kms",
			.host = (char *)"kms.test",
			.connect_to = (char *)"127.0.0.1",
			.connect_port = tls_peer_port(peer),
			.connections = 4,
			.connect_timeout = 20 * USEC_PER_SEC,
			.reply_timeout = 20 * USEC_PER_SEC,
			.queue_timeout = 20 * USEC_PER_SEC,
		};
		trusts[i].store = tls_peer_store(peer);
	}
	enclave = (struct enclave_config){.endpoints = both, .n_endpoints = 2};
	config = (struct config){.endpoints = endpoints,
				 .n_endpoints = ELEMENTSOF(endpoints),
				 .enclaves = &enclave,
				 .n_enclaves = 1,
				 .slots = &slot,
				 .n_slots = 1};
	/* One reference more than the sets take: these are not freed. */
	old = (struct generation){.refs = 1, .config = &config, .trusts = trusts};
	new = (struct generation){.refs = 1, .config = &config, .trusts = trusts};
	context.generation = &old;
}

static void teardown(void)
{
	upstreams_done(&upstreams);
	bin_empty(&context.bin);
	ck_assert_uint_eq(atomic_load(&old.refs), 1);
	ck_assert_uint_eq(atomic_load(&new.refs), 1);
	tls_peer_free(peer);
	event_base_free(context.base);
}

START_TEST(each_endpoint_of_each_configuration_has_its_own)
{
	struct upstream *a = upstreams_get(&context, &old, 0);

	ck_assert_ptr_nonnull(a);
	ck_assert_ptr_eq(upstreams_get(&context, &old, 0), a);
	ck_assert_ptr_ne(upstreams_get(&context, &old, 1), a);
	ck_assert_ptr_ne(upstreams_get(&context, &new, 0), a);
	ck_assert_ptr_eq(upstreams_get(&context, &old, 0), a);
	ck_assert_uint_eq(atomic_load(&old.refs), 2); /* one for all of its endpoints */
}
END_TEST

static int prepare(struct upstream_call *call, struct instant now, struct slice *ret_bytes)
{
	(void)call;
	(void)now;
	*ret_bytes = SLICE("\r\n\r\n");
	return 0;
}

static bool grow(struct upstream_call *call)
{
	(void)call;
	return true;
}

static bool is_done;

static void done(struct upstream_call *call, enum upstream_result result, const char *why,
		 struct instant now)
{
	(void)call;
	(void)why;
	(void)now;
	ck_assert_int_eq(result, UPSTREAM_REPLY);
	is_done = true;
}

static const struct upstream_call_ops ops = {prepare, grow, done};

/* A call that began before the reload ends where it began; then they go. */
START_TEST(old_ones_go_with_their_last_call)
{
	struct upstream_call call = {.ops = &ops};

	upstream_submit(upstreams_get(&context, &old, 0), &call, clock_now());
	context.generation = &new;
	ck_assert_ptr_nonnull(upstreams_get(&context, &new, 0));
	upstreams_sweep(&context, clock_now());
	ck_assert_uint_eq(atomic_load(&old.refs), 2);
	tls_peer_set(peer, TLS_PEER_ANSWER);
	while (!is_done)
		event_base_loop(context.base, EVLOOP_ONCE);
	upstreams_sweep(&context, clock_now());
	ck_assert_uint_eq(atomic_load(&old.refs), 1);
	ck_assert_uint_eq(atomic_load(&new.refs), 2); /* unused, but in force */
	http_reply_done(&call.reply);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("upstreams");
	TCase *tcase = tcase_create("upstreams");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, each_endpoint_of_each_configuration_has_its_own);
	tcase_add_test(tcase, old_ones_go_with_their_last_call);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
