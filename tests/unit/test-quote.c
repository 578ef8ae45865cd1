/* SPDX-License-Identifier: Apache-2.0 */
#include "quote.h"

#include "macro.h"

#include <check.h>
#include <stdio.h>

static const struct {
	struct slice text;
	const char *printed;
} texts[] = {
	{SLICE("payments"), "payments"},
	{SLICE("kms-eu_1.b"), "kms-eu_1.b"},
	{SLICE("kms.eu-central-1.amazonaws.com"), "kms.eu-central-1.amazonaws.com"},
	{SLICE("a/b9"), "a/b9"},
	{SLICE("Z"), "Z"},
	{SLICE("1.0"), "\"1.0\""}, /* a number, to others */
	{SLICE("0x"), "\"0x\""},
	{SLICE("true"), "\"true\""},
	{SLICE("No"), "\"No\""},
	{SLICE("n"), "\"n\""},
	{SLICE("nope"), "nope"},
	{SLICE("nul"), "nul"},
	{SLICE("nulls"), "nulls"},
	{SLICE(""), "\"\""},
	{SLICE("null"), "\"null\""},
	{SLICE("Null"), "\"Null\""},
	{SLICE("~"), "\"~\""},
	{SLICE("-"), "\"-\""},
	{SLICE("---"), "\"---\""},
	{SLICE(".x"), "\".x\""},
	{SLICE("/run/x.sock"), "\"/run/x.sock\""},
	{SLICE("a b"), "\"a b\""},
	{SLICE("a:b"), "\"a:b\""},
	{SLICE("a@b"), "\"a@b\""},
	{SLICE("a[b"), "\"a[b\""},
	{SLICE("a{b"), "\"a{b\""},
	{SLICE("a\0b"), "\"a\\u0000b\""},
	{SLICE("a\"b\\c"), "\"a\\\"b\\\\c\""},
	{SLICE("a\n\t\x01"), "\"a\\n\\t\\u0001\""},
	{SLICE("#"), "\"#\""},
};

/* On the left the canonical text, on the right what libyaml reads as the same. */
static const struct {
	const char *text, *printed;
} canonical[] = {
	{"", "\"\""},
	{"plain", "\"plain\""},
	{"~\x7e", "\"~\x7e\""},
	{"\x7f", "\"\\u007f\""},
	{"\xc2\x80", "\"\\u0080\""},
	{"\xc2\x85", "\"\\u0085\""},
	{"\xc2\x9f", "\"\\u009f\""},
	{"\xc2\xa0", "\"\xc2\xa0\""},
	{"\xc3\xbc", "\"\xc3\xbc\""},
	{"\xe2\x80\xa7", "\"\xe2\x80\xa7\""},
	{"\xe2\x80\xa8\xe2\x80\xa9", "\"\\u2028\\u2029\""},
	{"\xe2\x80\xaa", "\"\xe2\x80\xaa\""},
	{"\xed\x9f\xbf", "\"\xed\x9f\xbf\""},
	{"\xee\x80\x80", "\"\xee\x80\x80\""},
	{"\xef\xbb\xbe\xef\xbb\xbf\xef\xbc\x80", "\"\xef\xbb\xbe\\ufeff\xef\xbc\x80\""},
	{"\xef\xbf\xbd\xef\xbf\xbe\xef\xbf\xbf", "\"\xef\xbf\xbd\\ufffe\\uffff\""},
	{"\xf0\x90\x80\x80", "\"\xf0\x90\x80\x80\""},
	{"\xf4\x8f\xbf\xbf", "\"\xf4\x8f\xbf\xbf\""},
	{"\\\"\\\\\\u0000", "\"\\\"\\\\\\u0000\""},
};

START_TEST(text)
{
	_cleanup_(freep) char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);

	quote_text(texts[_i].text, f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_str_eq(out, texts[_i].printed);
}
END_TEST

START_TEST(canonical_text)
{
	_cleanup_(freep) char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);

	quote_canonical(canonical[_i].text, f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_str_eq(out, canonical[_i].printed);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("quote");
	Suite *suite = suite_create("quote");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, text, 0, ELEMENTSOF(texts));
	tcase_add_loop_test(tcase, canonical_text, 0, ELEMENTSOF(canonical));
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
