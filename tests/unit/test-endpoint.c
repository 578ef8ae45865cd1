/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include "macro.h"

#include <check.h>

/* The hosts that the endpoint rules of AWS's SDK for JavaScript (client-kms 3.1162) make. */
static const struct {
	const char *region, *partition, *host, *fips, *dualstack, *both;
} rows[] = {
	{"us-east-1", "aws", "kms.us-east-1.amazonaws.com", "kms-fips.us-east-1.amazonaws.com",
	 "kms.us-east-1.api.aws", "kms-fips.us-east-1.api.aws"},
	{"eu-central-2", "aws", "kms.eu-central-2.amazonaws.com",
	 "kms-fips.eu-central-2.amazonaws.com", "kms.eu-central-2.api.aws",
	 "kms-fips.eu-central-2.api.aws"},
	{"ap-southeast-7", "aws", "kms.ap-southeast-7.amazonaws.com",
	 "kms-fips.ap-southeast-7.amazonaws.com", "kms.ap-southeast-7.api.aws",
	 "kms-fips.ap-southeast-7.api.aws"},
	{"sa-east-1", "aws", "kms.sa-east-1.amazonaws.com", "kms-fips.sa-east-1.amazonaws.com",
	 "kms.sa-east-1.api.aws", "kms-fips.sa-east-1.api.aws"},
	{"ca-west-1", "aws", "kms.ca-west-1.amazonaws.com", "kms-fips.ca-west-1.amazonaws.com",
	 "kms.ca-west-1.api.aws", "kms-fips.ca-west-1.api.aws"},
	{"me-south-1", "aws", "kms.me-south-1.amazonaws.com",
	 "kms-fips.me-south-1.amazonaws.com", "kms.me-south-1.api.aws",
	 "kms-fips.me-south-1.api.aws"},
	{"af-south-1", "aws", "kms.af-south-1.amazonaws.com",
	 "kms-fips.af-south-1.amazonaws.com", "kms.af-south-1.api.aws",
	 "kms-fips.af-south-1.api.aws"},
	{"il-central-1", "aws", "kms.il-central-1.amazonaws.com",
	 "kms-fips.il-central-1.amazonaws.com", "kms.il-central-1.api.aws",
	 "kms-fips.il-central-1.api.aws"},
	{"mx-central-1", "aws", "kms.mx-central-1.amazonaws.com",
	 "kms-fips.mx-central-1.amazonaws.com", "kms.mx-central-1.api.aws",
	 "kms-fips.mx-central-1.api.aws"},
	{"eu-north-12", "aws", "kms.eu-north-12.amazonaws.com",
	 "kms-fips.eu-north-12.amazonaws.com", "kms.eu-north-12.api.aws",
	 "kms-fips.eu-north-12.api.aws"},
	{"cn-north-1", "aws-cn", "kms.cn-north-1.amazonaws.com.cn",
	 "kms-fips.cn-north-1.amazonaws.com.cn", "kms.cn-north-1.api.amazonwebservices.com.cn",
	 "kms-fips.cn-north-1.api.amazonwebservices.com.cn"},
	{"us-gov-west-1", "aws-us-gov", "kms.us-gov-west-1.amazonaws.com",
	 "kms-fips.us-gov-west-1.amazonaws.com", "kms.us-gov-west-1.api.aws",
	 "kms-fips.us-gov-west-1.api.aws"},
	{"us-iso-east-1", "aws-iso", "kms.us-iso-east-1.c2s.ic.gov",
	 "kms-fips.us-iso-east-1.c2s.ic.gov", "kms.us-iso-east-1.api.aws.ic.gov",
	 "kms-fips.us-iso-east-1.api.aws.ic.gov"},
	{"us-isob-east-1", "aws-iso-b", "kms.us-isob-east-1.sc2s.sgov.gov",
	 "kms-fips.us-isob-east-1.sc2s.sgov.gov", "kms.us-isob-east-1.api.aws.scloud",
	 "kms-fips.us-isob-east-1.api.aws.scloud"},
	{"eu-isoe-west-1", "aws-iso-e", "kms.eu-isoe-west-1.cloud.adc-e.uk",
	 "kms-fips.eu-isoe-west-1.cloud.adc-e.uk", "kms.eu-isoe-west-1.api.cloud-aws.adc-e.uk",
	 "kms-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk"},
	{"us-isof-south-1", "aws-iso-f", "kms.us-isof-south-1.csp.hci.ic.gov",
	 "kms-fips.us-isof-south-1.csp.hci.ic.gov", "kms.us-isof-south-1.api.aws.hci.ic.gov",
	 "kms-fips.us-isof-south-1.api.aws.hci.ic.gov"},
	{"eusc-de-east-1", "aws-eusc", "kms.eusc-de-east-1.amazonaws.eu",
	 "kms-fips.eusc-de-east-1.amazonaws.eu", "kms.eusc-de-east-1.api.amazonwebservices.eu",
	 "kms-fips.eusc-de-east-1.api.amazonwebservices.eu"},
};

