/* SPDX-License-Identifier: Apache-2.0 */

/* Reading a configuration while memory runs out, at every allocation in turn, those of libyaml
 * included: the daemon reloads while it serves, so it must get through. Nothing may leak
 * either.
 *
 * The allocator of the whole program is replaced, as glibc allows; the sanitizers do that
 * themselves, so this test is not built with them. */

#include "config.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static struct {
	unsigned left; /* calls until the one that fails; 0: none does */
	bool failed;
	bool failed_libyaml; /* it was libyaml's */
	long live;           /* allocations that were not freed */
} memory;

static bool fails(void *caller)
{
	Dl_info info;

	if (memory.left == 0 || --memory.left > 0)
		return false;
	memory.failed = true;
	memory.failed_libyaml = dladdr(caller, &info) && strstr(info.dli_fname, "libyaml");
	errno = ENOMEM;
	return true;
}

static void *count(void *p)
{
	memory.live += p != NULL;
	return p;
}

void *malloc(size_t n)
{
	return fails(__builtin_return_address(0)) ? NULL : count(__libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : count(__libc_calloc(n, size));
}

void *realloc(void *p, size_t n)
{
	if (fails(__builtin_return_address(0)))
		return NULL;
	return p ? __libc_realloc(p, n) : count(__libc_realloc(p, n));
}

/* The caller's product doesn't overflow here. */
void *reallocarray(void *p, size_t n, size_t size)
{
	return realloc(p, n * size);
}

void free(void *p)
{
	memory.live -= p != NULL;
	__libc_free(p);
}

static const char *const files[] = {
	"good/full.yaml",        "good/context-unicode.yaml", "good/warn-credentials.yaml",
	"bad/many-at-once.yaml", "bad/yaml-syntax.yaml",
};

static char text[16384];

static size_t read_file(const char *name)
{
	char path[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/config/%s", getenv("TEST_DATA"), name);
	f = fopen(path, "rbe");
	ck_assert_msg(f != NULL, "%s", path);
	n = fread(text, 1, sizeof(text), f);
	ck_assert(n > 0 && n < sizeof(text));
	fclose(f);
	return n;
}

/* Parses while the `nth` allocation fails; 0: none does. */
static int parse(size_t n, unsigned nth)
{
	struct findings findings = {0};
	struct config *config = NULL;
	long before = memory.live;
	int r;

	memory.failed = false;
	memory.left = nth;
	r = config_parse(text, n, "test.yaml", &config, &findings);
	memory.left = 0;
	ck_assert_int_eq(config != NULL, r == 0);
	ck_assert(r != -EINVAL || findings.n_errors > 0);
	config_unref(config);
	findings_done(&findings);
	/* libyaml 0.2.5 leaks a string itself that it can't extend. */
	ck_assert_msg(memory.live == before || (memory.failed && memory.failed_libyaml),
		      "allocation %u: %ld leaked", nth, memory.live - before);
	return r;
}

START_TEST(every_allocation_fails)
{
	size_t n = read_file(files[_i]);
	int expected = parse(n, 0), r;
	unsigned nth = 0;

	do {
		r = parse(n, ++nth);
		ck_assert_msg(r == expected || (memory.failed && r == -ENOMEM),
			      "allocation %u: %d", nth, r);
	} while (memory.failed);
	ck_assert_uint_gt(nth, 50);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("memory");
	Suite *suite = suite_create("config_memory");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, every_allocation_fails, 0, ELEMENTSOF(files));
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
