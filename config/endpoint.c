/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include "macro.h"

#include <stdio.h>
#include <string.h>

enum {
	AWS,
	AWS_CN,
	AWS_US_GOV,
	AWS_ISO,
	AWS_ISO_B,
	AWS_ISO_E,
	AWS_ISO_F,
	AWS_EUSC,
};

static const struct partition partitions[] = {
	[AWS] = {"aws", "amazonaws.com", "api.aws", false},
	[AWS_CN] = {"aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn", true},
	[AWS_US_GOV] = {"aws-us-gov", "amazonaws.com", "api.aws", false},
	[AWS_ISO] = {"aws-iso", "c2s.ic.gov", "api.aws.ic.gov", false},
	[AWS_ISO_B] = {"aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud", false},
	[AWS_ISO_E] = {"aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", false},
	[AWS_ISO_F] = {"aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov", false},
	[AWS_EUSC] = {"aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu", false},
};

/* A region is a prefix, one word and a number. That the rest is a single word keeps
 * us-gov-west-1 out of the row "us-". */
static const struct {
	const char *prefix;
	unsigned partition;
} prefixes[] = {
	{"us-", AWS},
	{"eu-", AWS},
	{"ap-", AWS},
	{"sa-", AWS},
	{"ca-", AWS},
	{"me-", AWS},
	{"af-", AWS},
	{"il-", AWS},
	{"mx-", AWS},
	{"cn-", AWS_CN},
	{"us-gov-", AWS_US_GOV},
	{"us-iso-", AWS_ISO},
	{"us-isob-", AWS_ISO_B},
	{"eu-isoe-", AWS_ISO_E},
	{"us-isof-", AWS_ISO_F},
	{"eusc-de-", AWS_EUSC},
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_word_and_number(struct slice s)
{
	size_t i = 0, word;

	while (i < s.n && ((s.p[i] >= 'a' && s.p[i] <= 'z') || is_digit(s.p[i])))
		i++;
	word = i;
	if (word == 0 || i == s.n || s.p[i] != '-')
		return false;
	for (i++; i < s.n; i++)
		if (!is_digit(s.p[i]))
			return false;
	return i > word + 1;
}

const struct partition *endpoint_partition(struct slice region)
{
	for (size_t i = 0; i < ELEMENTSOF(prefixes); i++) {
		struct slice prefix = slice_from(prefixes[i].prefix);

		if (slice_starts(region, prefix) &&
		    is_word_and_number(
			    (struct slice){region.p + prefix.n, region.n - prefix.n}))
			return &partitions[prefixes[i].partition];
	}
	return NULL;
}

const char *endpoint_host(const struct partition *partition, struct slice region, bool fips,
			  bool dualstack, char *out)
{
	snprintf(out, ENDPOINT_HOST_SIZE, "%s.%.*s.%s", fips ? "kms-fips" : "kms",
		 (int)region.n, region.p,
		 dualstack ? partition->dualstack_suffix : partition->suffix);
	return out;
}

static bool is_below(struct slice host, struct slice suffix)
{
	return host.n > suffix.n && host.p[host.n - suffix.n - 1] == '.' &&
	       memcmp(host.p + host.n - suffix.n, suffix.p, suffix.n) == 0;
}

/* AWS names no other service so, and gives no label below its services to customers but that of
 * a VPC endpoint, which begins with "vpce-". */
static bool has_kms_label(struct slice host)
{
	while (host.n) {
		const char *dot = memchr(host.p, '.', host.n);
		struct slice label = {host.p, dot ? (size_t)(dot - host.p) : host.n};

		if (slice_eq(label, SLICE("kms")) || slice_eq(label, SLICE("kms-fips")))
			return true;
		host.p += label.n + (dot != NULL);
		host.n -= label.n + (dot != NULL);
	}
	return false;
}

bool endpoint_is_kms_host(struct slice host)
{
	for (size_t i = 0; i < ELEMENTSOF(partitions); i++)
		if (is_below(host, slice_from(partitions[i].suffix)) ||
		    is_below(host, slice_from(partitions[i].dualstack_suffix)))
			return has_kms_label(host);
	return false;
}
