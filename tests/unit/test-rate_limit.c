/* SPDX-License-Identifier: Apache-2.0 */
#include "rate_limit.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>

#define T0 (1000 * USEC_PER_SEC) /* a monotonic clock somewhere on its way */

static const struct rate ten_a_second = {USEC_PER_SEC / 10, 5};

/* Takes tokens until there are none; returns how many there were. */
static unsigned drain(struct rate_limit *limit, struct rate rate, usec_t now)
{
	unsigned n = 0;

	while (rate_limit_take(limit, rate, now, NULL))
		n++;
	return n;
}

START_TEST(new_bucket_is_full)
{
	struct rate_limit limit = {0};

	ck_assert_uint_eq(drain(&limit, ten_a_second, T0), 5);
	ck_assert_uint_eq(drain(&limit, ten_a_second, T0), 0);
}
END_TEST

START_TEST(new_bucket_is_full_at_boot)
{
	struct rate_limit limit = {0};

	ck_assert_uint_eq(drain(&limit, ten_a_second, 0), 5);
}
END_TEST

/* Tokens that came back `after` an empty bucket. */
START_TEST(tokens_come_back)
{
	static const struct {
		usec_t after;
		unsigned tokens;
	} cases[] = {
		{0, 0},      {99999, 0},  {100000, 1}, {100001, 1}, {199999, 1},
		{200000, 2}, {499999, 4}, {500000, 5}, {600000, 5}, {3600 * USEC_PER_SEC, 5},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct rate_limit limit = {0};

		drain(&limit, ten_a_second, T0);
		ck_assert_uint_eq(drain(&limit, ten_a_second, T0 + cases[i].after),
				  cases[i].tokens);
	}
}
END_TEST

START_TEST(wait_is_exact)
{
	struct rate_limit limit = {0};
	usec_t wait = 4711;

	ck_assert(rate_limit_take(&limit, ten_a_second, T0, &wait));
	ck_assert_int_eq(wait, 4711);
	drain(&limit, ten_a_second, T0);
	ck_assert(!rate_limit_take(&limit, ten_a_second, T0, &wait));
	ck_assert_int_eq(wait, 100000);
	ck_assert(!rate_limit_take(&limit, ten_a_second, T0 + 30000, &wait));
	ck_assert_int_eq(wait, 70000);
	ck_assert(!rate_limit_take(&limit, ten_a_second, T0 + 30000 + wait - 1, NULL));
	ck_assert(rate_limit_take(&limit, ten_a_second, T0 + 30000 + wait, NULL));
}
END_TEST

START_TEST(burst_of_one)
{
	static const struct rate rate = {1, 1};
	struct rate_limit limit = {0};

	for (usec_t t = T0; t < T0 + 10; t++)
		ck_assert_uint_eq(drain(&limit, rate, t), 1);
}
END_TEST

/* Over a long time the rate holds, however often it is asked. */
START_TEST(rate_holds)
{
	struct rate_limit limit = {0};
	unsigned n = 0;

	for (usec_t t = T0; t < T0 + 100 * USEC_PER_SEC; t += 777)
		n += rate_limit_take(&limit, ten_a_second, t, NULL);
	ck_assert_uint_eq(n, 5 + 999); /* the last is due after the last question */
}
END_TEST

/* Another rate from one call to the next: tokens at once, and when the next one comes. */
START_TEST(reload)
{
	static const struct {
		const char *what;
		struct rate from, to;
		usec_t after; /* the first bucket was drained */
		unsigned tokens;
		usec_t wait;
	} cases[] = {
		{"slow to fast", {3600 * USEC_PER_SEC, 400}, {100000, 5}, 0, 0, 100000},
		{"slow to fast, a little later",
		 {3600 * USEC_PER_SEC, 1},
		 {100000, 5},
		 200000,
		 0,
		 100000},
		{"within a second, the debt stays", {400000, 5}, {200000, 5}, 0, 0, 1200000},
		{"fast to slow", {1000, 5}, {3600 * USEC_PER_SEC, 1}, 0, 0, 5000},
		{"fast to slow, full",
		 {1000, 5},
		 {3600 * USEC_PER_SEC, 2},
		 5000,
		 2,
		 3600 * USEC_PER_SEC},
		{"smaller burst", {1000, 1000}, {1000, 10}, 0, 0, 991000},
		{"larger burst", {1000, 10}, {1000, 1000}, 0, 990, 1000},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct rate_limit limit = {0};
		usec_t now = T0 + cases[i].after, wait = 0;

		drain(&limit, cases[i].from, T0);
		ck_assert_msg(drain(&limit, cases[i].to, now) == cases[i].tokens, "%s",
			      cases[i].what);
		ck_assert(!rate_limit_take(&limit, cases[i].to, now, &wait));
		ck_assert_msg(wait == cases[i].wait, "%s: %lld", cases[i].what,
			      (long long)wait);
		ck_assert_msg(rate_limit_take(&limit, cases[i].to, now + wait, NULL), "%s",
			      cases[i].what);
	}
}
END_TEST

