/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The hosts of KMS by region, as the endpoint rules of AWS's SDKs make them: eight partitions,
 * each with a DNS suffix of its own and another for dual-stack hosts. Pure. */

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

#define ENDPOINT_HOST_SIZE 96

struct partition {
	const char *name; /* as ARNs have it */
	const char *suffix;
	const char *dualstack_suffix;
	bool no_fips; /* AWS lists no FIPS host of KMS there */
};

/* The partition of a region, or NULL for a region of none that we know. */
const struct partition *endpoint_partition(struct slice region);

/* Whether this is a host of KMS: in any partition and region, also one that is not known here,
 * by its regional name, FIPS, dual-stack, or of an interface VPC endpoint. In lower case. */
bool endpoint_is_kms_host(struct slice host);

/* Writes the host of KMS in a region of `partition` into `out`, which has ENDPOINT_HOST_SIZE
 * bytes; the region is at most 32. Returns out. */
const char *endpoint_host(const struct partition *partition, struct slice region, bool fips,
			  bool dualstack, char *out);
