/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include "fake_journal.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOON 10000 /* milliseconds: a deadline, not a wait */

static struct fake_journal journal;
static struct audit *audit;

static void setup(void)
{
	fake_journal_init(&journal);
	ck_assert_int_eq(log_open_journal(journal.path), 0);
	(void)!log_take_lost();
	ck_assert_int_eq(audit_new(&audit), 0);
}

static void teardown(void)
{
	audit = audit_free(audit);
	fake_journal_done(&journal);
}

/* The key field tells the records apart. */
static void submit(unsigned sender, unsigned number)
{
	struct audit_record r;

	audit_record_init(&r, EVENT_REFUSED);
	snprintf(r.enclave, sizeof(r.enclave), "e%u", sender);
	snprintf(r.key, sizeof(r.key), "%u", number);
	audit_submit(audit, &r);
}

static bool is_loss(const struct fake_entry *e)
{
	return strcmp(fake_entry_get(e, "MESSAGE_ID"), event_info(EVENT_LOST)->message_id) == 0;
}

static unsigned long number_in(const struct fake_entry *e, const char *name)
{
	return strtoul(fake_entry_get(e, name), NULL, 10);
}

START_TEST(a_record_reaches_the_journal)
{
	struct fake_entry e;

	fake_journal_appear(&journal);
	submit(1, 7);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE_ID"),
			 event_info(EVENT_REFUSED)->message_id);
	ck_assert_str_eq(fake_entry_get(&e, "PRIORITY"), "4");
	ck_assert_str_eq(fake_entry_get(&e, "SYSLOG_IDENTIFIER"), "kms-vsock-proxyd");
	ck_assert_str_eq(fake_entry_get(&e, "ENCLAVE"), "e1");
	ck_assert_str_eq(fake_entry_get(&e, "KMS_KEY"), "7");
	ck_assert_uint_eq(audit_lost(audit), 0);
}
END_TEST

/* Fields are escaped where they are made; should one not be, it is no other field's. */
START_TEST(a_newline_makes_no_new_field)
{
	struct audit_record r;
	struct fake_entry e;

	fake_journal_appear(&journal);
	audit_record_init(&r, EVENT_REFUSED);
	snprintf(r.detail, sizeof(r.detail), "x\nVERDICT=allow\nKMS_STATUS=200");
	snprintf(r.rule, sizeof(r.rule), "\nRULE=other");
	audit_submit(audit, &r);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_str_eq(fake_entry_get(&e, "VERDICT"), "refuse");
	ck_assert_ptr_null(fake_entry_get(&e, "KMS_STATUS"));
	ck_assert_str_eq(fake_entry_get(&e, "RULE"), "\nRULE=other");
	ck_assert_str_eq(fake_entry_get(&e, "MESSAGE"),
			 "unknown peer: request refused: x\nVERDICT=allow\nKMS_STATUS=200");
}
END_TEST

/* One record at a time, so that the writer sleeps in between. Were a wake-up lost, each would
 * wait for the writer's next look, a second later. */
START_TEST(a_sleeping_writer_is_woken)
{
	usec_t start = clock_monotonic();
	struct fake_entry e;

	fake_journal_appear(&journal);
	for (unsigned i = 0; i < 200; i++) {
		submit(1, i);
		ck_assert(fake_journal_next(&journal, &e, SOON));
		ck_assert_uint_eq(number_in(&e, "KMS_KEY"), i);
		for (unsigned k = 0; k < i % 40; k++)
			sched_yield(); /* meets the writer at different steps of falling asleep
					*/
	}
	ck_assert_int_lt(clock_monotonic() - start, 60 * USEC_PER_SEC);
}
END_TEST

START_TEST(a_journal_that_comes_late_loses_nothing)
{
	struct fake_entry e;

	for (unsigned i = 0; i < LIMIT_AUDIT_QUEUE; i++)
		submit(1, i);
	fake_journal_appear(&journal);
	for (unsigned i = 0; i < LIMIT_AUDIT_QUEUE; i++) {
		ck_assert(fake_journal_next(&journal, &e, SOON));
		ck_assert_uint_eq(number_in(&e, "KMS_KEY"), i);
	}
	ck_assert_uint_eq(audit_lost(audit), 0);
}
END_TEST

