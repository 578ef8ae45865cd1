/* SPDX-License-Identifier: Apache-2.0 */

/* Reading, validating and printing. Most cases are files: tests/data/config/good/ holds what is
 * accepted, bad/ what is refused; NAME.expected has the findings, one a line. */

#include "compare.h"
#include "config.h"
#include "document.h"
#include "findings.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct files {
	struct dirent **list;
	int n;
};

static struct files good, bad, examples;

/* Used before the tests run as well, where check's assertions are not allowed. */
static char *data_path(const char *folder, const char *name)
{
	const char *data = getenv("TEST_DATA");
	char *path;

	if (!data || asprintf(&path, "%s/%s/%s", data, folder, name) < 0)
		abort();
	return path;
}

/* NULL when there is no such file. */
static char *read_file(const char *folder, const char *name, size_t *ret_n)
{
	_cleanup_(freep) char *path = data_path(folder, name);
	FILE *f = fopen(path, "rbe");
	struct stat st;
	char *text;

	if (!f)
		return NULL;
	ck_assert_int_eq(fstat(fileno(f), &st), 0);
	text = calloc((size_t)st.st_size + 1, 1);
	ck_assert_ptr_nonnull(text);
	*ret_n = fread(text, 1, (size_t)st.st_size, f);
	fclose(f);
	return text;
}

static char *printed(const struct config *config)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	config_print(config, f);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

static char *printed_findings(const struct findings *findings, const char *name)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	findings_print(findings, name, f);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

/* Parses a text that must be right. */
static struct config *parse(const char *text)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(freep) char *list = NULL;
	struct config *config = NULL;
	int r = config_parse(text, strlen(text), "test.yaml", &config, &findings);

	list = printed_findings(&findings, "test.yaml");
	ck_assert_msg(r == 0, "%s", list);
	return config;
}

/* Parses a text that must be wrong, and says what is found. */
static char *refused(const char *text, size_t n)
{
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *config = NULL;

	ck_assert_int_eq(config_parse(text, n, "test.yaml", &config, &findings), -EINVAL);
	ck_assert_ptr_null(config);
	ck_assert_uint_gt(findings.n_errors, 0);
	return printed_findings(&findings, "test.yaml");
}

/* The file beside NAME.yaml with another suffix, or NULL. */
static char *read_beside(const char *folder, const char *name, const char *suffix)
{
	_cleanup_(freep) char *file = NULL;
	int base = (int)(strlen(name) - strlen(".yaml"));
	size_t n;

	ck_assert(asprintf(&file, "%.*s%s", base, name, suffix) >= 0);
	return read_file(folder, file, &n);
}

static char *expected_of(const char *folder, const char *name)
{
	return read_beside(folder, name, ".expected") ?: strdup("");
}

/* Accepted, with these warnings only, and what it prints is read to the same again (and is what
 * NAME.printed holds, where there is one). */
static void check_good(const char *folder, const char *name)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *config = NULL, *again = NULL;
	_cleanup_(freep) char *text = NULL, *list = NULL, *first = NULL, *second = NULL;
	_cleanup_(freep) char *expected = expected_of(folder, name);
	_cleanup_(freep) char *golden = read_beside(folder, name, ".printed");
	size_t n;
	int r;

	text = read_file(folder, name, &n);
	ck_assert_ptr_nonnull(text);
	r = config_parse(text, n, name, &config, &findings);
	list = printed_findings(&findings, name);
	ck_assert_msg(r == 0, "%s: %s", name, list);
	ck_assert_uint_eq(findings.n_errors, 0);
	ck_assert_str_eq(list, expected);

	first = printed(config);
	again = parse(first);
	second = printed(again);
	ck_assert_str_eq(first, second);
	if (golden)
		ck_assert_str_eq(first, golden);
}

START_TEST(good_file)
{
	check_good("config/good", good.list[_i]->d_name);
}
END_TEST

START_TEST(example)
{
	check_good("../../config/examples", examples.list[_i]->d_name);
}
END_TEST

START_TEST(shipped_file)
{
	check_good("../../config", "kms-vsock-proxy.yaml");
}
END_TEST

