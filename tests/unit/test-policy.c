/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include "policy_row.h"

#include <check.h>

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define ID2 "99999999-12ab-34cd-56ef-1234567890ab"
#define ACCOUNT_EU "arn:aws:kms:eu-central-1:111122223333:"
#define ACCOUNT_US "arn:aws:kms:us-east-1:111122223333:"
#define OTHER_ACCOUNT "arn:aws:kms:eu-central-1:444455556666:"

static const struct row rows[] = {
	/* no rules, order */
	{.what = "no rules",
	 .action = "ListKeys",
	 .body = "{}",
	 .stage = POLICY_NO_RULES,
	 .rule = -1,
	 .explanation = "no rule allows action ListKeys: the enclave has none"},
	{.what = "the first of two that match",
	 .action = "ListKeys",
	 .body = "{}",
	 .rules = {{"a", "ListKeys", {"any"}}, {"b", "ListKeys", {"any"}}},
	 .stage = POLICY_ALLOWED,
	 .rule = 0},
	{.what = "the first that matches, not the first",
	 .action = "Decrypt",
	 .body = "{" KEY("k2") "," RECIPIENT "}",
	 .rules = {{"a", "Encrypt", {"any"}},
		   {"b", "Decrypt", {"k1"}},
		   {"c", "Decrypt", {"k2"}},
		   {"d", "Decrypt", {"any"}}},
	 .stage = POLICY_ALLOWED,
	 .rule = 2},
	{.what = "`keys: any` in front of a rule that lists the key",
	 .action = "Decrypt",
	 .body = "{" KEY("k2") "," RECIPIENT "}",
	 .rules = {{"a", "Decrypt", {"any"}, .plaintext_allow = true},
		   {"b", "Decrypt", {"k2"}}},
	 .stage = POLICY_ALLOWED,
	 .rule = 0},
	{.what = "and after it",
	 .action = "Decrypt",
	 .body = "{" KEY("k2") "," RECIPIENT "}",
	 .rules = {{"a", "Decrypt", {"k2"}},
		   {"b", "Decrypt", {"any"}, .plaintext_allow = true}},
	 .stage = POLICY_ALLOWED,
	 .rule = 0},
	/* the furthest rule gives the reason */
	{.what = "furthest: action over endpoint",
	 .action = "ListKeys",
	 .body = "{}",
	 .rules = {{"a", "ListKeys", {"any"}, .endpoints = 2}, {"b", "Sign", {"any"}}},
	 .stage = POLICY_ACTION,
	 .rule = 1,
	 .explanation = "no rule allows action ListKeys at this endpoint"},
	{.what = "furthest: key over action",
	 .action = "Sign",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "ListKeys", {"any"}}, {"b", "Sign", {"k1"}}, {"c", "Sign", {"k2"}}},
	 .stage = POLICY_KEY,
	 .rule = 1,
	 .key = 1,
	 .explanation = "rule \"b\" (line 20) does not allow key k as KeyId"},
	{.what = "furthest: context over key",
	 .action = "Encrypt",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Encrypt", {"k1"}},
		   {"b", "Encrypt", {"k"}, {{"app", {"x"}}}},
		   {"c", "Encrypt", {"any"}, {{"app", {"y"}}}}},
	 .stage = POLICY_CONTEXT,
	 .rule = 1,
	 .context = 1,
	 .pair = 1,
	 .explanation = "rule \"b\" (line 20) requires one of its values for \"app\" in "
			"EncryptionContext"},
	{.what = "furthest: recipient over context",
	 .action = "Decrypt",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Decrypt", {"k"}, {{"app", {"x"}}}},
		   {"b", "Decrypt", {"k"}},
		   {"c", "Decrypt", {"any"}}},
	 .stage = POLICY_RECIPIENT,
	 .rule = 1,
	 .explanation = "rule \"b\" (line 20) has plaintext: refuse; Decrypt must have a "
			"Recipient"},
	{.what = "furthest: ties to the first, between `any` and a listed key",
	 .action = "Decrypt",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "Decrypt", {"k1"}},
		   {"b", "Decrypt", {"any"}},
		   {"c", "Decrypt", {"k"}}},
	 .stage = POLICY_RECIPIENT,
	 .rule = 1,
	 .explanation = "rule \"b\" (line 20) has plaintext: refuse; Decrypt must have a "
			"Recipient"},
	/* endpoint */
	{.what = "endpoint of the rule",
	 .action = "ListKeys",
	 .body = "{}",
	 .rules = {{"a", "ListKeys", {"any"}, .endpoints = 2}},
	 .endpoint = 1,
	 .stage = POLICY_ALLOWED},
	{.what = "the last endpoint there can be",
	 .action = "ListKeys",
	 .body = "{}",
	 .rules = {{"a", "ListKeys", {"any"}, .endpoints = UINT64_C(1) << 63}},
	 .endpoint = 2,
	 .stage = POLICY_ALLOWED},
	{.what = "another endpoint",
	 .action = "ListKeys",
	 .body = "{}",
	 .rules = {{"a", "ListKeys", {"any"}, .endpoints = 1},
		   {"b", "ListKeys", {"any"}, .endpoints = 4}},
	 .endpoint = 1,
	 .stage = POLICY_ENDPOINT,
	 .explanation = "no rule allows this endpoint"},
	/* action */
	{.what = "one action of several",
	 .action = "VerifyMac",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "CancelKeyDeletion GenerateMac VerifyMac", {"k"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "an action whose name begins like an allowed one",
	 .action = "GenerateDataKeyPairWithoutPlaintext",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "GenerateDataKeyPair GenerateDataKey", {"k"}}},
	 .stage = POLICY_ACTION,
	 .explanation = "no rule allows action GenerateDataKeyPairWithoutPlaintext at this "
			"endpoint"},
	/* keys */
	{.what = "an ARN",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_EU "key/" ID) "}",
	 .rules = {{"a", "Sign", {"alias/x", ACCOUNT_EU "key/" ID2, ACCOUNT_EU "key/" ID}}},
	 .stage = POLICY_ALLOWED},
	{.what = "an id",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Sign", {ID2, ID}}},
	 .stage = POLICY_ALLOWED},
	{.what = "the id of a listed ARN of the endpoint's region",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID}}},
	 .stage = POLICY_ALLOWED},
	{.what = "the id of a listed ARN of another region",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID}}},
	 .endpoint = 1,
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key " ID " as KeyId"},
	{.what = "a listed ARN of another region",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_EU "key/" ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID, ACCOUNT_US "key/" ID}}},
	 .endpoint = 1,
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation =
		 "rule \"a\" (line 10) does not allow key " ACCOUNT_EU "key/" ID " as KeyId"},
	{.what = "a listed ARN of an alias of another region, with a colon in its name",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_EU "alias/x:y") "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "alias/x:y"}}},
	 .endpoint = 1,
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation =
		 "rule \"a\" (line 10) does not allow key " ACCOUNT_EU "alias/x:y as KeyId"},
	{.what = "a listed ARN of an alias of the endpoint's region, with a colon in its name",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_US "alias/x:y") "}",
	 .rules = {{"a", "Sign", {ACCOUNT_US "alias/x:y"}}},
	 .endpoint = 1,
	 .stage = POLICY_ALLOWED},
	{.what = "a multi-region key's id, one rule a region",
	 .action = "Sign",
	 .body = "{" KEY("mrk-12") "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/mrk-12"}},
		   {"b", "Sign", {ACCOUNT_US "key/mrk-12"}}},
	 .endpoint = 1,
	 .stage = POLICY_ALLOWED,
	 .rule = 1},
	{.what = "two regions in one rule",
	 .action = "Sign",
	 .body = "{" KEY("mrk-12") "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/mrk-12", ACCOUNT_US "key/mrk-12"}}},
	 .endpoint = 1,
	 .stage = POLICY_ALLOWED},
	{.what = "a listed id is not its ARN",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_EU "key/" ID) "}",
	 .rules = {{"a", "Sign", {ID}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation =
		 "rule \"a\" (line 10) does not allow key " ACCOUNT_EU "key/" ID " as KeyId"},
	{.what = "an ARN of another account",
	 .action = "Sign",
	 .body = "{" KEY("arn:aws:kms:eu-central-1:999922223333:key/" ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key "
			"arn:aws:kms:eu-central-1:999922223333:key/" ID " as KeyId"},
	{.what = "an alias",
	 .action = "Sign",
	 .body = "{" KEY("alias/x") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "an alias is not the ARN of that alias",
	 .action = "Sign",
	 .body = "{" KEY("alias/x") "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/x as KeyId: compared as "
			"written; an alias is not its ARN"},
	{.what = "an alias where the rule has the key's ARN",
	 .action = "Sign",
	 .body = "{" KEY("alias/x") "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/x as KeyId: compared as "
			"written; an alias is not its key's ARN"},
	{.what = "a key's ARN where the rule has an alias",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_EU "key/" ID) "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key " ACCOUNT_EU "key/" ID
			" as KeyId: compared as written; an alias is not its key's ARN"},
	{.what = "a key's id where the rule has the ARN of an alias",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key " ID
			" as KeyId: compared as written; an alias is not its key's ARN"},
	{.what = "another alias where the rule has one",
	 .action = "Sign",
	 .body = "{" KEY("alias/y") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/y as KeyId"},
	{.what = "nor the other way round",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_EU "alias/x") "}",
	 .rules = {{"a", "Sign", {"alias/x", "x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key " ACCOUNT_EU
			"alias/x as KeyId: compared as written; an alias is not its ARN"},
	{.what = "other letters",
	 .action = "Sign",
	 .body = "{" KEY("Alias/x") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key Alias/x as KeyId"},
	{.what = "the beginning of a key",
	 .action = "Sign",
	 .body = "{" KEY("alias/") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/ as KeyId"},
	{.what = "a key and more",
	 .action = "Sign",
	 .body = "{" KEY("alias/xy") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/xy as KeyId"},
	{.what = "a key with a NUL after it",
	 .action = "Sign",
	 .body = "{" KEY("alias/x\\u0000") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/x\\x5cu0000 as KeyId"},
	{.what = "a key spelt with escapes",
	 .action = "Sign",
	 .body = "{" KEY("\\u0061lias\\/x") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "`any` is no key",
	 .action = "Sign",
	 .body = "{" KEY("any") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key any as KeyId"},
	{.what = "a rule without keys",
	 .action = "Sign",
	 .body = "{" KEY("alias/x") "}",
	 .rules = {{"a", "Sign", {NULL}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/x as KeyId"},
	{.what = "a bare id: all ARNs are of one account",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a",
		    "Sign",
		    {ACCOUNT_EU "key/" ID, "arn:aws:kms:us-east-1:111122223333:alias/x"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "a bare id: ARNs of two accounts",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID, OTHER_ACCOUNT "key/" ID2}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key " ID
			" as KeyId: the rule has ARNs of more than one account, so the "
			"request must name the ARN"},
	{.what = "a bare id: the other account's ARN is of an alias",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Sign", {OTHER_ACCOUNT "alias/x", ACCOUNT_EU "key/" ID}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key " ID
			" as KeyId: the rule has ARNs of more than one account, so the "
			"request must name the ARN"},
	{.what = "the ARN: ARNs of two accounts",
	 .action = "Sign",
	 .body = "{" KEY(ACCOUNT_EU "key/" ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID, OTHER_ACCOUNT "key/" ID2}}},
	 .stage = POLICY_ALLOWED},
	{.what = "a bare id that is listed as such beside ARNs of two accounts",
	 .action = "Sign",
	 .body = "{" KEY(ID) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID, OTHER_ACCOUNT "key/" ID2, ID}}},
	 .stage = POLICY_ALLOWED},
	{.what = "a bare id: an account each in two rules",
	 .action = "Sign",
	 .body = "{" KEY(ID2) "}",
	 .rules = {{"a", "Sign", {ACCOUNT_EU "key/" ID}},
		   {"b", "Sign", {OTHER_ACCOUNT "key/" ID2}}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1},
	{.what = "an alias's name: as ever, no ARN of an alias matches it",
	 .action = "Sign",
	 .body = "{" KEY("alias/x") "}",
	 .rules = {{"a", "Sign", {OTHER_ACCOUNT "alias/x", ACCOUNT_EU "key/" ID}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/x as KeyId: compared as "
			"written; an alias is not its ARN"},
	{.what = "bytes that a terminal would act on",
	 .action = "Sign",
	 .body = "{" KEY("\xc3\xa9\x7f") "}",
	 .rules = {{"a", "Sign", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key \\xc3\\xa9\\x7f as KeyId"},
	{.what = "absent: Decrypt",
	 .action = "Decrypt",
	 .body = "{" RECIPIENT "}",
	 .rules = {{"a", "Decrypt", {"k"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): Decrypt must name KeyId"},
	{.what = "absent: any key",
	 .action = "Decrypt",
	 .body = "{" RECIPIENT "}",
	 .rules = {{"a", "Decrypt", {"k"}}, {"b", "Decrypt", {"any"}}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1},
	{.what = "absent: RetireGrant",
	 .action = "RetireGrant",
	 .body = "{\"GrantId\":\"g\"}",
	 .rules = {{"a", "RetireGrant", {"k"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): RetireGrant must name KeyId"},
	{.what = "RetireGrant: a listed key and the id of a grant",
	 .action = "RetireGrant",
	 .body = "{" KEY("k") ",\"GrantId\":\"g\"}",
	 .rules = {{"a", "RetireGrant", {"k"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "RetireGrant: a token alone",
	 .action = "RetireGrant",
	 .body = "{\"GrantToken\":\"t\"}",
	 .rules = {{"a", "RetireGrant", {"k"}}},
	 .stage = POLICY_KEY,
	 .explanation = "rule \"a\" (line 10) is limited to keys and RetireGrant has "
			"GrantToken, which may be of another key's grant"},
	{.what = "RetireGrant: a token beside a listed key",
	 .action = "RetireGrant",
	 .body = "{" KEY("k") ",\"GrantId\":\"g\",\"GrantToken\":\"t\"}",
	 .rules = {{"a", "RetireGrant", {"k"}}},
	 .stage = POLICY_KEY,
	 .explanation = "rule \"a\" (line 10) is limited to keys and RetireGrant has "
			"GrantToken, which may be of another key's grant"},
	{.what = "RetireGrant: a token that is none",
	 .action = "RetireGrant",
	 .body = "{" KEY("k") ",\"GrantToken\":null}",
	 .rules = {{"a", "RetireGrant", {"k"}}},
	 .stage = POLICY_KEY,
	 .explanation = "rule \"a\" (line 10) is limited to keys and RetireGrant has "
			"GrantToken, which may be of another key's grant"},
	{.what = "RetireGrant: a token, any key",
	 .action = "RetireGrant",
	 .body = "{\"GrantToken\":\"t\"}",
	 .rules = {{"a", "RetireGrant", {"k"}}, {"b", "RetireGrant", {"any"}}},
	 .stage = POLICY_ALLOWED,
	 .rule = 1},
	{.what = "the grant tokens of a request on a listed key",
	 .action = "DescribeKey",
	 .body = "{" KEY("k") ",\"GrantTokens\":[\"t\"]}",
	 .rules = {{"a", "DescribeKey", {"k"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "absent: ListAliases",
	 .action = "ListAliases",
	 .body = "{}",
	 .rules = {{"a", "ListAliases", {"k"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): ListAliases must name KeyId"},
	{.what = "ListAliases of a key",
	 .action = "ListAliases",
	 .body = "{" KEY("k") "}",
	 .rules = {{"a", "ListAliases", {"k"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "ReEncrypt: both listed",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"s\",\"DestinationKeyId\":\"d\"}",
	 .rules = {{"a", "ReEncrypt", {"d", "s"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "ReEncrypt: one in each of two rules",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"s\",\"DestinationKeyId\":\"d\"}",
	 .rules = {{"a", "ReEncrypt", {"d"}}, {"b", "ReEncrypt", {"s"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key s as SourceKeyId"},
	{.what = "ReEncrypt: the source alone",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"s\",\"DestinationKeyId\":\"d\"}",
	 .rules = {{"b", "ReEncrypt", {"s"}}},
	 .stage = POLICY_KEY,
	 .key = 2,
	 .explanation = "rule \"b\" (line 10) does not allow key d as DestinationKeyId"},
	{.what = "ReEncrypt: no source",
	 .action = "ReEncrypt",
	 .body = "{\"DestinationKeyId\":\"d\"}",
	 .rules = {{"a", "ReEncrypt", {"d", "s"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10): ReEncrypt must name SourceKeyId"},
	{.what = "ReEncrypt: no destination",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"s\"}",
	 .rules = {{"a", "ReEncrypt", {"d", "s"}}},
	 .stage = POLICY_KEY,
	 .key = 2,
	 .explanation = "rule \"a\" (line 10): ReEncrypt must name DestinationKeyId"},
	{.what = "ReEncrypt: one key for both",
	 .action = "ReEncrypt",
	 .body = "{\"SourceKeyId\":\"" ID "\",\"DestinationKeyId\":\"" ACCOUNT_EU "key/" ID
		 "\"}",
	 .rules = {{"a", "ReEncrypt", {ACCOUNT_EU "key/" ID}}},
	 .stage = POLICY_ALLOWED},
	{.what = "CreateAlias: alias and key",
	 .action = "CreateAlias",
	 .body = "{\"AliasName\":\"alias/x\",\"TargetKeyId\":\"k\"}",
	 .rules = {{"a", "CreateAlias", {"k", "alias/x"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "CreateAlias: the key alone",
	 .action = "CreateAlias",
	 .body = "{\"AliasName\":\"alias/x\",\"TargetKeyId\":\"k\"}",
	 .rules = {{"a", "CreateAlias", {"k"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/x as AliasName"},
	{.what = "UpdateAlias: the alias alone",
	 .action = "UpdateAlias",
	 .body = "{\"AliasName\":\"alias/x\",\"TargetKeyId\":\"k\"}",
	 .rules = {{"a", "UpdateAlias", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 2,
	 .explanation = "rule \"a\" (line 10) does not allow key k as TargetKeyId"},
	{.what = "DeleteAlias names the alias only",
	 .action = "DeleteAlias",
	 .body = "{\"AliasName\":\"alias/x\"}",
	 .rules = {{"a", "DeleteAlias", {"alias/x"}}},
	 .stage = POLICY_ALLOWED},
	{.what = "DeleteAlias: another alias",
	 .action = "DeleteAlias",
	 .body = "{\"AliasName\":\"alias/y\"}",
	 .rules = {{"a", "DeleteAlias", {"alias/x"}}},
	 .stage = POLICY_KEY,
	 .key = 1,
	 .explanation = "rule \"a\" (line 10) does not allow key alias/y as AliasName"},
	{.what = "keys, and an action that names none",
	 .action = "ListKeys",
	 .body = "{}",
	 .rules = {{"a", "ListKeys", {"k"}}},
	 .stage = POLICY_KEY,
	 .explanation = "rule \"a\" (line 10) is limited to keys and ListKeys names none"},
};

START_TEST(decide)
{
	decide_row(&rows[_i]);
}
END_TEST

START_TEST(no_key_can_be_left_out)
{
	const struct kms_action *action = kms_action((unsigned)_i);
	struct spec spec = {"a", action->name, {"k"}, .plaintext_allow = true};
	struct policy policy = make_policy(&spec, 1);
	struct kms_request request = make_request(action->name, "{}");
	int n = 0;

	for (; action->keys[n]; n++) {
		struct verdict v = policy_decide(&policy, row_endpoints[0], &request);

		ck_assert_int_eq(v.stage, POLICY_KEY);
		ck_assert_int_eq(v.key, n);
		request.keys[n] = SLICE("k");
	}
	ck_assert_int_eq(policy_decide(&policy, row_endpoints[0], &request).stage,
			 n > 0 ? POLICY_ALLOWED : POLICY_KEY);
	policy_done(&policy);
}
END_TEST

START_TEST(unprepared_refuses)
{
	struct spec spec = {"a", "ListKeys", {"any"}};
	struct policy policy = make_policy(&spec, 1);
	struct policy unprepared = {.rules = policy.rules, .n_rules = policy.n_rules};
	struct kms_request request = make_request("ListKeys", "{}");

	ck_assert_int_eq(policy_decide(&policy, row_endpoints[0], &request).stage,
			 POLICY_ALLOWED);
	ck_assert_int_eq(policy_decide(&unprepared, row_endpoints[0], &request).stage,
			 POLICY_NO_RULES);
	policy_done(&policy);
}
END_TEST

START_TEST(prepared_twice)
{
	struct spec spec = {"a", "Sign", {"k"}};
	struct policy policy = make_policy(&spec, 1);
	struct kms_request request = make_request("Sign", "{" KEY("k") "}");

	ck_assert_int_eq(policy_prepare(&policy), 0);
	ck_assert_int_eq(policy_decide(&policy, row_endpoints[0], &request).stage,
			 POLICY_ALLOWED);
	policy_done(&policy);
	policy_done(&policy);
}
END_TEST

START_TEST(stage_names)
{
	static const char *const names[] = {"no-rules",  "endpoint", "action",
					    "member",    "key",      "encryption-context",
					    "recipient", "allowed"};

	for (unsigned i = 0; i < ELEMENTSOF(names); i++)
		ck_assert_str_eq(reason_word(policy_stage_reason((enum policy_stage)i)),
				 names[i]);
}
END_TEST

/* The longest values that the reader lets through: the sentence is cut, not overrun. */
START_TEST(explanation_is_bounded)
{
	static char body[9000], name[301], text[512];
	struct spec spec = {name, "ReEncrypt", {"k"}, {{name, {"x"}}}};
	struct kms_request request;
	struct policy policy;
	struct verdict v;

	memset(name, '\n', sizeof(name) - 1);
	policy = make_policy(&spec, 1);
	memcpy(body, "{\"SourceKeyId\":\"", 16);
	memset(body + 16, 0x7f, 8000);
	memcpy(body + 16 + 8000, "\"}", 3);
	request = make_request("ReEncrypt", body);
	v = policy_decide(&policy, row_endpoints[0], &request);
	ck_assert_int_eq(v.stage, POLICY_KEY);
	ck_assert_uint_lt(strlen(verdict_explain(&v, &request, text, sizeof(text))), 512);
	ck_assert_ptr_nonnull(strstr(text, "... as SourceKeyId"));

	request.keys[0] = request.keys[1] = SLICE("k");
	v = policy_decide(&policy, row_endpoints[0], &request);
	ck_assert_int_eq(v.stage, POLICY_CONTEXT);
	ck_assert_ptr_nonnull(strstr(verdict_explain(&v, &request, text, sizeof(text)),
				     "...\" in SourceEncryptionContext"));
	policy_done(&policy);
}
END_TEST

int main(void)
{
	TCase *tables = tcase_create("tables");
	Suite *suite = suite_create("policy");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tables, decide, 0, ELEMENTSOF(rows));
	tcase_add_loop_test(tables, no_key_can_be_left_out, 0, KMS_ACTIONS);
	tcase_add_test(tables, unprepared_refuses);
	tcase_add_test(tables, prepared_twice);
	tcase_add_test(tables, stage_names);
	tcase_add_test(tables, explanation_is_bounded);
	suite_add_tcase(suite, tables);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
