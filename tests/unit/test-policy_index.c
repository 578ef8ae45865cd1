/* SPDX-License-Identifier: Apache-2.0 */
#include "policy_index.h"

#include "../lib/policy/model.h"
#include "policy_spec.h"

#include <check.h>

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define ID2 "99999999-12ab-34cd-56ef-1234567890ab"
#define ACCOUNT_EU "arn:aws:kms:eu-central-1:111122223333:"
#define ACCOUNT_US "arn:aws:kms:us-east-1:111122223333:"
#define RECIPIENT                                                                              \
	"\"Recipient\":{\"AttestationDocument\":\"QUJD\","                                     \
	"\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}"

/* Random policies and requests of few words, so that rules are met often: as the model decides.
 */

static unsigned pick(unsigned n)
{
	static uint64_t state = 42; /* of the forked test: the same in each run */

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(state >> 33) % n;
}

static const char *const words[] = {
	"a",
	"alias/a",
	ID,
	ID2,
	"mrk-1",
	ACCOUNT_EU "key/" ID,
	ACCOUNT_US "key/" ID,
	"arn:aws:kms:eu-central-1:9:key/" ID,
	ACCOUNT_EU "key/mrk-1",
	ACCOUNT_US "key/mrk-1",
	ACCOUNT_EU "alias/a",
	ACCOUNT_EU "key/a",
};
static const char *const adding[] = {ACCOUNT_EU "key/" ID, ACCOUNT_EU "key/mrk-1",
				     ACCOUNT_US "key/" ID, ACCOUNT_EU "alias/a"};
/* Rules have bits 0 and 1. */
static const struct policy_endpoint endpoints[] = {{0, "eu-central-1"}, {1, "us-east-1"}};
static const char *const values[] = {"x", "y", "z"};
static const char *const actions[] = {"Decrypt",     "Encrypt",        "ReEncrypt",  "Sign",
				      "CreateAlias", "GenerateRandom", "ListAliases"};

static struct spec random_rule(void)
{
	struct spec spec = {.name = "r",
			    .actions = actions[pick(ELEMENTSOF(actions))],
			    .plaintext_allow = pick(2),
			    .missing_key_add = pick(2),
			    .endpoints = 1 + pick(3)};
	unsigned n_keys = pick(4), n_contexts = pick(3) / 2 + pick(3) / 2;

	for (unsigned i = 0; i <= n_keys; i++)
		spec.keys[i] = words[pick(ELEMENTSOF(words))];
	if (spec.missing_key_add && pick(4)) {
		memset(spec.keys, 0, sizeof(spec.keys));
		spec.keys[0] = adding[pick(ELEMENTSOF(adding))];
	}
	if (pick(8) == 0)
		spec.keys[0] = "any";
	if (pick(4) == 0)
		spec.extra_members[0] = "NewMember";
	if (pick(4) == 0)
		spec.extra_actions[0] = "NewAction";
	for (unsigned i = 0; i < n_contexts; i++) {
		spec.contexts[i].name = values[pick(2)];
		for (unsigned v = 0; v <= pick(2); v++)
			spec.contexts[i].values[v] = values[pick(ELEMENTSOF(values))];
	}
	return spec;
}

static void append_context(char *body, size_t size, const char *member)
{
	size_t n = strlen(body);

	snprintf(body + n, size - n, ",\"%s\":{\"x\":\"%s\",\"y\":\"%s\"}", member,
		 values[pick(3)], values[pick(3)]);
}

static void random_body(const struct policy *policy, const struct kms_action *action,
			char *body, size_t size)
{
	size_t n;

	body[0] = '\0';
	for (unsigned i = 0; action->keys[i]; i++) {
		n = strlen(body);
		if (pick(i == 0 && (action->flags & KMS_KEY_IMPLIED) ? 2 : 8))
			snprintf(body + n, size - n, ",\"%s\":\"%s\"", action->keys[i],
				 words[pick(ELEMENTSOF(words))]);
	}
	for (unsigned i = 0; action->contexts[i]; i++)
		if (pick(3))
			append_context(body, size, action->contexts[i]);
	n = strlen(body);
	if (policy->extra_members && pick(4) == 0)
		snprintf(body + n, size - n, ",\"NewMember\":null");
	n = strlen(body);
	if ((action->flags & KMS_RECIPIENT) && pick(2))
		snprintf(body + n, size - n, ",%s", RECIPIENT);
	if (body[0] == ',')
		body[0] = '{';
	else
		strncat(body, "{", size - strlen(body) - 1);
	strncat(body, "}", size - strlen(body) - 1);
}