START_TEST(bad_file)
{
	const char *name = bad.list[_i]->d_name;
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *config = NULL;
	_cleanup_(freep) char *expected = expected_of("config/bad", name);
	_cleanup_(freep) char *text = NULL, *list = NULL;
	size_t n;

	text = read_file("config/bad", name, &n);
	ck_assert_ptr_nonnull(text);
	ck_assert_int_eq(config_parse(text, n, name, &config, &findings), -EINVAL);
	ck_assert_ptr_null(config);
	ck_assert_uint_gt(findings.n_errors, 0);
	list = printed_findings(&findings, name);
	ck_assert_str_eq(list, expected);
}
END_TEST

/* The files are all there: an empty folder would test nothing. */
START_TEST(folders_are_full)
{
	ck_assert_int_ge(good.n, 20);
	ck_assert_int_ge(bad.n, 150);
	ck_assert_int_ge(examples.n, 6);
}
END_TEST

#define LISTEN "listen: [{vsock: 8000}]\n"
#define ENDPOINT "endpoints: {k: {region: eu-central-1}}\n"
#define RULE "{name: r, actions: [Decrypt], keys: any}"
#define ENCLAVE "enclaves: {a: {cid: 16, endpoints: [k], allow: [" RULE "]}}\n"
#define MINIMAL LISTEN ENDPOINT ENCLAVE

/* A comment makes a file of any size; what follows it would be missed. */
static char *padded(size_t n)
{
	static const char end[] = "\nworkers: 3\n";
	char *text = malloc(n);

	ck_assert_ptr_nonnull(text);
	memset(text, '#', n);
	memcpy(text, MINIMAL, strlen(MINIMAL));
	memcpy(text + n - strlen(end), end, strlen(end));
	return text;
}

START_TEST(defaults)
{
	_cleanup_(config_unrefp) struct config *c = parse(MINIMAL);
	const struct enclave_config *enclave = &c->enclaves[0];
	const struct endpoint_config *endpoint = &c->endpoints[0];

	ck_assert_str_eq(c->path, "test.yaml");
	ck_assert_uint_eq(c->workers, 1);
	ck_assert_uint_eq(c->memory, 96 * MIB);
	ck_assert_int_eq(c->audit, AUDIT_ALL);
	ck_assert_int_eq(c->credentials.source, SOURCE_IMDS);
	ck_assert_str_eq(c->credentials.imds_endpoint, "http://169.254.169.254");
	ck_assert_ptr_null(c->credentials.imds_role);
	ck_assert_ptr_null(c->credentials.container_uri);
	ck_assert_ptr_null(c->credentials.file);

	ck_assert_uint_eq(c->n_listeners, 1);
	ck_assert_int_eq(c->listeners[0].kind, LISTENER_VSOCK);
	ck_assert_uint_eq(c->listeners[0].port, 8000);
	ck_assert_int_eq(c->listeners[0].enclave_index, -1);

	ck_assert_str_eq(endpoint->host, "kms.eu-central-1.amazonaws.com");
	ck_assert_str_eq(endpoint->host_header, "kms.eu-central-1.amazonaws.com");
	ck_assert_uint_eq(endpoint->port, 443);
	ck_assert_ptr_null(endpoint->connect_to);
	ck_assert_ptr_null(endpoint->ca_file);
	ck_assert_uint_eq(endpoint->connections, 64);
	ck_assert_int_eq(endpoint->connect_timeout, 5 * USEC_PER_SEC);
	ck_assert_int_eq(endpoint->reply_timeout, 30 * USEC_PER_SEC);
	ck_assert_int_eq(endpoint->queue_timeout, 5 * USEC_PER_SEC);

	ck_assert_int_eq(enclave->limits.requests.interval, 5000);
	ck_assert_uint_eq(enclave->limits.requests.burst, 400);
	ck_assert_uint_eq(enclave->limits.in_flight, 64);
	ck_assert_uint_eq(enclave->limits.connections, 1024);
	ck_assert_uint_eq(enclave->limits.body, LIMIT_BODY_DEFAULT);
	ck_assert(!enclave->policy.rules[0].plaintext_allow);
	ck_assert_uint_eq(enclave->policy.rules[0].endpoints, 1);
	ck_assert_uint_eq(enclave->tunnel.n_hosts, 0);
	ck_assert_ptr_nonnull(enclave->policy.index);
}
END_TEST

/* tests/data/config/good/full.yaml holds every option, none at its default. */
static struct config *load_full(void)
{
	_cleanup_(freep) char *path = data_path("config/good", "full.yaml");
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *config = NULL;