START_TEST(a_journal_started_anew_loses_nothing)
{
	struct fake_entry e;

	fake_journal_appear(&journal);
	submit(1, 0);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	fake_journal_vanish(&journal, true);
	submit(1, 1);
	submit(1, 2);
	fake_journal_appear(&journal);
	for (unsigned i = 1; i <= 2; i++) {
		ck_assert(fake_journal_next(&journal, &e, SOON));
		ck_assert_uint_eq(number_in(&e, "KMS_KEY"), i);
	}
	ck_assert_uint_eq(audit_lost(audit), 0);
}
END_TEST

/* Fills the journal's socket; returns how many entries that took. */
static unsigned fill_journal(void)
{
	const char *const fields[] = {"MESSAGE_ID=filler", "MESSAGE=x"};
	unsigned n = 0;

	while (log_write(LOG_INFO, fields, ELEMENTSOF(fields)) == 0)
		n++;
	return n;
}

/* The journal is there, but nobody reads. What the queue can't hold is lost; the rest comes, in
 * order, when the journal reads again, and an entry tells how many were lost: a second one too,
 * where the writer had counted while records were still being submitted. */
START_TEST(a_stopped_journal_loses_what_the_queue_cannot_hold)
{
	enum { SUBMITTED = 3 * LIMIT_AUDIT_QUEUE };
	unsigned long written = 0, lost = 0, last = 0;
	unsigned fillers, told = 0;
	struct fake_entry e;

	fake_journal_appear(&journal);
	fillers = fill_journal();
	ck_assert_uint_gt(fillers, 0);
	for (unsigned i = 1; i <= SUBMITTED; i++)
		submit(1, i);
	/* The writer may have taken a batch out of the queue. */
	ck_assert_uint_le(audit_lost(audit), SUBMITTED - LIMIT_AUDIT_QUEUE);
	ck_assert_uint_ge(audit_lost(audit), SUBMITTED - LIMIT_AUDIT_QUEUE - LOG_BATCH);

	while (fillers--)
		ck_assert(fake_journal_next(&journal, &e, SOON));
	while (written + lost < SUBMITTED) {
		ck_assert(fake_journal_next(&journal, &e, SOON));
		if (is_loss(&e)) {
			ck_assert_str_eq(fake_entry_get(&e, "PRIORITY"), "3");
			lost += number_in(&e, "LOST");
			told++;
			continue;
		}
		ck_assert_uint_gt(number_in(&e, "KMS_KEY"), last);
		last = number_in(&e, "KMS_KEY");
		written++;
	}
	ck_assert_uint_eq(written + lost, SUBMITTED);
	ck_assert_uint_eq(lost, audit_lost(audit));
	ck_assert_uint_ge(told, 1);
	ck_assert_uint_le(told, 2);
	submit(1, SUBMITTED + 1);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert_uint_eq(number_in(&e, "KMS_KEY"), SUBMITTED + 1);
}
END_TEST

START_TEST(a_lost_event_is_recorded_too)
{
	struct fake_entry e;

	log_event(EVENT_START, NULL, "x");
	log_event(EVENT_START, NULL, "x");
	fake_journal_appear(&journal);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	ck_assert(is_loss(&e));
	ck_assert_uint_eq(number_in(&e, "LOST"), 2);
	ck_assert_uint_eq(audit_lost(audit), 2);
}
END_TEST

START_TEST(free_writes_what_is_queued)
{
	struct fake_entry e;

	fake_journal_appear(&journal);
	for (unsigned i = 0; i < 5; i++) /* fewer than a socket holds without a reader */
		submit(1, i);
	audit = audit_free(audit);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert(fake_journal_next(&journal, &e, 0)); /* it is there already */
		ck_assert_uint_eq(number_in(&e, "KMS_KEY"), i);
	}
	ck_assert(!fake_journal_next(&journal, &e, 0));
}
END_TEST

