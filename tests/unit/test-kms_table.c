/* SPDX-License-Identifier: Apache-2.0 */
#include "kms.h"

#include <check.h>
#include <ctype.h>
#include <stdio.h>

static unsigned action_of(const char *name)
{
	int i = kms_action_index(slice_from(name));

	ck_assert_msg(i >= 0, "no action %s", name);
	return (unsigned)i;
}

static bool in_list(const char *const *list, const char *name)
{
	for (; *list; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

static size_t length(const char *const *list)
{
	size_t n = 0;

	while (list[n])
		n++;
	return n;
}

/* The table against the schema in tests/data. */

struct schema_row {
	char *name;
	char *members[16]; /* without the star */
	char *reply[16];
	size_t n_members, n_reply;
};

static char *trim(char *s)
{
	char *end;

	while (*s == ' ')
		s++;
	end = s + strlen(s);
	while (end > s && (isspace((unsigned char)end[-1]) || end[-1] == '*'))
		*--end = '\0';
	return s;
}

static size_t split(char *text, char *parts[16])
{
	size_t n = 0;

	for (char *part = strsep(&text, ","); part; part = strsep(&text, ",")) {
		part = trim(part);
		if (*part == '\0')
			continue;
		ck_assert_uint_lt(n, 16);
		parts[n++] = part;
	}
	return n;
}

static struct schema_row parse_row(char *line)
{
	struct schema_row row = {0};

	row.name = trim(strsep(&line, "|"));
	row.n_members = split(strsep(&line, "|"), row.members);
	row.n_reply = split(strsep(&line, "|"), row.reply);
	return row;
}

static bool in_parts(char *const *parts, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(parts[i], name) == 0)
			return true;
	return false;
}

/* `list` is exactly what of the schema's members is in `candidates`. */
static void assert_selection(const struct schema_row *row, const char *const *list,
			     char *const *parts, size_t n, const char *const *candidates)
{
	size_t want = 0;

	for (; *candidates; candidates++) {
		bool there = in_parts(parts, n, *candidates);

		ck_assert_msg(in_list(list, *candidates) == there, "%s: %s", row->name,
			      *candidates);
		want += there;
	}
	ck_assert_msg(length(list) == want, "%s lists something else", row->name);
}

static void assert_row(const struct schema_row *row, const struct kms_action *action)
{
	static const char *const keys[] = {"KeyId",       "SourceKeyId", "DestinationKeyId",
					   "TargetKeyId", "AliasName",   NULL};
	static const char *const contexts[] = {"EncryptionContext", "SourceEncryptionContext",
					       "DestinationEncryptionContext", NULL};
	static const char *const secrets[] = {"Plaintext", "PrivateKeyPlaintext",
					      "SharedSecret", NULL};

	ck_assert_str_eq(action->name, row->name);
	ck_assert_uint_eq(length(action->members), row->n_members);
	for (size_t i = 0; i < row->n_members; i++)
		ck_assert_str_eq(action->members[i], row->members[i]);
	assert_selection(row, action->keys, row->members, row->n_members, keys);
	assert_selection(row, action->contexts, row->members, row->n_members, contexts);
	assert_selection(row, action->secrets, row->reply, row->n_reply, secrets);
	ck_assert_uint_le(length(action->keys), 2);
	ck_assert_uint_le(length(action->contexts), 2);
	ck_assert_int_eq(!!(action->flags & KMS_RECIPIENT),
			 in_parts(row->members, row->n_members, "Recipient"));
	ck_assert_int_eq(!!(action->flags & KMS_RECIPIENT),
			 in_parts(row->reply, row->n_reply, "CiphertextForRecipient"));
	ck_assert_int_eq(!!(action->flags & KMS_SECRET_REPLY), length(action->secrets) > 0);
	/* Whoever takes a policy or a grantee (not ListGrants, which looks for one) delegates.
	 */
	ck_assert_int_eq(action->policy != NULL,
			 in_parts(row->members, row->n_members, "Policy"));
	ck_assert(!action->policy || (action->flags & KMS_DELEGATION));
	ck_assert_int_eq(action->grantees[0] != NULL,
			 strcmp(action->name, "ListGrants") != 0 &&
				 in_parts(row->members, row->n_members, "GranteePrincipal"));
	ck_assert(!action->grantees[0] || (action->flags & KMS_DELEGATION));
	ck_assert_int_eq(action->token != NULL,
			 in_parts(row->members, row->n_members, "GrantToken"));
}

START_TEST(table_is_the_schema)
{
	char path[4096], line[1024];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/kms-actions.txt", getenv("TEST_DATA"));
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		struct schema_row row;

		if (line[0] == '#')
			continue;
		row = parse_row(line);
		ck_assert_uint_lt(n, KMS_ACTIONS);
		assert_row(&row, kms_action(n++));
	}
	fclose(f);
	ck_assert_uint_eq(n, KMS_ACTIONS);
}
END_TEST

