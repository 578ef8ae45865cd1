/* SPDX-License-Identifier: Apache-2.0 */
#include "refresh.h"

#include <check.h>

#define S USEC_PER_SEC
#define M (60 * S)
#define H (60 * M)

/* What `random` can do: the least and the most delay. */
static const struct {
	const char *what;
	struct refresh refresh;
	usec_t from, to; /* inclusive */
} rows[] = {
	/* it worked */
	{"6 hours: 60 to 45 minutes ahead", {6 * H, true, false, 0}, 5 * H, 5 * H + 15 * M - 1},
	{"90 minutes", {90 * M, true, false, 0}, 30 * M, 45 * M - 1},
	{"just under 90: 15 minutes ahead",
	 {90 * M - 1, true, false, 0},
	 75 * M - 1,
	 75 * M + 225 * S - 2},
	{"1 hour", {1 * H, true, false, 0}, 45 * M, 45 * M + 225 * S - 1},
	{"just over 20 minutes", {20 * M + 1, true, false, 0}, 5 * M + 1, 5 * M + 225 * S},
	{"20 minutes: 5 ahead", {20 * M, true, false, 0}, 15 * M, 15 * M + 75 * S - 1},
	{"6 minutes", {6 * M, true, false, 0}, 1 * M, 1 * M + 75 * S - 1},
	{"5 minutes and a little", {5 * M + 1, true, false, 0}, 30 * S, 75 * S},
	{"in the last 5 minutes", {5 * M, true, false, 0}, 30 * S, 30 * S},
	{"just over the last minute", {1 * M + 1, true, false, 0}, 30 * S, 30 * S},
	{"in the last minute", {1 * M, true, false, 0}, 5 * S, 5 * S},
	{"nearly over", {1, true, false, 0}, 5 * S, 5 * S},
	{"without an end", {0, true, true, 0}, -1, -1},
	/* it failed while what we have is good */
	{"1st failure", {1 * H, true, false, 1}, 500001, 1 * S},
	{"2nd", {1 * H, true, false, 2}, 1 * S + 1, 2 * S},
	{"3rd", {1 * H, true, false, 3}, 2 * S + 1, 4 * S},
	{"6th", {1 * H, true, false, 6}, 16 * S + 1, 32 * S},
	{"7th", {1 * H, true, false, 7}, 30 * S + 1, 60 * S},
	{"8th", {1 * H, true, false, 8}, 30 * S + 1, 60 * S},
	{"very many", {1 * H, true, false, 0xffffffff}, 30 * S + 1, 60 * S},
	{"keys without an end", {0, true, true, 1}, 500001, 1 * S},
	{"the last moment", {1, true, false, 9}, 30 * S + 1, 60 * S},
	/* it failed and there are none */
	{"none, 1st failure", {0, false, false, 1}, 500001, 1 * S},
	{"none, many", {0, false, false, 100}, 30 * S + 1, 60 * S},
	/* what we have has expired */
	{"expired now", {0, true, false, 1}, 300 * S, 600 * S - 1},
	{"expired long ago", {-9 * H, true, false, 50}, 300 * S, 600 * S - 1},
	{"the source gave expired ones", {-1, true, false, 0}, 300 * S, 600 * S - 1},
};

START_TEST(test_delay)
{
	usec_t least = INT64_MAX, most = INT64_MIN,
	       slack = (rows[_i].to - rows[_i].from) / 1000;
	uint64_t random = 88172645463325252;

	for (int i = 0; i < 200000; i++) {
		usec_t delay = refresh_delay(&rows[_i].refresh, random);

		least = MIN(least, delay);
		most = MAX(most, delay);
		random ^= random << 13; /* xorshift */
		random ^= random >> 7;
		random ^= random << 17;
	}
	ck_assert_msg(least >= rows[_i].from && most <= rows[_i].to, "%s: %lld to %lld us",
		      rows[_i].what, (long long)least, (long long)most);
	/* It comes near both ends: no part of the range is unused. */
	ck_assert_msg(least <= rows[_i].from + slack && most >= rows[_i].to - slack,
		      "%s: only %lld to %lld us", rows[_i].what, (long long)least,
		      (long long)most);
}
END_TEST

/* However far off the next credentials are, we are there before the last minute. */
START_TEST(test_before_the_end)
{
	for (usec_t left = 2 * M; left < 12 * H; left += 997 * USEC_PER_MSEC) {
		const struct refresh refresh = {left, true, false, 0};

		ck_assert_int_le(refresh_delay(&refresh, 0xffffffffffffffff), left - 1 * M);
		ck_assert_int_ge(refresh_delay(&refresh, 0), 30 * S);
	}
}
END_TEST

START_TEST(test_early)
{
	ck_assert(!refresh_early(0));
	ck_assert(!refresh_early(30 * S - 1));
	ck_assert(refresh_early(30 * S));
	ck_assert(refresh_early(5 * H));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("refresh");
	TCase *tcase = tcase_create("refresh");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, test_delay, 0, ELEMENTSOF(rows));
	tcase_add_test(tcase, test_before_the_end);
	tcase_add_test(tcase, test_early);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
