/* SPDX-License-Identifier: Apache-2.0 */

/* `extra_actions` and `extra_members`: what a rule allows that the table of KMS lacks. */

#include "policy.h"

#include "policy_row.h"

#include <check.h>

#define NEW .actions = "", .plaintext_allow = true, .extra_actions = {"NewAction"}

static const struct row rows[] = {
	/* actions */
	{.what = "its key is listed",
	 .action = "NewAction",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", .keys = {"k"}, NEW}},
	 .stage = POLICY_ALLOWED},
	{.what = "another key",
	 .action = "NewAction",
	 .body = "{" KEY("x") "}",
	 .rules = {{"a", .keys = {"k"}, NEW}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key x as KeyId"},
	{.what = "no key",
	 .action = "NewAction",
	 .body = "{}",
	 .rules = {{"a", .keys = {"k"}, NEW}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): NewAction must name KeyId"},
	{.what = "any key, and none",
	 .action = "NewAction",
	 .body = "{}",
	 .rules = {{"a", .keys = {"any"}, NEW}},
	 .stage = POLICY_ALLOWED},
	{.what = "a key is not added",
	 .action = "NewAction",
	 .body = "{}",
	 .rules = {{"a", .keys = {"arn:aws:kms:eu-central-1:1:key/k"}, .missing_key_add = true,
		    NEW}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): NewAction must name KeyId"},
	{.what = "another rule has it",
	 .action = "NewAction",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Decrypt Sign", {"any"}, .plaintext_allow = true},
		   {"b", .keys = {"x"}, NEW},
		   {"c", .keys = {"k"}, NEW}},
	 .stage = POLICY_ALLOWED,
	 .rule = 2},
	{.what = "the rule that has it is for another endpoint",
	 .action = "NewAction",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Decrypt", {"any"}}, {"b", .keys = {"k"}, NEW, .endpoints = 2}},
	 .stage = POLICY_ACTION,
	 .explanation = "no rule allows action NewAction at this endpoint"},
	{.what = "the rule's other actions are none the less the table's",
	 .action = "Sign",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", .keys = {"k"}, NEW}},
	 .stage = POLICY_ACTION,
	 .explanation = "no rule allows action Sign at this endpoint"},
	{.what = "a context can't be asked of it",
	 .action = "NewAction",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", .keys = {"k"}, .contexts = {{"app", {"x"}}}, NEW}},
	 .stage = POLICY_CONTEXT,
	 .explanation = "rule \"a\" (line 10) requires an encryption context and NewAction "
			"has none"},
	{.what = "its answer may be a secret",
	 .action = "NewAction",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "", {"k"}, .extra_actions = {"NewAction"}}},
	 .stage = POLICY_RECIPIENT,
	 .explanation =
		 "rule \"a\" (line 10) has plaintext: refuse; NewAction answers a secret "
		 "in clear and takes no Recipient"},
	{.what = "also with a Recipient, of which nothing is known",
	 .action = "NewAction",
	 .body = "{" KEY("k") "," RECIPIENT "}",
	 .rules = {{"a",
		    "",
		    {"k"},
		    .extra_actions = {"NewAction"},
		    .extra_members = {"Recipient"}}},
	 .stage = POLICY_RECIPIENT,
	 .explanation =
		 "rule \"a\" (line 10) has plaintext: refuse; NewAction answers a secret "
		 "in clear and takes no Recipient"},
	/* members */
	{.what = "a member",
	 .action = "Sign",
	 .body = "{" KEY("k") ",\"NewMember\":{\"a\":[null]}}",
	 .rules = {{"a", "Sign", {"k"}, .extra_members = {"Other", "NewMember"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "that may be left out",
	 .action = "Sign",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Sign", {"k"}, .extra_members = {"NewMember"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "of an extra action",
	 .action = "NewAction",
	 .body = "{" KEY("k") ",\"NewMember\":1}",
	 .rules = {{"a", .keys = {"k"}, NEW, .extra_members = {"NewMember"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "of another rule",
	 .action = "Sign",
	 .body = "{" KEY("k") ",\"NewMember\":1}",
	 .rules = {{"a", "Sign", {"any"}},
		   {"b", "Verify", {"any"}, .extra_members = {"NewMember"}}},
	 .stage = POLICY_MEMBER,
	 .member = 3,
	 .explanation = "rule \"a\" (line 10) does not allow the member \"NewMember\" of Sign"},
	{.what = "the rule that has it is tried too",
	 .action = "Sign",
	 .body = "{" KEY("k") ",\"NewMember\":1}",
	 .rules = {{"a", "Sign", {"any"}},
		   {"b", "Sign", {"k"}, .extra_members = {"NewMember"}}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1},
	{.what = "one of two",
	 .action = "Sign",
	 .body = "{\"NewMember\":{\"x\":1}," KEY("k") ",\"Other\":1}",
	 .rules = {{"a", "Sign", {"k"}, .extra_members = {"NewMember"}},
		   {"b", "Verify", {"k"}, .extra_members = {"Other"}}},
	 .stage = POLICY_MEMBER,
	 .member = 5,
	 .explanation = "rule \"a\" (line 10) does not allow the member \"Other\" of Sign"},
	{.what = "a context is still asked for",
	 .action = "Encrypt",
	 .body = "{" KEY("k") ",\"NewMember\":1}",
	 .rules = {{"a", "Encrypt", {"k"}, {{"app", {"x"}}}, .extra_members = {"NewMember"}}},
	 .stage = POLICY_CONTEXT,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"a\" (line 10) requires one of its values for \"app\" in "
			"EncryptionContext"},
	{.what = "and a Recipient",
	 .action = "Decrypt",
	 .body = "{" KEY("k") ",\"NewMember\":1}",
	 .rules = {{"a", "Decrypt", {"k"}, .extra_members = {"NewMember"}}},
	 .stage = POLICY_RECIPIENT,
	 .explanation = "rule \"a\" (line 10) has plaintext: refuse; Decrypt must have a "
			"Recipient"},
};

START_TEST(decide)
{
	decide_row(&rows[_i]);
}
END_TEST

static const struct {
	const char *name;
	bool found;
} names[] = {{"NewAction", true}, {"Decrypt", true},     {"Newer", true},     {"", false},
	     {"New", false},      {"NewActions", false}, {"newaction", false}};

START_TEST(action)
{
	const struct spec specs[] = {
		{"a", .keys = {"any"}, NEW},
		{"b", "", {"any"}, .extra_actions = {"NewAction", "Newer"}}};
	struct policy policy = make_policy(specs, ELEMENTSOF(specs));
	const struct kms_action *found = policy_action(&policy, slice_from(names[_i].name));

	ck_assert_msg((found != NULL) == names[_i].found, "%s", names[_i].name);
	if (found)
		ck_assert_str_eq(found->name, names[_i].name);
	policy_done(&policy);
}
END_TEST

/* What is not known of it is supposed: it is never sent twice, and its reply is a secret. */
START_TEST(extra_action)
{
	const struct kms_action row = kms_extra_action("NewAction");

	ck_assert_uint_eq(row.flags, KMS_EXTRA | KMS_SECRET_REPLY | KMS_DELEGATION);
	ck_assert_uint_eq(kms_action_bit(&row), 0);
	ck_assert_str_eq(row.keys[0], "KeyId");
	ck_assert_ptr_null(row.keys[1]);
	ck_assert_str_eq(row.members[0], "KeyId");
	ck_assert_ptr_null(row.members[1]);
	ck_assert_ptr_null(row.contexts[0]);
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		ck_assert(kms_action_bit(kms_action(i)) == UINT64_C(1) << i);
}
END_TEST

START_TEST(names_key)
{
	static const char *const keys[] = {"KeyId",     "TargetKeyId", "SourceKeyId",
					   "AliasName", "GrantToken",  "DestinationKeyId"};
	static const char *const others[] = {"GrantTokens", "NewMember", "", "keyid", "Key"};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		ck_assert_msg(kms_names_key(slice_from(keys[i])), "%s", keys[i]);
	for (size_t i = 0; i < ELEMENTSOF(others); i++)
		ck_assert_msg(!kms_names_key(slice_from(others[i])), "%s", others[i]);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("policy_extra");
	Suite *suite = suite_create("policy_extra");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, decide, 0, ELEMENTSOF(rows));
	tcase_add_loop_test(tcase, action, 0, ELEMENTSOF(names));
	tcase_add_test(tcase, extra_action);
	tcase_add_test(tcase, names_key);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
