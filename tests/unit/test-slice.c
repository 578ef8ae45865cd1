/* SPDX-License-Identifier: Apache-2.0 */
#include "slice.h"

#include "page_end.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

START_TEST(equality)
{
	static const struct {
		struct slice a, b;
		bool eq, nocase;
	} rows[] = {
		{SLICE(""), SLICE(""), true, true},
		{{NULL, 0}, SLICE(""), true, true},
		{{NULL, 0}, {NULL, 0}, true, true},
		{SLICE("a"), SLICE("a"), true, true},
		{SLICE("a"), SLICE("A"), false, true},
		{SLICE("Content-Length"), SLICE("cONTENT-lENGTH"), false, true},
		{SLICE("az"), SLICE("AZ"), false, true},
		{SLICE("a"), SLICE("b"), false, false},
		{SLICE("a"), SLICE("aa"), false, false},
		{SLICE("a"), SLICE(""), false, false},
		{SLICE("@"), SLICE("`"), false, false}, /* the neighbours of the letters */
		{SLICE("["), SLICE("{"), false, false},
		{SLICE("a\0b"), SLICE("a\0c"), false, false}, /* a NUL ends nothing */
		{SLICE("a\0b"), SLICE("A\0B"), false, true},
		{SLICE("\xc4"), SLICE("\xe4"), false, false}, /* letters of Latin-1 */
		/* no byte counts for its neighbours */
		{SLICE("\xff@\xff@\xff@\xff@"), SLICE("\xff`\xff`\xff`\xff`"), false, false},
		{SLICE("@\xff@\xff@\xff@\xff"), SLICE("`\xff`\xff`\xff`\xff"), false, false},
		{SLICE("\xffZ\xffZ\xffZ\xffZ"), SLICE("\xffz\xffz\xffz\xffz"), false, true},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		ck_assert_msg(slice_eq(rows[i].a, rows[i].b) == rows[i].eq, "row %zu", i);
		ck_assert_msg(slice_eq_nocase(rows[i].a, rows[i].b) == rows[i].nocase,
			      "row %zu", i);
	}
	ck_assert(slice_eq_str(SLICE("ab"), "ab"));
	ck_assert(!slice_eq_str(SLICE("a\0"), "a"));
	ck_assert_uint_eq(slice_from(NULL).n, 0);
}
END_TEST

