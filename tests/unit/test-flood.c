/* SPDX-License-Identifier: Apache-2.0 */
#include "flood.h"

#include "limit.h"

#include <check.h>
#include <pthread.h>

#define START (1000 * USEC_PER_SEC)
#define TOKEN (USEC_PER_SEC / LIMIT_AUDIT_REFUSALS_PER_SEC)

static unsigned admit(struct flood *f, usec_t now, unsigned tries)
{
	unsigned admitted = 0;

	for (unsigned i = 0; i < tries; i++)
		admitted += flood_admit(f, now);
	return admitted;
}

START_TEST(admits_a_burst_and_counts_the_rest)
{
	struct flood f = {0};

	ck_assert_uint_eq(admit(&f, START, LIMIT_AUDIT_BURST), LIMIT_AUDIT_BURST);
	ck_assert_uint_eq(flood_take_suppressed(&f), 0);
	ck_assert_uint_eq(admit(&f, START, 1), 0);
	ck_assert_uint_eq(flood_take_suppressed(&f), 1);
	ck_assert_uint_eq(admit(&f, START, 1000), 0);
	ck_assert_uint_eq(flood_take_suppressed(&f), 1000);
	ck_assert_uint_eq(flood_take_suppressed(&f), 0);
}
END_TEST

static const struct {
	usec_t later;
	unsigned admitted;
} refills[] = {
	{0, 0},
	{TOKEN - 1, 0},
	{TOKEN, 1},
	{2 * TOKEN - 1, 1},
	{2 * TOKEN, 2},
	{USEC_PER_SEC, LIMIT_AUDIT_REFUSALS_PER_SEC},
	{LIMIT_AUDIT_BURST * TOKEN - 1, LIMIT_AUDIT_BURST - 1},
	{LIMIT_AUDIT_BURST * TOKEN, LIMIT_AUDIT_BURST},
	{3600 * USEC_PER_SEC, LIMIT_AUDIT_BURST},
};

START_TEST(admits_again_as_time_goes)
{
	struct flood f = {0};

	admit(&f, START, 500);
	ck_assert_uint_eq(admit(&f, START + refills[_i].later, 500), refills[_i].admitted);
	ck_assert_uint_eq(flood_take_suppressed(&f),
			  1000 - LIMIT_AUDIT_BURST - refills[_i].admitted);
}
END_TEST

START_TEST(enclaves_have_their_own)
{
	struct flood bad = {0}, good = {0};

	admit(&bad, START, 100000);
	ck_assert_uint_eq(admit(&good, START, LIMIT_AUDIT_BURST), LIMIT_AUDIT_BURST);
}
END_TEST

#define THREADS 4
#define TRIES 20000

struct worker {
	pthread_t thread;
	struct flood *flood;
	uint64_t admitted, suppressed;
};

static void *hammer(void *userdata)
{
	struct worker *w = userdata;

	for (unsigned i = 0; i < TRIES; i++) {
		w->admitted += flood_admit(w->flood, START + i);
		if (i % 100 == 0)
			w->suppressed += flood_take_suppressed(w->flood);
	}
	return NULL;
}

/* TRIES microseconds are less than a token takes: exactly the burst is admitted. */
START_TEST(threads_share_one_count)
{
	struct worker workers[THREADS] = {0};
	uint64_t admitted = 0, suppressed;
	struct flood f = {0};

	_Static_assert(TRIES < TOKEN, "no token comes back meanwhile");
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].flood = &f;
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, hammer, &workers[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	suppressed = flood_take_suppressed(&f);
	for (unsigned i = 0; i < THREADS; i++) {
		admitted += workers[i].admitted;
		suppressed += workers[i].suppressed;
	}
	ck_assert_uint_eq(admitted, LIMIT_AUDIT_BURST);
	ck_assert_uint_eq(admitted + suppressed, THREADS * TRIES);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("flood");
	TCase *tcase = tcase_create("flood");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, admits_a_burst_and_counts_the_rest);
	tcase_add_loop_test(tcase, admits_again_as_time_goes, 0, ELEMENTSOF(refills));
	tcase_add_test(tcase, enclaves_have_their_own);
	tcase_add_test(tcase, threads_share_one_count);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