	ck_assert_int_eq(config_load(path, &(struct config_facts){0}, &config, &findings), 0);
	ck_assert_str_eq(config->path, path);
	return config;
}

START_TEST(full_listeners)
{
	_cleanup_(config_unrefp) struct config *c = load_full();
	const struct listener_config *l = c->listeners;

	ck_assert_uint_eq(c->n_listeners, 5);
	ck_assert_uint_eq(l[1].port, 9);
	ck_assert_int_eq(l[2].kind, LISTENER_UNIX);
	ck_assert_str_eq(l[2].path, "/run/kms-vsock-proxy/dev.sock");
	ck_assert_int_eq(l[2].enclave_index, 0);
	ck_assert_uint_eq(l[2].mode, 0660);
	ck_assert_str_eq(l[2].group, "kms");
	ck_assert_uint_eq(l[2].line, 5);
	ck_assert_int_eq(l[3].kind, LISTENER_SYSTEMD);
	ck_assert_str_eq(l[3].fd_name, "kms");
	ck_assert_int_eq(l[3].enclave_index, -1);
	ck_assert_int_eq(l[4].enclave_index, 1);
}
END_TEST

START_TEST(full_endpoints)
{
	_cleanup_(config_unrefp) struct config *c = load_full();
	const struct endpoint_config *e = c->endpoints;

	ck_assert_uint_eq(c->n_endpoints, 2);
	ck_assert_str_eq(e[0].name, "kms-eu");
	ck_assert_str_eq(e[0].host_header, "kms.eu-central-1.amazonaws.com:8443");
	ck_assert_uint_eq(e[0].port, 8443);
	ck_assert_str_eq(e[0].connect_to, "fd00:ec2::7");
	ck_assert_uint_eq(e[0].connect_port, 8443);
	ck_assert_str_eq(e[0].ca_file, "/etc/ssl/private-ca.pem");
	ck_assert_uint_eq(e[0].connections, 32);
	ck_assert_int_eq(e[0].connect_timeout, 1500 * USEC_PER_MSEC);
	ck_assert_int_eq(e[0].reply_timeout, 120 * USEC_PER_SEC);
	ck_assert_int_eq(e[0].queue_timeout, 10 * USEC_PER_SEC);
	ck_assert_str_eq(e[1].host, "kms-fips.us-east-1.api.aws");
	ck_assert(e[1].fips && e[1].dualstack);
	ck_assert_str_eq(e[1].connect_to, "vpce-1.kms.us-east-1.vpce.amazonaws.com");
}
END_TEST

START_TEST(full_policy)
{
	_cleanup_(config_unrefp) struct config *c = load_full();
	const struct rule *rules = c->enclaves[0].policy.rules;

	ck_assert_uint_eq(c->enclaves[0].policy.n_rules, 2);
	ck_assert_str_eq(rules[0].name, "unwrap-data-keys");
	ck_assert_uint_eq(rules[0].line, 39);
	ck_assert_uint_eq(rules[0].actions,
			  UINT64_C(1) << kms_action_index(SLICE("Decrypt")) |
				  UINT64_C(1) << kms_action_index(SLICE("GenerateDataKey")));
	ck_assert_uint_eq(rules[0].endpoints, 3);
	ck_assert(!rules[0].any_key && !rules[0].plaintext_allow);
	ck_assert(!rules[0].delegation_allow && rules[1].delegation_allow);
	ck_assert_uint_eq(rules[0].n_keys, 2);
	ck_assert_str_eq(rules[0].keys[1],
			 "arn:aws:kms:eu-central-1:111122223333:alias/a:b/c_d-e");
	ck_assert_uint_eq(rules[0].n_contexts, 2);
	ck_assert_str_eq(rules[0].contexts[0].name, "app");
	ck_assert_uint_eq(rules[0].contexts[0].n_values, 1);
	ck_assert_str_eq(rules[0].contexts[1].values[1], "production");
	ck_assert_uint_eq(rules[1].endpoints, 1);
	ck_assert(rules[1].plaintext_allow);
	ck_assert(c->enclaves[1].policy.rules[0].any_key);
}
END_TEST

