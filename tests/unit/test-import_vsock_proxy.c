/* SPDX-License-Identifier: Apache-2.0 */

/* Files as AWS's vsock-proxy reads them. What is printed for the good ones is a configuration
 * of ours as soon as its comments are taken off. */

#include "import_vsock_proxy.h"

#include <assert.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What is printed, or NULL when it is refused; *ret_list is what is found. */
static char *import_with(const char *text, const struct import_question *question,
			 char **ret_list)
{
	_cleanup_(findings_done) struct findings findings = {0};
	char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);
	int r = import_vsock_proxy(slice_from(text), question, f, &findings);

	ck_assert_int_eq(fclose(f), 0);
	f = open_memstream(ret_list, &n);
	findings_print(&findings, "f", f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(r, findings.n_errors ? -EINVAL : 0);
	if (r == 0)
		return out;
	ck_assert_str_eq(out, "");
	free(out);
	return NULL;
}

static char *import(const char *text, char **ret_list)
{
	return import_with(text, &(struct import_question){.path = "vsock-proxy.yaml"},
			   ret_list);
}

/* Takes the "#" off the lines below `enclaves`, as the comment at the top says. */
static char *filled_in(const char *printed)
{
	const char *line = strstr(printed, "\nenclaves:\n");
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	ck_assert_ptr_nonnull(line);
	line += strlen("\nenclaves:\n");
	fprintf(f, "%.*s", (int)(line - printed), printed);
	while (*line) {
		const char *end = strchr(line, '\n');

		ck_assert_ptr_nonnull(end);
		ck_assert_int_eq(*line, '#');
		fprintf(f, "%.*s\n", (int)(end - line - 1), line + 1);
		line = end + 1;
	}
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

static struct config *parse(const char *text)
{
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *config = NULL;
	int r = config_parse(text, strlen(text), "test.yaml", &config, &findings);

	if (r < 0)
		findings_print(&findings, "test.yaml", stdout);
	ck_assert_int_eq(r, 0);
	return config;
}

#define LABEL60 "a01234567890123456789012345678901234567890123456789012345678"
#define NAME253 LABEL60 "." LABEL60 "." LABEL60 "." LABEL60 ".abcdefg.z"

static_assert(sizeof(NAME253) == 253 + 1, "the longest name there is");

/* The hosts of the configuration that comes of it, and what it says. */
static const struct {
	const char *text, *hosts, *list;
} good[] = {
	{"allowlist:\n"
	 "- {address: kms.us-east-2.amazonaws.com, port: 443}\n"
	 "- {address: kms-fips.us-east-2.amazonaws.com, port: 443}\n"
	 "- {address: kms.us-gov-west-1.amazonaws.com, port: 443}\n",
	 "kms.us-east-2.amazonaws.com:443 kms-fips.us-east-2.amazonaws.com:443 "
	 "kms.us-gov-west-1.amazonaws.com:443 ",
	 ""},
	{"---\nallowlist:\n  - address: 'a.example'\n    port: 1\n  - address: b\n    port: "
	 "65535\n",
	 "a.example:1 b:65535 ", ""},
	{"{\"allowlist\": [{\"port\": 443, \"address\": \"A.eXample\"}]}", "a.example:443 ",
	 ""},
	{"allowlist: [{address: " NAME253 ", port: 443}]", NAME253 ":443 ", ""},
	/* what vsock-proxy ignores */
	{"allowlist: [{address: a, port: 443, name: kms}]\nother: {}\n", "a:443 ", ""},
	{"allowlist: [{address: a, port: 443}, {address: A, port: 443}]", "a:443 ", ""},
	{"allowlist: [{address: a, port: 443}, {address: b, port: 443},\n {address: a, port: "
	 "80}]",
	 "a:443 b:443 ",
	 "f:2:2: warning: address: a is listed with port 443 already; a TLS server name tells "
	 "no port, so this one is left out\n"},
	{"allowlist:\n- {address: 169.254.169.254, port: 80}\n- {address: a, port: 443}\n- "
	 "{address: \"2001:DB8::1\", port: 443}\n",
	 "a:443 ",
	 "f:2:3: warning: address: 169.254.169.254 is an IP address, and a ClientHello names "
	 "no address; find out which server name the enclave asks for, and put that in with "
	 "connect_to\n"
	 "f:4:3: warning: address: 2001:db8::1 is an IP address, and a ClientHello names no "
	 "address; find out which server name the enclave asks for, and put that in with "
	 "connect_to\n"},
	/* names are compared in lower case and without their final dot */
	{"allowlist: [{address: KMS.us-east-2.AMAZONAWS.com., port: 443},\n {address: "
	 "kms.us-east-2.amazonaws.com, port: 443}, {address: 127.0.0.1., port: 1}]",
	 "kms.us-east-2.amazonaws.com:443 ",
	 "f:2:53: warning: address: 127.0.0.1 is an IP address, and a ClientHello names no "
	 "address; find out which server name the enclave asks for, and put that in with "
	 "connect_to\n"},
	/* regions whose names end otherwise, in any order */
	{"allowlist: [{address: kms.cn-north-1.amazonaws.com, port: 443}]",
	 "kms.cn-north-1.amazonaws.com:443 kms.cn-north-1.amazonaws.com.cn:443 ", ""},
	{"allowlist: [{address: s3.cn-northwest-1.amazonaws.com, port: 443}, {address: "
	 "s3.cn-northwest-1.amazonaws.com.cn, port: 443}]",
	 "s3.cn-northwest-1.amazonaws.com:443 s3.cn-northwest-1.amazonaws.com.cn:443 ", ""},
	{"allowlist: [{address: kms.cn-north-1.amazonaws.com.cn, port: 443}, {address: "
	 "kms.cn-north-1.amazonaws.com, port: 443}]",
	 "kms.cn-north-1.amazonaws.com.cn:443 kms.cn-north-1.amazonaws.com:443 ", ""},
	{"allowlist: [{address: kms.us-iso-east-1.amazonaws.com, port: 443}]",
	 "kms.us-iso-east-1.amazonaws.com:443 kms.us-iso-east-1.c2s.ic.gov:443 ", ""},
	/* interface endpoints of a VPC */
	{"allowlist: [{address: "
	 "vpce-0a1b-2c3d.kms.eu-central-1.vpce.amazonaws.com, port: 443}]",
	 "kms.eu-central-1.amazonaws.com:443>"
	 "vpce-0a1b-2c3d.kms.eu-central-1.vpce.amazonaws.com:443 ",
	 ""},
	{"allowlist: [{address: "
	 "VPCE-0a1b-2c3d-eu-central-1a.secretsmanager.eu-central-1.vpce.amazonaws.com., port: "
	 "8443}]",
	 "secretsmanager.eu-central-1.amazonaws.com:8443>"
	 "vpce-0a1b-2c3d-eu-central-1a.secretsmanager.eu-central-1.vpce.amazonaws.com:8443 ",
	 ""},
	{"allowlist: [{address: vpce-0a.kms.cn-north-1.vpce.amazonaws.com.cn, port: 443}]",
	 "kms.cn-north-1.amazonaws.com.cn:443>"
	 "vpce-0a.kms.cn-north-1.vpce.amazonaws.com.cn:443 ",
	 ""},
	{"allowlist: [{address: kms.eu-west-1.amazonaws.com, port: 443},\n {address: "
	 "vpce-0a.kms.eu-west-1.vpce.amazonaws.com, port: 443}]",
	 "kms.eu-west-1.amazonaws.com:443 ",
	 "f:2:2: warning: address: enclaves ask for kms.eu-west-1.amazonaws.com, which leads "
	 "to kms.eu-west-1.amazonaws.com already, so this one is left out\n"},
	/* names that hardly anybody asks for */
	{"allowlist: [{address: vpce-svc-0a.eu-west-1.vpce.amazonaws.com, port: 443}]",
	 "vpce-svc-0a.eu-west-1.vpce.amazonaws.com:443 ",
	 "f:1:13: warning: address: vpce-svc-0a.eu-west-1.vpce.amazonaws.com may not be the "
	 "server name that the enclave asks for; find that out, and put it in with "
	 "connect_to\n"},
	{"allowlist: [{address: x-1.elb.eu-west-1.elb.amazonaws.com, port: 443}]",
	 "x-1.elb.eu-west-1.elb.amazonaws.com:443 ",
	 "f:1:13: warning: address: x-1.elb.eu-west-1.elb.amazonaws.com may not be the "
	 "server name that the enclave asks for; find that out, and put it in with "
	 "connect_to\n"},
	/* ports that aren't TLS */
	{"allowlist: [{address: db.example, port: 3306},\n {address: cache.example, port: "
	 "6379}]",
	 "db.example:3306 cache.example:6379 ",
	 "f:1:13: warning: port: 3306 is that of MySQL, which doesn't begin with TLS; an "
	 "enclave that speaks it must ask by CONNECT, and its host needs tls: false\n"
	 "f:2:2: warning: port: 6379 is that of Redis, which doesn't begin with TLS; an "
	 "enclave that speaks it must ask by CONNECT, and its host needs tls: false\n"},
};

static size_t print_host(const struct tunnel_host *host, char *out, size_t size)
{
	if (host->connect_to)
		return (size_t)snprintf(out, size, "%s:%u>%s:%u ", host->host, host->port,
					host->connect_to, host->connect_port);
	return (size_t)snprintf(out, size, "%s:%u ", host->host, host->port);
}

START_TEST(a_good_list_becomes_the_hosts_of_a_tunnel)
{
	_cleanup_(freep) char *list = NULL, *printed = import(good[_i].text, &list);
	_cleanup_(freep) char *filled = NULL;
	_cleanup_(config_unrefp) struct config *config = NULL;
	char hosts[1024] = "";
	size_t n = 0;

	ck_assert_str_eq(list, good[_i].list);
	ck_assert_ptr_nonnull(printed);
	filled = filled_in(printed);
	config = parse(filled);
	ck_assert_uint_eq(config->n_listeners, 1);
	ck_assert_uint_eq(config->listeners[0].port, 8000);
	ck_assert_uint_eq(config->n_enclaves, 1);
	ck_assert_uint_eq(config->enclaves[0].cid, 16);
	ck_assert_uint_eq(config->enclaves[0].policy.n_rules, 0);
	for (size_t i = 0; i < config->enclaves[0].tunnel.n_hosts; i++)
		n += print_host(&config->enclaves[0].tunnel.hosts[i], hosts + n,
				sizeof(hosts) - n);
	ck_assert_str_eq(hosts, good[_i].hosts);
}
END_TEST

/* Nobody gets in by it as it is printed. */
START_TEST(the_enclaves_are_left_to_be_filled_in)
{
	_cleanup_(freep) char *list = NULL, *printed = import(good[0].text, &list);
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *config = NULL;

	ck_assert_int_eq(
		config_parse(printed, strlen(printed), "test.yaml", &config, &findings),
		-EINVAL);
	ck_assert_uint_eq(findings.n, 1);
	ck_assert_ptr_nonnull(strstr(findings.list[0].text, "enclaves: found nothing"));
}
END_TEST

/* The line beside a port that isn't TLS is right as well. */
START_TEST(a_port_that_is_not_tls_can_be_filled_in)
{
	_cleanup_(freep) char *list = NULL;
	_cleanup_(freep) char *printed =
		import("allowlist: [{address: db.example, port: 3306}]", &list);
	_cleanup_(freep) char *filled = filled_in(printed);
	_cleanup_(config_unrefp) struct config *config = NULL;
	char *clear = strstr(filled, "# - {host: db.example, port: 3306, tls: false}");
	char *line = strstr(filled, "- db.example:3306");

	ck_assert(clear && line);
	*clear = ' ';
	*line = '#';
	config = parse(filled);
	ck_assert_uint_eq(config->enclaves[0].tunnel.n_hosts, 1);
	ck_assert_str_eq(config->enclaves[0].tunnel.hosts[0].host, "db.example");
	ck_assert(!config->enclaves[0].tunnel.hosts[0].tls);
}
END_TEST

/* One `listen` for each port, and what the socket unit must be told. */
static const struct {
	struct import_question question;
	const char *drop_in; /* "": the unit serves as it is */
} ports[] = {
	{{"f", {0}, 0}, ""},
	{{"f", {8000}, 1}, ""},
	{{"f", {8000, 8141, 9}, 3},
	 "ListenStream=vsock::8141\n#      ListenStream=vsock::9\n\n"},
	{{"f", {8141}, 1}, "ListenStream=\n#      ListenStream=vsock::8141\n\n"},
	{{"f", {4294967294}, 1}, "ListenStream=\n#      ListenStream=vsock::4294967294\n\n"},
};

START_TEST(each_port_is_listened_on)
{
	const struct import_question *q = &ports[_i].question;
	_cleanup_(freep) char *list = NULL, *printed = import_with(good[0].text, q, &list);
	_cleanup_(freep) char *filled = filled_in(printed);
	_cleanup_(config_unrefp) struct config *config = parse(filled);
	const char *found = strstr(printed, "#      [Socket]\n#      ");

	ck_assert_uint_eq(config->n_listeners, MAX(q->n_ports, (size_t)1));
	for (size_t i = 0; i < config->n_listeners; i++)
		ck_assert_uint_eq(config->listeners[i].port, q->n_ports ? q->ports[i] : 8000);
	ck_assert_int_eq(found == NULL, *ports[_i].drop_in == '\0');
	if (found)
		ck_assert_int_eq(strncmp(found + strlen("#      [Socket]\n#      "),
					 ports[_i].drop_in, strlen(ports[_i].drop_in)),
				 0);
}
END_TEST

/* A line of an address is right as well, once its server name is put in. */
START_TEST(an_address_can_be_filled_in)
{
	_cleanup_(freep) char *list = NULL;
	_cleanup_(freep) char *printed =
		import("allowlist: [{address: \"2001:db8::1\", port: 8443}]", &list);
	_cleanup_(freep) char *filled = filled_in(printed);
	_cleanup_(config_unrefp) struct config *config = NULL;
	char *line = strstr(filled, "# - {host: NAME");
	const struct tunnel_host *host;

	ck_assert_ptr_nonnull(line);
	*line = ' ';
	memcpy(strstr(line, "NAME"), "name", 4);
	config = parse(filled);
	host = &config->enclaves[0].tunnel.hosts[0];
	ck_assert_str_eq(host->host, "name");
	ck_assert_uint_eq(host->port, 8443);
	ck_assert_str_eq(host->connect_to, "2001:db8::1");
	ck_assert_uint_eq(host->connect_port, 8443);
}
END_TEST

START_TEST(the_path_can_not_end_its_comment)
{
	static const struct import_question question = {.path = "a\nworkers: 9"};
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(freep) char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);

	ck_assert_int_eq(import_vsock_proxy(slice_from(good[0].text), &question, f, &findings),
			 0);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_ptr_null(strstr(out, "\nworkers"));
}
END_TEST

