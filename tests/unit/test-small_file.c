/* SPDX-License-Identifier: Apache-2.0 */
#include "small_file.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MOST 100

static char folder[] = "/tmp/test-small_file-XXXXXX";
static char path[64];

static void setup(void)
{
	memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/file", folder);
}

static void teardown(void)
{
	unlink(path);
	rmdir(path);
	rmdir(folder);
}

static void write_file(size_t n)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	for (size_t i = 0; i < n; i++)
		fputc('a' + (int)(i % 26), f);
	fclose(f);
}

static const size_t fitting[] = {0, 1, MOST - 1, MOST};

START_TEST(a_file_is_read_whole)
{
	_cleanup_(buf_done) struct buf b = BUF_INIT(MOST);
	struct error error = {0};
	struct stat st;

	write_file(fitting[_i]);
	ck_assert_int_eq(small_file_read(path, &b, &st, &error), 0);
	ck_assert_uint_eq(b.n, fitting[_i]);
	ck_assert_uint_eq((size_t)st.st_size, fitting[_i]);
	for (size_t i = 0; i < b.n; i++)
		ck_assert_int_eq(b.p[i], 'a' + (int)(i % 26));
}
END_TEST

static void make_nothing(void)
{
}

static void make_fifo(void)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0); /* nobody will write to it */
}

static void make_folder(void)
{
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void make_large(void)
{
	write_file(MOST + 1);
}

static void make_endless(void)
{
	ck_assert_int_eq(symlink("/dev/zero", path), 0);
}

static const struct {
	void (*make)(void);
	int e;
} refused[] = {
	{make_nothing, -ENOENT}, {make_fifo, -EINVAL},    {make_folder, -EINVAL},
	{make_large, -EMSGSIZE}, {make_endless, -EINVAL},
};

START_TEST(what_is_of_no_use_is_an_error_that_names_it)
{
	_cleanup_(buf_done) struct buf b = BUF_INIT(MOST);
	struct error error = {0};
	struct stat st;

	refused[_i].make();
	ck_assert_int_eq(small_file_read(path, &b, &st, &error), refused[_i].e);
	ck_assert_msg(strstr(error.text, path) != NULL, "%s", error.text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("small_file");
	TCase *tcase = tcase_create("small_file");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, a_file_is_read_whole, 0, ELEMENTSOF(fitting));
	tcase_add_loop_test(tcase, what_is_of_no_use_is_an_error_that_names_it, 0,
			    ELEMENTSOF(refused));
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
