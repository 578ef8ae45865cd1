/* SPDX-License-Identifier: Apache-2.0 */
#include "kms.h"

#include "limit.h"

#include <check.h>
#include <ctype.h>
#include <stdio.h>

static struct json_doc doc;
static struct error error;

static const struct kms_action *action_of(const char *name)
{
	const struct kms_action *action = kms_action_named(slice_from(name));

	ck_assert_msg(action != NULL, "no action %s", name);
	return action;
}

static bool in_list(const char *const *list, const char *name)
{
	for (; *list; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

#define ARN "arn:aws:kms:eu-central-1:111122223333:"

START_TEST(arn)
{
	static const struct {
		const char *text, *region, *resource, *id; /* region NULL: refused */
	} cases[] = {
		{ARN "key/1234abcd-12ab", "eu-central-1", "key/1234abcd-12ab", "1234abcd-12ab"},
		{ARN "key/mrk-12ab", "eu-central-1", "key/mrk-12ab", "mrk-12ab"},
		{"arn:aws-us-gov:kms:us-gov-west-1:1:key/x", "us-gov-west-1", "key/x", "x"},
		{ARN "alias/a/b", "eu-central-1", "alias/a/b", NULL},
		{ARN "alias/", "eu-central-1", "alias/", NULL},
		{.text = ""},
		{.text = "alias/x"},
		{.text = "1234abcd-12ab"},
		{.text = "arn"},
		{.text = "arn:aws:kms:eu-central-1:111122223333"},
		{.text = ARN},
		{.text = ARN "key/"},
		{.text = ARN "key/a/b"},
		{.text = ARN "key/a:b"},
		{.text = ARN "key/a:"},
		{.text = ARN "alias/a:b"},
		{.text = ARN "grant/a"},
		{.text = ARN "Key/a"},
		{.text = ARN "key"},
		{.text = "Arn:aws:kms:eu-central-1:1:key/x"},
		{.text = " " ARN "key/x"},
		{.text = "arn::kms:eu-central-1:1:key/x"},
		{.text = "arn:aws:s3:eu-central-1:1:key/x"},
		{.text = "arn:aws:KMS:eu-central-1:1:key/x"},
		{.text = "arn:aws:kms::1:key/x"},
		{.text = "arn:aws:kms:eu-central-1::key/x"},
		{.text = ":::::key/x"},
		{.text = ":::::::::"},
	};
	struct kms_arn got;

	ck_assert(!kms_read_arn((struct slice){0}, &got));
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		bool ok = kms_read_arn(slice_from(cases[i].text), &got);

		ck_assert_msg(ok == !!cases[i].region, "%s", cases[i].text);
		if (!ok)
			continue;
		ck_assert(slice_eq_str(got.region, cases[i].region));
		ck_assert(slice_eq_str(got.resource, cases[i].resource));
		ck_assert(slice_eq_str(got.id, cases[i].id));
		ck_assert_int_eq(got.id.p == NULL, cases[i].id == NULL);
	}
}
END_TEST

/* Reading bodies. */

/* Reads a copy of `body` that lives until the next call. Not ck_assert(), which writes down its
 * place each time that it holds: this is called ten thousands of times. */
static enum kms_result read_body(const char *action, const char *body,
				 struct kms_request *ret_request)
{
	static char *text;
	size_t n = strlen(body);

	free(text);
	text = malloc(n + 1);
	if (!text)
		ck_abort_msg("no memory");
	memcpy(text, body, n);
	error.text[0] = '\0';
	if (json_read(text, n, &doc, &n, &error) == JSON_BAD)
		ck_abort_msg("%s: %s", body, error.text);
	return kms_read(action_of(action), NULL, &doc, ret_request, &error);
}

#define DOCUMENT "\"AttestationDocument\":\"QUJD\""
#define ALGORITHM "\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\""

static const struct {
	const char *action, *body;
	const char *keys[2];
	const char *contexts[2]; /* canonical text */
	enum kms_recipient recipient;
} accepted[] = {
	{"ListKeys", "{}", {NULL}, {NULL}, KMS_RECIPIENT_NONE},
	{"ListKeys", "{\"Limit\":10,\"Marker\":null}", {NULL}, {NULL}, KMS_RECIPIENT_NONE},
	{"Decrypt", "{}", {NULL}, {NULL}, KMS_RECIPIENT_NONE},
	{"Decrypt", " { \"KeyId\" : \"alias\\/x\" } ", {"alias/x"}, {NULL}, KMS_RECIPIENT_NONE},
	{"Decrypt", "{\"\\u004beyId\":\"\\u0061\"}", {"a"}, {NULL}, KMS_RECIPIENT_NONE},
	{"Decrypt", "{\"KeyId\":\"a\\u0000b\"}", {"a\\u0000b"}, {NULL}, KMS_RECIPIENT_NONE},
	{"Decrypt", "{\"EncryptionContext\":{}}", {NULL}, {"{}"}, KMS_RECIPIENT_NONE},
	{"Decrypt",
	 "{\"EncryptionContext\":{\"a\":\"\",\"\":\"b\"},\"KeyId\":\"k\"}",
	 {"k"},
	 {"{\"a\":\"\",\"\":\"b\"}"},
	 KMS_RECIPIENT_NONE},
	/* Only what policy looks at has a type here; the rest is for KMS to judge. */
	{"Decrypt",
	 "{\"CiphertextBlob\":null,\"GrantTokens\":[[{}]],\"DryRun\":\"yes\"}",
	 {NULL},
	 {NULL},
	 KMS_RECIPIENT_NONE},
	{"Decrypt", "{\"Recipient\":{}}", {NULL}, {NULL}, KMS_RECIPIENT_BAD},
	{"Decrypt", "{\"Recipient\":{" DOCUMENT "}}", {NULL}, {NULL}, KMS_RECIPIENT_BAD},
	{"Decrypt", "{\"Recipient\":{" ALGORITHM "}}", {NULL}, {NULL}, KMS_RECIPIENT_BAD},
	{"Decrypt",
	 "{\"Recipient\":{\"AttestationDocument\":\"\"," ALGORITHM "}}",
	 {NULL},
	 {NULL},
	 KMS_RECIPIENT_BAD},
	{"Decrypt",
	 "{\"Recipient\":{" DOCUMENT ",\"KeyEncryptionAlgorithm\":\"\"}}",
	 {NULL},
	 {NULL},
	 KMS_RECIPIENT_BAD},
	{"Decrypt",
	 "{\"Recipient\":{" DOCUMENT ",\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_1\"}}",
	 {NULL},
	 {NULL},
	 KMS_RECIPIENT_BAD},
	{"Decrypt",
	 "{\"Recipient\":{" DOCUMENT ",\"KeyEncryptionAlgorithm\":\"rsaes_oaep_sha_256\"}}",
	 {NULL},
	 {NULL},
	 KMS_RECIPIENT_BAD},
	{"Decrypt",
	 "{\"Recipient\":{" ALGORITHM "," DOCUMENT "}}",
	 {NULL},
	 {NULL},
	 KMS_RECIPIENT_PRESENT},
	{"GenerateRandom",
	 "{\"Recipient\":{" DOCUMENT "," ALGORITHM "}}",
	 {NULL},
	 {NULL},
	 KMS_RECIPIENT_PRESENT},
	{"ReEncrypt",
	 "{\"DestinationKeyId\":\"d\",\"SourceKeyId\":\"s\","
	 "\"DestinationEncryptionContext\":{\"d\":\"1\"},"
	 "\"SourceEncryptionContext\":{\"s\":\"2\"}}",
	 {"s", "d"},
	 {"{\"s\":\"2\"}", "{\"d\":\"1\"}"},
	 KMS_RECIPIENT_NONE},
	{"ReEncrypt", "{\"DestinationKeyId\":\"d\"}", {NULL, "d"}, {NULL}, KMS_RECIPIENT_NONE},
	{"CreateAlias",
	 "{\"TargetKeyId\":\"t\",\"AliasName\":\"alias/a\"}",
	 {"alias/a", "t"},
	 {NULL},
	 KMS_RECIPIENT_NONE},
	{"DeleteAlias", "{\"AliasName\":\"alias/a\"}", {"alias/a"}, {NULL}, KMS_RECIPIENT_NONE},
	{"CreateGrant",
	 "{\"KeyId\":\"k\",\"Constraints\":{\"EncryptionContextSubset\":{\"a\":\"b\"}}}",
	 {"k"},
	 {NULL},
	 KMS_RECIPIENT_NONE},
};

START_TEST(accept)
{
	struct kms_request request;

	ck_assert_msg(read_body(accepted[_i].action, accepted[_i].body, &request) == KMS_OK,
		      "%s: %s", accepted[_i].body, error.text);
	ck_assert_ptr_eq(request.action, action_of(accepted[_i].action));
	ck_assert_ptr_eq(request.doc, &doc);
	ck_assert_msg(request.recipient == accepted[_i].recipient, "%s: recipient %d",
		      accepted[_i].body, request.recipient);
	for (unsigned k = 0; k < 2; k++) {
		const char *key = accepted[_i].keys[k], *context = accepted[_i].contexts[k];

		ck_assert_int_eq(request.keys[k].p != NULL, key != NULL);
		ck_assert(slice_eq_str(request.keys[k], key));
		ck_assert_int_eq(request.contexts[k] >= 0, context != NULL);
		if (context)
			ck_assert(slice_eq_str(doc.nodes[request.contexts[k]].value, context));
	}
}
END_TEST

static const struct {
	const char *action, *body, *grantees[2];
	bool has_policy, has_token;
} delegations[] = {
	{"CreateGrant", "{\"GranteePrincipal\":\"p\"}", {"p"}, false, false},
	{"CreateGrant", "{\"GranteeServicePrincipal\":\"s\"}", {NULL, "s"}, false, false},
	{"CreateGrant",
	 "{\"GranteeServicePrincipal\":\"s\",\"GranteePrincipal\":\"p\"}",
	 {"p", "s"},
	 false,
	 false},
	{"CreateGrant", "{\"RetiringPrincipal\":\"r\"}", {NULL}, false, false},
	{"ListGrants", "{\"GranteePrincipal\":\"p\"}", {NULL}, false, false},
	{"ListGrants", "{\"GranteePrincipal\":null}", {NULL}, false, false},
	{"PutKeyPolicy", "{\"Policy\":\"{}\",\"KeyId\":\"k\"}", {NULL}, true, false},
	{"PutKeyPolicy", "{\"Policy\":null}", {NULL}, true, false},
	{"PutKeyPolicy", "{\"PolicyName\":\"default\"}", {NULL}, false, false},
	{"CreateKey", "{}", {NULL}, false, false},
	{"CreateKey", "{\"Policy\":\"\"}", {NULL}, true, false},
	{"ReplicateKey", "{\"Policy\":\"\"}", {NULL}, true, false},
	{"GetKeyPolicy", "{\"PolicyName\":\"p\"}", {NULL}, false, false},
	{"RetireGrant", "{\"GrantToken\":\"t\"}", {NULL}, false, true},
	{"RetireGrant", "{\"GrantToken\":null}", {NULL}, false, true},
	{"RetireGrant", "{\"GrantId\":\"t\"}", {NULL}, false, false},
	{"Decrypt", "{\"GrantTokens\":[\"t\"]}", {NULL}, false, false},
};

START_TEST(delegation)
{
	struct kms_request request;

	ck_assert_msg(read_body(delegations[_i].action, delegations[_i].body, &request) ==
			      KMS_OK,
		      "%s: %s", delegations[_i].body, error.text);
	ck_assert_int_eq(request.has_policy, delegations[_i].has_policy);
	ck_assert_int_eq(request.has_token, delegations[_i].has_token);
	for (unsigned k = 0; k < 2; k++) {
		const char *grantee = delegations[_i].grantees[k];

		ck_assert_int_eq(request.grantees[k].p != NULL, grantee != NULL);
		ck_assert(slice_eq_str(request.grantees[k], grantee));
	}
}
END_TEST

static const struct {
	const char *action, *body, *error;
} refused[] = {
	{"Decrypt", "null", "the body of Decrypt must be a JSON object"},
	{"Decrypt", "[]", "the body of Decrypt must be a JSON object"},
	{"Decrypt", "\"KeyId\"", "the body of Decrypt must be a JSON object"},
	{"Decrypt", "[{\"KeyId\":\"k\"}]", "the body of Decrypt must be a JSON object"},
	{"ListKeys", "0", "the body of ListKeys must be a JSON object"},
	/* members */
	{"Decrypt", "{\"keyId\":\"k\"}", "Decrypt has no member \"keyId\""},
	{"Decrypt", "{\"KeyId \":\"k\"}", "Decrypt has no member \"KeyId \""},
	{"Decrypt", "{\"KeyI\":\"k\"}", "Decrypt has no member \"KeyI\""},
	{"Decrypt", "{\"KeyIdx\":\"k\"}", "Decrypt has no member \"KeyIdx\""},
	{"Decrypt", "{\"\":1}", "Decrypt has no member \"\""},
	{"Decrypt", "{\"KeyId\":\"k\",\"Plaintext\":\"\"}",
	 "Decrypt has no member \"Plaintext\""},
	{"Decrypt", "{\"a\\nb\xc3\xa9\":1}", "Decrypt has no member \"a\\x5cnb\\xc3\\xa9\""},
	{"DeleteAlias", "{\"AliasName\":\"a\",\"TargetKeyId\":\"k\"}",
	 "DeleteAlias has no member \"TargetKeyId\""},
	{"GenerateRandom", "{\"KeyId\":\"k\"}", "GenerateRandom has no member \"KeyId\""},
	{"Encrypt", "{\"Recipient\":{}}", "Encrypt has no member \"Recipient\""},
	{"Encapsulate", "{\"Recipient\":{}}", "Encapsulate has no member \"Recipient\""},
	/* keys */
	{"Decrypt", "{\"KeyId\":null}", "KeyId must be a string"},
	{"Decrypt", "{\"KeyId\":1}", "KeyId must be a string"},
	{"Decrypt", "{\"KeyId\":true}", "KeyId must be a string"},
	{"Decrypt", "{\"KeyId\":[\"k\"]}", "KeyId must be a string"},
	{"Decrypt", "{\"KeyId\":{}}", "KeyId must be a string"},
	{"Decrypt", "{\"KeyId\":\"\"}", "KeyId must not be empty"},
	{"ReEncrypt", "{\"SourceKeyId\":null}", "SourceKeyId must be a string"},
	{"ReEncrypt", "{\"SourceKeyId\":\"s\",\"DestinationKeyId\":\"\"}",
	 "DestinationKeyId must not be empty"},
	{"UpdateAlias", "{\"AliasName\":\"\"}", "AliasName must not be empty"},
	{"UpdateAlias", "{\"AliasName\":\"a\",\"TargetKeyId\":false}",
	 "TargetKeyId must be a string"},
	/* grantees */
	{"CreateGrant", "{\"GranteePrincipal\":null}", "GranteePrincipal must be a string"},
	{"CreateGrant", "{\"GranteePrincipal\":[\"p\"]}", "GranteePrincipal must be a string"},
	{"CreateGrant", "{\"GranteePrincipal\":\"\"}", "GranteePrincipal must not be empty"},
	{"CreateGrant", "{\"GranteePrincipal\":\"p\",\"GranteeServicePrincipal\":7}",
	 "GranteeServicePrincipal must be a string"},
	/* contexts */
	{"Decrypt", "{\"EncryptionContext\":null}",
	 "EncryptionContext must be an object of strings"},
	{"Decrypt", "{\"EncryptionContext\":\"\"}",
	 "EncryptionContext must be an object of strings"},
	{"Decrypt", "{\"EncryptionContext\":[]}",
	 "EncryptionContext must be an object of strings"},
	{"Decrypt", "{\"EncryptionContext\":[\"app\",\"x\"]}",
	 "EncryptionContext must be an object of strings"},
	{"Decrypt", "{\"EncryptionContext\":{\"app\":null}}",
	 "EncryptionContext must be an object of strings"},
	{"Decrypt", "{\"EncryptionContext\":{\"a\":\"b\",\"app\":1}}",
	 "EncryptionContext must be an object of strings"},
	{"Decrypt", "{\"EncryptionContext\":{\"app\":{\"a\":\"b\"}}}",
	 "EncryptionContext must be an object of strings"},
	{"ReEncrypt", "{\"SourceEncryptionContext\":{\"a\":[]}}",
	 "SourceEncryptionContext must be an object of strings"},
	{"ReEncrypt", "{\"SourceEncryptionContext\":{},\"DestinationEncryptionContext\":0}",
	 "DestinationEncryptionContext must be an object of strings"},
	/* recipient */
	{"Decrypt", "{\"Recipient\":null}", "Recipient must be an object"},
	{"Decrypt", "{\"Recipient\":\"\"}", "Recipient must be an object"},
	{"Decrypt",
	 "{\"Recipient\":["
	 "\"AttestationDocument\"]}",
	 "Recipient must be an object"},
	{"Decrypt", "{\"Recipient\":{\"Attestation\":\"\"}}",
	 "Recipient has no member \"Attestation\""},
	{"Decrypt", "{\"Recipient\":{" DOCUMENT "," ALGORITHM ",\"x\":0}}",
	 "Recipient has no member \"x\""},
	{"Decrypt", "{\"Recipient\":{\"AttestationDocument\":null}}",
	 "AttestationDocument must be a string"},
	{"Decrypt", "{\"Recipient\":{\"AttestationDocument\":[\"QUJD\"]}}",
	 "AttestationDocument must be a string"},
	{"Decrypt", "{\"Recipient\":{" DOCUMENT ",\"KeyEncryptionAlgorithm\":null}}",
	 "KeyEncryptionAlgorithm must be a string"},
	{"Decrypt", "{\"Recipient\":{" DOCUMENT ",\"KeyEncryptionAlgorithm\":7}}",
	 "KeyEncryptionAlgorithm must be a string"},
};

START_TEST(refuse)
{
	struct kms_request request = {.contexts = {4711}};

	ck_assert_msg(read_body(refused[_i].action, refused[_i].body, &request) == KMS_BAD,
		      "accepted: %s", refused[_i].body);
	ck_assert_str_eq(error.text, refused[_i].error);
	ck_assert_int_eq(request.contexts[0], 4711);
}
END_TEST

START_TEST(a_refusal_needs_no_error)
{
	struct kms_request request;

	ck_assert(read_body("ListKeys", "{\"x\":1}", &request) == KMS_BAD);
	ck_assert(kms_read(action_of("ListKeys"), NULL, &doc, &request, NULL) == KMS_BAD);
	ck_assert(kms_read(action_of("Decrypt"), NULL, &doc, &request, NULL) == KMS_BAD);
}
END_TEST

/* Each member that any action has, alone in a body: read by the actions that list it only. */
START_TEST(each_action_takes_its_own_members_only)
{
	const struct kms_action *action = kms_action((unsigned)_i);
	struct kms_request request;

	for (unsigned other = 0; other < KMS_ACTIONS; other++)
		for (const char *const *m = kms_action(other)->members; *m; m++) {
			bool is_object = strstr(*m, "Context") || !strcmp(*m, "Recipient");
			enum kms_result r;
			char body[128];

			snprintf(body, sizeof(body), "{\"%s\":%s}", *m,
				 is_object ? "{}" : "\"x\"");
			r = read_body(action->name, body, &request);
			ck_assert_msg((r == KMS_OK) == in_list(action->members, *m), "%s: %s",
				      action->name, body);
		}
}
END_TEST

/* The document's base64. */

static enum kms_recipient recipient_of(const char *document, size_t n)
{
	static const char head[] = "{\"Recipient\":{" ALGORITHM ",\"AttestationDocument\":\"";
	_cleanup_(freep) char *body = malloc(sizeof(head) + n + sizeof("\"}}"));
	struct kms_request request = {0};

	if (!body)
		ck_abort_msg("no memory");
	memcpy(body, head, sizeof(head) - 1);
	memcpy(body + sizeof(head) - 1, document, n);
	memcpy(body + sizeof(head) - 1 + n, "\"}}", sizeof("\"}}"));
	if (read_body("Decrypt", body, &request) == KMS_BAD)
		ck_abort_msg("%s", error.text);
	return request.recipient;
}

static const struct {
	const char *text;
	bool ok;
} documents[] = {
	{"AAAA", true},
	{"QUJD", true},
	{"QUI=", true},
	{"QQ==", true},
	{"+/+/", true},
	{"zZ09", true},
	{"AAAAAAAA", true},
	{"AAAAQQ==", true},
	{"A", false},
	{"AA", false},
	{"AAA", false},
	{"AAAAA", false},
	{"=", false},
	{"==", false},
	{"===", false},
	{"====", false},
	{"A===", false},
	{"AA=A", false},
	{"=AAA", false},
	{"A=AA", false},
	{"AA==AAAA", false},
	{"AAA=AAA=", false},
	{"QR==", false},
	{"QUJ=", false},
	{"Q/==", false},
	{"QQ=", false},
	{"AAAA====", false},
	{"-_-_", false},
	{" AAA", false},
	{"AAA ", false},
	{"AAAA ", false},
	{"AA\\n", false},
	{"AAA.", false},
	{"AAA,", false},
	{"AA\\\"", false},
	{"\xc3\xa9"
	 "AA",
	 false},
};

START_TEST(base64_text)
{
	ck_assert_msg((recipient_of(documents[_i].text, strlen(documents[_i].text)) ==
		       KMS_RECIPIENT_PRESENT) == documents[_i].ok,
		      "%s", documents[_i].text);
}
END_TEST

/* The alphabet is checked in blocks: each byte at each place of a text of some blocks and a
 * rest. */
START_TEST(base64_alphabet_at_every_place)
{
	char text[64 * 2 + 12];

	for (int c = 0x20; c < 0x7f; c++) {
		bool ok = isalnum(c) || c == '+' || c == '/';

		if (c == '"' || c == '\\')
			continue;
		for (size_t at = 0; at < sizeof(text); at++) {
			bool padding = c == '=' && at == sizeof(text) - 1;

			memset(text, 'A', sizeof(text));
			text[at] = (char)c;
			if ((recipient_of(text, sizeof(text)) == KMS_RECIPIENT_PRESENT) !=
			    (ok || padding))
				ck_abort_msg("%c at %zu", c, at);
		}
	}
}
END_TEST

/* Without JSON's own refusals in the way: all 256 bytes. */
START_TEST(base64_every_byte)
{
	char body[] = "{\"Recipient\":{" ALGORITHM ",\"AttestationDocument\":\"AAAAAAAA\"}}";
	char *document = strstr(body, "AAAAAAAA");
	struct kms_request request;
	size_t n;

	ck_assert(json_read(body, strlen(body), &doc, &n, NULL) == JSON_OK);
	for (int c = 0; c < 256; c++)
		for (size_t at = 0; at < 8; at++) {
			bool ok = isalnum(c) || c == '+' || c == '/' || (c == '=' && at == 7);

			memset(document, 'A', 8);
			document[at] = (char)c;
			ck_assert(kms_read(action_of("Decrypt"), NULL, &doc, &request, NULL) ==
				  KMS_OK);
			ck_assert_msg((request.recipient == KMS_RECIPIENT_PRESENT) == ok,
				      "0x%02x at %zu", (unsigned)c, at);
		}
}
END_TEST

START_TEST(limit_of_the_document)
{
	size_t n = LIMIT_ATTESTATION / 3 * 4 +
		   4; /* of one byte more than the limit is a part of */
	_cleanup_(freep) char *text = malloc(n + 4);

	ck_assert_uint_eq(n, 349528);
	memset(text, 'A', n + 4);
	ck_assert(recipient_of(text, n - 4) == KMS_RECIPIENT_PRESENT); /* 262,143 bytes */
	ck_assert(recipient_of(text, n) == KMS_RECIPIENT_BAD);         /* 262,146 */
	text[n - 1] = '=';
	ck_assert(recipient_of(text, n) == KMS_RECIPIENT_BAD); /* 262,145 */
	text[n - 2] = '=';
	ck_assert(recipient_of(text, n) == KMS_RECIPIENT_PRESENT); /* 262,144 */
	memset(text, 'A', n + 4);
	memset(text + n + 2, '=', 2);
	ck_assert(recipient_of(text, n + 4) == KMS_RECIPIENT_BAD);
}
END_TEST

/* Replies. */

#define SEALED "\"CiphertextForRecipient\":\"AAAA\""

static const struct {
	const char *action, *body;
	enum kms_reply want;
} replies[] = {
	{"Decrypt", "{" SEALED "}", KMS_REPLY_SAFE},
	{"Decrypt", " {\"KeyId\": \"k\", " SEALED " } ", KMS_REPLY_SAFE},
	{"Decrypt", "{" SEALED ",\"Plaintext\":null}", KMS_REPLY_SAFE},
	{"Decrypt", "{\"Plaintext\":\"\"," SEALED "}", KMS_REPLY_SAFE},
	{"GenerateDataKeyPair", "{\"PrivateKeyPlaintext\":null," SEALED "}", KMS_REPLY_SAFE},
	{"DeriveSharedSecret", "{\"SharedSecret\":\"\"," SEALED "}", KMS_REPLY_SAFE},
	{"GenerateRandom", "{" SEALED "}", KMS_REPLY_SAFE},
	{"Decrypt", "{\"Plaintext\":\"QQ==\"," SEALED "}", KMS_REPLY_LEAKS},
	{"Decrypt", "{" SEALED ",\"Plaintext\":\" \"}", KMS_REPLY_LEAKS},
	{"Decrypt", "{" SEALED ",\"\\u0050laintext\":\"QQ==\"}", KMS_REPLY_LEAKS},
	{"Decrypt", "{\"Plaintext\":\"QQ==\"}", KMS_REPLY_LEAKS},
	{"Decrypt", "{\"Plaintext\":0," SEALED "}", KMS_REPLY_LEAKS},
	{"Decrypt", "{\"Plaintext\":false," SEALED "}", KMS_REPLY_LEAKS},
	{"Decrypt", "{\"Plaintext\":[]," SEALED "}", KMS_REPLY_LEAKS},
	{"Decrypt", "{\"Plaintext\":{}," SEALED "}", KMS_REPLY_LEAKS},
	{"Decrypt", "{\"PrivateKeyPlaintext\":\"QQ==\"," SEALED "}", KMS_REPLY_LEAKS},
	{"GenerateDataKeyPair", "{\"PrivateKeyPlaintext\":\"A\"," SEALED "}", KMS_REPLY_LEAKS},
	{"GenerateDataKey", "{\"Plaintext\":\"A\"," SEALED "}", KMS_REPLY_LEAKS},
	{"GenerateRandom", "{\"Plaintext\":\"A\"," SEALED "}", KMS_REPLY_LEAKS},
	{"DeriveSharedSecret", "{\"SharedSecret\":\"A\"," SEALED "}", KMS_REPLY_LEAKS},
	{"Encapsulate", "{\"SharedSecret\":\"A\"}", KMS_REPLY_LEAKS},
	{"Decrypt", "{}", KMS_REPLY_NO_CIPHERTEXT},
	{"Decrypt", "{\"Plaintext\":null}", KMS_REPLY_NO_CIPHERTEXT},
	{"Decrypt", "{\"CiphertextForRecipient\":\"\"}", KMS_REPLY_NO_CIPHERTEXT},
	{"Decrypt", "{\"CiphertextForRecipient\":null}", KMS_REPLY_NO_CIPHERTEXT},
	{"Decrypt", "{\"CiphertextForRecipient\":{\"a\":\"b\"}}", KMS_REPLY_NO_CIPHERTEXT},
	{"Decrypt", "{\"ciphertextForRecipient\":\"AAAA\"}", KMS_REPLY_NO_CIPHERTEXT},
	{"Decrypt", "{\"a\":{" SEALED "}}", KMS_REPLY_NO_CIPHERTEXT},
	{"Decrypt", "", KMS_REPLY_UNREADABLE},
	{"Decrypt", "null", KMS_REPLY_UNREADABLE},
	{"Decrypt", "[{" SEALED "}]", KMS_REPLY_UNREADABLE},
	{"Decrypt", "\"\"", KMS_REPLY_UNREADABLE},
	{"Decrypt", "{" SEALED "", KMS_REPLY_UNREADABLE},
	{"Decrypt", "{" SEALED "}}", KMS_REPLY_UNREADABLE},
	{"Decrypt", "{" SEALED "}{\"Plaintext\":\"A\"}", KMS_REPLY_UNREADABLE},
	{"Decrypt", "{\"Plaintext\":null,\"Plaintext\":\"A\"," SEALED "}",
	 KMS_REPLY_UNREADABLE},
	{"Decrypt", "{" SEALED "," SEALED "}", KMS_REPLY_UNREADABLE},
	{"Decrypt", "{" SEALED ",\"Plaintext\\u0000\":\"A\"}", KMS_REPLY_UNREADABLE},
	{"Decrypt", "{" SEALED ",\"Plaintext\":\"\xff\"}", KMS_REPLY_UNREADABLE},
	{"Decrypt", "<Plaintext>A</Plaintext>", KMS_REPLY_UNREADABLE},
	/* actions whose reply holds no secret that is known of */
	{"Encrypt", "{\"CiphertextBlob\":\"AAAA\"}", KMS_REPLY_SAFE},
	{"Encrypt", "{}", KMS_REPLY_SAFE},
	{"EnableKey", "", KMS_REPLY_SAFE},
	{"Encrypt", "{\"Plaintext\":\"A\"}", KMS_REPLY_LEAKS},
	{"DescribeKey", "{\"SharedSecret\":\"A\"," SEALED "}", KMS_REPLY_LEAKS},
	{"Sign", "{\"PrivateKeyPlaintext\":{}}", KMS_REPLY_LEAKS},
	{"Encrypt", "{\"Plaintext\":null}", KMS_REPLY_SAFE},
	{"Encrypt", "[]", KMS_REPLY_UNREADABLE},
	{"Encrypt", "<html>", KMS_REPLY_UNREADABLE},
	{"EnableKey", " ", KMS_REPLY_UNREADABLE},
};

START_TEST(reply)
{
	_cleanup_(freep) char *body = strdup(replies[_i].body);
	size_t n = 4711;
	enum kms_reply got;

	got = kms_check_reply(action_of(replies[_i].action), body, strlen(body), &doc, &n);
	ck_assert_msg(got == replies[_i].want, "%s: %d", replies[_i].body, got);
	if (got == KMS_REPLY_UNREADABLE)
		ck_assert_uint_eq(n, 4711);
	else if (replies[_i].body[0] == '\0')
		ck_assert_uint_eq(n, 0);
	else
		ck_assert(slice_eq((struct slice){body, n}, doc.nodes[0].value));
}
END_TEST

int main(void)
{
	TCase *names = tcase_create("names"), *bodies = tcase_create("bodies");
	TCase *base64 = tcase_create("base64"), *answers = tcase_create("replies");
	Suite *suite = suite_create("kms");
	SRunner *runner;
	int failed;

	tcase_add_test(names, arn);
	tcase_add_loop_test(bodies, accept, 0, ELEMENTSOF(accepted));
	tcase_add_loop_test(bodies, delegation, 0, ELEMENTSOF(delegations));
	tcase_add_loop_test(bodies, refuse, 0, ELEMENTSOF(refused));
	tcase_add_test(bodies, a_refusal_needs_no_error);
	tcase_add_loop_test(bodies, each_action_takes_its_own_members_only, 0, KMS_ACTIONS);
	tcase_add_loop_test(base64, base64_text, 0, ELEMENTSOF(documents));
	tcase_add_test(base64, base64_alphabet_at_every_place);
	tcase_add_test(base64, base64_every_byte);
	tcase_add_test(base64, limit_of_the_document);
	tcase_add_loop_test(answers, reply, 0, ELEMENTSOF(replies));
	suite_add_tcase(suite, names);
	suite_add_tcase(suite, bodies);
	suite_add_tcase(suite, base64);
	suite_add_tcase(suite, answers);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
