/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include "macro.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <sys/un.h>

static const struct {
	const char *address;
	bool refused;
} addresses[] = {
	{"0.0.0.0", true},
	{"0.1.2.3", true},
	{"1.0.0.0", false},
	{"126.255.255.255", false},
	{"127.0.0.1", true},
	{"127.255.255.255", true},
	{"128.0.0.0", false},
	{"169.253.255.255", false},
	{"169.254.0.0", true},
	{"169.254.169.254", true},
	{"169.254.170.2", true},
	{"169.255.0.0", false},
	{"10.0.0.7", false},
	{"172.16.0.1", false},
	{"192.168.0.1", false},
	{"223.255.255.255", false},
	{"224.0.0.1", true},
	{"240.0.0.1", true},
	{"255.255.255.255", true},
	{"::", true},
	{"::1", true},
	{"::127.0.0.1", true},
	{"::ffff:127.0.0.1", true},
	{"::ffff:169.254.169.254", true},
	{"::ffff:10.0.0.7", false},
	{"64:ff9b::127.0.0.1", true},
	{"64:ff9b::169.254.169.254", true},
	{"64:ff9b::52.1.2.3", false},
	{"fe80::1", true},
	{"febf:ffff::1", true},
	{"fec0::1", false},
	{"fd00:ec2::254", true},
	{"fd00:ec3::254", false},
	{"fd12:3456::1", false},
	{"ff02::1", true},
	{"2001:db8::1", false},
};

static bool refused(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return address_is_refused((struct sockaddr *)&v4, sizeof(v4));
	ck_assert_int_eq(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return address_is_refused((struct sockaddr *)&v6, sizeof(v6));
}

START_TEST(leads_where_a_name_may_lead)
{
	ck_assert_msg(refused(addresses[_i].address) == addresses[_i].refused, "%s",
		      addresses[_i].address);
}
END_TEST

START_TEST(refuses_other_families_and_short_addresses)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(0x0a000007)}};

	ck_assert(address_is_refused((struct sockaddr *)&un, sizeof(un)));
	ck_assert(!address_is_refused((struct sockaddr *)&v4, sizeof(v4)));
	ck_assert(address_is_refused((struct sockaddr *)&v4, sizeof(v4) - 1));
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

	tcase_add_loop_test(tcase, leads_where_a_name_may_lead, 0, ELEMENTSOF(addresses));
	tcase_add_test(tcase, refuses_other_families_and_short_addresses);
	tcase_add_test(tcase, knows_literals);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
