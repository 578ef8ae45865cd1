/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_health.h"

#include "log.h"
#include "mailbox.h"

#include <check.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#define KEY_A "ASIAEXAMPLEEXAMPLE0A"
#define KEY_B "ASIAEXAMPLEEXAMPLE0B"
#define EXPIRED "ExpiredTokenException"
#define NOW (1000 * USEC_PER_SEC)
#define PERIOD (30 * USEC_PER_SEC)

static struct event_base *base;
static struct mailbox *control;
static struct credentials_health_table *table;
static struct credentials_health *eu, *us;
static struct credentials *a, *b; /* b is newer */
static struct message told;
static unsigned n_told;
static FILE *log_file;

static struct credentials *make(const char *key, uint64_t serial)
{
	struct credentials *c;

	ck_assert_int_eq(
		credentials_new(slice_from(key), SLICE("s3cret"), SLICE("t0ken"), 0, &c), 0);
	c->serial = serial;
	return c;
}

static void on_message(struct message *m, void *userdata)
{
	ck_assert_ptr_eq(userdata, &told);
	told = *m;
	n_told++;
}

static void setup(void)
{
	unsetenv("JOURNAL_STREAM");
	log_file = tmpfile();
	ck_assert_ptr_nonnull(log_file);
	ck_assert_int_ge(dup2(fileno(log_file), STDERR_FILENO), 0);
	log_open();
	base = event_base_new();
	ck_assert_int_eq(mailbox_new(base, on_message, on_message, &told, &control), 0);
	ck_assert_int_eq(credentials_health_table_new(&table), 0);
	eu = credentials_health_get(table, "kms-eu");
	us = credentials_health_get(table, "kms-us");
	ck_assert_ptr_nonnull(eu);
	ck_assert_ptr_nonnull(us);
	a = make(KEY_A, 1);
	b = make(KEY_B, 2);
}

static void teardown(void)
{
	credentials_unref(a);
	credentials_unref(b);
	credentials_health_table_free(table);
	mailbox_free(control);
	event_base_free(base);
	fclose(log_file);
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* for the leak sanitizer */
}

static const char *log_text(void)
{
	static char text[65536];
	ssize_t size = pread(fileno(log_file), text, sizeof(text) - 1, 0);

	ck_assert_int_ge(size, 0);
	text[size] = '\0';
	return text;
}

