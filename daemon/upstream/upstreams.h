/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The upstreams of one data thread, by configuration and endpoint: those of an old
 * configuration serve the requests that began under it, and go with the last of them. */

#include "context.h"
#include "upstream.h"

#include <sys/queue.h>

/* Zeroed memory is none. */
struct upstreams {
	LIST_HEAD(, upstream_set) sets;
};

/* That of an endpoint, by its index, under this configuration; made when it is first asked for.
 * NULL when memory ran out. */
struct upstream *upstreams_get(struct context *context, struct generation *generation,
			       unsigned endpoint);

/* Applies all deadlines, and frees what is neither in force nor used. */
void upstreams_sweep(struct context *context, struct instant now);

/* Frees all; no call may be left. */
void upstreams_done(struct upstreams *upstreams);
