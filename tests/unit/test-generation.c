/* SPDX-License-Identifier: Apache-2.0 */

/* Whose rules hold after a reload: who is found in the new configuration, and who may go on as
 * before. */

#include "generation.h"

#include "credentials_health.h"
#include "tls_peer.h"

#include <check.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SIZE 4096

static char folder[] = "/tmp/test-generation-XXXXXX";
static char ca[64], other_ca[64];
static struct enclave_table *enclaves;
static struct credentials_health_table *health;

/* Two certificates that nobody else has. */
static void write_ca(const char *path)
{
	struct event_base *base = event_base_new();
	struct tls_peer *peer = tls_peer_new(base);
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(tls_peer_store(peer));
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(sk_X509_OBJECT_num(objects), 1);
	ck_assert_int_eq(
		PEM_write_X509(f, X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, 0))), 1);
	fclose(f);
	tls_peer_free(peer);
	event_base_free(base);
}

static void setup(void)
{
	memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(ca, sizeof(ca), "%s/ca.pem", folder);
	snprintf(other_ca, sizeof(other_ca), "%s/other.pem", folder);
	write_ca(ca);
	write_ca(other_ca);
	ck_assert_int_eq(enclave_table_new(&enclaves), 0);
	ck_assert_int_eq(credentials_health_table_new(&health), 0);
}

static void teardown(void)
{
	enclaves = enclave_table_free(enclaves);
	health = credentials_health_table_free(health);
	unlink(ca);
	unlink(other_ca);
	rmdir(folder);
}

/* What a file may say otherwise than the usual. */
struct change {
	const char *what;
	const char *name;    /* of the enclave with CID 16; "" removes it */
	const char *cid;     /* its CID */
	const char *cids;    /* the list of its CIDs instead */
	const char *actions; /* its rule's */
	const char *limit;   /* of requests */
	const char *timeout; /* of its endpoint */
	bool other_ca;       /* its endpoint's */
	bool other_of_dev;   /* the CA of the endpoint that only dev has */
	bool renewed;        /* other certificates in the same file */
	/* of an identity with CID 16 that was payments */
	bool found, same, same_trust;
};

static const struct change usual = {.found = true, .same = true, .same_trust = true};

static struct generation *make(const struct change *c)
{
	static char text[FILE_SIZE];
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *config = NULL;
	struct generation *g;
	struct error error = {0};
	const char *name = c->name ?: "payments";
	char enclave[512] = "";

	if (name[0])
		snprintf(enclave, sizeof(enclave),
			 "  %s: {%s: %s, endpoints: [eu], limits: {requests: %s}, allow: "
			 "[{name: r, actions: [%s], keys: any}]}\n",
			 name, c->cids ? "cids" : "cid", c->cids ?: c->cid ?: "16", c->limit ?: "100/s",
			 c->actions ?: "DescribeKey");
	snprintf(text, sizeof(text),
		 "listen: [{vsock: 8000}, {unix: %s/s, enclave: dev}]\n"
		 "endpoints:\n"
		 "  eu: {region: eu-central-1, ca_file: %s, reply_timeout: %s}\n"
		 "  us: {region: us-east-1, ca_file: %s}\n"
		 "credentials: {source: imds}\n"
		 "enclaves:\n%s"
		 "  dev: {cid: 99, endpoints: [us], allow: [{name: r, actions: [DescribeKey], "
		 "keys: any}]}\n",
		 folder, c->other_ca ? other_ca : ca, c->timeout ?: "30s",
		 c->other_of_dev ? other_ca : ca, enclave);
	ck_assert_msg(config_parse(text, strlen(text), "test", &config, &findings) == 0, "%s",
		      findings.n ? findings.list[0].text : "");
	ck_assert_msg(generation_new(config, enclaves, health, &g, &error) == 0, "%s",
		      error.text);
	return g;
}

