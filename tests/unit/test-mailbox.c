/* SPDX-License-Identifier: Apache-2.0 */
#include "mailbox.h"

#include <check.h>
#include <pthread.h>
#include <stdint.h>

#define THREADS 4
#define EACH 20000

static struct event_base *base;
static struct mailbox *mailbox;
static int next[THREADS]; /* the number of the thread's next message */
static unsigned taken, dropped, out_of_order;

static void on_message(struct message *m, void *userdata)
{
	ck_assert_ptr_eq(userdata, &next);
	out_of_order += m->number != next[m->id]++;
	taken++;
}

static void on_drop(struct message *m, void *userdata)
{
	ck_assert_ptr_eq(userdata, &next);
	ck_assert_int_eq(m->number, (int)dropped);
	dropped++;
}

static void setup(void)
{
	base = event_base_new();
	ck_assert_int_eq(mailbox_new(base, on_message, on_drop, &next, &mailbox), 0);
}

static void teardown(void)
{
	mailbox = mailbox_free(mailbox);
	event_base_free(base);
}

static void send_number(uint64_t sender, int number)
{
	struct message m = {.kind = MESSAGE_TEST_HOOK, .id = sender, .number = number};

	ck_assert_int_eq(mailbox_send(mailbox, &m), 0);
}

/* Those that are sent before the owner looks wake it once, for all. */
START_TEST(what_is_sent_comes_in_order)
{
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i <= round; i++)
			send_number(0, next[0] + i);
		ck_assert_uint_eq(taken, 0);
		event_base_loop(base, EVLOOP_ONCE);
		ck_assert_uint_eq(taken, (unsigned)round + 1);
		event_base_loop(base, EVLOOP_NONBLOCK);
		ck_assert_uint_eq(taken, (unsigned)round + 1);
		taken = 0;
	}
	ck_assert_uint_eq(out_of_order, 0);
}
END_TEST

/* Each once, in order, by who knows what they hold; what was taken is not. */
START_TEST(what_nobody_takes_is_dropped)
{
	send_number(0, 0);
	event_base_loop(base, EVLOOP_ONCE);
	for (int i = 0; i < 3; i++)
		send_number(0, i);
	mailbox = mailbox_free(mailbox);
	ck_assert_uint_eq(dropped, 3);
	ck_assert_uint_eq(taken, 1);
}
END_TEST

static void *send_many(void *userdata)
{
	for (int i = 0; i < EACH; i++)
		send_number((uintptr_t)userdata, i);
	return NULL;
}

/* The owner sleeps whenever there is nothing: were a message to come without waking it, the
 * test would wait for ever. */
START_TEST(no_thread_s_message_is_left_lying)
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, send_many, (void *)i), 0);
	while (taken < THREADS * EACH)
		event_base_loop(base, EVLOOP_ONCE);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(out_of_order, 0);
}
END_TEST

START_TEST(free_drops_what_was_not_taken)
{
	send_number(0, 0);
	send_number(0, 1);
	ck_assert_ptr_null(mailbox_free(NULL));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mailbox");
	TCase *tcase = tcase_create("mailbox");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, what_is_sent_comes_in_order);
	tcase_add_test(tcase, what_nobody_takes_is_dropped);
	tcase_add_test(tcase, no_thread_s_message_is_left_lying);
	tcase_add_test(tcase, free_drops_what_was_not_taken);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