START_TEST(free_does_not_wait_for_a_dead_journal)
{
	usec_t start;

	for (unsigned i = 0; i < 2 * LIMIT_AUDIT_QUEUE; i++)
		submit(1, i);
	start = clock_monotonic();
	audit = audit_free(audit);
	ck_assert_int_ge(clock_monotonic() - start, USEC_PER_SEC / 2); /* but it did try */
	ck_assert_int_lt(clock_monotonic() - start, 10 * USEC_PER_SEC);
}
END_TEST

#define THREADS 4
#define EACH 5000

static void *submit_many(void *userdata)
{
	for (unsigned i = 1; i <= EACH; i++)
		submit((unsigned)(uintptr_t)userdata, i);
	return NULL;
}

START_TEST(every_record_of_every_thread_is_written_or_counted)
{
	unsigned long last[THREADS] = {0}, accounted = 0;
	pthread_t threads[THREADS];
	struct fake_entry e;

	fake_journal_appear(&journal);
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_many, (void *)i), 0);
	while (accounted < THREADS * EACH) {
		unsigned long sender;

		ck_assert(fake_journal_next(&journal, &e, SOON));
		if (is_loss(&e)) {
			accounted += number_in(&e, "LOST");
			continue;
		}
		sender = strtoul(fake_entry_get(&e, "ENCLAVE") + 1, NULL, 10);
		ck_assert_uint_lt(sender, THREADS);
		ck_assert_uint_gt(number_in(&e, "KMS_KEY"), last[sender]);
		last[sender] = number_in(&e, "KMS_KEY");
		accounted++;
	}
	ck_assert_uint_eq(accounted, THREADS * EACH);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

/* The SigBlk line of the thread named "audit". */
static unsigned long long blocked_in_writer(void)
{
	unsigned long long mask = 0;
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;

	ck_assert_ptr_nonnull(tasks);
	while ((task = readdir(tasks))) {
		char path[512], line[256];
		bool writer = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f)) {
			if (strcmp(line, "Name:\taudit\n") == 0)
				writer = true;
			if (writer && strncmp(line, "SigBlk:", 7) == 0)
				mask = strtoull(line + 7, NULL, 16);
		}
		if (f)
			fclose(f);
	}
	closedir(tasks);
	return mask;
}

START_TEST(the_writer_takes_no_signals)
{
	static const int signals[] = {SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGPIPE};
	struct fake_entry e;
	sigset_t own;

	/* glibc starts a thread with all blocked; once it writes, its mask is its own. */
	fake_journal_appear(&journal);
	submit(1, 1);
	ck_assert(fake_journal_next(&journal, &e, SOON));
	for (size_t i = 0; i < ELEMENTSOF(signals); i++)
		ck_assert(blocked_in_writer() & 1ull << (signals[i] - 1));
	pthread_sigmask(SIG_SETMASK, NULL, &own);
	ck_assert(!sigismember(&own, SIGTERM)); /* the maker's mask is as before */
}
END_TEST

START_TEST(free_accepts_null)
{
	ck_assert_ptr_null(audit_free(NULL));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("audit");
	TCase *tcase = tcase_create("audit");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_record_reaches_the_journal);
	tcase_add_test(tcase, a_newline_makes_no_new_field);
	tcase_add_test(tcase, a_sleeping_writer_is_woken);
	tcase_add_test(tcase, a_journal_that_comes_late_loses_nothing);
	tcase_add_test(tcase, a_journal_started_anew_loses_nothing);
	tcase_add_test(tcase, a_stopped_journal_loses_what_the_queue_cannot_hold);
	tcase_add_test(tcase, a_lost_event_is_recorded_too);
	tcase_add_test(tcase, free_writes_what_is_queued);
	tcase_add_test(tcase, free_does_not_wait_for_a_dead_journal);
	tcase_add_test(tcase, every_record_of_every_thread_is_written_or_counted);
	tcase_add_test(tcase, the_writer_takes_no_signals);
	tcase_add_test(tcase, free_accepts_null);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
