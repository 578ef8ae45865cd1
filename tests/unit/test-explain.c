/* SPDX-License-Identifier: Apache-2.0 */
#include "explain.h"

#include "explain_document.h"
#include "limit.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define ARN_EU "arn:aws:kms:eu-central-1:111122223333:key/" ID
#define ARN_US "arn:aws:kms:us-east-1:111122223333:key/" ID

static const char text[] = "listen: [{vsock: 8000}]\n"
			   "endpoints:\n"
			   "  eu: {region: eu-central-1}\n"
			   "  us: {region: us-east-1}\n"
			   "enclaves:\n"
			   "  payments:\n"
			   "    cid: 16\n"
			   "    endpoints: [eu, us]\n"
			   "    limits: {body: 1KiB}\n"
			   "    allow:\n"
			   "      - name: unwrap\n"
			   "        actions: [Decrypt]\n"
			   "        keys: [\"" ARN_EU "\"]\n"
			   "        encryption_context: {app: payments}\n"
			   "      - name: debug\n"
			   "        actions: [Decrypt, ReEncrypt]\n"
			   "        endpoints: [us]\n"
			   "        keys: any\n"
			   "        plaintext: allow\n"
			   "      - name: grants\n"
			   "        actions: [CreateGrant]\n"
			   "        keys: [alias/g]\n"
			   "        delegation: allow\n"
			   "        endpoints: [us]\n"
			   "  adder:\n"
			   "    cid: 18\n"
			   "    endpoints: [eu, us]\n"
			   "    allow:\n"
			   "      - name: add\n"
			   "        actions: [Decrypt]\n"
			   "        keys: [\"" ARN_EU "\"]\n"
			   "        plaintext: allow\n"
			   "        missing_key: add\n"
			   "      - name: new\n"
			   "        extra_actions: [NewAction]\n"
			   "        keys: any\n"
			   "        plaintext: allow\n"
			   "        delegation: allow\n"
			   "        extra_members: [NewMember]\n"
			   "  tunnel-only:\n"
			   "    cid: 17\n"
			   "    tunnel: {hosts: [\"h:443\"]}\n";

#define RECIPIENT                                                                              \
	"\"Recipient\":{\"AttestationDocument\":\"aGVsbG8=\",\"KeyEncryptionAlgorithm\":"      \
	"\"RSAES_OAEP_SHA_256\"}"
#define CONTEXT "\"EncryptionContext\":{\"app\":\"payments\"}"

