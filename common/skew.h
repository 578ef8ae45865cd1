/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How far this machine's clock is from that of an endpoint, learned from the Date of its
 * replies, as the AWS SDKs do it (their common clock skew correction of 2026). KMS refuses a
 * signature that is more than 5 minutes off. */

#include "clock.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>

/* One word for each endpoint, shared by all workers. Zeroed: no skew. */
struct skew {
	_Atomic int64_t usec; /* their clock minus ours, as last seen */
};

/* One reply that came over a verified connection. The times are the wall clock as this machine
 * has it, not corrected. */
struct skew_sample {
	usec_t sent;       /* when the request's last byte went */
	usec_t received;   /* when the reply's head came */
	struct slice date; /* the Date header; .p NULL where there is none */
	bool has_age;      /* the reply has an Age header: a cache's, says nothing of now */
};

/* Takes the reply into account; replies that can't tell the time change nothing. */
void skew_learn(struct skew *skew, const struct skew_sample *sample);

/* The skew as last seen, for messages and counters. */
usec_t skew_seen(const struct skew *skew);

/* What is added to the wall clock when signing: the skew as last seen, 0 up to 30 seconds. */
usec_t skew_correction(const struct skew *skew);

/* A request that was signed with `correction` was refused with the error `code`
 * ("InvalidSignatureException"), and its reply was learned from: is the clock to blame, so that
 * signing it once more is worth it? */
bool skew_explains(const struct skew *skew, usec_t correction, struct slice code);
