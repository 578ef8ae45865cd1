/* SPDX-License-Identifier: Apache-2.0 */
#include "syntax.h"

#include "macro.h"

#include <check.h>
#include <stdio.h>

#define X63 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X64 X63 "x"
#define X61 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define HOST253 X63 "." X63 "." X63 "." X61

typedef bool syntax(struct slice s);

/* Texts with a NUL are given as slices. */
static const struct {
	syntax *syntax;
	struct slice text;
	bool ok;
} rows[] = {
	{syntax_name, SLICE("a"), true},
	{syntax_name, SLICE("Payments-1.eu_x"), true},
	{syntax_name, SLICE("-"), true},
	{syntax_name, SLICE(X64), true},
	{syntax_name, SLICE(X64 "x"), false},
	{syntax_name, SLICE(""), false},
	{syntax_name, SLICE("a b"), false},
	{syntax_name, SLICE("a/b"), false},
	{syntax_name, SLICE("a\0"), false},
	{syntax_name, SLICE("\xc3\xbc"), false},

	{syntax_host, SLICE("localhost"), true},
	{syntax_host, SLICE("kms.eu-central-1.amazonaws.com"), true},
	{syntax_host, SLICE("1.example"), true},
	{syntax_host, SLICE("a.1e"), true},
	{syntax_host, SLICE(X63 ".example"), true},
	{syntax_host, SLICE(HOST253), true},
	{syntax_host, SLICE(HOST253 "x"), false},
	{syntax_host, SLICE(X64 ".example"), false},
	{syntax_host, SLICE(""), false},
	{syntax_host, SLICE("."), false},
	{syntax_host, SLICE("a."), false},
	{syntax_host, SLICE(".a"), false},
	{syntax_host, SLICE("a..b"), false},
	{syntax_host, SLICE("-a.b"), false},
	{syntax_host, SLICE("a-.b"), false},
	{syntax_host, SLICE("A.b"), false},
	{syntax_host, SLICE("a_b"), false},
	{syntax_host, SLICE("a b"), false},
	{syntax_host, SLICE("a\0b"), false},
	{syntax_host, SLICE("127.0.0.1"), false},
	{syntax_host, SLICE("1"), false},
	{syntax_host, SLICE("host.1"), false},
	{syntax_host, SLICE("0xa9fea9fe"), false}, /* to inet_aton(3) all four are addresses */
	{syntax_host, SLICE("0x7f.1"), false},
	{syntax_host, SLICE("169.254.0xa9fe"), false},
	{syntax_host, SLICE("127.0.0.0x"), false},
	{syntax_host, SLICE("0xa9.example"), true},
	{syntax_host, SLICE("host.0xg"), true},
	{syntax_host, SLICE("host.x7f"), true},
	{syntax_host, SLICE("::1"), false},
	{syntax_host, SLICE("[::1]"), false},
	{syntax_host, SLICE("a:443"), false},

	{syntax_may_hold_password, SLICE(""), false},
	{syntax_may_hold_password, SLICE("http://"), false},
	{syntax_may_hold_password, SLICE("https://proxy.example:3128/"), false},
	{syntax_may_hold_password, SLICE("proxy.example"), false},
	{syntax_may_hold_password, SLICE("[::1]:3128"), false},
	{syntax_may_hold_password, SLICE("http://[::1"), false},
	{syntax_may_hold_password, SLICE("proxy.example:3128:user:secret"), true},
	{syntax_may_hold_password, SLICE("[::1]:3128:user:secret"), true},
	{syntax_may_hold_password, SLICE("http://user:secret"), true},
	{syntax_may_hold_password, SLICE("http://user:1\0secret"), true},
	{syntax_may_hold_password, SLICE("user:secret@proxy.example"), true},
	{syntax_may_hold_password, SLICE("user:1%40proxy.example"), true},

	{syntax_region, SLICE("eu-central-1"), true},
	{syntax_region, SLICE("a-1"), true},
	{syntax_region, SLICE("us-isob-aaaaaaaaaaaaaaaaaaaaaa-1"), true},
	{syntax_region, SLICE("us-isob-aaaaaaaaaaaaaaaaaaaaaaa-1"), false},
	{syntax_region, SLICE(""), false},
	{syntax_region, SLICE("eu"), false},
	{syntax_region, SLICE("eu1"), false},
	{syntax_region, SLICE("eu-central"), false},
	{syntax_region, SLICE("-1"), false},
	{syntax_region, SLICE("eu-central-1-"), false},
	{syntax_region, SLICE("eu/central-1"), false},
	{syntax_region, SLICE("EU-central-1"), false},
	{syntax_region, SLICE("eu-central-1\0"), false},

	{syntax_path, SLICE("/a"), true},
	{syntax_path, SLICE("/a b/\xc3\xbc"), true},
	{syntax_path, SLICE("/"), false},
	{syntax_path, SLICE(""), false},
	{syntax_path, SLICE("a"), false},
	{syntax_path, SLICE("./a"), false},
	{syntax_path, SLICE("/a\nb"), false},
	{syntax_path, SLICE("/a\x7f"), false},
	{syntax_path, SLICE("/a\0b"), false},

	{syntax_unix_path, SLICE("/run/x.sock"), true},
	{syntax_unix_path, SLICE("/" X63 "0123456789012345678901234567890123456789012"), true},
	{syntax_unix_path, SLICE("/" X63 "01234567890123456789012345678901234567890123"),
	 false},
	{syntax_unix_path, SLICE("@x"), false},
	{syntax_unix_path, SLICE("\0x"), false},

	{syntax_fd_name, SLICE("kms-vsock-proxy.socket"), true},
	{syntax_fd_name, SLICE("a b"), true},
	{syntax_fd_name, SLICE(X63 X64 X64 X64), true},
	{syntax_fd_name, SLICE(X64 X64 X64 X64), false},
	{syntax_fd_name, SLICE(""), false},
	{syntax_fd_name, SLICE("a:b"), false},
	{syntax_fd_name, SLICE("a\tb"), false},
	{syntax_fd_name, SLICE("\x7f"), false},
	{syntax_fd_name, SLICE("\xc3\xbc"), false},

	{syntax_group, SLICE("kms"), true},
	{syntax_group, SLICE("998"), true},
	{syntax_group, SLICE("_a.b-c"), true},
	{syntax_group, SLICE("-a"), false},
	{syntax_group, SLICE(""), false},
	{syntax_group, SLICE("a b"), false},
	{syntax_group, SLICE("a:b"), false},
	{syntax_group, SLICE("01234567890123456789012345678901"), true},
	{syntax_group, SLICE("012345678901234567890123456789012"), false},

	{syntax_role, SLICE("My_Role+=,.@-1"), true},
	{syntax_role, SLICE(X64), true},
	{syntax_role, SLICE(X64 "x"), false},
	{syntax_role, SLICE(""), false},
	{syntax_role, SLICE("a/b"), false},
	{syntax_role, SLICE("a b"), false},
	{syntax_role, SLICE("a\r\nX: y"), false},

	{syntax_credentials_file, SLICE("/etc/creds"), true},
	{syntax_credentials_file, SLICE("aws-credentials"), true},
	{syntax_credentials_file, SLICE("..."), true},
	{syntax_credentials_file, SLICE("."), false},
	{syntax_credentials_file, SLICE(".."), false},
	{syntax_credentials_file, SLICE("../x"), false},
	{syntax_credentials_file, SLICE("a/b"), false},
	{syntax_credentials_file, SLICE(""), false},
	{syntax_credentials_file, SLICE("/a\0"), false},

	{syntax_imds_endpoint, SLICE("http://169.254.169.254"), true},
	{syntax_imds_endpoint, SLICE("http://169.254.169.254:80"), true},
	{syntax_imds_endpoint, SLICE("http://[fd00:ec2::254]"), true},
	{syntax_imds_endpoint, SLICE("http://[fd00:ec2::254]:8080"), true},
	{syntax_imds_endpoint, SLICE("http://localhost:1234"), true},
	{syntax_imds_endpoint, SLICE("https://169.254.169.254"), false},
	{syntax_imds_endpoint, SLICE("169.254.169.254"), false},
	{syntax_imds_endpoint, SLICE("http://"), false},
	{syntax_imds_endpoint, SLICE("http://169.254.169.254/"), false},
	{syntax_imds_endpoint, SLICE("http://169.254.169.254:"), false},
	{syntax_imds_endpoint, SLICE("http://169.254.169.254:0"), false},
	{syntax_imds_endpoint, SLICE("http://169.254.169.254:65536"), false},
	{syntax_imds_endpoint, SLICE("http://user@169.254.169.254"), false},
	{syntax_imds_endpoint, SLICE("http://[fd00::g]"), false},
	{syntax_imds_endpoint, SLICE("http://fd00::1"), false},
	{syntax_imds_endpoint, SLICE("http://a b"), false},
	{syntax_imds_endpoint, SLICE("HTTP://169.254.169.254"), false},

	{syntax_container_uri, SLICE("http://169.254.170.2/v2/credentials/x"), true},
	{syntax_container_uri, SLICE("http://169.254.170.23/v1/credentials"), true},
	{syntax_container_uri, SLICE("http://[fd00:ec2::23]/v1/credentials"), true},
	{syntax_container_uri, SLICE("http://localhost:8080/c?x=y"), true},
	{syntax_container_uri, SLICE("http://127.9.8.7"), true},
	{syntax_container_uri, SLICE("http://[::1]:80/"), true},
	{syntax_container_uri, SLICE("https://creds.example/x"), true},
	{syntax_container_uri, SLICE("http://creds.example/x"), false},
	{syntax_container_uri, SLICE("http://169.254.169.254/"), false},
	{syntax_container_uri, SLICE("http://169.254.170.24/"), false},
	{syntax_container_uri, SLICE("http://127.0.0.1.example/"), false},
	{syntax_container_uri, SLICE("http://127.1/"), false},
	{syntax_container_uri, SLICE("http://127.0.0.1@evil.example/"), false},
	{syntax_container_uri, SLICE("http://[::2]/"), false},
	{syntax_container_uri, SLICE("ftp://127.0.0.1/"), false},
	{syntax_container_uri, SLICE("https://"), false},
	{syntax_container_uri, SLICE("https:///x"), false},
	{syntax_container_uri, SLICE("https://a/ b"), false},
	{syntax_container_uri, SLICE("https://a/#b"), false},
	{syntax_container_uri, SLICE("https://a/\r\nX: y"), false},
	{syntax_container_uri, SLICE("https://a?b"), false},

	{syntax_is_ip, SLICE("10.0.0.1"), true},
	{syntax_is_ip, SLICE("::1"), true},
	{syntax_is_ip, SLICE("fd00:ec2::254"), true},
	{syntax_is_ip, SLICE("::ffff:10.0.0.1"), true},
	{syntax_is_ip, SLICE(""), false},
	{syntax_is_ip, SLICE("10.0.0"), false},
	{syntax_is_ip, SLICE("10.0.0.1\0"), false},
	{syntax_is_ip, SLICE("[::1]"), false},
	{syntax_is_ip, SLICE("fe80::1%eth0"), false},
	{syntax_is_ip, SLICE("0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"), false},
};