START_TEST(full_rest)
{
	_cleanup_(config_unrefp) struct config *c = load_full();
	const struct enclave_config *e = &c->enclaves[0];

	ck_assert(e->cid == 16 && e->n_cids == 0 && c->enclaves[1].cid == 0);
	ck_assert_uint_eq(e->endpoints[0], 1);
	ck_assert_uint_eq(e->endpoints[1], 0);
	ck_assert_int_eq(e->limits.requests.interval, 360 * USEC_PER_SEC);
	ck_assert_uint_eq(e->limits.requests.burst, 20);
	ck_assert_uint_eq(e->limits.in_flight, 1);
	ck_assert_uint_eq(e->limits.connections, 5);
	ck_assert_uint_eq(e->limits.body, 300000);
	ck_assert_uint_eq(c->enclaves[1].limits.requests.burst, 7);

	ck_assert_uint_eq(e->tunnel.n_hosts, 2);
	ck_assert_str_eq(e->tunnel.hosts[0].host, "kms.eu-central-1.amazonaws.com");
	ck_assert_uint_eq(e->tunnel.hosts[0].port, 443);
	ck_assert_ptr_null(e->tunnel.hosts[0].connect_to);
	ck_assert_str_eq(e->tunnel.hosts[1].connect_to, "127.0.0.1");
	ck_assert_uint_eq(e->tunnel.hosts[1].connect_port, 18443);
	ck_assert_uint_eq(e->tunnel.bandwidth, 1536 * KIB);
	ck_assert_uint_eq(e->tunnel.connections, 9);
	ck_assert_int_eq(e->tunnel.idle, 90 * USEC_PER_SEC);

	ck_assert_int_eq(c->credentials.source, SOURCE_CONTAINER);
	ck_assert_str_eq(c->credentials.imds_role, "My_Role+=,.@-1");
	ck_assert_str_eq(c->credentials.container_uri, "http://169.254.170.23/v1/credentials");
	ck_assert_str_eq(c->credentials.container_token_file, "/var/run/secrets/token");
	ck_assert_uint_eq(c->workers, 8);
	ck_assert_int_eq(c->audit, AUDIT_REFUSALS);
}
END_TEST

/* Values of a context are compared with a body's canonical text. */
START_TEST(context_is_canonical)
{
	_cleanup_(config_unrefp) struct config *c =
		parse(LISTEN ENDPOINT
		      "enclaves: {a: {cid: 16, endpoints: [k], allow: [{name: r, actions: "
		      "[Decrypt], keys: any, encryption_context: {\"a\\\"/\\u00fc\": "
		      "\"\\0\\x01\\n\\x7f\"}}]}}\n");
	const struct rule_context *context = c->enclaves[0].policy.rules[0].contexts;

	ck_assert_str_eq(context->name, "a\\\"/\xc3\xbc");
	ck_assert_str_eq(context->values[0], "\\u0000\\u0001\\n\x7f");
}
END_TEST

START_TEST(find)
{
	_cleanup_(config_unrefp) struct config *c = load_full();

	ck_assert_int_eq(config_find_enclave(c, "payments"), 0);
	ck_assert_int_eq(config_find_enclave(c, "dev.1"), 1);
	ck_assert_int_eq(config_find_enclave(c, "dev"), -1);
	ck_assert_int_eq(config_find_enclave(c, "Payments"), -1);
	ck_assert_int_eq(config_find_cid(c, 16), 0);
	ck_assert_int_eq(config_find_cid(c, 17), -1);
	ck_assert_int_eq(config_find_cid(c, 0), -1); /* dev.1 has no CID, and its field is 0 */
}
END_TEST

/* The order is that of the file, and whom a listener names comes last. */
static const struct slot_config slots[] = {
	{0, 16, 10},         {0, 17, 10}, {0, 18, 10}, {0, 19, 10},
	{0, 21, 10},         {0, 22, 10}, {0, 24, 10}, {0, 0, 9}, /* two listeners name a */
	{1, 4294967294, 15}, {1, 4, 16},
};

