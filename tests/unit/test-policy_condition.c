/* SPDX-License-Identifier: Apache-2.0 */

/* policy.c: what a rule demands besides endpoint, action and keys. */

#include "policy.h"

#include "policy_row.h"

#include <check.h>

static const struct row rows[] = {
	/* encryption context */
	{.what = "a pair",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"x\":\"y\",\"app\":\"pay\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_ALLOWED},
	{.what = "one of several values",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"app\":\"pay\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"x", "y", "pay"}}}}},
	 .stage = POLICY_ALLOWED},
	{.what = "two pairs",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"env\":\"\",\"app\":\"pay\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}, {"env", {""}}}}},
	 .stage = POLICY_ALLOWED},
	{.what = "the second of two pairs is missing",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"app\":\"pay\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}, {"env", {"prod"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 2,
	 .explanation = "rule \"a\" (line 10) requires one of its values for \"env\" in "
			"EncryptionContext"},
	{.what = "no context",
	 .action = "Encrypt",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10) requires one of its values for \"app\" in "
			"EncryptionContext"},
	{.what = "another value",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"app\":\"pay \"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10): \"app\" in EncryptionContext has another "
			"value than the rule lists"},
	{.what = "other letters",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"App\":\"pay\",\"app\":\"Pay\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10): \"app\" in EncryptionContext has another "
			"value than the rule lists"},
	{.what = "name and value swapped",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"pay\":\"app\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10) requires one of its values for \"app\" in "
			"EncryptionContext"},
	{.what = "the value under another name",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"app\":\"x\",\"b\":\"pay\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10): \"app\" in EncryptionContext has another "
			"value than the rule lists"},
	{.what = "canonical text is compared",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"\\u0061pp\":\"p\\\"\\u000a\\/\"}}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"p\\\"\\n/"}}}}},
	 .stage = POLICY_ALLOWED},
	{.what = "a rule without pairs needs none",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"EncryptionContext\":{\"a\":\"b\"}}",
	 .rules = {{"a", "Encrypt", {"k"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "ReEncrypt: both contexts",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"k\",\"DestinationKeyId\":\"k\","
		 "\"SourceEncryptionContext\":{\"app\":\"pay\"},"
		 "\"DestinationEncryptionContext\":{\"app\":\"ship\"}}",
	 .rules = {{"a", "ReEncrypt", {"k"}, {{"app", {"pay", "ship"}}}}},
	 .stage = POLICY_ALLOWED},
	{.what = "ReEncrypt: the source's context only",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"k\",\"DestinationKeyId\":\"k\","
		 "\"SourceEncryptionContext\":{\"app\":\"pay\"}}",
	 .rules = {{"a", "ReEncrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 2,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10) requires one of its values for \"app\" in "
			"DestinationEncryptionContext"},
	{.what = "ReEncrypt: the destination's context only",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"k\",\"DestinationKeyId\":\"k\","
		 "\"SourceEncryptionContext\":{},"
		 "\"DestinationEncryptionContext\":{\"app\":\"pay\"}}",
	 .rules = {{"a", "ReEncrypt", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10) requires one of its values for \"app\" in "
			"SourceEncryptionContext"},
	{.what = "an action that has no context",
	 .action = "Sign",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Sign", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .explanation =
		 "rule \"a\" (line 10) requires an encryption context and Sign has none"},
	{.what = "a grant's constraint is no context",
	 .action = "CreateGrant",
	 .body = "{" KEY(
		 "k") ",\"Constraints\":{\"EncryptionContextEquals\":{\"app\":\"pay\"}}}",
	 .rules = {{"a", "CreateGrant", {"k"}, {{"app", {"pay"}}}}},
	 .stage = POLICY_CONTEXT,
	 .explanation = "rule \"a\" (line 10) requires an encryption context and CreateGrant "
			"has none"},
	/* plaintext */
	{.what = "a Recipient",
	 .action = "Decrypt",
	 .body = "{" KEY("k") "," RECIPIENT "}",
	 .rules = {{"a", "Decrypt", {"k"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "no Recipient",
	 .action = "GenerateDataKey",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "GenerateDataKey", {"k"}}},
	 .stage = POLICY_RECIPIENT,
	 .explanation = "rule \"a\" (line 10) has plaintext: refuse; GenerateDataKey must have "
			"a Recipient"},
	{.what = "no Recipient, GenerateRandom",
	 .action = "GenerateRandom",
	 .body = "{}",
	 .rules = {{"a", "GenerateRandom", {"any"}}},
	 .stage = POLICY_RECIPIENT,
	 .explanation =
		 "rule \"a\" (line 10) has plaintext: refuse; GenerateRandom must have a "
		 "Recipient"},
	{.what = "an empty Recipient",
	 .action = "Decrypt",
	 .body = "{" KEY("k") ",\"Recipient\":{}}",
	 .rules = {{"a", "Decrypt", {"k"}}},
	 .stage = POLICY_RECIPIENT,
	 .explanation = "rule \"a\" (line 10) has plaintext: refuse; the Recipient of Decrypt "
			"must hold a base64 AttestationDocument and RSAES_OAEP_SHA_256"},
	{.what = "plaintext: allow, no Recipient",
	 .action = "Decrypt",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Decrypt", {"k"}, .plaintext_allow = true}},
	 .stage = POLICY_ALLOWED},
	{.what = "plaintext: allow, in the second rule only",
	 .action = "Decrypt",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Decrypt", {"k"}}, {"b", "Decrypt", {"k"}, .plaintext_allow = true}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1},
	{.what = "no Recipient is possible",
	 .action = "Encapsulate",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Encapsulate", {"k"}}},
	 .stage = POLICY_RECIPIENT,
	 .explanation = "rule \"a\" (line 10) has plaintext: refuse; Encapsulate answers a "
			"secret in clear and takes no Recipient"},
	{.what = "no Recipient is possible, plaintext: allow",
	 .action = "Decapsulate",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Decapsulate", {"k"}, .plaintext_allow = true}},
	 .stage = POLICY_ALLOWED},
	{.what = "no secret in the reply",
	 .action = "GenerateDataKeyWithoutPlaintext",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "GenerateDataKeyWithoutPlaintext", {"k"}}},
	 .stage = POLICY_ALLOWED},
};

START_TEST(decide)
{
	decide_row(&rows[_i]);
}
END_TEST

/* plaintext: refuse holds for exactly the actions whose reply can hold a secret. */
START_TEST(recipient_of_each_action)
{
	const char *action = kms_action((unsigned)_i)->name;
	struct spec spec = {"a", action, {"any"}};
	struct policy policy = make_policy(&spec, 1);
	struct kms_request request = make_request(action, "{}");
	bool secret = kms_action((unsigned)_i)->flags & KMS_SECRET_REPLY;
	bool sealable = kms_action((unsigned)_i)->flags & KMS_RECIPIENT;

	ck_assert_int_eq(policy_decide(&policy, row_endpoints[0], &request).stage,
			 secret ? POLICY_RECIPIENT : POLICY_ALLOWED);
	request.recipient = KMS_RECIPIENT_BAD;
	ck_assert_int_eq(policy_decide(&policy, row_endpoints[0], &request).stage,
			 secret ? POLICY_RECIPIENT : POLICY_ALLOWED);
	request.recipient = KMS_RECIPIENT_PRESENT;
	ck_assert_int_eq(policy_decide(&policy, row_endpoints[0], &request).stage,
			 secret && !sealable ? POLICY_RECIPIENT : POLICY_ALLOWED);
	policy_done(&policy);
}
END_TEST

int main(void)
{
	TCase *tables = tcase_create("tables");
	Suite *suite = suite_create("policy_condition");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tables, decide, 0, ELEMENTSOF(rows));
	tcase_add_loop_test(tables, recipient_of_each_action, 0, KMS_ACTIONS);
	suite_add_tcase(suite, tables);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
