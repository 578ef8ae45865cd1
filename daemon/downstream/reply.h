/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Step "answer" of a request's way: what came back from the endpoint is judged
 * (reply_verdict.c), and relayed or refused; what blames our credentials or clock is signed and
 * tried once more. */

#include "request.h"

/* The end of a request's call, see struct upstream_call_ops: r->result, and r->call.reply. */
void reply_take(struct request *r, struct instant now);
