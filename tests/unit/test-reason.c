/* SPDX-License-Identifier: Apache-2.0 */
#include "reason.h"

#include "policy.h"
#include "refusal.h"

#include <check.h>
#include <ctype.h>
#include <string.h>

START_TEST(every_reason_has_its_row)
{
	const struct reason_info *info = reason_info((enum reason)_i);
	size_t n = strlen(info->word);

	ck_assert_uint_gt(n, 0);
	ck_assert_uint_eq(strspn(info->word, "abcdefghijklmnopqrstuvwxyz-0123456789"), n);
	ck_assert(info->word[0] != '-' && info->word[n - 1] != '-');
	ck_assert_str_eq(reason_word((enum reason)_i), info->word);
	ck_assert_uint_gt(strlen(info->sentence), 10);
	ck_assert(info->sentence[strlen(info->sentence) - 1] != '.');
	for (enum reason other = REASON_ALLOWED; other < _REASON_MAX; other++)
		if (other != (enum reason)_i)
			ck_assert_str_ne(reason_word(other), info->word);
	ck_assert(info->counter == COUNTER_ALLOWED || info->counter == COUNTER_REFUSED ||
		  info->counter == COUNTER_THROTTLED || info->counter == COUNTER_FAILED);
	ck_assert((info->counter == COUNTER_ALLOWED) == (_i == REASON_ALLOWED));
}
END_TEST

START_TEST(no_reason_has_no_word)
{
	ck_assert_ptr_null(reason_word(REASON_NONE));
}
END_TEST

/* What the SDKs are told to try again later by a limit counts as throttled, and nothing else.
 */
START_TEST(what_a_limit_refuses_counts_as_throttled)
{
	const struct refusal_info *info = refusal_info((enum refusal)_i);

	ck_assert_msg((reason_info(info->reason)->counter == COUNTER_THROTTLED) ==
			      (strcmp(info->type, "ThrottlingException") == 0),
		      "%s", reason_word(info->reason));
}
END_TEST

/* What is the enclave's own doing counts as refused, what is ours or KMS's as failed. */
START_TEST(what_has_a_status_of_500_counts_as_failed)
{
	const struct refusal_info *info = refusal_info((enum refusal)_i);

	ck_assert_msg((reason_info(info->reason)->counter == COUNTER_FAILED) ==
			      (info->status >= 500),
		      "%s", reason_word(info->reason));
}
END_TEST

START_TEST(every_stage_of_the_policy_has_its_word)
{
	static const char *const words[] = {"no-rules",  "endpoint", "action",
					    "member",    "key",      "encryption-context",
					    "recipient", "allowed"};

	for (unsigned i = 0; i <= POLICY_ALLOWED; i++)
		ck_assert_str_eq(reason_word(policy_stage_reason((enum policy_stage)i)),
				 words[i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reason");
	TCase *tcase = tcase_create("reason");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, every_reason_has_its_row, REASON_ALLOWED, _REASON_MAX);
	tcase_add_test(tcase, no_reason_has_no_word);
	tcase_add_loop_test(tcase, what_a_limit_refuses_counts_as_throttled, REFUSAL_NONE + 1,
			    _REFUSAL_MAX);
	tcase_add_loop_test(tcase, what_has_a_status_of_500_counts_as_failed, REFUSAL_NONE + 1,
			    _REFUSAL_MAX);
	tcase_add_test(tcase, every_stage_of_the_policy_has_its_word);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
