/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include "macro.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <sys/un.h>

static const struct {
	const char *address;
	enum address_class class;
} addresses[] = {
	{"0.0.0.0", ADDRESS_LOOPBACK},
	{"0.1.2.3", ADDRESS_LOOPBACK},
	{"1.0.0.0", ADDRESS_OTHER},
	{"126.255.255.255", ADDRESS_OTHER},
	{"127.0.0.1", ADDRESS_LOOPBACK},
	{"127.255.255.255", ADDRESS_LOOPBACK},
	{"128.0.0.0", ADDRESS_OTHER},
	{"169.253.255.255", ADDRESS_OTHER},
	{"169.254.0.0", ADDRESS_SPECIAL},
	{"169.254.169.253", ADDRESS_SPECIAL},
	{"169.254.169.254", ADDRESS_SPECIAL},
	{"169.254.170.2", ADDRESS_SPECIAL},
	{"169.254.170.23", ADDRESS_SPECIAL},
	{"169.255.0.0", ADDRESS_OTHER},
	{"10.0.0.7", ADDRESS_OTHER},
	{"172.16.0.1", ADDRESS_OTHER},
	{"192.168.0.1", ADDRESS_OTHER},
	{"223.255.255.255", ADDRESS_OTHER},
	{"224.0.0.1", ADDRESS_SPECIAL},
	{"240.0.0.1", ADDRESS_SPECIAL},
	{"255.255.255.255", ADDRESS_SPECIAL},
	{"::", ADDRESS_LOOPBACK},
	{"::1", ADDRESS_LOOPBACK},
	{"::127.0.0.1", ADDRESS_LOOPBACK},
	{"::169.254.169.254", ADDRESS_SPECIAL},
	{"::ffff:127.0.0.1", ADDRESS_LOOPBACK},
	{"::ffff:169.254.169.254", ADDRESS_SPECIAL},
	{"::ffff:169.254.170.2", ADDRESS_SPECIAL},
	{"::ffff:10.0.0.7", ADDRESS_OTHER},
	{"::ffff:0:169.254.169.254", ADDRESS_SPECIAL},
	{"::ffff:0:10.0.0.7", ADDRESS_OTHER},
	{"64:ff9b::127.0.0.1", ADDRESS_LOOPBACK},
	{"64:ff9b::169.254.169.254", ADDRESS_SPECIAL},
	{"64:ff9b::169.254.170.23", ADDRESS_SPECIAL},
	{"64:ff9b::52.1.2.3", ADDRESS_OTHER},
	{"64:ff9b:1::169.254.169.254", ADDRESS_SPECIAL},
	{"64:ff9b:1:2:3:4:169.254.169.254", ADDRESS_SPECIAL},
	{"64:ff9b:1::52.1.2.3", ADDRESS_OTHER},
	{"2002:a9fe:a9fe::1", ADDRESS_SPECIAL}, /* 6to4 */
	{"2002:a9fe:aa02::", ADDRESS_SPECIAL},
	{"2002:7f00:1::1", ADDRESS_LOOPBACK},
	{"2002:3401:203::1", ADDRESS_OTHER},
	{"2001:0:1:2:3:4:5601:5601", ADDRESS_SPECIAL}, /* Teredo */
	{"2001:0:1:2:3:4:cbfe:fdfc", ADDRESS_OTHER},
	{"2001:1:1:2:3:4:5601:5601", ADDRESS_OTHER},
	{"fe80::1", ADDRESS_SPECIAL},
	{"febf:ffff::1", ADDRESS_SPECIAL},
	{"fec0::1", ADDRESS_OTHER},
	{"fd00:ec2::23", ADDRESS_SPECIAL},
	{"fd00:ec2::254", ADDRESS_SPECIAL},
	{"fd00:ec2:ffff::", ADDRESS_SPECIAL},
	{"fd00:ec1:ffff::", ADDRESS_OTHER},
	{"fd00:ec3::254", ADDRESS_OTHER},
	{"fd12:3456::1", ADDRESS_OTHER},
	{"ff02::1", ADDRESS_SPECIAL},
	{"2001:db8::1", ADDRESS_OTHER},
};

static const struct {
	const char *host;
	enum address_class class;
} hosts[] = {
	{"localhost", ADDRESS_LOOPBACK},
	{"LocalHost", ADDRESS_LOOPBACK},
	{"db.localhost", ADDRESS_LOOPBACK},
	{"mylocalhost", ADDRESS_OTHER},
	{"localhost.example", ADDRESS_OTHER},
	{"localhos", ADDRESS_OTHER},
	{"", ADDRESS_OTHER},
	{"169.254.169.254.example", ADDRESS_OTHER},
};

static enum address_class classify(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return address_classify((struct sockaddr *)&v4, sizeof(v4));
	ck_assert_int_eq(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return address_classify((struct sockaddr *)&v6, sizeof(v6));
}

START_TEST(has_its_class)
{
	const char *text = addresses[_i].address;

	ck_assert_msg(classify(text) == addresses[_i].class, "%s", text);
	ck_assert_msg(address_classify_host(text) == addresses[_i].class, "%s", text);
}
END_TEST

START_TEST(a_name_has_its_class)
{
	ck_assert_msg(address_classify_host(hosts[_i].host) == hosts[_i].class, "%s",
		      hosts[_i].host);
}
END_TEST

START_TEST(refuses_other_families_and_short_addresses)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(0x0a000007)}};

	ck_assert_int_eq(address_classify((struct sockaddr *)&un, sizeof(un)), ADDRESS_SPECIAL);
	ck_assert_int_eq(address_classify((struct sockaddr *)&v4, sizeof(v4)), ADDRESS_OTHER);
	ck_assert_int_eq(address_classify((struct sockaddr *)&v4, sizeof(v4) - 1),
			 ADDRESS_SPECIAL);
}
END_TEST

START_TEST(knows_literals)
{
	static const char *const literals[] = {"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"};
	static const char *const names[] = {"",      "kms.example",   "192.0.2",   "0x7f.1",
					    "[::1]", "192.0.2.1:443", "fe80::1%lo"};

	for (size_t i = 0; i < ELEMENTSOF(literals); i++)
		ck_assert_msg(address_is_literal(literals[i]), "%s", literals[i]);
	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		ck_assert_msg(!address_is_literal(names[i]), "%s", names[i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("address");
	TCase *tcase = tcase_create("address");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, has_its_class, 0, ELEMENTSOF(addresses));
	tcase_add_loop_test(tcase, a_name_has_its_class, 0, ELEMENTSOF(hosts));
	tcase_add_test(tcase, refuses_other_families_and_short_addresses);
	tcase_add_test(tcase, knows_literals);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