static unsigned log_count(const char *what)
{
	unsigned n = 0;

	for (const char *p = log_text(); (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void assert_records(unsigned rejections, unsigned successes)
{
	ck_assert_msg(log_count("AWS KMS rejects") == rejections &&
			      log_count("AWS KMS accepts") == successes,
		      "%s", log_text());
}

/* What the worker told, if it did, comes to the control thread. */
static bool deliver(const struct credentials *current, usec_t now)
{
	unsigned before = n_told;

	event_base_loop(base, EVLOOP_NONBLOCK);
	if (n_told == before)
		return false;
	ck_assert_uint_eq(n_told, before + 1);
	credentials_health_take(&told, current, now);
	return true;
}

static void reject(struct credentials_health *h, const struct credentials *c,
		   const struct credentials *current, usec_t now)
{
	ck_assert(credentials_health_rejection(h, c, EXPIRED, true, control));
	ck_assert(deliver(current, now));
	ck_assert_int_eq(told.kind, MESSAGE_REJECTED);
	ck_assert_uint_eq(told.id, c->serial);
	ck_assert_int_eq(told.number, 1);
}

static bool succeed(struct credentials_health *h, const struct credentials *c,
		    const struct credentials *current)
{
	credentials_health_success(h, c, control);
	return deliver(current, NOW);
}

START_TEST(one_object_an_endpoint)
{
	ck_assert_ptr_eq(credentials_health_get(table, "kms-eu"), eu);
	ck_assert_ptr_ne(eu, us);
	ck_assert_str_eq(us->named.name, "kms-us");
	ck_assert_ptr_null(credentials_health_table_free(NULL));
}
END_TEST

START_TEST(a_change_is_recorded_once)
{
	ck_assert(!succeed(eu, a, a)); /* nothing is wrong: nobody is told */
	reject(eu, a, a, NOW);
	ck_assert(credentials_health_is_bad(eu, a));
	assert_records(1, 0);
	ck_assert_uint_eq(
		log_count("error: endpoint kms-eu: AWS KMS rejects the credentials: " EXPIRED
			  " ENDPOINT=kms-eu ACCESS_KEY_ID=" KEY_A),
		1);
	reject(eu, a, a, NOW);
	assert_records(1, 0);

	ck_assert(succeed(eu, a, a));
	ck_assert_int_eq(told.kind, MESSAGE_RECOVERED);
	ck_assert(!credentials_health_is_bad(eu, a));
	assert_records(1, 1);
	ck_assert_uint_eq(log_count("notice: endpoint kms-eu: AWS KMS accepts the credentials "
				    "again ENDPOINT=kms-eu ACCESS_KEY_ID=" KEY_A),
			  1);
	ck_assert(!succeed(eu, a, a));
	reject(eu, a, a, NOW);
	assert_records(2, 1);
}
END_TEST

/* Two workers saw it before the control thread took it. */
START_TEST(who_comes_late_changes_nothing)
{
	struct message m = {.kind = MESSAGE_RECOVERED, .id = a->serial, .health = eu};

	credentials_health_take(&m, a, NOW);
	assert_records(0, 0);
	reject(eu, a, a, NOW);
	credentials_health_take(&m, a, NOW);
	credentials_health_take(&m, a, NOW);
	assert_records(1, 1);
}
END_TEST

START_TEST(one_endpoint_says_nothing_of_another)
{
	reject(us, a, a, NOW);
	for (int i = 0; i < 100; i++) {
		ck_assert(!succeed(eu, a, a));
		reject(us, a, a, NOW);
	}
	ck_assert(credentials_health_is_bad(us, a));
	ck_assert(!credentials_health_is_bad(eu, a));
	assert_records(1, 0);
}
END_TEST

/* The first to be rejected sets the end; who comes later doesn't move it. */
START_TEST(each_endpoint_has_a_wait_of_its_own)
{
	ck_assert_int_eq(credentials_health_wait_end(us, a, 1300), 1300);
	ck_assert_int_eq(credentials_health_wait_end(us, a, 1599), 1300);
	ck_assert_int_eq(credentials_health_wait_end(us, a, 9000), 1300);
	ck_assert_int_eq(credentials_health_wait_end(eu, a, 9000), 9000);
	ck_assert_int_eq(credentials_health_wait_end(us, b, 5300), 5300);
	ck_assert_int_eq(credentials_health_wait_end(us, b, 6000), 5300);
	ck_assert_int_eq(credentials_health_wait_end(us, a, 7000), 5300); /* late: older ones */
}
END_TEST

START_TEST(new_ones_begin_anew)
{
	reject(eu, a, a, NOW);
	ck_assert(!credentials_health_is_bad(eu, b));
	ck_assert(!credentials_health_is_bad(eu, NULL));
	reject(eu, a, b, NOW); /* history */
	assert_records(1, 0);
	reject(eu, b, b, NOW);
	ck_assert(credentials_health_is_bad(eu, b));
	assert_records(2, 0);
	ck_assert_uint_eq(log_count("ACCESS_KEY_ID=" KEY_B), 1);
	ck_assert(!succeed(eu, a, b)); /* a late answer to the old ones */
	ck_assert(succeed(eu, b, b));
	assert_records(2, 1);
}
END_TEST

START_TEST(a_success_of_new_ones_ends_it)
{
	reject(eu, a, a, NOW);
	ck_assert(succeed(eu, b, b));
	assert_records(1, 1);
	reject(eu, a, b, NOW);
	assert_records(1, 1);
	reject(eu, a, NULL, NOW);
	assert_records(1, 1);
}
END_TEST

/* Now this, now that: 4 times, then once in 30 s; each that counts has its end. */
START_TEST(wavering)
{
	for (int i = 0; i < 100; i++) {
		reject(eu, a, a, NOW);
		succeed(eu, a, a);
	}
	assert_records(4, 4);
	reject(eu, a, a, NOW + PERIOD - 1);
	ck_assert(!credentials_health_is_bad(eu, a));
	reject(us, a, a, NOW);
	assert_records(5, 4);
	reject(eu, a, a, NOW + PERIOD);
	ck_assert(credentials_health_is_bad(eu, a));
	assert_records(6, 4);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("credentials_health");
	TCase *tcase = tcase_create("credentials_health");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, one_object_an_endpoint);
	tcase_add_test(tcase, a_change_is_recorded_once);
	tcase_add_test(tcase, who_comes_late_changes_nothing);
	tcase_add_test(tcase, one_endpoint_says_nothing_of_another);
	tcase_add_test(tcase, each_endpoint_has_a_wait_of_its_own);
	tcase_add_test(tcase, new_ones_begin_anew);
	tcase_add_test(tcase, a_success_of_new_ones_ends_it);
	tcase_add_test(tcase, wavering);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
