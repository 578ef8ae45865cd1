/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

#include <check.h>

/* RFC 4648 10, and letters 62 and 63. */
static const struct {
	const char *bytes, *text;
} rows[] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
	{"\xfb\xef\xff", "++//"},
};

START_TEST(there_and_back)
{
	struct slice bytes = slice_from(rows[_i].bytes), text = slice_from(rows[_i].text);
	char out[16] = {0};
	size_t n;

	ck_assert_uint_eq(BASE64_SIZE(bytes.n), text.n);
	base64_encode(bytes, out);
	ck_assert(slice_eq((struct slice){out, text.n}, text));
	ck_assert(base64_decode((struct slice){out, text.n}, out, &n)); /* in place */
	ck_assert(slice_eq((struct slice){out, n}, bytes));
}
END_TEST

START_TEST(every_byte)
{
	for (unsigned c = 0; c < 256; c++) {
		char bytes[3] = {(char)c, (char)(c ^ 0x5a), (char)~c}, text[4], back[3];
		size_t n;

		base64_encode((struct slice){bytes, 3}, text);
		ck_assert(base64_decode((struct slice){text, 4}, back, &n));
		ck_assert_mem_eq(bytes, back, 3);
	}
}
END_TEST

static const char *const bad[] = {
	"Z",      "Zg",       "Zg=",   "=",    "==",   "===",  "====",
	"Z===",   "Zg==Zg==", "Zh==",  "Zm9=", "Zm-v", "Zm_v", "Zm 9",
	"Zm9v\n", "\nZm9",    "Zm9v=", "Zm=v", "=m9v", "Z=9v", "Zm9\x80",
};

START_TEST(no_base64)
{
	char out[16];
	size_t n = 77;

	ck_assert_msg(!base64_decode(slice_from(bad[_i]), out, &n), "%s", bad[_i]);
	ck_assert_uint_eq(n, 77);
}
END_TEST

START_TEST(a_nul_is_no_letter)
{
	char out[16];
	size_t n;

	ck_assert(!base64_decode(SLICE("Zm9\0"), out, &n));
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("base64");
	Suite *suite = suite_create("base64");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, there_and_back, 0, ELEMENTSOF(rows));
	tcase_add_test(tcase, every_byte);
	tcase_add_loop_test(tcase, no_base64, 0, ELEMENTSOF(bad));
	tcase_add_test(tcase, a_nul_is_no_letter);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
