/* SPDX-License-Identifier: Apache-2.0 */
#include "aws_name.h"

#include "endpoint.h"
#include "macro.h"

#include <stdio.h>

/* Cuts the first label off. False when no other follows. */
static bool cut_label(struct slice *name, struct slice *ret_label)
{
	const char *dot = name->n ? memchr(name->p, '.', name->n) : NULL;

	if (!dot)
		return false;
	*ret_label = (struct slice){name->p, (size_t)(dot - name->p)};
	*name = (struct slice){dot + 1, name->n - ret_label->n - 1};
	return true;
}

static bool ends(struct slice name, const char *end)
{
	struct slice e = slice_from(end);

	return name.n > e.n && slice_eq((struct slice){name.p + name.n - e.n, e.n}, e);
}

static bool is_unusual(struct slice name)
{
	static const char *const of_machines[] = {
		".vpce.amazonaws.com",   ".vpce.amazonaws.com.cn", ".elb.amazonaws.com",
		".elb.amazonaws.com.cn", ".compute.amazonaws.com", ".compute.amazonaws.com.cn",
		".compute.internal",     ".ec2.internal",
	};

	for (size_t i = 0; i < ELEMENTSOF(of_machines); i++)
		if (ends(name, of_machines[i]))
			return true;
	return false;
}

/* SERVICE.REGION, with the suffix of the region's partition. */
static bool make_name(struct slice service, struct slice region, char *ret_asked)
{
	const struct partition *partition = endpoint_partition(region);

	if (!partition)
		return false;
	snprintf(ret_asked, AWS_NAME_SIZE, "%.*s.%.*s.%s", (int)service.n, service.p,
		 (int)region.n, region.p, partition->suffix);
	return true;
}

/* vpce-ID.SERVICE.REGION.vpce.amazonaws.com, and the same of a zone: vpce-ID-ZONE. */
static bool is_endpoint(struct slice name, char *ret_asked)
{
	struct slice id, service, region;

	return cut_label(&name, &id) && slice_starts(id, SLICE("vpce-")) &&
	       !slice_starts(id, SLICE("vpce-svc-")) && cut_label(&name, &service) &&
	       cut_label(&name, &region) &&
	       (slice_eq_str(name, "vpce.amazonaws.com") ||
		slice_eq_str(name, "vpce.amazonaws.com.cn")) &&
	       make_name(service, region, ret_asked);
}

/* As AWS's own vsock-proxy.yaml names the regions of China. */
static bool is_of_other_partition(struct slice name, char *ret_asked)
{
	struct slice service, region;
	char asked[AWS_NAME_SIZE];

	if (!cut_label(&name, &service) || !cut_label(&name, &region) ||
	    !slice_eq_str(name, "amazonaws.com") || !make_name(service, region, asked) ||
	    ends(slice_from(asked), ".amazonaws.com"))
		return false;
	memcpy(ret_asked, asked, sizeof(asked));
	return true;
}

enum aws_name aws_name_judge(struct slice name, char *ret_asked)
{
	if (is_endpoint(name, ret_asked))
		return AWS_NAME_ENDPOINT;
	if (is_of_other_partition(name, ret_asked))
		return AWS_NAME_PARTITION;
	return is_unusual(name) ? AWS_NAME_UNUSUAL : AWS_NAME_USUAL;
}