/* The whole answer where it is short; else the lines that must be in it, in this order. */
static const struct {
	const char *enclave, *action, *host, *body;
	int r;
	const char *lines[9]; /* ends in NULL */
} rows[] = {
	{"payments",
	 "Decrypt",
	 NULL,
	 "{\"KeyId\":\"" ID "\"," CONTEXT "," RECIPIENT "}",
	 0,
	 {"verdict:    allowed\n", "enclave:    payments (test.yaml:6)\n",
	  "rule:       unwrap (test.yaml:11)\n",
	  "plaintext:  refuse: a reply with a secret in clear is not relayed\n",
	  "endpoint:   eu (kms.eu-central-1.amazonaws.com, region eu-central-1)\n",
	  "action:     Decrypt\n", "key:        KeyId " ID "\n",
	  "context:    EncryptionContext \"app\"=\"payments\"\nrecipient:  present\n"
	  "document:   no attestation document that KMS would take: byte 0: not an array\n"
	  "rules, in the order they are tried:\n"
	  "  test.yaml:11: rule \"unwrap\" (test.yaml:11) allows Decrypt\n"}},
	{"payments",
	 "Decrypt",
	 NULL,
	 "{\"KeyId\":\"" ID "\"," CONTEXT "}",
	 1,
	 {"verdict:    refused\n",
	  "reason:     recipient: rule \"unwrap\" (test.yaml:11) has plaintext: "
	  "refuse; Decrypt must have a Recipient\n",
	  "recipient:  none\n", "  test.yaml:15: rule \"debug\" is not for endpoint eu\n"}},
	{"payments",
	 "Decrypt",
	 NULL,
	 "{" RECIPIENT "," CONTEXT "}",
	 1,
	 {"verdict:    refused\n",
	  "reason:     key: rule \"unwrap\" (test.yaml:11): Decrypt must name "
	  "KeyId\n",
	  "key:        KeyId is not given\n"}},
	{"payments",
	 "Decrypt",
	 NULL,
	 "{\"KeyId\":\"alias/\\u001b[0m\"}",
	 1,
	 {"reason:     key: ", "key:        KeyId alias/\\x5cu001b[0m\n",
	  "context:    EncryptionContext is not given\n"}},
	{"payments",
	 "Decrypt",
	 "kms.us-east-1.amazonaws.com",
	 "{\"KeyId\":\"alias/x\"}",
	 0,
	 {"verdict:    allowed\n", "rule:       debug (test.yaml:15)\n",
	  "plaintext:  allow: a secret in clear passes\n",
	  "endpoint:   us (kms.us-east-1.amazonaws.com, region us-east-1)\n",
	  "  test.yaml:11: rule \"unwrap\" (test.yaml:11) does not allow key alias/x as KeyId: "
	  "compared as written; an alias is not its key's ARN\n",
	  "  test.yaml:15: rule \"debug\" (test.yaml:15) allows Decrypt\n"}},
	{"payments", "Decrypt", "127.0.0.1", "{}", 1, {"endpoint:   eu ("}},
	{"payments", "Decrypt", "127.0.0.1:8000", "{}", 1, {"endpoint:   eu ("}},
	{"payments", "Decrypt", "[::1]:8000", "{}", 1, {"endpoint:   eu ("}},
	{"payments", "Decrypt", "KMS.us-east-1.amazonaws.com:1", "{}", 0, {"endpoint:   us ("}},
	{"payments",
	 "Decrypt",
	 "::1",
	 "{}",
	 1,
	 {"verdict:    refused\nenclave:    payments (test.yaml:6)\nhost:       empty host\n"}},
	{"payments",
	 "Decrypt",
	 "localhost:0",
	 "{}",
	 1,
	 {"verdict:    refused\n", "host:       port is not a number from 1 to 65535\n"}},
	{"payments",
	 "CreateGrant",
	 "kms.us-east-1.amazonaws.com",
	 "{\"KeyId\":\"alias/g\",\"GranteePrincipal\":\"p\"}",
	 0,
	 {"verdict:    allowed\n", "rule:       grants (test.yaml:20)\n",
	  "delegation: allow: authority over a key may be handed to others\n"}},
	{"payments",
	 "Sign",
	 NULL,
	 "{\"KeyId\":\"" ID "\",\"Message\":\"x\",\"SigningAlgorithm\":"
	 "\"RSASSA_PSS_SHA_256\"}",
	 1,
	 {"reason:     action: no rule allows action Sign at this endpoint\n",
	  "action:     Sign\n", "  test.yaml:11: rule \"unwrap\" does not list Sign\n",
	  "  test.yaml:15: rule \"debug\" is not for endpoint eu\n"}},
	{"payments",
	 "ReEncrypt",
	 "kms.us-east-1.amazonaws.com",
	 "{\"SourceKeyId\":\"alias/a\",\"DestinationKeyId\":\"" ARN_US
	 "\",\"SourceEncryptionContext\":{\"a\":\"\\u001b\",\"b\":\"\"}}",
	 0,
	 {"rule:       debug", "key:        SourceKeyId alias/a\n",
	  "key:        DestinationKeyId "
	  "" ARN_US "\n",
	  "context:    SourceEncryptionContext \"a\"=\"\\x5cu001b\" \"b\"=\"\"\n",
	  "context:    DestinationEncryptionContext is not given\nrules"}},
	{"payments",
	 "Decrypt",
	 "kms.eu-west-1.amazonaws.com",
	 "{}",
	 1,
	 {"verdict:    refused\nenclave:    payments (test.yaml:6)\nhost:       picks none of "
	  "the "
	  "enclave's endpoints\n"}},
	{"tunnel-only",
	 "Decrypt",
	 NULL,
	 "{}",
	 1,
	 {"verdict:    refused\nenclave:    tunnel-only (test.yaml:40)\nhost:       picks "
	  "none"}},
	{"payments",
	 "Decrypt",
	 NULL,
	 "{\"KeyId\":1}",
	 1,
	 {"verdict:    refused\nenclave:    payments (test.yaml:6)\nbody:       KeyId must be "
	  "a "
	  "string\n"}},
	{"payments",
	 "Decrypt",
	 NULL,
	 "{\"KeyId\":\"a\",\"KeyId\":\"a\"}",
	 1,
	 {"verdict:    refused\n", "body:       not strict JSON: "}},
	{"payments",
	 "Decrypt",
	 NULL,
	 "{\"Unknown\":1}",
	 1,
	 {"verdict:    refused\n", "body:       Decrypt has no member \"Unknown\"\n"}},
	{"payments", "Decrypt", NULL, "", 1, {"body:       not strict JSON: "}},
	{"adder",
	 "Decrypt",
	 NULL,
	 "{}",
	 0,
	 {"verdict:    allowed\n", "key:        KeyId is not given; the rule adds " ARN_EU "\n",
	  "  test.yaml:29: rule \"add\" (test.yaml:29) allows Decrypt and adds its key as "
	  "KeyId\n"}},
	{"adder",
	 "NewAction",
	 NULL,
	 "{\"KeyId\":\"" ARN_EU "\",\"NewMember\":1}",
	 0,
	 {"rule:       new (test.yaml:34)\n", "action:     NewAction\n",
	  "  test.yaml:29: rule \"add\" does not list NewAction\n",
	  "  test.yaml:34: rule \"new\" (test.yaml:34) allows NewAction\n"}},
	{"adder",
	 "Decrypt",
	 NULL,
	 "{\"KeyId\":\"" ARN_EU "\",\"NewMember\":1}",
	 1,
	 {"reason:     member: rule \"add\" (test.yaml:29) does not allow the member "
	  "\"NewMember\" "
	  "of "
	  "Decrypt\n"}},
	{"adder", "Decrypt", NULL, "{\"KeyId\":\"" ID "\"}", 0, {"key:        KeyId " ID "\n"}},
	{"adder",
	 "Decrypt",
	 "kms.us-east-1.amazonaws.com",
	 "{}",
	 1,
	 {"reason:     key: rule \"add\" (test.yaml:29): Decrypt must name KeyId; the rule "
	  "adds its "
	  "key "
	  "only where that is in the endpoint's region\n",
	  "key:        KeyId is not given\n"}},
};

