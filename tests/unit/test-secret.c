/* SPDX-License-Identifier: Apache-2.0 */
#include "secret.h"

#include "canary.h"

#include <check.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* The sanitizer's allocator shall fail as malloc does, not end the process. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* What secret_init() did would keep the leak sanitizer from looking at the process. */
static void teardown(void)
{
	ck_assert_int_eq(seteuid(getuid()), 0);
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
}

static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmLck: %ld kB", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

START_TEST(test_init)
{
	long before = locked_kib();
	char *p;

	ck_assert_int_eq(secret_init(), 0);
	ck_assert_int_eq(prctl(PR_GET_DUMPABLE), 0);
	ck_assert_int_ge(locked_kib() - before, SECRET_HEAP_SIZE / 1024);

	p = secret_dup(SLICE("text"));
	ck_assert(CRYPTO_secure_allocated(p));
	ck_assert_str_eq(p, "text");
	ck_assert_ptr_null(secret_free(p));
}
END_TEST

START_TEST(test_init_unlockable)
{
	const struct rlimit none = {0, 0};

	ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	if (geteuid() == 0) /* root may lock whatever the limit is */
		ck_assert_int_eq(seteuid(65534), 0);
	ck_assert_int_lt(secret_init(), 0);
}
END_TEST

START_TEST(test_alloc_is_zeroed_and_wiped)
{
	unsigned char *p, *again;

	ck_assert_int_eq(secret_init(), 0);
	p = secret_alloc(1000);
	ck_assert_ptr_nonnull(p);
	for (size_t i = 0; i < 1000; i++)
		ck_assert_uint_eq(p[i], 0);
	memset(p, 0xa5, 1000);
	ck_assert_ptr_null(secret_free(p));
	/* The heap stays mapped, so what was freed can be looked at. Its first bytes are links.
	 */
	for (size_t i = 64; i < 1000; i++)
		ck_assert_uint_eq(p[i], 0);
	again = secret_alloc(1000);
	ck_assert_uint_eq(again[0] | again[999], 0);
	secret_free(again);
}
END_TEST

START_TEST(test_full)
{
	static char *blocks[SECRET_HEAP_SIZE / 1024 + 1];
	size_t n = 0;

	ck_assert_int_eq(secret_init(), 0);
	while (n < ELEMENTSOF(blocks) && (blocks[n] = secret_alloc(1024)))
		n++;
	ck_assert_uint_gt(n, SECRET_HEAP_SIZE / 1024 / 2);
	ck_assert_uint_lt(n, ELEMENTSOF(blocks));
	ck_assert_ptr_null(secret_alloc(1024));
	secret_free(blocks[--n]);
	blocks[n] = secret_alloc(1024);
	ck_assert_ptr_nonnull(blocks[n]);
	while (n > 0)
		secret_free(blocks[--n]);
}
END_TEST

START_TEST(test_without_heap)
{
	char canary[CANARY_SIZE + 1];
	char *p;

	canary_write(canary);
	p = secret_dup(slice_from(canary));
	ck_assert_str_eq(p, canary);
	secret_free(p);
	p = secret_dup((struct slice){NULL, 0});
	ck_assert_str_eq(p, "");
	secret_free(p);
	ck_assert_ptr_null(secret_free(NULL));
	explicit_bzero(canary, sizeof(canary));
	canary_assert_gone();
}
END_TEST

/* The other tests stand on this one. */
START_TEST(test_canary_is_found)
{
	char *p = malloc(CANARY_SIZE + 1);

	ck_assert_uint_eq(canary_count(), 0);
	canary_write(p);
	ck_assert_uint_eq(canary_count(), 1);
	explicit_bzero(p, CANARY_SIZE);
	ck_assert_uint_eq(canary_count(), 0);
	free(p);
}
END_TEST

START_TEST(test_wipe_free)
{
	char *p = wipe_malloc(5000), *copy;

	canary_write(p + 64);
	copy = wipe_strdup(p + 64);
	ck_assert_uint_eq(canary_count(), 2);
	wipe_free(p);
	wipe_free(copy);
	wipe_free(NULL);
	canary_assert_gone();
	p = wipe_calloc(10, 100);
	for (size_t i = 0; i < 1000; i++)
		ck_assert_int_eq(p[i], 0);
	wipe_free(p);
	ck_assert_ptr_null(wipe_calloc(SIZE_MAX / 2, 4));
}
END_TEST

/* Grown and shrunk with neighbours in the way, so that it moves: never more than one copy. */
START_TEST(test_wipe_realloc)
{
	static const size_t sizes[] = {100, 101,   200,    4096, 100,
				       60,  70000, 300000, 64,   1 << 20};
	char *p = wipe_realloc(NULL, 64), *neighbours[ELEMENTSOF(sizes)];

	canary_write(p);
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		neighbours[i] = wipe_malloc(64);
		p = wipe_realloc(p, sizes[i]);
		ck_assert_ptr_nonnull(p);
		memset(p + CANARY_SIZE, 'x', sizes[i] - CANARY_SIZE);
		ck_assert_uint_eq(canary_count(), 1);
	}
	ck_assert_ptr_null(wipe_realloc(p, SIZE_MAX / 2));
	ck_assert_uint_eq(canary_count(), 1);
	wipe_free(p);
	canary_assert_gone();
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
		wipe_free(neighbours[i]);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("secret");
	TCase *tcase = tcase_create("secret");
	SRunner *runner = srunner_create(suite);
	int failed;

	(void)argc;
	canary_main(argv);
	tcase_set_timeout(tcase, 60); /* the sanitizers make much memory to look through */
	tcase_add_checked_fixture(tcase, NULL, teardown);
	tcase_add_test(tcase, test_init);
	tcase_add_test(tcase, test_init_unlockable);
	tcase_add_test(tcase, test_alloc_is_zeroed_and_wiped);
	tcase_add_test(tcase, test_full);
	tcase_add_test(tcase, test_canary_is_found);
	tcase_add_test(tcase, test_without_heap);
	tcase_add_test(tcase, test_wipe_free);
	tcase_add_test(tcase, test_wipe_realloc);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
