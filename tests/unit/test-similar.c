/* SPDX-License-Identifier: Apache-2.0 */
#include "similar.h"

#include "limit.h"

#include <check.h>
#include <stdio.h>

static const char *const names[] = {"listen",  "endpoints", "credentials", "limits", "enclaves",
				    "workers", "memory",    "audit",       "cid",    "port"};

static const struct {
	const char *wanted, *best; /* NULL: none is near */
} rows[] = {
	{"lisen", "listen"},   /* a letter left out */
	{"listten", "listen"}, /* one too many */
	{"listem", "listen"},  /* another one */
	{"lisetn", "listen"},  /* two swapped */
	{"prot", "port"},
	{"opert", NULL},
	{"LISTEN", "listen"},
	{"Workers", "workers"},
	{"endpoint", "endpoints"},
	{"endpoints", "endpoints"},
	{"enclave", "enclaves"},
	{"credential", "credentials"},
	{"limit", "limits"},
	{"id", NULL},
	{"sid", "cid"},
	{"di", NULL},
	{"cidr", "cid"},
	{"", NULL},
	{"x", NULL},
	{"xyz", NULL},
	{"audi", "audit"},
	{"adt", NULL},
	{"wrkers", "workers"},
	{"wrkrs", NULL},
};

static const char *find(struct slice wanted, char *out, size_t size)
{
	struct similar s;

	similar_init(&s, wanted);
	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		similar_offer(&s, names[i]);
	return similar_phrase(&s, out, size);
}

START_TEST(nearest)
{
	char out[128], expected[128] = "";

	if (rows[_i].best)
		snprintf(expected, sizeof(expected), "; did you mean \"%s\"?", rows[_i].best);
	ck_assert_str_eq(find(slice_from(rows[_i].wanted), out, sizeof(out)), expected);
}
END_TEST

/* Of two that are as near the first is taken. */
START_TEST(first_of_equals)
{
	struct similar s;

	similar_init(&s, SLICE("abcx"));
	similar_offer(&s, "abcd");
	similar_offer(&s, "abce");
	ck_assert_str_eq(s.best, "abcd");
	similar_offer(&s, "abcx");
	ck_assert_str_eq(s.best, "abcx");
}
END_TEST

/* Names above the limit are neither looked for nor offered. */
START_TEST(longest_names)
{
	char at[LIMIT_NAME + 1], above[LIMIT_NAME + 2];
	struct similar s;

	memset(at, 'a', sizeof(at));
	memset(above, 'a', sizeof(above));
	at[sizeof(at) - 1] = above[sizeof(above) - 1] = '\0';
	similar_init(&s, slice_from(at));
	similar_offer(&s, above);
	ck_assert_ptr_null(s.best);
	similar_offer(&s, at);
	ck_assert_ptr_eq(s.best, at);
	similar_init(&s, slice_from(above));
	similar_offer(&s, at);
	ck_assert_ptr_null(s.best);
}
END_TEST

static const struct {
	const char *wanted, *best;
} actions[] = {
	{"Decrypt", "Decrypt"},
	{"decrypt", "Decrypt"},
	{"Decypt", "Decrypt"},
	{"Decrpyt", "Decrypt"},
	{"Encrpt", "Encrypt"},
	{"Re-Encrypt", "ReEncrypt"},
	{"GenerateDatakey", "GenerateDataKey"},
	{"GenerateDataKeyWithoutPlain", "GenerateDataKeyWithoutPlaintext"},
	{"kms:Decrypt", "Decrypt"},
	{"TrentService.ListKey", "ListKeys"},
	{"Sgn", "Sign"},
	{"", NULL},
	{"kms:", NULL},
	{"*", NULL},
	{"all", NULL},
	{"kms:*", NULL},
	{"AssumeRole", NULL},
	{"PutObject", NULL},
	{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
	{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
};

START_TEST(nearest_action)
{
	struct similar s;

	similar_init_action(&s, slice_from(actions[_i].wanted));
	ck_assert_pstr_eq(s.best, actions[_i].best);
}
END_TEST

START_TEST(names_are_slices)
{
	char out[128];

	ck_assert_str_eq(find((struct slice){"listenXYZ", 6}, out, sizeof(out)),
			 "; did you mean \"listen\"?");
	ck_assert_str_eq(find(SLICE("li\0ten"), out, sizeof(out)),
			 "; did you mean \"listen\"?");
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("similar");
	Suite *suite = suite_create("similar");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, nearest, 0, ELEMENTSOF(rows));
	tcase_add_test(tcase, first_of_equals);
	tcase_add_test(tcase, longest_names);
	tcase_add_loop_test(tcase, nearest_action, 0, ELEMENTSOF(actions));
	tcase_add_test(tcase, names_are_slices);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