START_TEST(slots_of_cids_and_listeners)
{
	_cleanup_(freep) char *path = data_path("config/good", "cids.yaml");
	_cleanup_(config_unrefp) struct config *c = NULL;
	_cleanup_(findings_done) struct findings findings = {0};

	ck_assert_int_eq(config_load(path, &(struct config_facts){0}, &c, &findings), 0);
	ck_assert_uint_eq(c->n_slots, ELEMENTSOF(slots));
	for (int i = 0; i < (int)ELEMENTSOF(slots); i++) {
		ck_assert_uint_eq(c->slots[i].enclave, slots[i].enclave);
		ck_assert_uint_eq(c->slots[i].cid, slots[i].cid);
		ck_assert_uint_eq(c->slots[i].line, slots[i].line);
		if (slots[i].cid)
			ck_assert_int_eq(config_find_cid(c, slots[i].cid), i);
		for (int k = 0; k < (int)ELEMENTSOF(slots); k++)
			ck_assert(config_slot_equal(c, (size_t)i, c, (size_t)k) == (i == k));
	}
	ck_assert_int_eq(config_find_slot(c, "a"), 7);
	ck_assert_int_eq(config_find_slot(c, "b"), -1); /* by CID only */
	ck_assert_int_eq(config_find_slot(c, "c"), -1);
	ck_assert_int_eq(config_find_cid(c, 20), -1);
	ck_assert_int_eq(config_find_cid(c, 0), -1);
	ck_assert_uint_eq(config_endpoint_users(c, 0), ELEMENTSOF(slots));
	ck_assert_str_eq(config_slots_noun(c), "slots of enclaves");
	ck_assert_str_eq(config_count(c, (char[CONFIG_COUNT_SIZE]){0}),
			 "2 enclaves (10 slots)");
}
END_TEST

/* The policy is there once, however many slots have it: each of 64 costs no more than its line.
 */
START_TEST(slots_share_what_was_read)
{
	_cleanup_(config_unrefp) struct config *c =
		parse(LISTEN ENDPOINT
		      "limits: {body: 1KiB}\n"
		      "enclaves: {a: {cids: [100-163], endpoints: [k], allow: [" RULE "]}}\n");

	ck_assert_uint_eq(c->n_slots, 64);
	ck_assert_uint_eq(c->n_enclaves, 1);
	ck_assert_int_eq(config_find_enclave(c, "a"), 0);
	for (unsigned i = 0; i < 64; i++)
		ck_assert_uint_eq(c->slots[i].enclave, 0);
}
END_TEST

START_TEST(reference)
{
	struct config *c = parse(MINIMAL);
	struct config *second = config_ref(c);

	ck_assert_ptr_eq(second, c);
	ck_assert_ptr_null(config_unref(c));
	ck_assert_str_eq(second->enclaves[0].name, "a");
	ck_assert_ptr_null(config_unref(second));
	ck_assert_ptr_null(config_unref(NULL));
}
END_TEST

/* payments has kms-us (1) and kms-eu (0). */
static const struct {
	const char *host;
	int endpoint;
} hosts[] = {
	{"kms-fips.us-east-1.api.aws", 1},
	{"kms.eu-central-1.amazonaws.com", 0},
	{"KMS.EU-Central-1.AMAZONAWS.com", 0},
	{"localhost", 1},
	{"LocalHost", 1},
	{"127.0.0.1", 1},
	{"10.1.2.3", 1},
	{"255.255.255.255", 1},
	{"::1", 1},
	{"[::1]", -1}, /* authority_parse() takes the brackets off */
	{"fd00:ec2::254", 1},
	{"", -1},
	{"kms.eu-central-1.amazonaws.com.", -1},
	{"kms.us-east-1.amazonaws.com", -1},
	{"eu-central-1.amazonaws.com", -1},
	{"xkms.eu-central-1.amazonaws.com", -1},
	{"localhost.", -1},
	{"localhost.localdomain", -1},
	{"127.1", -1},
	{"127.0.0.01", -1},
	{"127.0.0.1.nip.io", -1},
	{"1", -1},
	{"256.0.0.1", -1},
	{"[127.0.0.1", -1},
	{"[]", -1},
	{"[::11", -1},
	{"1::1]", -1},
	{"::1::", -1},
	{"kms-eu", -1}, /* an endpoint's name is not its host */
};

START_TEST(pick_endpoint)
{
	_cleanup_(config_unrefp) struct config *c = load_full();

	ck_assert_msg(config_pick_endpoint(c, &c->enclaves[0], slice_from(hosts[_i].host)) ==
			      hosts[_i].endpoint,
		      "%s", hosts[_i].host);
	/* The other enclave has kms-eu only: what picked kms-us by name picks nothing. */
	if (hosts[_i].endpoint == -1 || _i == 0)
		ck_assert_int_eq(
			config_pick_endpoint(c, &c->enclaves[1], slice_from(hosts[_i].host)),
			-1);
	else
		ck_assert_int_eq(
			config_pick_endpoint(c, &c->enclaves[1], slice_from(hosts[_i].host)),
			0);
}
END_TEST