START_TEST(host)
{
	struct slice region = slice_from(rows[_i].region);
	const struct partition *partition = endpoint_partition(region);
	char out[ENDPOINT_HOST_SIZE];

	ck_assert_ptr_nonnull(partition);
	ck_assert_str_eq(partition->name, rows[_i].partition);
	ck_assert_str_eq(endpoint_host(partition, region, false, false, out), rows[_i].host);
	ck_assert_str_eq(endpoint_host(partition, region, true, false, out), rows[_i].fips);
	ck_assert_str_eq(endpoint_host(partition, region, false, true, out),
			 rows[_i].dualstack);
	ck_assert_str_eq(endpoint_host(partition, region, true, true, out), rows[_i].both);
}
END_TEST

START_TEST(all_partitions_are_tested)
{
	static const char *const names[] = {"aws",       "aws-cn",    "aws-us-gov", "aws-iso",
					    "aws-iso-b", "aws-iso-e", "aws-iso-f",  "aws-eusc"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		bool found = false;

		for (size_t k = 0; k < ELEMENTSOF(rows); k++)
			found = found || strcmp(names[i], rows[k].partition) == 0;
		ck_assert_msg(found, "%s", names[i]);
	}
}
END_TEST

static const char *const kms_hosts[] = {
	"kms.eu-central-9.amazonaws.com", /* a region that isn't known yet */
	"kms.moon-base-1.amazonaws.com",
	"kms-fips.us-east-1.api.aws",
	"vpce-0a1b2c3d-4e5f.kms.eu-central-1.vpce.amazonaws.com",
	"vpce-0a1b2c3d-4e5f-eu-central-1a.kms.eu-central-1.vpce.amazonaws.com",
	"vpce-0a1b2c3d-4e5f.kms-fips.us-gov-west-1.vpce.amazonaws.com",
	"vpce-0a1b2c3d-4e5f.kms.cn-north-1.vpce.amazonaws.com.cn",
	"vpce-0a1b2c3d-4e5f.kms.us-east-1.vpce.api.aws",
	"vpce-0a1b2c3d-4e5f.kms.us-iso-east-1.vpce.c2s.ic.gov",
};

static const char *const other_hosts[] = {
	"",
	"kms",
	"kms.example",
	"kms.eu-central-1.amazonaws.com.example",
	"kms.xamazonaws.com",
	"amazonaws.com",
	"s3.eu-central-1.amazonaws.com",
	"akms.eu-central-1.amazonaws.com",
	"kms-fipsy.eu-central-1.amazonaws.com",
	"vpce-0a1b.kmsx.eu-central-1.vpce.amazonaws.com",
};

START_TEST(hosts_of_kms)
{
	char out[ENDPOINT_HOST_SIZE];

	for (size_t i = 0; i < ELEMENTSOF(kms_hosts); i++)
		ck_assert_msg(endpoint_is_kms_host(slice_from(kms_hosts[i])), "%s",
			      kms_hosts[i]);
	for (size_t i = 0; i < ELEMENTSOF(other_hosts); i++)
		ck_assert_msg(!endpoint_is_kms_host(slice_from(other_hosts[i])), "%s",
			      other_hosts[i]);
	for (size_t i = 0; i < ELEMENTSOF(rows) * 4; i++) {
		struct slice region = slice_from(rows[i / 4].region);

		endpoint_host(endpoint_partition(region), region, i & 1, i & 2, out);
		ck_assert_msg(endpoint_is_kms_host(slice_from(out)), "%s", out);
	}
}
END_TEST

static const char *const unknown[] = {
	"",
	"us",
	"us-",
	"us-east",
	"us-east-",
	"us--1",
	"us-east-1a",
	"us-east-1-",
	"us-east-1-1",
	"us-gov-",
	"us-gov-1-",
	"us-gov-west",
	"us-iso-east",
	"us-isox-east-1",
	"us-isob-east",
	"eu-isoe-1-",
	"eusc-east-1",
	"eusc-fr-east-1",
	"eusc-de-east",
	"moon-base-1",
	"US-EAST-1",
	"xus-east-1",
	"aws-global",
	"us-gov-west-north-1",
	"cn-",
	"uk-south-1",
	"us-east_1",
	"us-east.1",
};

START_TEST(unknown_region)
{
	ck_assert_msg(!endpoint_partition(slice_from(unknown[_i])), "%s", unknown[_i]);
}
END_TEST

/* The longest names that syntax_region() lets through fit. */
START_TEST(longest_host)
{
	struct slice region = SLICE("us-isob-aaaaaaaaaaaaaaaaaaaaaa-1");
	const struct partition *partition = endpoint_partition(region);
	char out[ENDPOINT_HOST_SIZE];

	ck_assert_uint_eq(region.n, 32);
	ck_assert_ptr_nonnull(partition);
	ck_assert_str_eq(endpoint_host(partition, region, true, true, out),
			 "kms-fips.us-isob-aaaaaaaaaaaaaaaaaaaaaa-1.api.aws.scloud");
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("endpoint");
	Suite *suite = suite_create("endpoint");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, host, 0, ELEMENTSOF(rows));
	tcase_add_test(tcase, all_partitions_are_tested);
	tcase_add_test(tcase, hosts_of_kms);
	tcase_add_loop_test(tcase, unknown_region, 0, ELEMENTSOF(unknown));
	tcase_add_test(tcase, longest_host);
	suite_add_tcase(suite, tcase);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
