/* SPDX-License-Identifier: Apache-2.0 */

/* The encodings are those of RFC 8949, appendix A, and such as it refuses. Each text ends where
 * memory ends. */

#include "cbor.h"

#include "page_end.h"

#include <check.h>

static const struct {
	const char *text;
	size_t n;
	enum cbor_type type;
	uint64_t number;
	const char *bytes;
} good[] = {
#define TEXT(s) (s), sizeof(s) - 1
	{TEXT("\x00"), CBOR_UNSIGNED, 0, NULL},
	{TEXT("\x17"), CBOR_UNSIGNED, 23, NULL},
	{TEXT("\x18\x18"), CBOR_UNSIGNED, 24, NULL},
	{TEXT("\x18\xff"), CBOR_UNSIGNED, 255, NULL},
	{TEXT("\x19\x01\x00"), CBOR_UNSIGNED, 256, NULL},
	{TEXT("\x19\xff\xff"), CBOR_UNSIGNED, 65535, NULL},
	{TEXT("\x1a\x00\x01\x00\x00"), CBOR_UNSIGNED, 65536, NULL},
	{TEXT("\x1a\xff\xff\xff\xff"), CBOR_UNSIGNED, UINT32_MAX, NULL},
	{TEXT("\x1b\x00\x00\x00\x01\x00\x00\x00\x00"), CBOR_UNSIGNED, UINT64_C(1) << 32, NULL},
	{TEXT("\x1b\xff\xff\xff\xff\xff\xff\xff\xff"), CBOR_UNSIGNED, UINT64_MAX, NULL},
	{TEXT("\x20"), CBOR_NEGATIVE, 0, NULL},
	{TEXT("\x38\x22"), CBOR_NEGATIVE, 34, NULL}, /* -35 */
	{TEXT("\x40"), CBOR_BYTES, 0, ""},
	{TEXT("\x44\x01\x02\x03\x04"), CBOR_BYTES, 4, "\x01\x02\x03\x04"},
	{TEXT("\x60"), CBOR_TEXT, 0, ""},
	{TEXT("\x64IETF"), CBOR_TEXT, 4, "IETF"},
	{TEXT("\x58\x18"
	      "123456789012345678901234"),
	 CBOR_BYTES, 24, "123456789012345678901234"},
	{TEXT("\x80"), CBOR_ARRAY, 0, NULL},
	{TEXT("\x82\x00\x00"), CBOR_ARRAY, 2, NULL},
	{TEXT("\xa0"), CBOR_MAP, 0, NULL},
	{TEXT("\xa1\x00\x00"), CBOR_MAP, 1, NULL},
	{TEXT("\xd2"), CBOR_TAG, 18, NULL},
	{TEXT("\xf4"), CBOR_SIMPLE, CBOR_FALSE, NULL},
	{TEXT("\xf5"), CBOR_SIMPLE, CBOR_TRUE, NULL},
	{TEXT("\xf6"), CBOR_SIMPLE, CBOR_NULL, NULL},
};

static struct cbor begin(const char *text, size_t n)
{
	return cbor_begin((struct slice){page_end_copy((struct slice){text, n}), n});
}

START_TEST(an_item)
{
	struct cbor c = begin(good[_i].text, good[_i].n);
	struct cbor_item item = {0};
	enum cbor_type next;

	ck_assert(cbor_peek(&c, &next) && next == good[_i].type);
	ck_assert(cbor_read(&c, &item));
	ck_assert_int_eq(item.type, good[_i].type);
	ck_assert_uint_eq(item.number, good[_i].number);
	ck_assert(slice_eq_str(item.bytes, good[_i].bytes ?: ""));
	ck_assert_ptr_null(c.fault);
	if (item.type != CBOR_ARRAY && item.type != CBOR_MAP)
		ck_assert(cbor_end(&c));
}
END_TEST

/* Less of it is never an item. */
START_TEST(a_part_of_an_item)
{
	for (size_t n = 0; n < good[_i].n; n++) {
		struct cbor c = begin(good[_i].text, n);
		struct cbor_item item;

		ck_assert(!cbor_read(&c, &item));
		ck_assert_ptr_nonnull(c.fault);
		ck_assert_uint_eq(c.fault_at, 0);
	}
}
END_TEST