START_TEST(pick_endpoint_of_none)
{
	_cleanup_(config_unrefp) struct config *c =
		parse(LISTEN "enclaves: {a: {cid: 16, tunnel: {hosts: [\"h:443\"]}}}\n");

	ck_assert_int_eq(config_pick_endpoint(c, &c->enclaves[0], SLICE("localhost")), -1);
	ck_assert_int_eq(config_pick_endpoint(c, &c->enclaves[0], SLICE("h")), -1);
}
END_TEST

START_TEST(largest_file)
{
	_cleanup_(freep) char *text = padded(DOCUMENT_BYTES),
			      *larger = padded(DOCUMENT_BYTES + 1);
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *c = NULL;
	_cleanup_(freep) char *list = refused(larger, DOCUMENT_BYTES + 1);

	ck_assert_str_eq(list, "test.yaml: error: the file is larger than 4MiB\n");
	ck_assert_int_eq(config_parse(text, DOCUMENT_BYTES, "test.yaml", &c, &findings), 0);
}
END_TEST

/* A rule with that many keys. */
static char *with_keys(unsigned n)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	fputs(LISTEN ENDPOINT "enclaves:\n  a:\n    cid: 16\n    endpoints: [k]\n    allow:\n"
			      "      - name: r\n        actions: [Decrypt]\n        keys:\n",
	      f);
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "          - alias/k%u\n", i);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

START_TEST(longest_list)
{
	_cleanup_(freep) char *text = with_keys(DOCUMENT_ITEMS),
			      *longer = with_keys(DOCUMENT_ITEMS + 1);
	_cleanup_(config_unrefp) struct config *c = parse(text);
	_cleanup_(freep) char *list = refused(longer, strlen(longer));

	ck_assert_uint_eq(c->enclaves[0].policy.rules[0].n_keys, DOCUMENT_ITEMS);
	ck_assert_str_eq(list, "test.yaml:1035:13: error: a list or mapping has more than 1024 "
			       "entries\n");
}
END_TEST

/* `depth` lists within each other, as the value of an option that doesn't exist. */
static char *nested(unsigned depth)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	fputs(MINIMAL "x: ", f);
	for (unsigned i = 0; i < depth; i++)
		fputc('[', f);
	for (unsigned i = 0; i < depth; i++)
		fputc(']', f);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

START_TEST(deepest_nesting)
{
	/* The mapping around them is one level more. */
	_cleanup_(freep) char *text = nested(DOCUMENT_DEPTH - 1),
			      *deeper = nested(DOCUMENT_DEPTH);
	_cleanup_(freep) char *list = refused(text, strlen(text));
	_cleanup_(freep) char *deeper_list = refused(deeper, strlen(deeper));

	ck_assert_str_eq(list, "test.yaml:4:1: error: the file has no option \"x\"\n");
	ck_assert_str_eq(deeper_list,
			 "test.yaml:4:19: error: lists and mappings are more than 16 "
			 "levels deep\n");
}
END_TEST

/* However many faults a file has, all are counted and so many are shown. */
START_TEST(most_findings)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(freep) char *text = NULL, *list = NULL;
	struct config *config = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	fputs(MINIMAL, f);
	for (unsigned i = 0; i < FINDINGS_MAX + 10; i++)
		fprintf(f, "x%u: 1\n", i);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(config_parse(text, size, "test.yaml", &config, &findings), -EINVAL);
	ck_assert_uint_eq(findings.n, FINDINGS_MAX);
	ck_assert_uint_eq(findings.n_errors, FINDINGS_MAX + 10);
	list = printed_findings(&findings, "test.yaml");
	ck_assert_ptr_nonnull(strstr(list, "\ntest.yaml: error: 10 more are left out\n"));
}
END_TEST

/* Values that a finding quotes are cut and escaped: it stays one line of printable ASCII. */
START_TEST(findings_are_printable)
{
	_cleanup_(freep) char *text = NULL, *list = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	fputs("\"\\e]0;x\\a\\n\xc3\xbc", f);
	for (unsigned i = 0; i < 900; i++)
		fputc('y', f);
	fputs("\": 1\n", f);
	ck_assert_int_eq(fclose(f), 0);
	list = refused(text, size);
	for (const char *p = list; *p; p++)
		ck_assert(*p == '\n' || (*p >= 0x20 && *p <= 0x7e));
	ck_assert_ptr_nonnull(strstr(list, "\\x1b]0;x\\x07\\x0a\\xc3\\xbcyyy"));
	ck_assert_uint_lt(strlen(list), 600);
}
END_TEST

