/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Step 10 of a request's way: what came back from the endpoint is judged, and relayed or
 * refused; what blames our credentials or clock is tried once more. */

#include "upstream.h"

/* The done() of a request's call: see struct upstream_call_ops. */
void reply_take(struct upstream_call *call, enum upstream_result result, const char *why,
		usec_t now);