START_TEST(table_is_in_order)
{
	for (unsigned i = 1; i < KMS_ACTIONS; i++)
		ck_assert_str_lt(kms_action(i - 1)->name, kms_action(i)->name);
}
END_TEST

/* A request's keys[0] and [1] mean these. */
START_TEST(members_of_two_are_in_the_order_of_the_request)
{
	const struct kms_action *a = kms_action(action_of("ReEncrypt"));

	ck_assert_str_eq(a->keys[0], "SourceKeyId");
	ck_assert_str_eq(a->keys[1], "DestinationKeyId");
	ck_assert_str_eq(a->contexts[0], "SourceEncryptionContext");
	ck_assert_str_eq(a->contexts[1], "DestinationEncryptionContext");
}
END_TEST

static const struct {
	unsigned flag;
	const char *const *names;
} flags[] = {
	{KMS_RECIPIENT,
	 (const char *const[]){"Decrypt", "DeriveSharedSecret", "GenerateDataKey",
			       "GenerateDataKeyPair", "GenerateRandom", NULL}},
	{KMS_SECRET_REPLY,
	 (const char *const[]){"Decapsulate", "Decrypt", "DeriveSharedSecret", "Encapsulate",
			       "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom",
			       NULL}},
	{KMS_REPEATABLE, (const char *const[]){"Decapsulate",
					       "Decrypt",
					       "DeriveSharedSecret",
					       "DescribeCustomKeyStores",
					       "DescribeKey",
					       "Encapsulate",
					       "Encrypt",
					       "GenerateDataKey",
					       "GenerateDataKeyPair",
					       "GenerateDataKeyPairWithoutPlaintext",
					       "GenerateDataKeyWithoutPlaintext",
					       "GenerateMac",
					       "GenerateRandom",
					       "GetKeyLastUsage",
					       "GetKeyPolicy",
					       "GetKeyRotationStatus",
					       "GetPublicKey",
					       "ListAliases",
					       "ListGrants",
					       "ListKeyPolicies",
					       "ListKeyRotations",
					       "ListKeys",
					       "ListResourceTags",
					       "ListRetirableGrants",
					       "ReEncrypt",
					       "Sign",
					       "Verify",
					       "VerifyMac",
					       NULL}},
	{KMS_DESTRUCTIVE, (const char *const[]){"DeleteAlias", "DeleteCustomKeyStore",
						"DeleteImportedKeyMaterial", "DisableKey",
						"DisconnectCustomKeyStore", "RetireGrant",
						"RevokeGrant", "ScheduleKeyDeletion", NULL}},
	{KMS_PRIVILEGE,
	 (const char *const[]){"CancelKeyDeletion", "ConnectCustomKeyStore",
			       "CreateCustomKeyStore", "EnableKey", "ImportKeyMaterial",
			       "UpdateCustomKeyStore", "UpdatePrimaryRegion", NULL}},
	{KMS_DELEGATION, (const char *const[]){"CreateGrant", "CreateKey", "PutKeyPolicy",
					       "ReplicateKey", NULL}},
	{KMS_REWRAP, (const char *const[]){"ReEncrypt", NULL}},
	{KMS_KEY_IMPLIED, (const char *const[]){"Decrypt", "ReEncrypt", NULL}},
	{KMS_LABEL, (const char *const[]){"CreateAlias", "DeleteAlias", "TagResource",
					  "UntagResource", "UpdateAlias", NULL}},
};

START_TEST(flag)
{
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		ck_assert_msg(!!(kms_action(i)->flags & flags[_i].flag) ==
				      in_list(flags[_i].names, kms_action(i)->name),
			      "%s", kms_action(i)->name);
	for (const char *const *name = flags[_i].names; *name; name++)
		action_of(*name);
}
END_TEST

START_TEST(index_by_name)
{
	static const struct slice none[] = {
		{NULL, 0},
		{"", 0},
		{"decrypt", 7},
		{"DECRYPT", 7},
		{"Decryp", 6},
		{"Decryptx", 8},
		{"Decrypt\0", 8},
		{" Decrypt", 8},
		{"Decrypt ", 8},
		{"*", 1},
		{"A", 1},
		{"Zzz", 3},
		{"VerifyMacx", 10},
		{"CancelKeyDeletio", 16},
		{"kms:Decrypt", 11},
		{"D\xc3\xa9"
		 "crypt",
		 8},
	};

	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		ck_assert_int_eq(kms_action_index(slice_from(kms_action(i)->name)), (int)i);
	for (size_t i = 0; i < ELEMENTSOF(none); i++)
		ck_assert_int_eq(kms_action_index(none[i]), -1);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("table");
	Suite *suite = suite_create("kms_table");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, table_is_the_schema);
	tcase_add_test(tcase, table_is_in_order);
	tcase_add_test(tcase, members_of_two_are_in_the_order_of_the_request);
	tcase_add_loop_test(tcase, flag, 0, ELEMENTSOF(flags));
	tcase_add_test(tcase, index_by_name);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
