/* SPDX-License-Identifier: Apache-2.0 */

/* Lookups of names that /etc/hosts answers, or that no name server can know. */

#include "resolver.h"

#include <check.h>
#include <event2/event.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define ASKED 20

static struct event_base *base;
static struct mailbox *mailbox;
static struct resolver *resolver;
static struct message answers[ASKED];
static unsigned n_answers, n_wanted;

static void on_message(struct message *m, void *userdata)
{
	(void)userdata;
	answers[n_answers++] = *m;
	if (n_answers == n_wanted)
		event_base_loopbreak(base);
}

static void on_drop(struct message *m, void *userdata)
{
	(void)userdata;
	free(m->addresses);
}

static void setup(void)
{
	n_answers = n_wanted = 0;
	base = event_base_new();
	ck_assert_int_eq(mailbox_new(base, on_message, on_drop, NULL, &mailbox), 0);
	ck_assert_int_eq(resolver_new(&resolver), 0);
}

/* Until its threads have ended, or wait for a name server that doesn't answer: of one that is
 * just ending a leak checker no longer sees what it holds, and glibc has not freed it yet. */
static void wait_for_threads(void)
{
	const struct timespec moment = {.tv_nsec = 10000000};
	struct stat tasks;

	for (unsigned i = 0; i < 500; i++) {
		ck_assert_int_eq(stat("/proc/self/task", &tasks), 0);
		if (tasks.st_nlink <= 2 + 1)
			return;
		nanosleep(&moment, NULL);
	}
}

static void teardown(void)
{
	for (unsigned i = 0; i < n_answers; i++)
		free(answers[i].addresses);
	resolver = resolver_free(resolver);
	wait_for_threads();
	mailbox = mailbox_free(mailbox);
	event_base_free(base);
}

static void ask(const char *host, uint64_t id)
{
	ck_assert_int_eq(resolver_lookup(resolver, host, mailbox, id), 0);
	n_wanted++;
}

START_TEST(finds_a_name)
{
	ask("localhost", 7);
	event_base_dispatch(base);
	ck_assert_int_eq(answers[0].kind, MESSAGE_ADDRESSES);
	ck_assert_uint_eq(answers[0].id, 7);
	ck_assert_ptr_nonnull(answers[0].addresses);
	ck_assert_msg(strstr(answers[0].addresses, "127.0.0.1") ||
			      strstr(answers[0].addresses, "[::1]"),
		      "%s", answers[0].addresses);
}
END_TEST

START_TEST(tells_that_there_is_no_such_name)
{
	ask("no-such-name.invalid", 8);
	event_base_dispatch(base);
	ck_assert_uint_eq(answers[0].id, 8);
	ck_assert_ptr_null(answers[0].addresses);
	ck_assert_int_ne(answers[0].number, 0);
}
END_TEST

START_TEST(answers_everybody_who_asked)
{
	bool seen[ASKED] = {false};

	for (unsigned i = 0; i < ASKED; i++)
		ask(i % 2 ? "localhost" : "ip6-localhost", i);
	event_base_dispatch(base);
	ck_assert_uint_eq(n_answers, ASKED);
	for (unsigned i = 0; i < ASKED; i++) {
		ck_assert(!seen[answers[i].id]);
		seen[answers[i].id] = true;
	}
}
END_TEST

START_TEST(knows_the_last_good_addresses)
{
	_cleanup_(freep) char *known = NULL;

	ck_assert_ptr_null(resolver_known(resolver, "localhost"));
	ask("localhost", 1);
	ask("no-such-name.invalid", 2);
	event_base_dispatch(base);
	known = resolver_known(resolver, "localhost");
	ck_assert_str_eq(known, answers[answers[0].id == 1 ? 0 : 1].addresses);
	ck_assert_ptr_null(resolver_known(resolver, "no-such-name.invalid"));
	ck_assert_ptr_null(resolver_known(resolver, "local"));
}
END_TEST

START_TEST(goes_away_with_a_lookup_under_way)
{
	ask("no-such-name.invalid", 9);
	resolver = resolver_free(resolver); /* its thread frees the rest */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("resolver");
	TCase *tcase = tcase_create("resolver");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, finds_a_name);
	tcase_add_test(tcase, tells_that_there_is_no_such_name);
	tcase_add_test(tcase, answers_everybody_who_asked);
	tcase_add_test(tcase, knows_the_last_good_addresses);
	tcase_add_test(tcase, goes_away_with_a_lookup_under_way);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