static struct config *load(void)
{
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *config = NULL;

	ck_assert_int_eq(config_parse(text, strlen(text), "test.yaml", &config, &findings), 0);
	return config;
}

/* The body is given in an allocation of its own size, since it is rewritten in place. */
static int explain(const char *enclave, const char *action, const char *host, const char *body,
		   size_t n, char **ret_output, struct error *error)
{
	_cleanup_(config_unrefp) struct config *config = load();
	_cleanup_(freep) char *copy = malloc(MAX(n, (size_t)1));
	size_t size;
	FILE *f = open_memstream(ret_output, &size);
	int r;

	memcpy(copy, body, n);
	r = config_explain(config,
			   &(struct explain_question){.enclave = enclave,
						      .action = action,
						      .host = host,
						      .body = copy,
						      .n = n},
			   f, error);
	ck_assert_int_eq(fclose(f), 0);
	return r;
}

START_TEST(verdict)
{
	_cleanup_(freep) char *output = NULL;
	struct error error = {0};
	const char *at;
	int r = explain(rows[_i].enclave, rows[_i].action, rows[_i].host, rows[_i].body,
			strlen(rows[_i].body), &output, &error);

	ck_assert_msg(r == rows[_i].r, "row %d: %d\n%s", _i, r, output);
	ck_assert_str_eq(error.text, "");
	at = output;
	for (const char *const *line = rows[_i].lines; *line; line++) {
		at = strstr(at, *line);
		ck_assert_msg(at != NULL, "row %d lacks %s in\n%s", _i, *line, output);
		at += strlen(*line);
	}
	for (const char *p = output; *p; p++)
		ck_assert(*p == '\n' || (*p >= 0x20 && *p <= 0x7e));
}
END_TEST