#define NOT_ONE "there is no \"allowlist\": expected a file of AWS's vsock-proxy\n"
#define BAD_NAME "; expected a DNS name or an IP address\n"
#define BAD_PORT "; expected a number from 1 to 65535\n"

static const struct {
	const char *text, *list;
} bad[] = {
	{"", "f:1:1: error: " NOT_ONE},
	{"# nothing\n", "f:1:1: error: " NOT_ONE},
	{"[]", "f:1:1: error: " NOT_ONE},
	{"allowlist", "f:1:1: error: " NOT_ONE},
	{"listen: [{vsock: 8000}]\n", "f:1:1: error: " NOT_ONE},
	{"allow_list: [{address: a, port: 443}]", "f:1:1: error: " NOT_ONE},
	{"allowlist: [{address: a, port: 443}}",
	 "f:1:36: error: not YAML: did not find expected ',' or ']', while parsing a flow "
	 "sequence from line 1 on\n"},
	{"allowlist:\n", "f:1:11: error: allowlist: found nothing; expected a list\n"},
	{"allowlist: []", "f:1:12: error: allowlist: the list is empty\n"},
	{"allowlist: {address: a, port: 443}",
	 "f:1:12: error: allowlist: found a mapping; expected a list\n"},
	{"allowlist:\n- a:443\n",
	 "f:2:3: error: allowlist: found text; expected a mapping with address and port\n"},
	{"allowlist: [[a, 443]]",
	 "f:1:13: error: allowlist: found a list; expected a mapping with address and port\n"},
	{"allowlist: [{port: 443}]", "f:1:13: error: allowlist: an entry lacks \"address\"\n"},
	{"allowlist: [{address: a}]", "f:1:13: error: allowlist: an entry lacks \"port\"\n"},
	{"allowlist: [{}]", "f:1:13: error: allowlist: an entry lacks \"address\"\n"},
	{"allowlist: [{address: a, port: 0}]", "f:1:32: error: port: found \"0\"" BAD_PORT},
	{"allowlist: [{address: a, port: 65536}]",
	 "f:1:32: error: port: found \"65536\"" BAD_PORT},
	{"allowlist: [{address: a, port: -1}]", "f:1:32: error: port: found \"-1\"" BAD_PORT},
	{"allowlist: [{address: a, port: https}]",
	 "f:1:32: error: port: found \"https\"" BAD_PORT},
	{"allowlist: [{address: a, port: \"443\"}]",
	 "f:1:32: error: port: found \"443\"" BAD_PORT},
	{"allowlist: [{address: a, port: [443]}]", "f:1:32: error: port: found \"\"" BAD_PORT},
	{"allowlist: [{address: a b, port: 443}]",
	 "f:1:23: error: address: found \"a b\"" BAD_NAME},
	{"allowlist: [{address: 'a:443', port: 443}]",
	 "f:1:23: error: address: found \"a:443\"" BAD_NAME},
	{"allowlist: [{address: a.example.., port: 443}]",
	 "f:1:23: error: address: found \"a.example..\"" BAD_NAME},
	{"allowlist: [{address: ., port: 443}]",
	 "f:1:23: error: address: found \".\"" BAD_NAME},
	{"allowlist: [{address: \"*.example\", port: 443}]",
	 "f:1:23: error: address: found \"*.example\"" BAD_NAME},
	{"allowlist: [{address: 1.2.3, port: 443}]",
	 "f:1:23: error: address: found \"1.2.3\"" BAD_NAME},
	{"allowlist: [{address: \"[::1]\", port: 443}]",
	 "f:1:23: error: address: found \"[::1]\"" BAD_NAME},
	{"allowlist: [{address: \"a\\n- b\", port: 443}]",
	 "f:1:23: error: address: found \"a\\x0a- b\"" BAD_NAME},
	{"allowlist: [{address: \"a\\0b\", port: 443}]",
	 "f:1:23: error: address: found \"a\\x00b\"" BAD_NAME},
	{"allowlist: [{address: ~, port: 443}]",
	 "f:1:23: error: address: found nothing; expected text\n"},
	{"allowlist: [{address: {a: b}, port: 443}]",
	 "f:1:23: error: address: found a mapping; expected text\n"},
	/* one byte longer than a name may be */
	{"allowlist: [{address: x" NAME253 ", port: 443}]", NULL},
	/* all of them, not only the first */
	{"allowlist:\n- {address: a, port: x}\n- {address: 1.1.1.1, port: 1}\n- {address: '', "
	 "port: y}\n",
	 "f:2:22: error: port: found \"x\"" BAD_PORT
	 "f:3:3: warning: address: 1.1.1.1 is an IP address, and a ClientHello names no "
	 "address; find out which server name the enclave asks for, and put that in with "
	 "connect_to\n"
	 "f:4:13: error: address: found \"\"" BAD_NAME
	 "f:4:23: error: port: found \"y\"" BAD_PORT},
	{"allowlist: [{address: a, port: 1}]\nallowlist: [{address: b, port: 1}]\n",
	 "f:2:1: error: \"allowlist\" is given twice; the first is on line 1\n"},
	{"allowlist: &x [{address: a, port: 1}]\n",
	 "f:1:12: error: YAML anchors are not supported; write the value where it is used\n"},
};

START_TEST(a_bad_list_is_refused_with_its_place)
{
	_cleanup_(freep) char *list = NULL;

	ck_assert_ptr_null(import(bad[_i].text, &list));
	if (bad[_i].list)
		ck_assert_str_eq(list, bad[_i].list);
	else
		ck_assert_ptr_nonnull(strstr(list, "f:1:23: error: address: found"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("import_vsock_proxy");
	TCase *tcase = tcase_create("import_vsock_proxy");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, a_good_list_becomes_the_hosts_of_a_tunnel, 0,
			    ELEMENTSOF(good));
	tcase_add_test(tcase, a_port_that_is_not_tls_can_be_filled_in);
	tcase_add_loop_test(tcase, each_port_is_listened_on, 0, ELEMENTSOF(ports));
	tcase_add_test(tcase, the_enclaves_are_left_to_be_filled_in);
	tcase_add_test(tcase, an_address_can_be_filled_in);
	tcase_add_test(tcase, the_path_can_not_end_its_comment);
	tcase_add_loop_test(tcase, a_bad_list_is_refused_with_its_place, 0, ELEMENTSOF(bad));
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
