/* SPDX-License-Identifier: Apache-2.0 */

/* `missing_key: add`: which rule gives its key to a request that names none, and the body with
 * it. */

#include "policy.h"

#include "policy_row.h"

#include <check.h>

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define ARN_EU "arn:aws:kms:eu-central-1:111122223333:key/" ID
#define ARN_EU2 "arn:aws:kms:eu-central-1:111122223333:key/99999999-12ab-34cd-56ef-1234567890ab"
#define ARN_US "arn:aws:kms:us-east-1:111122223333:key/" ID
#define ADDS .plaintext_allow = true, .missing_key_add = true

static const struct row rows[] = {
	{.what = "Decrypt",
	 .action = "Decrypt",
	 .body = "{\"CiphertextBlob\":\"AA==\"}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_ALLOWED,
	 .added = ARN_EU},
	{.what = "an empty object",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_ALLOWED,
	 .added = ARN_EU},
	{.what = "a key that is named is not added",
	 .action = "Decrypt",
	 .body = "{" KEY(ARN_EU) "}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_ALLOWED},
	{.what = "nor one that is named by its id",
	 .action = "Decrypt",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_ALLOWED},
	{.what = "another key that is named is refused",
	 .action = "Decrypt",
	 .body = "{" KEY("alias/x") "}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/x as KeyId: compared "
			"as written; an alias is not its key's ARN"},
	{.what = "missing_key: refuse",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, .plaintext_allow = true}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): Decrypt must name KeyId"},
	{.what = "a key of another region",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_US}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): Decrypt must name KeyId; the rule adds its key "
			"only where that is in the endpoint's region"},
	{.what = "two regions, a rule each",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_US}, ADDS}, {"b", "Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1,
	 .added = ARN_EU},
	{.what = "two keys",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_EU, ARN_EU2}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): Decrypt must name KeyId"},
	{.what = "an id",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ID}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): Decrypt must name KeyId"},
	{.what = "the ARN of an alias",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {"arn:aws:kms:eu-central-1:111122223333:alias/x"}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): Decrypt must name KeyId"},
	{.what = "any key",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {"any"}, ADDS}},
	 .stage = POLICY_ALLOWED},
	{.what = "the first in the file, before `keys: any`",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, ADDS},
		   {"b", "Decrypt", {"any"}, .plaintext_allow = true}},
	 .stage = POLICY_ALLOWED,
	 .added = ARN_EU},
	{.what = "and after it",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {"any"}, .plaintext_allow = true},
		   {"b", "Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_ALLOWED},
	{.what = "the first of two that add",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Encrypt", {ARN_EU2}, ADDS},
		   {"b", "Decrypt", {ARN_EU}, ADDS},
		   {"c", "Decrypt", {ARN_EU2}, ADDS}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1,
	 .added = ARN_EU},
	{.what = "contexts decide as always",
	 .action = "Decrypt",
	 .body = "{\"EncryptionContext\":{\"app\":\"ship\"}}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, {{"app", {"pay"}}}, ADDS},
		   {"b", "Decrypt", {ARN_EU2}, {{"app", {"ship"}}}, ADDS}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1,
	 .added = ARN_EU2},
	{.what = "and refuse",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, {{"app", {"pay"}}}, ADDS}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10) requires one of its values for \"app\" in "
			"EncryptionContext"},
	{.what = "plaintext: refuse asks for a Recipient",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, .missing_key_add = true}},
	 .stage = POLICY_RECIPIENT,
	 .explanation = "rule \"a\" (line 10) has plaintext: refuse; Decrypt must have a "
			"Recipient"},
	{.what = "with a Recipient",
	 .action = "Decrypt",
	 .body = "{" RECIPIENT "}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, .missing_key_add = true}},
	 .stage = POLICY_ALLOWED,
	 .added = ARN_EU},
	{.what = "ReEncrypt without its source",
	 .action = "ReEncrypt",
	 .body = "{\"DestinationKeyId\":\"" ARN_EU "\"}",
	 .rules = {{"a", "ReEncrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_ALLOWED,
	 .added = ARN_EU},
	{.what = "ReEncrypt to another key",
	 .action = "ReEncrypt",
	 .body = "{\"DestinationKeyId\":\"" ARN_EU2 "\"}",
	 .rules = {{"a", "ReEncrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 2,
	 .explanation =
		 "rule \"a\" (line 10) does not allow key " ARN_EU2 " as DestinationKeyId"},
	{.what = "ReEncrypt without its destination",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"" ARN_EU "\"}",
	 .rules = {{"a", "ReEncrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 2,
	 .explanation = "rule \"a\" (line 10): ReEncrypt must name DestinationKeyId"},
	{.what = "ReEncrypt without both",
	 .action = "ReEncrypt",
	 .body = "{}",
	 .rules = {{"a", "ReEncrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 2,
	 .explanation = "rule \"a\" (line 10): ReEncrypt must name DestinationKeyId"},
	{.what = "an action in which KMS needs the key",
	 .action = "Encrypt",
	 .body = "{}",
	 .rules = {{"a", "Encrypt Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): Encrypt must name KeyId"},
	{.what = "one in which it may be left out for another reason",
	 .action = "ListAliases",
	 .body = "{}",
	 .rules = {{"a", "ListAliases Decrypt", {ARN_EU}, ADDS}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): ListAliases must name KeyId"},
	{.what = "another endpoint of the region",
	 .action = "Decrypt",
	 .body = "{}",
	 .rules = {{"a", "Decrypt", {ARN_EU}, ADDS, .endpoints = 1}},
	 .endpoint = 2,
	 .stage = POLICY_ENDPOINT,
	 .explanation = "no rule allows this endpoint"},
};

START_TEST(decide)
{
	decide_row(&rows[_i]);
}
END_TEST

static const struct {
	const char *action, *body, *with_key;
} bodies[] = {
	{"Decrypt", "{}", "{\"KeyId\":\"k\"}"},
	{"Decrypt", "{\"a\":1}", "{\"a\":1,\"KeyId\":\"k\"}"},
	{"Decrypt", "{\"a\":{}}", "{\"a\":{},\"KeyId\":\"k\"}"},
	{"ReEncrypt", "{\"DestinationKeyId\":\"d\"}",
	 "{\"DestinationKeyId\":\"d\",\"SourceKeyId\":\"k\"}"},
};

/* In a body that has just the room that is promised. */
START_TEST(add_key)
{
	const struct kms_action *action =
		kms_action((unsigned)kms_action_index(slice_from(bodies[_i].action)));
	size_t n = strlen(bodies[_i].body), size = n + kms_added_size(action, SLICE("k"));
	_cleanup_(freep) char *body = malloc(size);

	memcpy(body, bodies[_i].body, n);
	n = kms_add_key(action, SLICE("k"), body, n);
	ck_assert_uint_eq(n, strlen(bodies[_i].with_key));
	ck_assert_uint_ge(size, n);
	ck_assert_int_eq(memcmp(body, bodies[_i].with_key, n), 0);
}
END_TEST

/* It is that of the longest member that any of its rules may add. */
START_TEST(room)
{
	const struct {
		struct spec rules[3];
		size_t room;
	} policies[] = {
		{{{"a", "Decrypt ReEncrypt", {ARN_EU}}}, 0},
		{{{"a", "Encrypt", {ARN_EU}, ADDS}}, 0},
		{{{"a", "Decrypt", {ID}, ADDS}}, 0},
		{{{"a", "Decrypt", {ARN_US}, ADDS}},
		 strlen(",\"KeyId\":\"\"") + strlen(ARN_US)},
		{{{"a", "Decrypt", {ARN_US}, ADDS}, {"b", "Decrypt", {ARN_EU}, ADDS}},
		 strlen(",\"KeyId\":\"\"") + strlen(ARN_EU)},
		{{{"a", "ReEncrypt Decrypt", {ARN_EU}, ADDS}, {"b", "Decrypt", {ARN_US}, ADDS}},
		 strlen(",\"SourceKeyId\":\"\"") + strlen(ARN_EU)},
	};

	for (size_t i = 0; i < ELEMENTSOF(policies); i++) {
		struct policy policy =
			make_policy(policies[i].rules, ELEMENTSOF(policies[i].rules));

		ck_assert_uint_eq(policy.add_room, policies[i].room);
		policy_done(&policy);
	}
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("policy_missing_key");
	Suite *suite = suite_create("policy_missing_key");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, decide, 0, ELEMENTSOF(rows));
	tcase_add_loop_test(tcase, add_key, 0, ELEMENTSOF(bodies));
	tcase_add_test(tcase, room);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
