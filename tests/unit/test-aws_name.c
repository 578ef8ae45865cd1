/* SPDX-License-Identifier: Apache-2.0 */
#include "aws_name.h"

#include "macro.h"

#include <check.h>

static const struct {
	const char *name;
	enum aws_name judged;
	const char *asked; /* NULL: untouched */
} rows[] = {
	{"kms.eu-central-1.amazonaws.com", AWS_NAME_USUAL, NULL},
	{"kms.cn-north-1.amazonaws.com.cn", AWS_NAME_USUAL, NULL},
	{"kms.us-gov-west-1.amazonaws.com", AWS_NAME_USUAL, NULL},
	{"kms.eusc-de-east-1.amazonaws.eu", AWS_NAME_USUAL, NULL},
	{"api.example.com", AWS_NAME_USUAL, NULL},
	{"amazonaws.com", AWS_NAME_USUAL, NULL},
	{"localhost", AWS_NAME_USUAL, NULL},
	{"", AWS_NAME_USUAL, NULL},
	{"kms.nowhere-1.amazonaws.com", AWS_NAME_USUAL, NULL},
	{"a.kms.cn-north-1.amazonaws.com", AWS_NAME_USUAL, NULL},
	{"kms.cn-north-1.amazonaws.com", AWS_NAME_PARTITION, "kms.cn-north-1.amazonaws.com.cn"},
	{"s3.cn-northwest-1.amazonaws.com", AWS_NAME_PARTITION,
	 "s3.cn-northwest-1.amazonaws.com.cn"},
	{"kms.us-iso-east-1.amazonaws.com", AWS_NAME_PARTITION, "kms.us-iso-east-1.c2s.ic.gov"},
	{"kms.eusc-de-east-1.amazonaws.com", AWS_NAME_PARTITION,
	 "kms.eusc-de-east-1.amazonaws.eu"},
	{"vpce-0a-1b.kms.eu-west-1.vpce.amazonaws.com", AWS_NAME_ENDPOINT,
	 "kms.eu-west-1.amazonaws.com"},
	{"vpce-0a-1b-eu-west-1a.kms-fips.us-east-1.vpce.amazonaws.com", AWS_NAME_ENDPOINT,
	 "kms-fips.us-east-1.amazonaws.com"},
	{"vpce-0a.kms.cn-north-1.vpce.amazonaws.com.cn", AWS_NAME_ENDPOINT,
	 "kms.cn-north-1.amazonaws.com.cn"},
	{"vpce-0a.kms.nowhere.vpce.amazonaws.com", AWS_NAME_UNUSUAL, NULL},
	{"vpce-svc-0a.eu-west-1.vpce.amazonaws.com", AWS_NAME_UNUSUAL, NULL},
	{"vpce-0a.kms.eu-west-1.vpce.example.com", AWS_NAME_USUAL, NULL},
	{"bucket.vpce-0a.s3.eu-west-1.vpce.amazonaws.com", AWS_NAME_UNUSUAL, NULL},
	{"x.eu-west-1.elb.amazonaws.com", AWS_NAME_UNUSUAL, NULL},
	{"ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", AWS_NAME_UNUSUAL, NULL},
	{"ip-10-0-0-1.eu-west-1.compute.internal", AWS_NAME_UNUSUAL, NULL},
	{"ip-10-0-0-1.ec2.internal", AWS_NAME_UNUSUAL, NULL},
};

START_TEST(a_name)
{
	char asked[AWS_NAME_SIZE] = "untouched";

	ck_assert_msg(aws_name_judge(slice_from(rows[_i].name), asked) == rows[_i].judged, "%s",
		      rows[_i].name);
	ck_assert_str_eq(asked, rows[_i].asked ?: "untouched");
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("aws_name");
	Suite *suite = suite_create("aws_name");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, a_name, 0, ELEMENTSOF(rows));
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
