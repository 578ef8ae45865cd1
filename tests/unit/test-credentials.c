/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials.h"

#include "canary.h"
#include "secret.h"

#include <check.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>

#define KEY "ASIAEXAMPLEEXAMPLE00"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

static char a[16500]; /* letters */

/* A literal, or `n` letters. */
#define LETTERS(count)                                                                         \
	{                                                                                      \
		a, (count)                                                                     \
	}
#define TEXT(lit)                                                                              \
	{                                                                                      \
		(lit), sizeof(lit) - 1                                                         \
	}

static const struct {
	const char *what;
	struct slice key, secret, token;
	int want;
} cases[] = {
	{"as IMDS gives them", TEXT(KEY), TEXT(SECRET), TEXT("IQoJb3JpZ2luX2VjE//////wEaCQ=="),
	 0},
	{"long-term", TEXT(KEY), TEXT(SECRET), TEXT(""), 0},
	{"all printable", TEXT("abcXYZ_0123456789"), TEXT("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
	 TEXT("!~"), 0},
	{"shortest key id", LETTERS(16), TEXT("x"), TEXT(""), 0},
	{"longest of all", LETTERS(128), LETTERS(256), LETTERS(16384), 0},
	{"key id too short", LETTERS(15), TEXT(SECRET), TEXT(""), -EINVAL},
	{"key id too long", LETTERS(129), TEXT(SECRET), TEXT(""), -EINVAL},
	{"no key id", TEXT(""), TEXT(SECRET), TEXT(""), -EINVAL},
	{"hyphen in key id", TEXT("ASIAEXAMPLE-XAMPLE00"), TEXT(SECRET), TEXT(""), -EINVAL},
	{"slash in key id", TEXT("ASIAEXAMPLE/XAMPLE00"), TEXT(SECRET), TEXT(""), -EINVAL},
	{"newline in key id", TEXT(KEY "\n"), TEXT(SECRET), TEXT(""), -EINVAL},
	{"NUL in key id", TEXT("ASIAEXAMPLE\0XAMPLE00"), TEXT(SECRET), TEXT(""), -EINVAL},
	{"UTF-8 in key id", TEXT("ASIAEXAMPLE\xc3\xa4XAMPLE"), TEXT(SECRET), TEXT(""), -EINVAL},
	{"no secret", TEXT(KEY), TEXT(""), TEXT(""), -EINVAL},
	{"secret too long", TEXT(KEY), LETTERS(257), TEXT(""), -EINVAL},
	{"space in secret", TEXT(KEY), TEXT("a b"), TEXT(""), -EINVAL},
	{"tab in secret", TEXT(KEY), TEXT("a\tb"), TEXT(""), -EINVAL},
	{"NUL in secret", TEXT(KEY), TEXT("a\0b"), TEXT(""), -EINVAL},
	{"DEL in secret", TEXT(KEY), TEXT("a\x7f"), TEXT(""), -EINVAL},
	{"high byte in secret", TEXT(KEY), TEXT("a\x80"), TEXT(""), -EINVAL},
	{"CR in token", TEXT(KEY), TEXT(SECRET), TEXT("a\r"), -EINVAL},
	{"LF in token", TEXT(KEY), TEXT(SECRET), TEXT("a\nHost: b"), -EINVAL},
	{"space in token", TEXT(KEY), TEXT(SECRET), TEXT(" a"), -EINVAL},
	{"high byte in token", TEXT(KEY), TEXT(SECRET), TEXT("\xff"), -EINVAL},
	{"token too long", TEXT(KEY), TEXT(SECRET), LETTERS(16385), -EINVAL},
};

static void assert_text(const char *got, struct slice want)
{
	ck_assert(slice_eq(slice_from(got), want));
}

START_TEST(test_new)
{
	_cleanup_(credentials_unrefp) struct credentials *c = NULL;
	int r = credentials_new(cases[_i].key, cases[_i].secret, cases[_i].token, 77, &c);

	ck_assert_msg(r == cases[_i].want, "%s: %d", cases[_i].what, r);
	if (r < 0) {
		ck_assert_ptr_null(c);
		return;
	}
	assert_text(c->access_key_id, cases[_i].key);
	assert_text(c->secret_access_key, cases[_i].secret);
	assert_text(c->session_token, cases[_i].token);
	ck_assert((c->session_token == NULL) == (cases[_i].token.n == 0));
	ck_assert_int_eq(c->expiration, 77);
	ck_assert_uint_eq(c->serial, 0); /* none until it is published */
}
END_TEST

static struct credentials *make(const char *secret, const char *token, usec_t expiration)
{
	struct credentials *c = NULL;

	ck_assert_int_eq(credentials_new(SLICE(KEY), slice_from(secret), slice_from(token),
					 expiration, &c),
			 0);
	return c;
}

/* Whatever its serial. */
START_TEST(test_equal)
{
	struct credentials *all[] = {make(SECRET, "t", 5),  make(SECRET, "t", 5),
				     make("other", "t", 5), make(SECRET, "u", 5),
				     make(SECRET, "", 5),   make(SECRET, "t", 6)};

	all[1]->serial = 7;
	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		for (size_t j = 0; j < ELEMENTSOF(all); j++) {
			ck_assert(credentials_equal(all[i], all[j]) ==
				  (i == j || (i < 2 && j < 2)));
		}
	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		credentials_unref(all[i]);
}
END_TEST

START_TEST(test_references)
{
	struct credentials *c = make(SECRET, "t", 0);

	ck_assert_ptr_eq(credentials_ref(c), c);
	ck_assert_ptr_null(credentials_unref(c));
	ck_assert_str_eq(c->secret_access_key, SECRET); /* still there */
	ck_assert_ptr_null(credentials_unref(c));
	ck_assert_ptr_null(credentials_unref(NULL));
	ck_assert_ptr_null(credentials_ref(NULL));
}
END_TEST

START_TEST(test_secure_heap)
{
	char canary[CANARY_SIZE + 1];
	struct credentials *c, *full = NULL;
	void *rest;

	ck_assert_int_eq(secret_init(), 0);
	canary_write(canary);
	c = make(canary, canary, 0);
	explicit_bzero(canary, sizeof(canary));
	ck_assert(CRYPTO_secure_allocated(c->access_key_id));
	ck_assert(CRYPTO_secure_allocated(c->secret_access_key));
	ck_assert(CRYPTO_secure_allocated(c->session_token));
	ck_assert_uint_eq(canary_count(), 2);
	credentials_unref(c);
	canary_assert_gone();

	/* A full heap refuses, and leaves no half-made value behind. */
	rest = secret_alloc(SECRET_HEAP_SIZE / 2);
	while (secret_alloc(32))
		;
	ck_assert_int_eq(credentials_new(SLICE(KEY), SLICE(SECRET), SLICE("t"), 0, &full),
			 -ENOMEM);
	ck_assert_ptr_null(full);
	secret_free(rest);
	c = make(SECRET, "t", 0);
	credentials_unref(c);
}
END_TEST

static void teardown(void)
{
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
}

int main(int argc, char **argv)
{
	Suite *suite = suite_create("credentials");
	TCase *tcase = tcase_create("credentials");
	SRunner *runner = srunner_create(suite);
	int failed;

	(void)argc;
	canary_main(argv);
	memset(a, 'a', sizeof(a));
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, NULL, teardown);
	tcase_add_loop_test(tcase, test_new, 0, ELEMENTSOF(cases));
	tcase_add_test(tcase, test_equal);
	tcase_add_test(tcase, test_references);
	tcase_add_test(tcase, test_secure_heap);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
