/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"

#include "limit.h"

#include <check.h>
#include <string.h>
#include <sys/resource.h>

static struct findings findings;

static struct config *parse(const char *enclaves)
{
	struct config *config = NULL;
	char text[2048];
	int n;

	n = snprintf(text, sizeof(text),
		     "listen: [{vsock: 8000}]\n"
		     "endpoints: {kms: {region: eu-central-1, connections: 100}}\n"
		     "workers: 2\n"
		     "enclaves: {%s}\n",
		     enclaves);
	ck_assert_int_lt(n, (int)sizeof(text));
	ck_assert_int_eq(config_parse(text, (size_t)n, "a.yaml", &config, &findings), 0);
	ck_assert_uint_eq(findings.n, 0);
	return config;
}

#define RULES "endpoints: [kms], allow: [{name: a, actions: [DescribeKey], keys: any}]"

static const struct {
	const char *enclaves;
	uint64_t needed;
} rows[] = {
	{"a: {cid: 4, limits: {connections: 1}, " RULES "}", 64 + 1 + 8 + 256 + 200 + 1},
	{"a: {cid: 4, " RULES "}", 64 + 1 + 8 + 256 + 200 + 1024},
	{"a: {cid: 4, " RULES "}, b: {cid: 5, limits: {connections: 7}, " RULES "}",
	 64 + 1 + 8 + 256 + 200 + 1024 + 7},
	{"a: {cid: 4, tunnel: {hosts: [\"a.test:443\"], connections: 9}, " RULES "}",
	 64 + 1 + 8 + 256 + 200 + 1024 + 9},
};

START_TEST(what_it_may_need)
{
	struct config *config = parse(rows[_i].enclaves);

	ck_assert_uint_eq(descriptors_needed(config), rows[_i].needed);
	config_unref(config);
}
END_TEST

/* At the limit there is nothing to say. */
START_TEST(more_than_there_may_be_is_said)
{
	struct config *config = parse(rows[1].enclaves);
	rlim_t needed = descriptors_needed(config);
	struct rlimit limit = {needed - 1, needed};

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	descriptors_check(config, &findings);
	ck_assert_uint_eq(findings.n, 0);
	limit.rlim_max--;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	descriptors_check(config, &findings);
	ck_assert_uint_eq(findings.n, 1);
	ck_assert(findings.list[0].warning);
	ck_assert_ptr_nonnull(strstr(findings.list[0].text, "may need 1553 descriptors"));
	ck_assert_ptr_nonnull(strstr(findings.list[0].text, "may have 1552;"));
	findings_done(&findings);
	config_unref(config);
}
END_TEST

START_TEST(the_start_takes_all_there_are)
{
	struct rlimit limit = {100, 200};

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	descriptors_raise();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_eq(limit.rlim_cur, 200);
	ck_assert_uint_eq(limit.rlim_max, 200);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("descriptors");
	TCase *tcase = tcase_create("descriptors");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, what_it_may_need, 0, ELEMENTSOF(rows));
	tcase_add_test(tcase, more_than_there_may_be_is_said);
	tcase_add_test(tcase, the_start_takes_all_there_are);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