static const struct change changes[] = {
	{.what = "nothing", .found = true, .same = true, .same_trust = true},
	{.what = "its rule", .actions = "Encrypt", .found = true},
	{.what = "its limit", .limit = "200/s", .found = true},
	{.what = "its endpoint's timeout",
	 .timeout = "20s",
	 .found = true,
	 .same = true,
	 .same_trust = true},
	{.what = "its endpoint's CA", .other_ca = true, .found = true},
	{.what = "what its endpoint's CA file holds",
	 .renewed = true,
	 .found = true,
	 .same = true},
	{.what = "another endpoint's CA",
	 .other_of_dev = true,
	 .found = true,
	 .same = true,
	 .same_trust = true},
	{.what = "its CID", .cid = "17"},
	{.what = "its name: the CID is another's", .name = "billing"},
	{.what = "the same CID in a list",
	 .cids = "[16]",
	 .found = true,
	 .same = true,
	 .same_trust = true},
	{.what = "CIDs more, before and after it",
	 .cids = "[4, 15-18, 20]",
	 .found = true,
	 .same = true,
	 .same_trust = true},
	{.what = "the CID goes out of the list", .cids = "[15, 17-18]"},
	{.what = "a rule of all its CIDs",
	 .cids = "[16, 17]",
	 .actions = "Encrypt",
	 .found = true},
	{.what = "the CID is in another's list", .name = "billing", .cids = "[15-17]"},
	{.what = "it is there no more", .name = ""},
};

START_TEST(who_may_go_on_after_a_reload)
{
	const struct change *c = &changes[_i];
	struct generation *old = make(&usual), *g;
	struct enclave *e = enclave_table_get(enclaves, "payments", 16);
	const struct identity id = {.has_cid = true, .cid = 16, .enclave = e};
	int at;

	if (c->renewed)
		write_ca(ca);
	g = make(c);
	at = generation_find(g, &id);
	ck_assert_int_ge(generation_find(old, &id), 0);
	ck_assert_msg((at >= 0) == c->found, "%s", c->what);
	if (at >= 0) {
		ck_assert_str_eq(generation_enclave(g, (unsigned)at)->name, "payments");
		ck_assert_ptr_eq(g->enclaves[at], e);
	}
	ck_assert_msg(generation_same(old, g, &id) == c->same, "%s", c->what);
	ck_assert_msg(generation_same_trust(old, g, &id) == c->same_trust, "%s", c->what);
	generation_unref(old);
	generation_unref(g);
}
END_TEST

/* On a Unix socket it is the listener's enclave that names the peer. */
START_TEST(who_has_no_cid_is_found_by_name)
{
	struct generation *g = make(&usual);
	const struct identity dev = {.enclave = enclave_table_get(enclaves, "dev", 0)};
	const struct identity gone = {.enclave = enclave_table_get(enclaves, "gone", 0)};
	int at = generation_find(g, &dev);

	ck_assert_int_ge(at, 0);
	ck_assert_str_eq(generation_enclave(g, (unsigned)at)->name, "dev");
	ck_assert_int_eq(generation_find(g, &gone), -1);
	generation_unref(g);
}
END_TEST