/* From what the command line says in place of a body. */
static const struct {
	const char *action;
	const char *keys[3], *contexts[3];
	int r;
	const char *said; /* a line of the output, or the error */
} flags[] = {
	{"Decrypt", {ID}, {"app=payments"}, 1, "must have a Recipient\n"},
	{"Decrypt", {"KeyId=" ID}, {"app=payments"}, 1, "must have a Recipient\n"},
	{"Decrypt", {ID}, {"app=payment"}, 1, "reason:     encryption-context: "},
	{"Decrypt",
	 {ID},
	 {"x=a=b", "y="},
	 1,
	 "context:    EncryptionContext \"x\"=\"a=b\" \"y\"=\"\"\n"},
	{"Decrypt", {NULL}, {"app=payments"}, 1, "key:        KeyId is not given\n"},
	{"Decrypt", {"alias/\"\n"}, {NULL}, 1, "key:        KeyId alias/\\x5c\"\\x5cn\n"},
	{"Decrypt", {ID, ID}, {NULL}, -EINVAL, "--key " ID ": the action names no more keys"},
	{"ReEncrypt",
	 {"alias/a", "alias/b"},
	 {"x=y"},
	 1,
	 "key:        SourceKeyId alias/a\nkey:        DestinationKeyId alias/b\n"
	 "context:    SourceEncryptionContext \"x\"=\"y\"\n"
	 "context:    DestinationEncryptionContext \"x\"=\"y\"\n"},
	{"ReEncrypt",
	 {"DestinationKeyId=alias/b", "alias/a"},
	 {NULL},
	 1,
	 "key:        SourceKeyId alias/a\nkey:        DestinationKeyId alias/b\n"},
	{"ReEncrypt",
	 {"DestinationKeyId=alias/b"},
	 {NULL},
	 1,
	 "key:        SourceKeyId is not given\nkey:        DestinationKeyId alias/b\n"},
	{"ReEncrypt",
	 {"SourceKeyId=alias/b", "SourceKeyId=alias/a"},
	 {NULL},
	 -EINVAL,
	 "--key SourceKeyId=alias/a: SourceKeyId is given already"},
	{"ListKeys", {ID}, {NULL}, -EINVAL, "--key " ID ": the action names no key"},
	{"Sign", {ID}, {"a=b"}, -EINVAL, "--context: Sign has no encryption context"},
	{"Decrypt", {ID}, {"app"}, -EINVAL, "--context app: expected NAME=VALUE"},
	{"Decrypt", {ID}, {"=x"}, -EINVAL, "--context =x: expected NAME=VALUE"},
	{"Decrypt", {ID}, {"a=\xff"}, -EINVAL, "\"\\xff\" is not UTF-8"},
	{"Decrypt", {ID}, {"a=b", "a=c"}, 1, "body:       not strict JSON: "},
};

START_TEST(from_flags)
{
	_cleanup_(config_unrefp) struct config *config = load();
	struct explain_question q = {.enclave = "payments", .action = flags[_i].action};
	_cleanup_(freep) char *output = NULL;
	struct error error = {0};
	size_t size;
	FILE *f = open_memstream(&output, &size);
	int r;

	while (q.n_keys < EXPLAIN_KEYS && flags[_i].keys[q.n_keys]) {
		q.keys[q.n_keys] = flags[_i].keys[q.n_keys];
		q.n_keys++;
	}
	while (flags[_i].contexts[q.n_contexts]) {
		q.contexts[q.n_contexts] = flags[_i].contexts[q.n_contexts];
		q.n_contexts++;
	}
	r = config_explain(config, &q, f, &error);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_msg(r == flags[_i].r, "row %d: %d\n%s%s", _i, r, output, error.text);
	if (r < 0)
		ck_assert_str_eq(error.text, flags[_i].said);
	else
		ck_assert_msg(strstr(output, flags[_i].said) != NULL, "row %d:\n%s", _i,
			      output);
}
END_TEST