/* An extra one only where a rule has it: nobody else is asked about it. */
static const char *random_action(const struct policy *policy)
{
	if (policy->n_extra_actions > 0 && pick(8) == 0)
		return "NewAction";
	return actions[pick(ELEMENTSOF(actions))];
}

START_TEST(decides_as_the_model)
{
	unsigned seen[POLICY_ALLOWED + 1] = {0}, added = 0;

	for (unsigned round = 0; round < 2000; round++) {
		struct spec specs[12];
		struct policy policy;

		for (unsigned i = 0; i < ELEMENTSOF(specs); i++)
			specs[i] = random_rule();
		policy = make_policy(specs, pick(ELEMENTSOF(specs) + 1));
		for (unsigned i = 0; i < 20; i++) {
			const char *action = random_action(&policy);
			struct policy_endpoint endpoint = endpoints[pick(2)];
			struct kms_request request;
			struct verdict got, want;
			char body[1024];

			random_body(&policy, policy_action(&policy, slice_from(action)), body,
				    sizeof(body));
			request = make_request_to(&policy, action, body);
			got = policy_decide(&policy, endpoint, &request);
			want = model_decide(&policy, endpoint, &request);
			ck_assert_msg(got.stage == want.stage && got.rule == want.rule &&
					      got.added == want.added,
				      "%s %s: %s, the model says %s", action, body,
				      reason_word(policy_stage_reason(got.stage)),
				      reason_word(policy_stage_reason(want.stage)));
			seen[got.stage]++;
			added += got.added != NULL;
		}
		policy_done(&policy);
	}
	for (unsigned i = 0; i < ELEMENTSOF(seen); i++)
		ck_assert_msg(seen[i] > 100, "only %u at %s", seen[i],
			      reason_word(policy_stage_reason((enum policy_stage)i)));
	ck_assert_msg(added > 50, "only %u with a key added", added);
}
END_TEST

/* Every key of a large policy is found in its own rule, and no other. */
START_TEST(thousand_rules)
{
	enum { RULES = 1000, KEYS = 10 };
	struct policy policy = {.rules = calloc(RULES, sizeof(struct rule))};
	struct kms_request request = make_request("Sign", "{}");
	struct verdict v;
	char key[80];

	for (; policy.n_rules < RULES; policy.n_rules++) {
		struct spec spec = {.name = "r", .actions = "Sign"};
		struct rule *rule = &policy.rules[policy.n_rules];

		*rule = make_rule(&spec, (unsigned)policy.n_rules);
		free(rule->keys);
		for (rule->keys = calloc(KEYS, sizeof(char *)); rule->n_keys < KEYS;
		     rule->n_keys++) {
			snprintf(key, sizeof(key), ACCOUNT_EU "key/%zu-%zu",
				 policy.n_rules * 7919 % RULES, rule->n_keys);
			rule->keys[rule->n_keys] = strdup(key);
		}
	}
	ck_assert_int_eq(policy_prepare(&policy), 0);

	for (size_t i = 0; i < RULES; i++)
		for (size_t k = 0; k <= KEYS; k++) {
			snprintf(key, sizeof(key), "%s%zu-%zu", i % 2 ? "" : ACCOUNT_EU "key/",
				 i * 7919 % RULES, k);
			request.keys[0] = slice_from(key);
			v = policy_decide(&policy, endpoints[0], &request);
			ck_assert_int_eq(v.stage, k < KEYS ? POLICY_ALLOWED : POLICY_KEY);
			ck_assert_uint_eq(v.rule->line, k < KEYS ? i : 0);
		}
	policy_done(&policy);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("policy_index");
	Suite *suite = suite_create("policy_index");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, decides_as_the_model);
	tcase_add_test(tcase, thousand_rules);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
