/* SPDX-License-Identifier: Apache-2.0 */

/* Enclaves take turns, and so do the connections of one: what much work of a connection leaves
 * for others. */

#include "http_peer.h"

#include "connection.h"
#include "request_step.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* One that has more connections, and more on them, gets no more turns. */
START_TEST(enclaves_take_turns)
{
	uint64_t one = 2, two = 1; /* the first request of each is an event's */

	open_peer(&peers[1], "one");
	open_peer(&peers[2], "two");
	peer_send(peers[0].fd, SLICE(REFUSED REFUSED REFUSED REFUSED));
	peer_send(peers[1].fd, SLICE(REFUSED REFUSED REFUSED REFUSED));
	peer_send(peers[2].fd, SLICE(REFUSED REFUSED REFUSED REFUSED));
	RUN_UNTIL(counted("two", COUNTER_REQUESTS) == two);
	ck_assert_uint_eq(counted("one", COUNTER_REQUESTS), one);
	for (; two < 4; one++, two++) {
		RUN_UNTIL(counted("two", COUNTER_REQUESTS) == two + 1);
		ck_assert_uint_eq(counted("one", COUNTER_REQUESTS), one + 1);
	}
	RUN_UNTIL(counted("one", COUNTER_REQUESTS) == 8);
	for (int i = 0; i < 12; i++)
		world_assert_record(EVENT_REFUSED, REASON_ACTION);
}
END_TEST

#define LARGE 100000

/* Of all peers: sent, and not read. */
static size_t all_unread(void)
{
	size_t all = 0;

	for (size_t i = 0; i < ELEMENTSOF(peers); i++) {
		int n = 0;

		if (peers[i].fd >= 0)
			ck_assert_int_eq(ioctl(peers[i].other, FIONREAD, &n), 0);
		all += (size_t)n;
	}
	return all;
}

/* Each peer sends `head`, after which the daemon reads or drops, then many bytes at once. Of
 * each an event reads a piece; then one piece is read in each turn, whoever's it is. */
static void send_large(const char *head, void (*expect)(struct peer *))
{
	static char bytes[LARGE];

	memset(bytes, ' ', sizeof(bytes));
	memcpy(bytes, "{}", 2);
	for (size_t i = 0; i < ELEMENTSOF(peers); i++) {
		if (i > 0)
			open_peer(&peers[i], "one");
		peer_send(peers[i].fd, slice_from(head));
	}
	RUN_UNTIL(all_unread() == 0 && world.n_connections == ELEMENTSOF(peers));
	world_stay_quiet();
	for (size_t i = 0; i < ELEMENTSOF(peers); i++)
		peer_send(peers[i].fd, (struct slice){bytes, sizeof(bytes)});
	world_turn(); /* the events */
	ck_assert_uint_ge(all_unread(), ELEMENTSOF(peers) * (LARGE - 2 * CONNECTION_PIECE));
	for (size_t had = all_unread(), has; had > 0; had = has) {
		world_turn();
		has = all_unread();
		ck_assert_uint_le(had - has, CONNECTION_PIECE);
	}
	for (size_t i = 0; i < ELEMENTSOF(peers); i++)
		expect(&peers[i]);
}

static void expect_policy(struct peer *p)
{
	expect_answer(p, 400, "AccessDeniedException", false);
	world_assert_record(EVENT_REFUSED, REASON_ACTION);
}

static void expect_rate(struct peer *p)
{
	expect_answer(p, 400, "ThrottlingException", false);
	world_assert_record(EVENT_REFUSED, REASON_RATE);
}

START_TEST(bodies_take_turns)
{
	send_large(HEAD("ListKeys", "100000", ""), expect_policy);
}
END_TEST

START_TEST(bodies_that_are_dropped_take_turns)
{
	world_configure("one: {" WORLD_ENCLAVE("4") ", limits: {requests: 1/h, burst: 1}}");
	connections_reload(&world, clock_now());
	RUN_UNTIL(world.n_connections == 0);
	close_peer(peer);
	open_peer(peer, "one");
	say(REFUSED);
	expect_refused(false);
	send_large(HEAD("ListKeys", "100000", ""), expect_rate);
}
END_TEST

static void expect_bad(struct peer *p)
{
	expect_answer(p, 400, "SerializationException", true);
	world_assert_record(EVENT_REFUSED, REASON_FRAMING);
}

START_TEST(what_follows_the_last_answer_takes_turns)
{
	send_large("GET / HTTP/1.1\r\n\r\n", expect_bad);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("http_turns");
	TCase *tcase = tcase_create("http_turns");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, enclaves_take_turns);
	tcase_add_test(tcase, bodies_take_turns);
	tcase_add_test(tcase, bodies_that_are_dropped_take_turns);
	tcase_add_test(tcase, what_follows_the_last_answer_takes_turns);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