/* One of three CIDs goes; the others, and the peers of the listener, are whom they were. */
START_TEST(a_reload_that_takes_a_cid_out_leaves_the_others)
{
	static const struct change three = {.name = "dev2", .cids = "[16, 17-18]"};
	static const struct change two = {.name = "dev2", .cids = "[18, 16]"};
	struct generation *old = make(&three), *g = make(&two);
	struct enclave *seen[3];

	for (unsigned i = 0; i < 3; i++) {
		struct identity id = {true, 16 + i, old->enclaves[i]};

		seen[i] = id.enclave;
		ck_assert_str_eq(id.enclave->named.name, "dev2");
		ck_assert_uint_eq(id.enclave->named.number, 16 + i);
		ck_assert_int_eq(generation_find(old, &id), (int)i);
		ck_assert(generation_same_trust(old, g, &id) == (i != 1));
		ck_assert((generation_find(g, &id) >= 0) == (i != 1));
	}
	ck_assert(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
	ck_assert_ptr_eq(g->enclaves[0], seen[2]); /* in the order of this file */
	ck_assert_ptr_eq(g->enclaves[1], seen[0]);
	ck_assert_ptr_eq(generation_enclave(g, 0), generation_enclave(g, 1));
	/* and back again it is what it was */
	generation_unref(g);
	g = make(&three);
	ck_assert_ptr_eq(g->enclaves[1], seen[1]);
	generation_unref(old);
	generation_unref(g);
}
END_TEST

/* A CID and a listener of one enclave: neither is the other. */
START_TEST(a_peer_without_cid_is_another_slot)
{
	struct generation *g = make(&usual);
	int by_cid = config_find_cid(g->config, 99),
	    by_name = config_find_slot(g->config, "dev");
	const struct identity vsock = {true, 99, enclave_table_get(enclaves, "dev", 99)};
	const struct identity local = {false, 0, enclave_table_get(enclaves, "dev", 0)};
	const struct identity crossed[] = {{true, 99, local.enclave},
					   {false, 0, vsock.enclave}};

	ck_assert_int_ne(by_cid, by_name);
	ck_assert_int_eq(generation_find(g, &vsock), by_cid);
	ck_assert_int_eq(generation_find(g, &local), by_name);
	ck_assert_ptr_ne(vsock.enclave, local.enclave);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(generation_find(g, &crossed[i]), -1);
	generation_unref(g);
}
END_TEST

/* What an enclave has used, and what an endpoint said of the credentials, survive. */
START_TEST(what_was_used_survives_a_reload)
{
	struct generation *old = make(&usual), *g = make(&changes[1]);

	ck_assert_ptr_eq(old->enclaves[0], g->enclaves[0]);
	ck_assert_ptr_eq(old->health[0], g->health[0]);
	ck_assert_ptr_ne(old->health[0], old->health[1]);
	ck_assert_uint_eq(g->memory_share, g->config->memory / 3);
	generation_unref(old);
	generation_unref(g);
}
END_TEST

START_TEST(a_swap_takes_a_reference)
{
	struct generation *a = make(&usual), *b = make(&usual), *slot = generation_ref(a);

	generation_swap(&slot, b);
	ck_assert_ptr_eq(slot, b);
	ck_assert_uint_eq(atomic_load(&a->refs), 1);
	ck_assert_uint_eq(atomic_load(&b->refs), 2);
	generation_swap(&slot, b); /* the same */
	ck_assert_uint_eq(atomic_load(&b->refs), 2);
	generation_unref(slot);
	generation_unref(a);
	generation_unref(b);
}
END_TEST

START_TEST(a_file_without_certificates_is_an_error_that_names_it)
{
	_cleanup_(config_unrefp) struct config *config = NULL;
	struct generation *good = make(&usual), *g = NULL;
	struct error error = {0};

	config = config_ref(good->config);
	generation_unref(good);
	ck_assert_int_eq(truncate(ca, 0), 0);
	ck_assert_int_lt(generation_new(config, enclaves, health, &g, &error), 0);
	ck_assert_ptr_null(g);
	ck_assert_msg(strstr(error.text, ca) != NULL, "%s", error.text);
}
END_TEST

/* Opening a FIFO would not end before somebody writes to it. */
START_TEST(a_file_that_is_none_is_not_waited_for)
{
	_cleanup_(config_unrefp) struct config *config = NULL;
	struct generation *good = make(&usual), *g = NULL;
	struct error error = {0};

	config = config_ref(good->config);
	generation_unref(good);
	ck_assert_int_eq(unlink(ca), 0);
	ck_assert_int_eq(mkfifo(ca, 0600), 0);
	ck_assert_int_lt(generation_new(config, enclaves, health, &g, &error), 0);
	ck_assert_ptr_null(g);
	ck_assert_msg(strstr(error.text, ": not a regular file") != NULL, "%s", error.text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("generation");
	TCase *tcase = tcase_create("generation");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, who_may_go_on_after_a_reload, 0, ELEMENTSOF(changes));
	tcase_add_test(tcase, who_has_no_cid_is_found_by_name);
	tcase_add_test(tcase, a_reload_that_takes_a_cid_out_leaves_the_others);
	tcase_add_test(tcase, a_peer_without_cid_is_another_slot);
	tcase_add_test(tcase, what_was_used_survives_a_reload);
	tcase_add_test(tcase, a_swap_takes_a_reference);
	tcase_add_test(tcase, a_file_without_certificates_is_an_error_that_names_it);
	tcase_add_test(tcase, a_file_that_is_none_is_not_waited_for);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
