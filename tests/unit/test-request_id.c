/* SPDX-License-Identifier: Apache-2.0 */
#include "request_id.h"

#include <check.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>

#define IDS 200 /* more than one filling of the source */

static unsigned failures; /* so many of the next calls of RAND_bytes() */

/* In place of OpenSSL's. */
int RAND_bytes(unsigned char *p, int n)
{
	if (failures > 0) {
		failures--;
		return 0;
	}
	return getrandom(p, (size_t)n, 0) == n;
}

static bool is_hex(char c)
{
	return c && strchr("0123456789abcdef", c);
}

START_TEST(is_a_random_uuid)
{
	struct request_id_source source = {.left = 0};
	char id[REQUEST_ID_SIZE + 1];

	for (size_t n = 0; n < IDS; n++) {
		memset(id, '!', sizeof(id));
		request_id_make(&source, id);
		ck_assert_int_eq(id[REQUEST_ID_SIZE], '!');
		ck_assert_uint_eq(strlen(id), REQUEST_ID_SIZE - 1);
		for (size_t i = 0; i < REQUEST_ID_SIZE - 1; i++)
			if (i == 8 || i == 13 || i == 18 || i == 23)
				ck_assert_int_eq(id[i], '-');
			else
				ck_assert_msg(is_hex(id[i]), "%s", id);
		ck_assert_int_eq(id[14], '4');
		ck_assert_msg(strchr("89ab", id[19]), "%s", id);
	}
}
END_TEST

START_TEST(never_comes_twice)
{
	struct request_id_source sources[2] = {{.left = 0}, {.left = 0}};
	static char ids[IDS][REQUEST_ID_SIZE];

	for (size_t i = 0; i < IDS; i++) {
		request_id_make(&sources[i % 2], ids[i]);
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(ids[i], ids[j]);
	}
}
END_TEST

/* Without random bytes an id is poor, but the next one asks for them again. */
START_TEST(one_failure_spoils_one_id)
{
	struct request_id_source source = {.left = 0};
	static char ids[IDS][REQUEST_ID_SIZE];

	failures = 1;
	for (size_t i = 0; i < IDS; i++) {
		request_id_make(&source, ids[i]);
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(ids[i], ids[j]);
	}
	ck_assert_uint_eq(failures, 0);
	ck_assert_str_eq(ids[0], "00000000-0000-4000-8000-000000000000");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("request_id");
	TCase *tcase = tcase_create("request_id");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, is_a_random_uuid);
	tcase_add_test(tcase, never_comes_twice);
	tcase_add_test(tcase, one_failure_spoils_one_id);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}