static const struct {
	const char *text;
	size_t n;
	const char *fault;
} bad[] = {
	{TEXT(""), "cut off before an item"},
	{TEXT("\x18\x17"), "a head that is not the shortest"},
	{TEXT("\x19\x00\xff"), "a head that is not the shortest"},
	{TEXT("\x1a\x00\x00\xff\xff"), "a head that is not the shortest"},
	{TEXT("\x1b\x00\x00\x00\x00\xff\xff\xff\xff"), "a head that is not the shortest"},
	{TEXT("\x58\x01z"), "a head that is not the shortest"},
	{TEXT("\x1c"), "a reserved form of head"},
	{TEXT("\x5d"), "a reserved form of head"},
	{TEXT("\x9e"), "a reserved form of head"},
	{TEXT("\x1f"), "a length that is not definite"},
	{TEXT("\x5f\x41z\xff"), "a length that is not definite"},
	{TEXT("\x7f\xff"), "a length that is not definite"},
	{TEXT("\x9f\xff"), "a length that is not definite"},
	{TEXT("\xbf\xff"), "a length that is not definite"},
	{TEXT("\x42z"), "cut off in a string"},
	{TEXT("\x7b\xff\xff\xff\xff\xff\xff\xff\xff"), "cut off in a string"},
	{TEXT("\x5b\x80\x00\x00\x00\x00\x00\x00\x00z"), "cut off in a string"},
	{TEXT("\x9a\x10\x00\x00\x00"), "an array of more items than there are bytes"},
	{TEXT("\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
	 "an array of more items than there are bytes"},
	{TEXT("\x82\x00"), "an array of more items than there are bytes"},
	{TEXT("\xba\x04\x00\x00\x00"), "a map of more pairs than there are bytes"},
	{TEXT("\xbb\x80\x00\x00\x00\x00\x00\x00\x00"),
	 "a map of more pairs than there are bytes"},
	{TEXT("\xa1\x00"), "a map of more pairs than there are bytes"},
	{TEXT("\xe0"), "neither false, true nor null"},
	{TEXT("\xf7"), "neither false, true nor null"}, /* undefined */
	{TEXT("\xf8\xff"), "neither false, true nor null"},
	{TEXT("\xf9\x00\x00"), "neither false, true nor null"}, /* 0.0 */
	{TEXT("\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00"), "neither false, true nor null"},
	{TEXT("\xff"), "neither false, true nor null"}, /* break */
};

START_TEST(no_item)
{
	struct cbor c = begin(bad[_i].text, bad[_i].n);
	struct cbor_item item = {.number = 77};

	ck_assert(!cbor_read(&c, &item));
	ck_assert_str_eq(c.fault, bad[_i].fault);
	ck_assert_uint_eq(item.number, 77);

	/* It stays so. */
	c.rest = SLICE("\x01");
	ck_assert(!cbor_read(&c, &item) && !cbor_end(&c));
	ck_assert_str_eq(c.fault, bad[_i].fault);
}
END_TEST

static const struct {
	const char *text;
	size_t n;
	enum cbor_type type;
	uint64_t min, max;
	const char *fault; /* NULL: taken */
} expected[] = {
	{TEXT("\x05"), CBOR_UNSIGNED, 5, 5, NULL},
	{TEXT("\x05"), CBOR_UNSIGNED, 6, 9, "a number out of range"},
	{TEXT("\x05"), CBOR_UNSIGNED, 0, 4, "a number out of range"},
	{TEXT("\x25"), CBOR_UNSIGNED, 0, 9, "not an unsigned number"},
	{TEXT("\x05"), CBOR_NEGATIVE, 0, 9, "not a negative number"},
	{TEXT("\x42zz"), CBOR_BYTES, 2, 2, NULL},
	{TEXT("\x42zz"), CBOR_BYTES, 3, 9, "a string of a wrong length"},
	{TEXT("\x42zz"), CBOR_BYTES, 0, 1, "a string of a wrong length"},
	{TEXT("\x62zz"), CBOR_BYTES, 0, 9, "not a byte string"},
	{TEXT("\x42zz"), CBOR_TEXT, 0, 9, "not a text"},
	{TEXT("\x62zz"), CBOR_TEXT, 3, 9, "a text of a wrong length"},
	{TEXT("\x81\x00"), CBOR_ARRAY, 1, 1, NULL},
	{TEXT("\x81\x00"), CBOR_ARRAY, 2, 2, "an array of a wrong length"},
	{TEXT("\xa0"), CBOR_ARRAY, 0, 9, "not an array"},
	{TEXT("\xa1\x00\x00"), CBOR_MAP, 2, 9, "a map of a wrong length"},
	{TEXT("\x80"), CBOR_MAP, 0, 9, "not a map"},
	{TEXT("\xd2"), CBOR_TAG, 17, 17, "another tag"},
	{TEXT("\x00"), CBOR_TAG, 0, 99, "not a tag"},
	{TEXT("\xf5"), CBOR_SIMPLE, CBOR_NULL, CBOR_NULL, "another of false, true and null"},
	{TEXT("\x00"), CBOR_SIMPLE, CBOR_NULL, CBOR_NULL, "neither false, true nor null"},
	{TEXT(""), CBOR_MAP, 0, 9, "cut off before an item"},
	{TEXT("\x9a\x10\x00\x00\x00"), CBOR_ARRAY, 0, UINT64_MAX,
	 "an array of more items than there are bytes"},
};

START_TEST(an_expected_item)
{
	struct cbor c = begin(expected[_i].text, expected[_i].n);
	struct cbor_item item = {.number = 77};
	bool good_one =
		cbor_expect(&c, expected[_i].type, expected[_i].min, expected[_i].max, &item);

	ck_assert_int_eq(good_one, expected[_i].fault == NULL);
	if (expected[_i].fault)
		ck_assert_str_eq(c.fault, expected[_i].fault);
	ck_assert_int_eq(item.number == 77, !good_one);
}
END_TEST

/* One item after the other, and where the fault is. */
START_TEST(a_sequence)
{
	struct cbor c = begin(TEXT("\x82\x01\x61z\x1c"));
	struct cbor_item item;

	ck_assert(cbor_expect(&c, CBOR_ARRAY, 2, 2, &item));
	ck_assert(cbor_expect(&c, CBOR_UNSIGNED, 0, 1, &item));
	ck_assert(cbor_expect(&c, CBOR_TEXT, 1, 1, &item));
	ck_assert(!cbor_end(&c));
	ck_assert_str_eq(c.fault, "bytes behind the end");
	ck_assert_uint_eq(c.fault_at, 4);
	ck_assert(!cbor_fail(&c, c.rest.p, "another"));
	ck_assert_str_eq(c.fault, "bytes behind the end");

	c = begin(TEXT("\x01\x1c"));
	ck_assert(cbor_read(&c, &item) && !cbor_read(&c, &item));
	ck_assert_uint_eq(c.fault_at, 1);
}
END_TEST

/* 100,000 arrays within each other are read as far as somebody asks. */
START_TEST(depth_costs_nothing)
{
	static char text[100000];
	struct cbor c = cbor_begin((struct slice){text, sizeof(text)});
	struct cbor_item item;
	size_t n = 0;

	memset(text, 0x81, sizeof(text));
	while (cbor_read(&c, &item))
		n++;
	ck_assert_uint_eq(n, sizeof(text) - 1); /* the last promises one more */
	ck_assert_str_eq(c.fault, "an array of more items than there are bytes");
}
END_TEST

START_TEST(nothing)
{
	struct cbor c = cbor_begin((struct slice){0});
	struct cbor_item item;
	enum cbor_type next;

	ck_assert(!cbor_peek(&c, &next) && cbor_end(&c) && !cbor_read(&c, &item));
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("cbor");
	Suite *suite = suite_create("cbor");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, an_item, 0, ELEMENTSOF(good));
	tcase_add_loop_test(tcase, a_part_of_an_item, 0, ELEMENTSOF(good));
	tcase_add_loop_test(tcase, no_item, 0, ELEMENTSOF(bad));
	tcase_add_loop_test(tcase, an_expected_item, 0, ELEMENTSOF(expected));
	tcase_add_test(tcase, a_sequence);
	tcase_add_test(tcase, depth_costs_nothing);
	tcase_add_test(tcase, nothing);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
