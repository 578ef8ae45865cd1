/* SPDX-License-Identifier: Apache-2.0 */
#include "turns.h"

#include <check.h>
#include <string.h>

#define ENCLAVES 40 /* more than the marks of a fresh table */

struct waiter {
	struct turn turn;
	unsigned more; /* turns it wants after this one */
	unsigned taken;
};

static struct event_base *base;
static struct turns turns;
static struct waiter waiters[ENCLAVES];
static char order[64]; /* who was served: 'a' + enclave; '|' between two looks at the sockets */
static size_t n_order;
static struct waiter *to_leave;

static void note(char c)
{
	ck_assert_uint_lt(n_order, sizeof(order) - 1);
	order[n_order++] = c;
}

static void take(struct turn *turn, struct instant now)
{
	struct waiter *w = CONTAINER_OF(turn, struct waiter, turn);

	ck_assert(!turn->queued);
	ck_assert_int_gt(now.monotonic, 0);
	ck_assert_int_gt(now.wall, 0);
	w->taken++;
	if (turn->enclave_id < 26)
		note((char)('a' + turn->enclave_id));
	if (to_leave)
		turns_leave(&turns, &to_leave->turn);
	if (w->more) {
		w->more--;
		turns_queue(&turns, turn);
	}
}

static struct waiter *queue(unsigned i, unsigned enclave, unsigned more)
{
	waiters[i] =
		(struct waiter){.turn = {.enclave_id = enclave, .take = take}, .more = more};
	turns_queue(&turns, &waiters[i].turn);
	return &waiters[i];
}

static void look(void)
{
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	note('|');
}

static void setup(void)
{
	n_order = 0;
	memset(order, 0, sizeof(order));
	base = event_base_new();
	ck_assert_int_eq(turns_init(&turns, base), 0);
}

static void teardown(void)
{
	turns_done(&turns);
	event_base_free(base);
}

/* Two of one enclave and one of another: the other isn't behind both. */
START_TEST(one_of_each_enclave_a_turn)
{
	queue(0, 0, 0);
	queue(1, 0, 0);
	queue(2, 1, 0);
	look();
	look();
	look();
	ck_assert_str_eq(order, "ab|a||");
}
END_TEST

START_TEST(who_wants_more_waits_for_the_next_look)
{
	queue(0, 0, 2);
	queue(1, 1, 0);
	look();
	look();
	look();
	look();
	ck_assert_str_eq(order, "ab|a|a||");
}
END_TEST

START_TEST(who_stands_in_line_is_not_put_there_twice)
{
	struct waiter *w = queue(0, 0, 0);

	turns_queue(&turns, &w->turn);
	look();
	look();
	ck_assert_str_eq(order, "a||");
}
END_TEST

START_TEST(who_leaves_is_not_served)
{
	struct waiter *w = queue(0, 0, 0);

	turns_leave(&turns, &w->turn);
	turns_leave(&turns, &w->turn);
	ck_assert(!w->turn.queued);
	look();
	ck_assert_uint_eq(w->taken, 0);
}
END_TEST

/* Its connection is closed while another is served. */
START_TEST(one_may_leave_while_another_is_served)
{
	queue(0, 0, 0);
	to_leave = queue(1, 1, 0);
	queue(2, 2, 0);
	look();
	look();
	ck_assert_str_eq(order, "ac||");
}
END_TEST

START_TEST(all_enclaves_are_served_in_one_turn)
{
	for (unsigned i = ENCLAVES; i-- > 0;)
		queue(i, i, 0);
	look();
	for (unsigned i = 0; i < ENCLAVES; i++)
		ck_assert_uint_eq(waiters[i].taken, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("turns");
	TCase *tcase = tcase_create("turns");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, one_of_each_enclave_a_turn);
	tcase_add_test(tcase, who_wants_more_waits_for_the_next_look);
	tcase_add_test(tcase, who_stands_in_line_is_not_put_there_twice);
	tcase_add_test(tcase, who_leaves_is_not_served);
	tcase_add_test(tcase, one_may_leave_while_another_is_served);
	tcase_add_test(tcase, all_enclaves_are_served_in_one_turn);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