START_TEST(text)
{
	ck_assert_msg(rows[_i].syntax(rows[_i].text) == rows[_i].ok, "row %d: %.*s", _i,
		      (int)rows[_i].text.n, rows[_i].text.p);
}
END_TEST

static const struct {
	const char *text, *host; /* NULL: refused */
	unsigned port;
} addresses[] = {
	{"10.0.0.7:443", "10.0.0.7", 443},
	{"kms.example:1", "kms.example", 1},
	{"[fd00::7]:65535", "fd00::7", 65535},
	{"localhost:08", NULL, 0},
	{"10.0.0.7", NULL, 0},
	{"10.0.0.7:", NULL, 0},
	{"10.0.0.7:0", NULL, 0},
	{"10.0.0.7:65536", NULL, 0},
	{"10.0.0.7:+1", NULL, 0},
	{"10.0.0.7:1 ", NULL, 0},
	{"10.0.0:1", NULL, 0},
	{"Kms.example:1", NULL, 0},
	{"fd00::7:443", NULL, 0},
	{"[fd00::7]", NULL, 0},
	{"[fd00::7]443", NULL, 0},
	{"[10.0.0.7]:443", NULL, 0},
	{"[]:443", NULL, 0},
	{":443", NULL, 0},
	{"", NULL, 0},
};