#define HOUR (3600 * USEC_PER_SEC)

/* A genuine document, as a file of the command line and then in a request. */
static const struct {
	const char *file;
	usec_t now;
	const char *lines[6];
} documents[] = {
	{"prod-with-public-key.cbor",
	 1616602241734 * USEC_PER_MSEC + 95 * USEC_PER_SEC,
	 {"recipient:  present\n"
	  "document:   of an enclave, signature not verified\n"
	  "  module:   i-0a6d65e7122308898-enc017846bcd2f820da\n"
	  "  age:      95 s (made Wed, 24 Mar 2021 16:10:41 GMT)\n"
	  "  PCR0:     672cd3c91b7ac756",
	  "\n  PCR1:     ", "\n  PCR2:     ", "\n  key:      RSA, 2048 bits\nrules"}},
	{"debug-with-public-key.cbor",
	 1706120065635 * USEC_PER_MSEC - 3 * HOUR,
	 {"  age:      3 hours ahead of this host's clock (made ",
	  "  PCR0:     "
	  "0000000000000000000000000000000000000000000000000000000000000000000000000"
	  "00000000000000000000000\n",
	  "  key:      RSA, 2048 bits\n"
	  "  PCR0 is all zero: debug mode; a key policy with ImageSha384 refuses this\nrules"}},
	{"prod.cbor",
	 1616018515685 * USEC_PER_MSEC + 49 * HOUR,
	 {"  age:      2 days (made ",
	  "  key:      none: KMS has nothing to seal an answer with\nrules"}},
};

static struct buf read_document(const char *name)
{
	struct buf bytes = BUF_INIT(65536);
	const char *data = getenv("TEST_DATA");
	char path[4096];
	FILE *f;

	ck_assert_ptr_nonnull(data);
	snprintf(path, sizeof(path), "%s/attestation/%s", data, name);
	f = fopen(path, "rbe");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(buf_reserve_exact(&bytes, bytes.max), 0);
	bytes.n = fread(bytes.p, 1, bytes.max, f);
	fclose(f);
	return bytes;
}

START_TEST(a_document)
{
	_cleanup_(config_unrefp) struct config *config = load();
	_cleanup_(buf_done) struct buf bytes = read_document(documents[_i].file);
	struct explain_question q = {.enclave = "payments", .action = "Decrypt"};
	_cleanup_(freep) char *output = NULL;
	struct error error = {0};
	const char *at;
	size_t size;
	FILE *f = open_memstream(&output, &size);

	ck_assert_int_eq(explain_read_document(&bytes, &error), 0);
	q.now = documents[_i].now;
	q.document = buf_slice(&bytes);
	q.keys[q.n_keys++] = ID;
	q.contexts[q.n_contexts++] = "app=payments";
	config->enclaves[0].limits.body = LIMIT_BODY_MAX;
	ck_assert_int_eq(config_explain(config, &q, f, &error), 0);
	ck_assert_int_eq(fclose(f), 0);
	at = output;
	for (const char *const *line = documents[_i].lines; *line; line++) {
		at = strstr(at, *line);
		ck_assert_msg(at != NULL, "lacks %s in\n%s", *line, output);
		at += strlen(*line);
	}
}
END_TEST

