/* SPDX-License-Identifier: Apache-2.0 */
#include "authority.h"

#include <check.h>
#include <stdlib.h>

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

START_TEST(accepts)
{
	static const struct {
		struct slice text;
		const char *host;
		bool is_address;
		unsigned port;
	} rows[] = {
		{SLICE("a"), "a", false, 0},
		{SLICE("A-1.b"), "A-1.b", false, 0},
		{SLICE("kms.eu-central-1.amazonaws.com:443"), "kms.eu-central-1.amazonaws.com",
		 false, 443},
		{SLICE("1password.com:1"), "1password.com", false, 1},
		{SLICE("xn--mnchen-3ya.de"), "xn--mnchen-3ya.de", false, 0},
		{SLICE("0x7f000001"), "0x7f000001", false,
		 0}, /* a name: nothing reads it else */
		{SLICE(L63 ":65535"), L63, false, 65535},
		{SLICE("0.0.0.0"), "0.0.0.0", true, 0},
		{SLICE("255.255.255.255:80"), "255.255.255.255", true, 80},
		{SLICE("[::]"), "::", true, 0},
		{SLICE("[::1]:8000"), "::1", true, 8000},
		{SLICE("[fd00:EC2::254]"), "fd00:EC2::254", true, 0},
		{SLICE("[1:2:3:4:5:6:7:8]:1"), "1:2:3:4:5:6:7:8", true, 1},
		{SLICE("[::ffff:127.0.0.1]"), "::ffff:127.0.0.1", true, 0},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		struct authority a = {.port = 77};
		const char *fault = authority_parse(rows[i].text, &a);

		ck_assert_msg(!fault, "%s: %s", rows[i].text.p, fault);
		ck_assert(slice_eq_str(a.host, rows[i].host));
		ck_assert_int_eq(a.is_address, rows[i].is_address);
		ck_assert_uint_eq(a.port, rows[i].port);
	}
}
END_TEST

static const struct slice refused[] = {
	{NULL, 0},
	SLICE(""),
	SLICE(":"),
	SLICE(":80"),
	SLICE("."),
	SLICE("a."),
	SLICE(".a"),
	SLICE("a..b"),
	SLICE("a b"),
	SLICE(" a"),
	SLICE("a "),
	SLICE("a\0"),
	SLICE("a\0b"),
	SLICE("a_b"),
	SLICE("a@b"),
	SLICE("a/b"),
	SLICE("a,b"),
	SLICE("a;b"),
	SLICE("a%b"),
	SLICE("a\\b"),
	SLICE("m\xc3\xbcnchen.de"),
	SLICE("1"),
	SLICE("1.2.3"),
	SLICE("1.2.3.4.5"),
	SLICE("1.2.3.256"),
	SLICE("1.2.3.04"),
	SLICE("a.1.2.3.4"),
	SLICE("1.2.3.4\0"),
	SLICE("["),
	SLICE("[]"),
	SLICE("]"),
	SLICE("[:]"),
	SLICE("[::1"),
	SLICE("::1]"),
	SLICE("[[::1]]"),
	SLICE("[::1]a"),
	SLICE("[::1]]"),
	SLICE("[::1].a"),
	SLICE("[::1%1]"),
	SLICE("[::1\0]"),
	SLICE("[1:2:3:4:5:6:7]"),
	SLICE("[1:2:3:4:5:6:7:8:9]"),
	SLICE("[::12345]"),
	SLICE("[::g]"),
	SLICE("[a]"),
	SLICE("[1.2.3.4]"),
	SLICE("[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]"),
	SLICE("a:"),
	SLICE("a:0"),
	SLICE("a:00"),
	SLICE("a:01"),
	SLICE("a:65536"),
	SLICE("a:99999999999999999999"),
	SLICE("a:-1"),
	SLICE("a:+1"),
	SLICE("a: 1"),
	SLICE("a:1 "),
	SLICE("a:1\0"),
	SLICE("a:b"),
	SLICE("a:1:1"),
	SLICE("[::1]:"),
	SLICE("[::1]:0"),
	SLICE(L63 "a"),
	SLICE("b." L63 "a.c"),
};

START_TEST(refuses)
{
	for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
		struct authority a = {.port = 77};

		ck_assert_msg(authority_parse(refused[i], &a), "row %zu", i);
		ck_assert_uint_eq(a.port, 77); /* untouched */
	}
}
END_TEST

START_TEST(limits_of_a_name)
{
	char name[256];

	for (size_t n = 250; n <= sizeof(name); n++) {
		struct authority a;

		memset(name, 'a', sizeof(name));
		for (size_t i = 40; i < n; i += 40)
			name[i] = '.';
		ck_assert_msg(!authority_parse((struct slice){name, n}, &a) == (n <= 253),
			      "%zu", n);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("authority");
	TCase *tc = tcase_create("authority");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_add_test(tc, accepts);
	tcase_add_test(tc, refuses);
	tcase_add_test(tc, limits_of_a_name);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
