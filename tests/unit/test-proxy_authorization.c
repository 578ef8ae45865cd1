/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy_authorization.h"

#include "canary.h"
#include "limit.h"
#include "secret.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/test-proxy_authorization-XXXXXX";
static char path[80];

static void setup(void)
{
	memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/file", folder);
}

static void teardown(void)
{
	unlink(path);
	rmdir(folder);
}

/* By no buffer, which would keep it. */
static void write_file(struct slice text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text.p, text.n), (ssize_t)text.n);
	close(fd);
}

static const struct {
	struct slice text;
	const char *value;
} good[] = {
	{SLICE("Aladdin:open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, /* RFC 7617 2 */
	{SLICE("Aladdin:open sesame\n"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
	{SLICE("Aladdin:open sesame\r\n"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
	{SLICE("test:123\xc2\xa3"), "Basic dGVzdDoxMjPCow=="}, /* RFC 7617 2.1 */
	{SLICE("a:"), "Basic YTo="},
	{SLICE("a:b:c"), "Basic YTpiOmM="},
	{SLICE(" a: b "), "Basic IGE6IGIg"},
	{SLICE("ab:c"), "Basic YWI6Yw=="},
	{SLICE("abc:d"), "Basic YWJjOmQ="},
	{SLICE("abc:de"), "Basic YWJjOmRl"},
};

START_TEST(is_the_value_of_its_field)
{
	_cleanup_(proxy_authorization_unrefp) struct proxy_authorization *a = NULL;
	_cleanup_(proxy_authorization_unrefp) struct proxy_authorization *read = NULL;
	struct error error = {0};

	ck_assert_int_eq(proxy_authorization_parse(good[_i].text, &a, &error), 0);
	ck_assert(slice_eq_str(proxy_authorization_value(a), good[_i].value));
	write_file(good[_i].text);
	ck_assert_int_eq(proxy_authorization_load(path, &read, &error), 0);
	ck_assert(slice_eq_str(proxy_authorization_value(read), good[_i].value));
}
END_TEST

static const struct {
	struct slice text;
	const char *why;
} bad[] = {
	{SLICE(""), "no colon"},
	{SLICE("\n"), "no colon"},
	{SLICE("secret"), "no colon"},
	{SLICE(":secret"), "no user"},
	{SLICE("user:secret\nmore"), "control character, or more than one line"},
	{SLICE("user:secret\n\n"), "more than one line"},
	{SLICE("user:secret\r"), "control character"},
	{SLICE("user:secret\n\r"), "control character"},
	{SLICE("\nuser:secret\n"), "more than one line"},
	{SLICE("user:sec\0ret"), "control character"},
	{SLICE("user:sec\tret"), "control character"},
	{SLICE("us\x7f:secret"), "control character"},
};

START_TEST(refuses_what_is_none)
{
	struct proxy_authorization *a = NULL;
	struct error error = {0};

	ck_assert_int_eq(proxy_authorization_parse(bad[_i].text, &a, &error), -EINVAL);
	ck_assert_ptr_null(a);
	ck_assert_msg(strstr(error.text, bad[_i].why), "%s", error.text);
	ck_assert_ptr_null(strstr(error.text, "sec"));
	write_file(bad[_i].text);
	ck_assert_int_eq(proxy_authorization_load(path, &a, &error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.text, path));
	ck_assert_ptr_null(strstr(error.text, "sec"));
}
END_TEST

START_TEST(has_a_limit)
{
	static char text[LIMIT_PROXY_CREDENTIALS + 1];
	struct proxy_authorization *a = NULL;
	struct error error = {0};

	memset(text, 'p', sizeof(text));
	text[1] = ':';
	write_file((struct slice){text, LIMIT_PROXY_CREDENTIALS});
	ck_assert_int_eq(proxy_authorization_load(path, &a, &error), 0);
	a = proxy_authorization_unref(a);
	write_file((struct slice){text, LIMIT_PROXY_CREDENTIALS + 1});
	ck_assert_int_eq(proxy_authorization_load(path, &a, &error), -EMSGSIZE);
}
END_TEST

START_TEST(stands_under_the_units_credentials)
{
	struct proxy_authorization *a = NULL;
	struct error error = {0};

	write_file(SLICE("a:b"));
	unsetenv("CREDENTIALS_DIRECTORY");
	ck_assert_int_eq(proxy_authorization_load("file", &a, &error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.text, "proxy_credentials_file file: "));
	ck_assert_ptr_nonnull(strstr(error.text, "$CREDENTIALS_DIRECTORY"));
	setenv("CREDENTIALS_DIRECTORY", folder, 1);
	ck_assert_int_eq(proxy_authorization_load("file", &a, &error), 0);
	proxy_authorization_unref(a);
	ck_assert_int_eq(proxy_authorization_load("other", &a, &error), -ENOENT);
}
END_TEST

/* As it was read and as it is sent. */
START_TEST(is_gone_with_the_last_reference)
{
	char canary[CANARY_SIZE + 1], text[CANARY_SIZE + 8];
	struct proxy_authorization *a = NULL;
	struct error error = {0};

	canary_write(canary);
	snprintf(text, sizeof(text), "user:%s", canary);
	explicit_bzero(canary, sizeof(canary));
	write_file(slice_from(text));
	explicit_bzero(text, sizeof(text));
	ck_assert_int_eq(proxy_authorization_load(path, &a, &error), 0);
	canary_assert_gone(); /* what is kept is encoded */
	ck_assert_ptr_eq(proxy_authorization_ref(a), a);
	ck_assert_ptr_null(proxy_authorization_unref(a));
	ck_assert_uint_gt(proxy_authorization_value(a).n, CANARY_SIZE);
	ck_assert_ptr_null(proxy_authorization_unref(a));
	ck_assert_ptr_null(proxy_authorization_unref(NULL));
	canary_assert_gone();
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("proxy_authorization");
	TCase *tcase = tcase_create("proxy_authorization");
	SRunner *runner;
	int failed;

	(void)argc;
	canary_main(argv);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, is_the_value_of_its_field, 0, ELEMENTSOF(good));
	tcase_add_loop_test(tcase, refuses_what_is_none, 0, ELEMENTSOF(bad));
	tcase_add_test(tcase, has_a_limit);
	tcase_add_test(tcase, stands_under_the_units_credentials);
	tcase_add_test(tcase, is_gone_with_the_last_reference);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