/* The bytes, their base64 in one line or several; nothing else. */
START_TEST(the_file_of_a_document)
{
	static const struct {
		const char *text, *bytes; /* NULL: refused */
		const char *said;
	} files[] = {
		{"\x84zz", "\x84zz", NULL},
		{"\xd2zz\n", "\xd2zz\n", NULL},
		{"aGVsbG8=", "hello", NULL},
		{"aGVs\r\nbG8=\n\n", "hello", NULL},
		{" aG\tVs bG8= ", "hello", NULL},
		{"aGVsbG8", NULL, "expected an attestation document: "},
		{"{}", NULL, "expected an attestation document: "},
		{"", NULL, "there is nothing in it"},
		{"\n \n", NULL, "there is nothing in it"},
	};

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		_cleanup_(buf_done) struct buf bytes = BUF_INIT(64);
		struct error error = {0};
		int r;

		ck_assert_int_eq(buf_append(&bytes, slice_from(files[i].text)), 0);
		r = explain_read_document(&bytes, &error);
		ck_assert_int_eq(r, files[i].bytes ? 0 : -EINVAL);
		if (r == 0)
			ck_assert(slice_eq_str(buf_slice(&bytes), files[i].bytes));
		else
			ck_assert_ptr_nonnull(strstr(error.text, files[i].said));
	}
}
END_TEST

START_TEST(a_document_at_its_limit)
{
	for (size_t n = LIMIT_ATTESTATION; n <= LIMIT_ATTESTATION + 1; n++) {
		_cleanup_(buf_done) struct buf bytes = BUF_INIT(n);
		struct error error = {0};

		ck_assert_int_eq(buf_reserve_exact(&bytes, n), 0);
		memset(bytes.p, 0x84, n);
		bytes.n = n;
		ck_assert_int_eq(explain_read_document(&bytes, &error),
				 n == LIMIT_ATTESTATION ? 0 : -EINVAL);
		ck_assert_int_eq(strcmp(error.text, "") == 0, n == LIMIT_ATTESTATION);
	}
}
END_TEST

/* The enclave's limit of 1 KiB. */
START_TEST(limit_of_the_body)
{
	for (size_t n = 1024; n <= 1025; n++) {
		_cleanup_(freep) char *output = NULL;
		struct error error = {0};
		char body[1025];

		memset(body, ' ', sizeof(body));
		memcpy(body, "{}", 2);
		ck_assert_int_eq(explain("payments", "Decrypt", NULL, body, n, &output, &error),
				 1);
		ck_assert_int_eq(strstr(output, "larger than the enclave's limit") != NULL,
				 n == 1025);
	}
}
END_TEST

START_TEST(unknown_names)
{
	static const struct {
		const char *enclave, *action, *text;
	} names[] = {
		{"payment", "Decrypt",
		 "there is no enclave \"payment\"; did you mean \"payments\"?"},
		{"x", "Decrypt", "there is no enclave \"x\""},
		{"16", "Decrypt", "16 is a CID of enclave \"payments\": give its name"},
		{"0", "Decrypt", "there is no enclave \"0\""},
		{"payments", "decrypt",
		 "KMS has no action \"decrypt\"; did you mean \"Decrypt\"?"},
		{"payments", "Launch", "KMS has no action \"Launch\""},
		{"pay\nments", "Decrypt",
		 "there is no enclave \"pay\\x0aments\"; did you mean \"payments\"?"},
	};

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		_cleanup_(freep) char *output = NULL;
		struct error error = {0};

		ck_assert_int_eq(explain(names[i].enclave, names[i].action, NULL, "{}", 2,
					 &output, &error),
				 -EINVAL);
		ck_assert_str_eq(error.text, names[i].text);
		ck_assert_str_eq(output, "");
	}
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("explain");
	Suite *suite = suite_create("explain");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, verdict, 0, ELEMENTSOF(rows));
	tcase_add_loop_test(tcase, from_flags, 0, ELEMENTSOF(flags));
	tcase_add_loop_test(tcase, a_document, 0, ELEMENTSOF(documents));
	tcase_add_test(tcase, the_file_of_a_document);
	tcase_add_test(tcase, a_document_at_its_limit);
	tcase_add_test(tcase, limit_of_the_body);
	tcase_add_test(tcase, unknown_names);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