START_TEST(host_port)
{
	struct slice host = SLICE("untouched");
	unsigned port = 7;
	bool ok = syntax_host_port(slice_from(addresses[_i].text), &host, &port);

	ck_assert_msg(ok == (addresses[_i].host != NULL), "%s", addresses[_i].text);
	ck_assert(slice_eq_str(host, addresses[_i].host ?: "untouched"));
	ck_assert_uint_eq(port, ok ? addresses[_i].port : 7);
}
END_TEST

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define MRK "mrk-1234abcd12ab34cd56ef1234567890ab"
#define ARN "arn:aws:kms:eu-central-1:111122223333:"

static const struct {
	const char *text;
	enum key_form form;
} keys[] = {
	{ID, KEY_ID},
	{MRK, KEY_ID},
	{ARN "key/" ID, KEY_ARN},
	{ARN "key/" MRK, KEY_ARN},
	{"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/" ID, KEY_ARN},
	{"alias/x", KEY_ALIAS},
	{"alias/aws/ebs", KEY_ALIAS},
	{"alias/A-z_0/:", KEY_ALIAS},
	{ARN "alias/x", KEY_ALIAS_ARN},
	{ARN "alias/a:b", KEY_ALIAS_ARN},
	{"", KEY_BAD},
	{"*", KEY_BAD},
	{"1234ABCD-12ab-34cd-56ef-1234567890ab", KEY_BAD},
	{"1234abcd-12ab-34cd-56ef-1234567890a", KEY_BAD},
	{ID "0", KEY_BAD},
	{"1234abcd-12ab-34cd-56e-f1234567890ab", KEY_BAD},
	{"1234abcg-12ab-34cd-56ef-1234567890ab", KEY_BAD},
	{" " ID, KEY_BAD},
	{"mrk-", KEY_BAD},
	{"mrk-" ID, KEY_BAD},
	{MRK "0", KEY_BAD},
	{"MRK-1234abcd12ab34cd56ef1234567890ab", KEY_BAD},
	{"alias/", KEY_BAD},
	{"alias", KEY_BAD},
	{"alias/a b", KEY_BAD},
	{"alias/a.b", KEY_BAD},
	{"alias/a*", KEY_BAD},
	{"Alias/x", KEY_BAD},
	{"key/" ID, KEY_BAD},
	{"arn:", KEY_BAD},
	{ARN, KEY_BAD},
	{ARN ID, KEY_BAD},
	{ARN "key/", KEY_BAD},
	{ARN "key/x", KEY_BAD},
	{ARN "key/" ID "/x", KEY_BAD},
	{ARN "alias/", KEY_BAD},
	{ARN "KEY/" ID, KEY_BAD},
	{"arn::kms:eu-central-1:111122223333:key/" ID, KEY_BAD},
	{"arn:a*s:kms:eu-central-1:111122223333:key/" ID, KEY_BAD},
	{"arn:aws:s3:eu-central-1:111122223333:key/" ID, KEY_BAD},
	{"arn:aws:kms::111122223333:key/" ID, KEY_BAD},
	{"arn:aws:kms:eu-central-1::key/" ID, KEY_BAD},
	{"arn:aws:kms:eu-central-1:11112222333:key/" ID, KEY_BAD},
	{"arn:aws:kms:eu-central-1:1111222233334:key/" ID, KEY_BAD},
	{"arn:aws:kms:eu-central-1:11112222333x:key/" ID, KEY_BAD},
	{"ARN:aws:kms:eu-central-1:111122223333:key/" ID, KEY_BAD},
};