START_TEST(numbers_do_not_overflow)
{
	static const struct rate rates[] = {
		{INT64_MAX, UINT32_MAX},
		{INT64_MAX, 1},
		{3600 * USEC_PER_SEC, UINT32_MAX},
	};

	for (size_t i = 0; i < ELEMENTSOF(rates); i++) {
		struct rate_limit limit = {0};
		usec_t wait = -1;
		unsigned n = 0;

		while (n < 10 && rate_limit_take(&limit, rates[i], INT64_MAX / 4, &wait))
			n++;
		ck_assert_uint_ge(n, 1);
		ck_assert(n == 10 || wait > 0);
	}
}
END_TEST

/* Spending what may not be there, and how long the debt lasts. */
START_TEST(spend)
{
	static const struct {
		uint64_t n;   /* spent at once */
		usec_t after; /* asked so much later */
		usec_t wait;
		unsigned tokens; /* that are left then */
	} cases[] = {
		{0, 0, 0, 5},      {3, 0, 0, 2},
		{5, 0, 0, 0},      {6, 0, 100000, 0},
		{6, 99999, 1, 0},  {6, 100000, 0, 0},
		{6, 200000, 0, 1}, {105, 0, 10 * USEC_PER_SEC, 0},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct rate_limit limit = {0};
		usec_t now = T0 + cases[i].after;

		ck_assert_int_eq(rate_limit_wait(&limit, ten_a_second, T0), 0);
		rate_limit_spend(&limit, ten_a_second, cases[i].n, T0);
		ck_assert_int_eq(rate_limit_wait(&limit, ten_a_second, now), cases[i].wait);
		/* Asking for a token would forgive a debt of more than a second. */
		if (cases[i].wait < USEC_PER_SEC)
			ck_assert_uint_eq(drain(&limit, ten_a_second, now), cases[i].tokens);
	}
}
END_TEST

START_TEST(spend_without_end)
{
	struct rate_limit limit = {0};

	for (unsigned i = 0; i < 10; i++)
		rate_limit_spend(&limit, (struct rate){INT64_MAX, UINT32_MAX}, UINT64_MAX, T0);
	ck_assert_int_gt(rate_limit_wait(&limit, ten_a_second, T0), 0);
}
END_TEST

/* A worker whose clock reads a little behind gets no token more. */
START_TEST(clocks_apart)
{
	struct rate_limit limit = {0};

	drain(&limit, ten_a_second, T0);
	for (unsigned i = 0; i < 1000; i++) {
		ck_assert(!rate_limit_take(&limit, ten_a_second, T0 - USEC_PER_SEC + 1, NULL));
		ck_assert(!rate_limit_take(&limit, ten_a_second, T0, NULL));
	}
}
END_TEST

/* Threads. */

enum { THREADS = 4, BURST = 1000000 };

struct shared {
	struct rate_limit limit;
	struct gauge gauge;
	pthread_barrier_t start;
	_Atomic unsigned above; /* times the gauge read more than its ceiling */
};

static void *take_all(void *p)
{
	struct shared *shared = p;
	uintptr_t n = 0;

	pthread_barrier_wait(&shared->start);
	/* Time stands still, so each token beyond the burst would be one too many. */
	while (rate_limit_take(&shared->limit, (struct rate){1000, BURST}, T0, NULL))
		n++;
	return (void *)n;
}

