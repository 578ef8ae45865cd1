/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which name a client asks for that means a host: an allow-list of vsock-proxy holds the names
 * that are connected to, ours the server names of ClientHellos. Pure. */

#include "slice.h"

#define AWS_NAME_SIZE 254

enum aws_name {
	AWS_NAME_USUAL = 0, /* as far as can be told, this very name */
	AWS_NAME_UNUSUAL,  /* one of a machine or a load balancer, which hardly anybody asks for
			    */
	AWS_NAME_ENDPOINT, /* of an interface endpoint of a VPC: the service's own name */
	AWS_NAME_PARTITION, /* the region's names end otherwise: that name */
};

/* `name` is in lower case. Of ENDPOINT and PARTITION *ret_asked, which has AWS_NAME_SIZE bytes,
 * is the name that is asked for; else it is untouched. */
enum aws_name aws_name_judge(struct slice name, char *ret_asked);