START_TEST(key)
{
	struct slice partition = {0}, region = {0};
	enum key_form form = syntax_key(slice_from(keys[_i].text), &partition, &region);

	ck_assert_msg(form == keys[_i].form, "%s", keys[_i].text);
	if (form == KEY_ARN || form == KEY_ALIAS_ARN) {
		ck_assert_uint_gt(partition.n, 0);
		ck_assert_uint_gt(region.n, 0);
	}
}
END_TEST

START_TEST(key_parts)
{
	struct slice partition, region;

	ck_assert_int_eq(syntax_key(SLICE(ARN "key/" ID), &partition, &region), KEY_ARN);
	ck_assert(slice_eq_str(partition, "aws"));
	ck_assert(slice_eq_str(region, "eu-central-1"));
}
END_TEST

/* Names of 250 letters after "alias/" are the longest that KMS has. */
START_TEST(longest_alias)
{
	char alias[300];
	struct slice partition, region;

	snprintf(alias, sizeof(alias), "alias/%0250d", 7);
	ck_assert_int_eq(syntax_key(slice_from(alias), &partition, &region), KEY_ALIAS);
	snprintf(alias, sizeof(alias), "alias/%0251d", 7);
	ck_assert_int_eq(syntax_key(slice_from(alias), &partition, &region), KEY_BAD);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("syntax");
	Suite *suite = suite_create("syntax");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, text, 0, ELEMENTSOF(rows));
	tcase_add_loop_test(tcase, host_port, 0, ELEMENTSOF(addresses));
	tcase_add_loop_test(tcase, key, 0, ELEMENTSOF(keys));
	tcase_add_test(tcase, key_parts);
	tcase_add_test(tcase, longest_alias);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
