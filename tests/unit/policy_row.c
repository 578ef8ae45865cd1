/* SPDX-License-Identifier: Apache-2.0 */
#include "policy_row.h"

#include <check.h>
#include <stdio.h>

const struct policy_endpoint row_endpoints[3] = {
	{0, "eu-central-1"}, {1, "us-east-1"}, {POLICY_ENDPOINTS - 1, "eu-central-1"}};

void decide_row(const struct row *row)
{
	struct policy policy = make_policy(row->rules, ELEMENTSOF(row->rules));
	struct kms_request request = make_request_to(&policy, row->action, row->body);
	struct verdict v = policy_decide(&policy, row_endpoints[row->endpoint], &request);
	char text[512], allowed[128];

	ck_assert_msg(v.stage == row->stage, "%s: stage %s", row->what,
		      reason_word(policy_stage_reason(v.stage)));
	ck_assert_msg(v.rule == (row->rule < 0 ? NULL : &policy.rules[row->rule]),
		      "%s: rule %s", row->what, v.rule ? v.rule->name : "none");
	ck_assert_msg(v.member == row->member - 1, "%s: member %d", row->what, v.member);
	ck_assert_msg(v.key == row->key - 1, "%s: key %d", row->what, v.key);
	ck_assert_msg(v.context == row->context - 1, "%s: context %d", row->what, v.context);
	ck_assert_msg(v.pair == row->pair - 1, "%s: pair %d", row->what, v.pair);
	ck_assert_pstr_eq(v.added, row->added);
	snprintf(allowed, sizeof(allowed), "rule \"%s\" (line %d) allows %s%s%s",
		 v.rule ? v.rule->name : "", 10 * row->rule + 10, row->action,
		 v.added ? " and adds its key as " : "",
		 v.added ? request.action->keys[0] : "");
	ck_assert_str_eq(verdict_explain(&v, &request, text, sizeof(text)),
			 row->explanation ?: allowed);
	policy_done(&policy);
	ck_assert_ptr_null(policy.rules);
}
