/* SPDX-License-Identifier: Apache-2.0 */
#include "buf.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>

START_TEST(appends_up_to_the_maximum)
{
	struct buf b = BUF_INIT(5);

	ck_assert_int_eq(buf_append(&b, SLICE("abcd")), 0);
	ck_assert_int_eq(buf_append(&b, SLICE("ef")), -EMSGSIZE);
	ck_assert(slice_eq(buf_slice(&b), SLICE("abcd"))); /* unchanged by the failure */
	ck_assert_int_eq(buf_append(&b, SLICE("e")), 0);
	ck_assert_int_eq(buf_append(&b, SLICE("")), 0);
	ck_assert_int_eq(buf_append(&b, SLICE("f")), -EMSGSIZE);
	ck_assert(slice_eq(buf_slice(&b), SLICE("abcde")));
	ck_assert_uint_le(b.cap, b.max);
	buf_done(&b);
}
END_TEST

START_TEST(an_empty_buffer_takes_nothing)
{
	struct buf b = BUF_INIT(0);

	ck_assert_int_eq(buf_append(&b, (struct slice){NULL, 0}), 0);
	ck_assert_int_eq(buf_append(&b, SLICE("a")), -EMSGSIZE);
	ck_assert_ptr_null(b.p);
	buf_done(&b);
}
END_TEST

START_TEST(grows_by_doubling_and_keeps_its_bytes)
{
	struct buf b = BUF_INIT(100000);
	size_t caps = 0, last = 0;

	for (unsigned i = 0; i < 100000; i++) {
		char c = (char)(i % 251);

		ck_assert_int_eq(buf_append(&b, (struct slice){&c, 1}), 0);
		caps += b.cap != last;
		last = b.cap;
	}
	ck_assert_uint_le(caps, 9); /* 512, 1024, ... 65536, 100000 */
	ck_assert_uint_eq(b.n, 100000);
	for (unsigned i = 0; i < 100000; i++)
		ck_assert_int_eq(b.p[i], (char)(i % 251));
	buf_done(&b);
}
END_TEST

START_TEST(reserves)
{
	struct buf b = BUF_INIT(1000);

	ck_assert_int_eq(buf_reserve(&b, 1001), -EMSGSIZE);
	ck_assert_int_eq(buf_reserve(&b, SIZE_MAX), -EMSGSIZE);
	ck_assert_int_eq(buf_reserve(&b, 1000), 0);
	ck_assert_uint_eq(b.cap, 1000);
	ck_assert_int_eq(buf_append(&b, SLICE("a")), 0);
	ck_assert_int_eq(buf_reserve(&b, 1000), -EMSGSIZE);
	ck_assert_int_eq(buf_reserve(&b, SIZE_MAX), -EMSGSIZE); /* n + more would wrap */
	ck_assert_int_eq(buf_reserve(&b, 999), 0);
	buf_done(&b);
}
END_TEST

START_TEST(reserves_exactly)
{
	struct buf b = BUF_INIT(1000);

	ck_assert_int_eq(buf_reserve_exact(&b, 0), 0);
	ck_assert_int_eq(buf_reserve_exact(&b, 7), 0);
	ck_assert_uint_eq(b.cap, 7);
	ck_assert_int_eq(buf_append(&b, SLICE("1234567")), 0);
	ck_assert_uint_eq(b.cap, 7);
	ck_assert_int_eq(buf_reserve_exact(&b, 3), 0); /* never shrinks */
	ck_assert_uint_eq(b.cap, 7);
	ck_assert_int_eq(buf_reserve_exact(&b, 1000), 0);
	ck_assert_uint_eq(b.cap, 1000);
	ck_assert_int_eq(buf_reserve_exact(&b, 1001), -EMSGSIZE);
	ck_assert(slice_eq(buf_slice(&b), SLICE("1234567")));
	buf_done(&b);
}
END_TEST

START_TEST(appends_all_or_none)
{
	const struct slice parts[] = {SLICE("ab"), {NULL, 0}, SLICE("cde")};
	struct buf b = BUF_INIT(9);

	ck_assert_int_eq(buf_append_all(&b, parts, 0), 0);
	ck_assert_int_eq(buf_append_all(&b, parts + 1, 1), 0);
	ck_assert_ptr_null(b.p);
	ck_assert_int_eq(buf_append_all(&b, parts, ELEMENTSOF(parts)), 0);
	ck_assert(slice_eq(buf_slice(&b), SLICE("abcde")));
	ck_assert_int_eq(buf_append_all(&b, parts, ELEMENTSOF(parts)), -EMSGSIZE);
	ck_assert(slice_eq(buf_slice(&b), SLICE("abcde")));
	ck_assert_int_eq(buf_append_all(&b, parts, 2), 0);
	ck_assert(slice_eq(buf_slice(&b), SLICE("abcdeab")));
	buf_done(&b);
}
END_TEST