static uintptr_t run(struct shared *shared, void *(*work)(void *))
{
	pthread_t threads[THREADS];
	uintptr_t sum = 0;

	ck_assert_int_eq(pthread_barrier_init(&shared->start, NULL, THREADS), 0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work, shared), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		void *n;

		ck_assert_int_eq(pthread_join(threads[i], &n), 0);
		sum += (uintptr_t)n;
	}
	pthread_barrier_destroy(&shared->start);
	return sum;
}

START_TEST(threads_share_a_bucket)
{
	for (unsigned round = 0; round < 5; round++) {
		struct shared shared = {0};

		ck_assert_uint_eq(run(&shared, take_all), BURST);
	}
}
END_TEST

enum { ROUNDS = 4000000, CEILING = 7 };

static void *hold_and_return(void *p)
{
	struct shared *shared = p;
	uintptr_t taken = 0;

	pthread_barrier_wait(&shared->start);
	for (unsigned i = 0; i < ROUNDS; i++) {
		if (!gauge_take(&shared->gauge, 3, CEILING))
			continue;
		if (gauge_read(&shared->gauge) > CEILING)
			shared->above++;
		taken++;
		gauge_return(&shared->gauge, 3);
	}
	return (void *)taken;
}

START_TEST(threads_share_a_gauge)
{
	struct shared shared = {0};

	ck_assert_uint_ge(run(&shared, hold_and_return), ROUNDS / THREADS);
	ck_assert_uint_eq(shared.above, 0);
	ck_assert_uint_eq(gauge_read(&shared.gauge), 0);
}
END_TEST

START_TEST(gauge)
{
	struct gauge g = {0};

	ck_assert(!gauge_take(&g, 1, 0));
	ck_assert(gauge_take(&g, 0, 0));
	ck_assert(!gauge_take(&g, 11, 10));
	ck_assert(gauge_take(&g, 10, 10));
	ck_assert(!gauge_take(&g, 1, 10));
	ck_assert(gauge_take(&g, 0, 10));
	ck_assert_uint_eq(gauge_read(&g), 10);
	gauge_return(&g, 4);
	ck_assert(!gauge_take(&g, 5, 10));
	ck_assert(gauge_take(&g, 4, 10));
	ck_assert(!gauge_take(&g, 1, 5)); /* the ceiling was lowered by a reload */
	ck_assert(!gauge_take(&g, UINT64_MAX, UINT64_MAX));
	ck_assert(gauge_take(&g, UINT64_MAX - 10, UINT64_MAX));
	gauge_return(&g, UINT64_MAX);
	ck_assert_uint_eq(gauge_read(&g), 0);
}
END_TEST

START_TEST(gauge_returned_twice)
{
	struct gauge g = {0};

	ck_assert(gauge_take(&g, 1, 1));
	gauge_return(&g, 1);
	gauge_return(&g, 1);
}
END_TEST

int main(void)
{
	TCase *bucket = tcase_create("bucket"), *threads = tcase_create("threads");
	TCase *gauges = tcase_create("gauge");
	Suite *suite = suite_create("rate_limit");
	SRunner *runner;
	int failed;

	tcase_add_test(bucket, new_bucket_is_full);
	tcase_add_test(bucket, new_bucket_is_full_at_boot);
	tcase_add_test(bucket, tokens_come_back);
	tcase_add_test(bucket, wait_is_exact);
	tcase_add_test(bucket, burst_of_one);
	tcase_add_test(bucket, rate_holds);
	tcase_add_test(bucket, reload);
	tcase_add_test(bucket, numbers_do_not_overflow);
	tcase_add_test(bucket, spend);
	tcase_add_test(bucket, spend_without_end);
	tcase_add_test(bucket, clocks_apart);
	tcase_add_test(threads, threads_share_a_bucket);
	tcase_add_test(threads, threads_share_a_gauge);
	tcase_set_timeout(threads, 60);
	tcase_add_test(gauges, gauge);
	tcase_add_test_raise_signal(gauges, gauge_returned_twice, SIGABRT);
	suite_add_tcase(suite, bucket);
	suite_add_tcase(suite, threads);
	suite_add_tcase(suite, gauges);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
