/* SPDX-License-Identifier: Apache-2.0 */

/* Who a peer is: on addresses as accept() gives them, with no vsock needed. */

#include "listener.h"

#include <check.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static const char text[] =
	"listen: [{vsock: 8000}, {unix: /run/x.sock, enclave: dev}]\n"
	"endpoints: {eu: {region: eu-central-1}}\n"
	"credentials: {source: imds}\n"
	"enclaves:\n"
	"  payments: {cid: 16, endpoints: [eu], allow: [{name: r, actions: [DescribeKey], "
	"keys: any}]}\n"
	"  ledger: {cid: 4, endpoints: [eu], allow: [{name: r, actions: [DescribeKey], keys: "
	"any}]}\n"
	"  dev: {cids: [20, 30-31], endpoints: [eu], allow: [{name: r, actions: [DescribeKey], "
	"keys: any}]}\n";

static struct config *config;

static void setup(void)
{
	struct findings findings = {0};

	ck_assert_int_eq(config_parse(text, strlen(text), "test", &config, &findings), 0);
	findings_done(&findings);
}

static void teardown(void)
{
	config = config_unref(config);
}

static const struct {
	unsigned cid;
	const char *enclave; /* NULL: nobody */
} peers[] = {
	{VMADDR_CID_HYPERVISOR, NULL},
	{VMADDR_CID_LOCAL, NULL},
	{VMADDR_CID_HOST, NULL},
	{3, NULL},
	{4, "ledger"},
	{5, NULL},
	{15, NULL},
	{16, "payments"},
	{17, NULL},
	{20, "dev"},
	{21, NULL},
	{29, NULL},
	{30, "dev"},
	{31, "dev"},
	{32, NULL},
	{16 + 256, NULL},
	{0x10000010, NULL},
	{VMADDR_CID_ANY, NULL},
};

START_TEST(names_the_enclave_of_a_cid)
{
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK, .svm_cid = peers[_i].cid, .svm_port = 12345};
	struct peer p = peer_identify(config, NULL, (struct sockaddr *)&vm, sizeof(vm));

	ck_assert(p.has_cid);
	ck_assert_uint_eq(p.cid, peers[_i].cid);
	if (!peers[_i].enclave) {
		ck_assert_int_eq(p.enclave_index, -1);
		return;
	}
	ck_assert_int_ge(p.enclave_index, 0);
	ck_assert_uint_eq(config->slots[p.enclave_index].cid, peers[_i].cid);
	ck_assert_str_eq(config->enclaves[config->slots[p.enclave_index].enclave].name,
			 peers[_i].enclave);
}
END_TEST

START_TEST(names_the_listeners_enclave_on_a_unix_socket)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	/* an unnamed peer: the family only */
	struct peer p =
		peer_identify(config, "dev", (struct sockaddr *)&un, sizeof(un.sun_family));

	ck_assert(!p.has_cid);
	ck_assert_int_eq(p.enclave_index, config_find_slot(config, "dev"));
	ck_assert_uint_eq(config->slots[p.enclave_index].cid, 0);
	ck_assert_int_eq(peer_identify(config, "ledger", (struct sockaddr *)&un, sizeof(un))
				 .enclave_index,
			 -1); /* has a CID, and no listener names it any more */
	ck_assert_int_eq(
		peer_identify(config, NULL, (struct sockaddr *)&un, sizeof(un)).enclave_index,
		-1);
	ck_assert_int_eq(
		peer_identify(config, "gone", (struct sockaddr *)&un, sizeof(un)).enclave_index,
		-1);
}
END_TEST

START_TEST(knows_nobody_by_anything_else)
{
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = 16};
	struct sockaddr_in in = {.sin_family = AF_INET};
	const struct sockaddr *a = (struct sockaddr *)&vm;

	ck_assert_int_eq(peer_identify(config, NULL, a, sizeof(vm) - 1).enclave_index, -1);
	ck_assert_int_eq(peer_identify(config, NULL, a, 0).enclave_index, -1);
	/* a listener that names an enclave trusts no CID, and the other way round */
	ck_assert_int_eq(peer_identify(config, "dev", a, sizeof(vm)).enclave_index, -1);
	ck_assert_int_eq(
		peer_identify(config, NULL, (struct sockaddr *)&in, sizeof(in)).enclave_index,
		-1);
	ck_assert_int_eq(
		peer_identify(config, "dev", (struct sockaddr *)&in, sizeof(in)).enclave_index,
		-1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("listener");
	TCase *tcase = tcase_create("identity");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, names_the_enclave_of_a_cid, 0, ELEMENTSOF(peers));
	tcase_add_test(tcase, names_the_listeners_enclave_on_a_unix_socket);
	tcase_add_test(tcase, knows_nobody_by_anything_else);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