/* Where there is room, where there is none yet, and past the maximum: three ways. */
START_TEST(appends_at_every_room)
{
	static const struct slice text = SLICE("0123456789");

	for (size_t cap = 1; cap <= text.n; cap++)
		for (size_t max = cap; max <= text.n + 2; max++)
			for (size_t n = 0; n <= text.n; n++) {
				struct buf b = BUF_INIT(max);
				bool fits = n + 1 <= max;
				char *before;

				ck_assert_int_eq(buf_reserve_exact(&b, cap), 0);
				ck_assert_int_eq(buf_append(&b, SLICE("x")), 0);
				before = b.p;
				ck_assert_int_eq(buf_append(&b, (struct slice){text.p, n}),
						 fits ? 0 : -EMSGSIZE);
				ck_assert_uint_eq(b.n, fits ? 1 + n : 1);
				ck_assert_mem_eq(b.p + 1, text.p, b.n - 1);
				ck_assert(b.p == before || (fits && n + 1 > cap));
				buf_done(&b);
			}
}
END_TEST

START_TEST(prints)
{
	struct buf b = BUF_INIT(8);

	ck_assert_int_eq(buf_printf(&b, "%s", ""), 0);
	ck_assert_int_eq(buf_printf(&b, "%s%d", "ab", 12), 0);
	ck_assert(slice_eq(buf_slice(&b), SLICE("ab12")));
	ck_assert_int_eq(buf_printf(&b, "%s", "12345"), -EMSGSIZE);
	ck_assert(slice_eq(buf_slice(&b), SLICE("ab12")));
	ck_assert_int_eq(buf_printf(&b, "%s", "1234"),
			 0); /* to the byte: the NUL isn't counted */
	ck_assert(slice_eq(buf_slice(&b), SLICE("ab121234")));
	buf_done(&b);
}
END_TEST

START_TEST(consumes)
{
	struct buf b = BUF_INIT(100);

	buf_consume(&b, 0);
	ck_assert_int_eq(buf_append(&b, SLICE("abcdef")), 0);
	buf_consume(&b, 0);
	ck_assert(slice_eq(buf_slice(&b), SLICE("abcdef")));
	buf_consume(&b, 2);
	ck_assert(slice_eq(buf_slice(&b), SLICE("cdef")));
	buf_consume(&b, 4);
	ck_assert_uint_eq(b.n, 0);
	buf_done(&b);
}
END_TEST

START_TEST(consumes_no_more_than_it_holds)
{
	struct buf b = BUF_INIT(100);

	ck_assert_int_eq(buf_append(&b, SLICE("ab")), 0);
	buf_consume(&b, 3); /* asserted */
}
END_TEST

START_TEST(is_usable_after_done)
{
	struct buf b = BUF_INIT(3);

	ck_assert_int_eq(buf_append(&b, SLICE("abc")), 0);
	buf_done(&b);
	ck_assert_ptr_null(b.p);
	ck_assert_uint_eq(b.n, 0);
	ck_assert_uint_eq(b.cap, 0);
	buf_done(&b);
	ck_assert_int_eq(buf_append(&b, SLICE("abcd")), -EMSGSIZE);
	ck_assert_int_eq(buf_append(&b, SLICE("abc")), 0);
	buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buf");
	TCase *tc = tcase_create("buf");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_add_test(tc, appends_up_to_the_maximum);
	tcase_add_test(tc, an_empty_buffer_takes_nothing);
	tcase_add_test(tc, grows_by_doubling_and_keeps_its_bytes);
	tcase_add_test(tc, reserves);
	tcase_add_test(tc, reserves_exactly);
	tcase_add_test(tc, appends_all_or_none);
	tcase_add_test(tc, appends_at_every_room);
	tcase_add_test(tc, prints);
	tcase_add_test(tc, consumes);
	tcase_add_test_raise_signal(tc, consumes_no_more_than_it_holds, SIGABRT);
	tcase_add_test(tc, is_usable_after_done);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
