/* SPDX-License-Identifier: Apache-2.0 */

/* A connection over its enclave's limit: what it is told, and how long it may stay. */

#include "surplus.h"

#include "connection.h"
#include "connection_world.h"
#include "enclave.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int peer;

/* Its other end. */
static int open_one(void)
{
	struct identity identity = world_identity("one");
	int pair[2];
	bool surplus;

	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert(connection_take(world.surplus, identity.enclave, 0, &surplus));
	ck_assert(surplus);
	world.n_connections++;
	surplus_accept(&world, pair[0], &identity, clock_now());
	return pair[1];
}

static void setup(void)
{
	world_begin();
	peer = open_one();
}

static void teardown(void)
{
	world_end();
	if (peer >= 0)
		close(peer);
}

static uint64_t counted(enum counter counter)
{
	return world_enclave("one")->counters[counter];
}

/* What there is to read, up to the end of it. */
static const char *whole_answer(void)
{
	static char text[4096];
	size_t n = 0;
	ssize_t got = -1;

	RUN_UNTIL(({
		got = recv(peer, text + n, sizeof(text) - 1 - n, 0);
		n += got > 0 ? (size_t)got : 0;
		got == 0;
	}));
	text[n] = '\0';
	return text;
}

static void assert_is_over(int status)
{
	const struct audit_record *record = world_record();

	ck_assert_int_eq(record->event, EVENT_CONNECTION);
	ck_assert_int_eq(record->reason, REASON_CONNECTIONS);
	ck_assert_int_eq(record->status, status);
	ck_assert_str_eq(record->detail, "limits.connections (1024) of enclave one is reached");
	ck_assert_uint_eq(counted(COUNTER_CONNECTIONS), 0);
	ck_assert_uint_eq(counted(COUNTER_CONNECTIONS_REFUSED), 1);
	ck_assert_uint_eq(counted(COUNTER_THROTTLED), status != 0);
	ck_assert_int_eq(world_enclave("one")->requests.full_at, 0); /* no token */
}

/* As soon as it asks something, whatever comes after it. */
START_TEST(it_is_told)
{
	static char body[16 * KIB];
	const char *answer;

	world_stay_quiet();
	world_assert_no_record();
	peer_send(peer, SLICE("P"));
	answer = whole_answer();
	ck_assert_msg(strncmp(answer, "HTTP/1.1 400 Bad Request\r\n", 26) == 0, "%s", answer);
	ck_assert_ptr_nonnull(strstr(answer, "\r\nConnection: close\r\n"));
	ck_assert_ptr_nonnull(strstr(answer, "\"__type\":\"ThrottlingException\""));
	assert_is_over(400);
	ck_assert_ptr_nonnull(strstr(answer, "x-amzn-RequestId: "));
	/* It may go on to send, and isn't reset. */
	for (int i = 0; i < 3; i++) {
		peer_send(peer, (struct slice){body, sizeof(body)});
		world_turn();
	}
	ck_assert_uint_eq(world.n_connections, 1);
	close(TAKE_FD(peer));
	RUN_UNTIL(world.n_connections == 0);
	world_assert_nothing_held();
}
END_TEST

START_TEST(it_has_a_second_to_end)
{
	peer_send(peer, SLICE("P"));
	(void)whole_answer();
	assert_is_over(400);
	connections_sweep(&world, world_later(LIMIT_LINGER_TIME));
	ck_assert_uint_eq(world.n_connections, 0);
}
END_TEST

START_TEST(it_has_a_second_to_ask)
{
	struct instant early = clock_now();

	early.monotonic += LIMIT_SURPLUS_TIME / 2;
	connections_sweep(&world, early);
	ck_assert_uint_eq(world.n_connections, 1);
	connections_sweep(&world, world_later(LIMIT_SURPLUS_TIME));
	ck_assert_uint_eq(world.n_connections, 0);
	assert_is_over(0);
	ck_assert(peer_at_end(peer));
}
END_TEST

enum way { ENDS, SPEAKS_TLS, DRAINS, DRAINS_OVER, _WAYS };

START_TEST(it_is_not_told)
{
	switch ((enum way)_i) {
	case ENDS:
		close(TAKE_FD(peer));
		break;
	case SPEAKS_TLS:
		peer_send(peer, SLICE("\x16\x03\x01"));
		break;
	case DRAINS:
	case DRAINS_OVER:
		connections_drain(&world, _i == DRAINS_OVER, clock_now());
		break;
	case _WAYS:
		break;
	}
	RUN_UNTIL(world.n_connections == 0);
	assert_is_over(0);
}
END_TEST

START_TEST(a_reload_is_nothing_to_it)
{
	world_configure(WORLD_TWO);
	connections_reload(&world, clock_now());
	peer_send(peer, SLICE("P"));
	(void)whole_answer();
	assert_is_over(400);
}
END_TEST

START_TEST(there_are_so_many)
{
	struct enclave *one = world_enclave("one"), *two = world_enclave("two");
	unsigned n = 1; /* that of the setup */
	bool surplus;

	for (; n < LIMIT_SURPLUS_EACH; n++)
		ck_assert(connection_take(world.surplus, one, 0, &surplus) && surplus);
	ck_assert(!connection_take(world.surplus, one, 0, &surplus));
	ck_assert(connection_take(world.surplus, one, 1, &surplus) && !surplus);
	connection_give_back(world.surplus, one, false);
	ck_assert(gauge_take(world.surplus, LIMIT_SURPLUS - n - 1, LIMIT_SURPLUS));
	ck_assert(connection_take(world.surplus, two, 0, &surplus) && surplus);
	ck_assert(!connection_take(world.surplus, two, 0, &surplus));
	ck_assert_uint_eq(gauge_read(&two->surplus), 1);
	connection_give_back(world.surplus, two, true);
	gauge_return(world.surplus, LIMIT_SURPLUS - n - 1);
	while (--n)
		connection_give_back(world.surplus, one, true);
	close(TAKE_FD(peer));
	RUN_UNTIL(world.n_connections == 0);
	world_assert_nothing_held();
	assert_is_over(0);
}
END_TEST

START_TEST(no_memory_for_it)
{
	int other;

	world_fail_calloc((unsigned)_i);
	other = open_one();
	world_assert_record(EVENT_CONNECTION, REASON_MEMORY);
	ck_assert(peer_at_end(other));
	close(other);
	ck_assert_uint_eq(world.n_connections, 1);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->surplus), 1);
	ck_assert_uint_eq(counted(COUNTER_CONNECTIONS_REFUSED), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("surplus");
	TCase *tcase = tcase_create("surplus");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, it_is_told);
	tcase_add_test(tcase, it_has_a_second_to_end);
	tcase_add_test(tcase, it_has_a_second_to_ask);
	tcase_add_loop_test(tcase, it_is_not_told, 0, _WAYS);
	tcase_add_test(tcase, a_reload_is_nothing_to_it);
	tcase_add_test(tcase, there_are_so_many);
	tcase_add_loop_test(tcase, no_memory_for_it, 1, 3); /* the connection, what it speaks */
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
