/* SPDX-License-Identifier: Apache-2.0 */
#include "block.h"

#include "page_end.h"

#include <check.h>

/* All sets of marks. */
START_TEST(first)
{
	for (unsigned set = 0; set < 1U << sizeof(block); set++) {
		char text[sizeof(block)];
		size_t want = set ? (size_t)__builtin_ctz(set) : sizeof(block);
		block b;

		for (size_t i = 0; i < sizeof(block); i++)
			text[i] = set >> i & 1 ? 'x' : 'a';
		b = block_load(text);
		ck_assert_uint_eq(block_first(b == 'x'), want);
		ck_assert(block_any(b == 'x') == (set != 0));
	}
}
END_TEST

START_TEST(bytes_are_signed)
{
	for (int c = 0; c < 256; c++) {
		block b = block_load(page_end_text(sizeof(block), 7, (char)c).p);

		ck_assert_uint_eq(block_first(b < 0x20), c < 0x20 || c >= 0x80 ? 7 : 16);
		ck_assert_uint_eq(block_first(b == (signed char)c), c == 'a' ? 0 : 7);
	}
}
END_TEST

/* Each byte at each place of a text that has one block, or one and a part of another. */
START_TEST(text_runs)
{
	for (int c = 0; c < 256; c++)
		for (size_t n = 0; n < 2 * sizeof(block); n++)
			for (size_t i = 0; i < n; i++) {
				bool plain = c >= 0x20 && c <= 0x7e;
				const char *p = page_end_text(n, i, (char)c).p;

				ck_assert_uint_eq(block_text_run(p, n, ' ', 0x7f),
						  plain ? n : i);
				ck_assert_uint_eq(block_text_run(p, n, '\t', 0x7f),
						  plain || c == '\t' ? n : i);
				ck_assert_uint_eq(block_text_run(p, n, ' ', '"'),
						  plain && c != '"' ? n : i);
			}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("block");
	TCase *tc = tcase_create("block");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_add_test(tc, first);
	tcase_add_test(tc, bytes_are_signed);
	tcase_add_test(tc, text_runs);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