START_TEST(unreadable_files)
{
	static const struct {
		const char *name;
		int r;
		const char *text;
	} rows[] = {
		{"absent.yaml", -ENOENT, ": error: can't be read: No such file or directory\n"},
		{"good", -EISDIR, ": error: can't be read: Is a directory\n"},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		_cleanup_(freep) char *path = data_path("config", rows[i].name), *list = NULL;
		_cleanup_(findings_done) struct findings findings = {0};
		struct config *config = NULL;

		ck_assert_int_eq(
			config_load(path, &(struct config_facts){0}, &config, &findings),
			rows[i].r);
		ck_assert_uint_eq(findings.n_errors, 1);
		list = printed_findings(&findings, path);
		ck_assert_str_eq(list + strlen(path), rows[i].text);
	}
}
END_TEST

/* A file that is read in more than one piece, and one that is too large. */
START_TEST(large_files)
{
	for (size_t n = DOCUMENT_BYTES; n <= DOCUMENT_BYTES + 1; n++) {
		_cleanup_(freep) char *text = padded(n);
		_cleanup_(findings_done) struct findings findings = {0};
		_cleanup_(config_unrefp) struct config *config = NULL;
		int fd = memfd_create("config", MFD_CLOEXEC);
		char path[64];

		ck_assert_int_eq(write(fd, text, n), n);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ck_assert_int_eq(
			config_load(path, &(struct config_facts){0}, &config, &findings),
			n > DOCUMENT_BYTES ? -EINVAL : 0);
		ck_assert_uint_eq(findings.n_errors, n > DOCUMENT_BYTES);
		ck_assert(n > DOCUMENT_BYTES || config->workers == 3);
		close(fd);
	}
}
END_TEST

START_TEST(standard_input)
{
	_cleanup_(freep) char *path = data_path("config/good", "full.yaml");
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *config = NULL;

	ck_assert_ptr_nonnull(freopen(path, "rbe", stdin));
	ck_assert_int_eq(config_load("-", &(struct config_facts){0}, &config, &findings), 0);
	ck_assert_str_eq(config->path, "-");
	ck_assert_uint_eq(config->n_enclaves, 2);
}
END_TEST

/* `region: instance`. */

#define FLEET(options, keys)                                                                   \
	"listen: [{vsock: 1}]\n"                                                               \
	"endpoints: {k: {region: instance" options "}, other: {region: us-east-1}}\n"          \
	"enclaves: {a: {cid: 4, endpoints: [k, other], allow: [{name: r, actions: [Decrypt], " \
	"endpoints: [k], keys: [" keys "]}]}}\n"
#define ARN(region) "arn:aws:kms:" region ":111122223333:alias/x"

static const struct {
	const char *text, *region, *no_region;
	bool is_error;
	const char *host, *expected; /* host NULL: refused, "": none */
} fleets[] = {
	{FLEET("", ARN("eu-central-1")), "eu-central-1", NULL, false,
	 "kms.eu-central-1.amazonaws.com", ""},
	{FLEET(", fips: true", "arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/x"),
	 "us-gov-west-1", NULL, false, "kms-fips.us-gov-west-1.amazonaws.com", ""},
	{FLEET(", dualstack: true", ARN("eu-west-1")), "eu-west-1", NULL, false,
	 "kms.eu-west-1.api.aws", ""},
	{FLEET(", host: vpce.example.com", ARN("eu-west-1")), "eu-west-1", NULL, false,
	 "vpce.example.com", ""},
	{FLEET("", ARN("eu-west-1") ", " ARN("us-east-1")), "us-east-1", NULL, false,
	 "kms.us-east-1.amazonaws.com",
	 "f:3:35: error: endpoints: \"k\" and \"other\" have one host, so a request's Host "
	 "can't "
	 "tell them apart\n"},
	{FLEET("", ARN("eu-west-1") ", " ARN("eu-west-2")), "eu-north-1", NULL, false,
	 "kms.eu-north-1.amazonaws.com",
	 "f:3:107: warning: keys: none is in eu-north-1, the region of this instance, so rule "
	 "\"r\" allows nothing here\n"},
	{FLEET("", ARN("eu-west-1") ", alias/x"), "eu-north-1", NULL, false,
	 "kms.eu-north-1.amazonaws.com", ""},
	{FLEET("", ARN("eu-west-1")), NULL, NULL, false, "", ""},
	{FLEET("", ARN("eu-west-1")), NULL, "instance, they say", false, "",
	 "f:2:25: warning: region: instance, they say\n"},
	{FLEET("", ARN("eu-west-1")), NULL, "instance, they say", true, NULL,
	 "f:2:25: error: region: instance, they say\n"},
	{FLEET(", fips: true", "\"arn:aws-cn:kms:cn-north-1:111122223333:alias/x\""),
	 "cn-north-1", NULL, false, "kms-fips.cn-north-1.amazonaws.com.cn",
	 "f:2:41: warning: fips: AWS lists no FIPS endpoint of KMS in partition aws-cn\n"},
};