static int lower(int c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* It is compared by eights, the last of which may overlap the one before. */
START_TEST(every_two_bytes_at_every_place)
{
	char other[24];

	for (size_t n = 1; n <= sizeof(other); n++)
		for (size_t at = 0; at < n; at++)
			for (int c = 0; c < 256; c++) {
				struct slice a = page_end_text(n, at, (char)c);

				memset(other, 'A', n);
				for (int d = 0; d < 256; d++) {
					bool want = lower(c) == lower(d);

					other[at] = (char)d;
					if (slice_eq_nocase(a, (struct slice){other, n}) !=
						    want ||
					    slice_eq_nocase((struct slice){other, n}, a) !=
						    want)
						ck_abort_msg("bytes %d and %d at %zu of %zu", c,
							     d, at, n);
				}
			}
}
END_TEST

START_TEST(prefixes)
{
	ck_assert(slice_starts(SLICE("abc"), SLICE("")));
	ck_assert(slice_starts(SLICE("abc"), SLICE("ab")));
	ck_assert(slice_starts(SLICE("abc"), SLICE("abc")));
	ck_assert(slice_starts((struct slice){NULL, 0}, (struct slice){NULL, 0}));
	ck_assert(!slice_starts(SLICE("abc"), SLICE("b")));
	ck_assert(!slice_starts(SLICE("ab"), SLICE("abc")));
	ck_assert(!slice_starts(SLICE("abc"), SLICE("AB")));
}
END_TEST

START_TEST(numbers_accepted)
{
	static const struct {
		struct slice text;
		unsigned long long max, value;
	} rows[] = {
		{SLICE("0"), 0, 0},
		{SLICE("0"), 10, 0},
		{SLICE("7"), 7, 7},
		{SLICE("10"), 10, 10},
		{SLICE("65535"), 65535, 65535},
		{SLICE("1048576"), 1048576, 1048576},
		{SLICE("18446744073709551614"), UINT64_MAX, UINT64_MAX - 1},
		{SLICE("18446744073709551615"), UINT64_MAX, UINT64_MAX},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		unsigned long long v = 99;

		ck_assert_msg(slice_to_u64(rows[i].text, rows[i].max, &v), "row %zu", i);
		ck_assert_uint_eq(v, rows[i].value);
	}
}
END_TEST

START_TEST(numbers_refused)
{
	static const struct {
		struct slice text;
		unsigned long long max;
	} rows[] = {
		{{NULL, 0}, 9},
		{SLICE(""), 9},
		{SLICE("00"), 9},
		{SLICE("01"), 9},
		{SLICE("+1"), 9},
		{SLICE("-0"), 9},
		{SLICE(" 1"), 9},
		{SLICE("1 "), 9},
		{SLICE("1\0"), 9},
		{SLICE("0x1"), 99},
		{SLICE("a"), 9},
		{SLICE("/"), 99},
		{SLICE(":"), 99},
		{SLICE("1,1"), 99},
		{SLICE("\xb2"), 99},
		{SLICE("1"), 0},
		{SLICE("9"), 5},
		{SLICE("10"), 9},
		{SLICE("91"), 9},
		{SLICE("65536"), 65535},
		{SLICE("1048577"), 1048576},
		{SLICE("18446744073709551616"), UINT64_MAX},
		{SLICE("18446744073709551625"), UINT64_MAX},
		{SLICE("184467440737095516150"), UINT64_MAX},
		{SLICE("99999999999999999999999999999999999999"), UINT64_MAX},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		unsigned long long v = 99;

		ck_assert_msg(!slice_to_u64(rows[i].text, rows[i].max, &v), "row %zu", i);
		ck_assert_uint_eq(v, 99);
	}
}
END_TEST

START_TEST(numbers_around_every_maximum)
{
	for (unsigned long long max = 0; max < 1100; max++)
		for (unsigned long long n = 0; n < 1200; n++) {
			unsigned long long v = 4711;
			char text[8];

			snprintf(text, sizeof(text), "%llu", n);
			if (slice_to_u64(slice_from(text), max, &v) != (n <= max) ||
			    v != (n <= max ? n : 4711))
				ck_abort_msg("%llu with a maximum of %llu", n, max);
		}
}
END_TEST

START_TEST(numbers_written)
{
	static const struct {
		unsigned long long value;
		const char *text;
	} rows[] = {
		{0, "0"},
		{9, "9"},
		{10, "10"},
		{1048576, "1048576"},
		{UINT64_MAX, "18446744073709551615"},
	};
	char room[SLICE_NUMBER_SIZE];

	for (size_t i = 0; i < ELEMENTSOF(rows); i++)
		ck_assert(slice_eq_str(slice_from_number(rows[i].value, room), rows[i].text));
}
END_TEST

START_TEST(escapes)
{
	static const struct {
		struct slice in;
		const char *out; /* in 16 bytes */
	} rows[] = {
		{{NULL, 0}, ""},
		{SLICE("plain ~text"), "plain ~text"},
		{SLICE("a\nb"), "a\\x0ab"},
		{SLICE("a\0b"), "a\\x00b"},
		{SLICE("a\\b"), "a\\x5cb"},
		{SLICE("\x1b[0m"), "\\x1b[0m"},
		{SLICE("\x7f\x80\xff"), "\\x7f\\x80\\xff"},
		{SLICE("123456789012345"), "123456789012345"}, /* fits to the byte */
		{SLICE("1234567890123456"), "123456789012..."},
		{SLICE("12345678901\n"), "12345678901\\x0a"},
		{SLICE("123456789012\n"), "123456789012..."},
		{SLICE("1234567890\n!"), "1234567890\\x0a!"},
		{SLICE("1234567890\n!!"), "1234567890..."}, /* an escape is never halved */
		{SLICE("\1\2\3\4"), "\\x01\\x02\\x03..."},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		char *out = malloc(16); /* on the heap, so that a sanitizer sees an overrun */

		ck_assert_ptr_nonnull(out);
		ck_assert_ptr_eq(slice_escape(rows[i].in, out, 16), out);
		ck_assert_msg(strcmp(out, rows[i].out) == 0, "row %zu: %s", i, out);
		free(out);
	}
}
END_TEST

START_TEST(escapes_at_every_size)
{
	static const struct slice in = SLICE("ab\ncd\\ef\x80gh\0ij");
	char whole[64];

	slice_escape(in, whole, sizeof(whole));
	for (size_t size = 8; size < sizeof(whole); size++) {
		char *out = malloc(size);
		size_t n;

		ck_assert_ptr_nonnull(out);
		n = strlen(slice_escape(in, out, size));
		ck_assert_uint_lt(n, size);
		if (size > strlen(whole)) {
			ck_assert_str_eq(out, whole);
		} else {
			ck_assert_str_eq(out + n - 3, "...");
			ck_assert_mem_eq(out, whole, n - 3);
		}
		free(out);
	}
}
END_TEST

/* Text that can stay as it is is told by blocks. */
START_TEST(escapes_of_every_byte_at_every_place)
{
	for (size_t n = 1; n <= 100; n++)
		for (size_t at = 0; at < n; at++)
			for (int c = 0; c < 256; c++) {
				bool plain = c >= 0x20 && c < 0x7f && c != '\\';
				char got[200], want[200], one[8];

				snprintf(one, sizeof(one), plain ? "%c" : "\\x%02x", c);
				memset(want, 'a', sizeof(want));
				memcpy(want + at, one, strlen(one));
				want[n - 1 + strlen(one)] = '\0';
				slice_escape(page_end_text(n, at, (char)c), got, sizeof(got));
				if (strcmp(got, want) != 0)
					ck_abort_msg("byte %d at %zu of %zu: %s", c, at, n,
						     got);
			}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("slice");
	TCase *tc = tcase_create("slice");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_add_test(tc, equality);
	tcase_add_test(tc, every_two_bytes_at_every_place);
	tcase_add_test(tc, prefixes);
	tcase_add_test(tc, numbers_accepted);
	tcase_add_test(tc, numbers_refused);
	tcase_add_test(tc, numbers_around_every_maximum);
	tcase_add_test(tc, numbers_written);
	tcase_add_test(tc, escapes);
	tcase_add_test(tc, escapes_at_every_size);
	tcase_add_test(tc, escapes_of_every_byte_at_every_place);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