START_TEST(region_of_the_instance)
{
	const struct config_facts facts = {.instance_region = fleets[_i].region,
					   .no_region = fleets[_i].no_region,
					   .no_region_is_error = fleets[_i].is_error};
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *c = NULL;
	_cleanup_(freep) char *list = NULL, *text = NULL;
	int r = config_parse_with(fleets[_i].text, strlen(fleets[_i].text), "f", &facts, &c,
				  &findings);

	list = printed_findings(&findings, "f");
	ck_assert_str_eq(list, fleets[_i].expected);
	ck_assert_int_eq(r, findings.n_errors > 0 ? -EINVAL : 0);
	if (!c)
		return;
	ck_assert(config_needs_region(c));
	ck_assert_str_eq(c->endpoints[0].host ?: "", fleets[_i].host);
	ck_assert_str_eq(c->endpoints[0].region ?: "", fleets[_i].region ?: "");
	text = printed(c);
	ck_assert_ptr_nonnull(strstr(text, "    region: instance\n"));
}
END_TEST

static int is_yaml(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && strcmp(dot, ".yaml") == 0;
}

static void list_files(const char *folder, struct files *ret_files)
{
	_cleanup_(freep) char *path = data_path(folder, "");

	ret_files->n = scandir(path, &ret_files->list, is_yaml, alphasort);
	ret_files->n = MAX(ret_files->n, 0);
}

static void files_done(struct files *files)
{
	for (int i = 0; i < files->n; i++)
		free(files->list[i]);
	free(files->list);
}

int main(void)
{
	TCase *files = tcase_create("files"), *values = tcase_create("values");
	TCase *limits = tcase_create("limits");
	Suite *suite = suite_create("config");
	SRunner *runner;
	int failed;

	list_files("config/good", &good);
	list_files("config/bad", &bad);
	list_files("../../config/examples", &examples);
	tcase_add_test(files, folders_are_full);
	tcase_add_loop_test(files, good_file, 0, good.n);
	tcase_add_loop_test(files, bad_file, 0, bad.n);
	tcase_add_loop_test(files, example, 0, examples.n);
	tcase_add_test(files, shipped_file);
	tcase_add_test(files, unreadable_files);
	tcase_add_test(files, large_files);
	tcase_add_test(files, standard_input);
	tcase_add_test(values, defaults);
	tcase_add_test(values, full_listeners);
	tcase_add_test(values, full_endpoints);
	tcase_add_test(values, full_policy);
	tcase_add_test(values, full_rest);
	tcase_add_test(values, context_is_canonical);
	tcase_add_test(values, find);
	tcase_add_test(values, slots_of_cids_and_listeners);
	tcase_add_test(values, slots_share_what_was_read);
	tcase_add_test(values, reference);
	tcase_add_loop_test(values, region_of_the_instance, 0, ELEMENTSOF(fleets));
	tcase_add_loop_test(values, pick_endpoint, 0, ELEMENTSOF(hosts));
	tcase_add_test(values, pick_endpoint_of_none);
	tcase_add_test(limits, largest_file);
	tcase_add_test(limits, longest_list);
	tcase_add_test(limits, deepest_nesting);
	tcase_add_test(limits, most_findings);
	tcase_add_test(limits, findings_are_printable);
	suite_add_tcase(suite, files);
	suite_add_tcase(suite, values);
	suite_add_tcase(suite, limits);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	files_done(&good);
	files_done(&bad);
	files_done(&examples);
	return failed ? 1 : 0;
}
