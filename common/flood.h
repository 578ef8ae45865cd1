/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Keeps a bad enclave from flooding the journal: its refusals and closed connections are
 * recorded up to a rate (LIMIT_AUDIT_BURST, LIMIT_AUDIT_REFUSALS_PER_SEC), and what is left out
 * is counted. One an enclave; all unknown CIDs share one. Zeroed memory is a fresh one. Atomic
 * words only: any thread, no lock. */

#include "clock.h"
#include "macro.h"
#include "rate_limit.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct flood {
	struct rate_limit limit;
	_Atomic uint64_t suppressed;
};

/* Whether the record may be written; false counts it as left out. `now` is monotonic. */
_must_check_ bool flood_admit(struct flood *flood, usec_t now);

/* How many were left out since the last call; the caller records it (EVENT_SUPPRESSED) if it
 * isn't 0. Two threads that call it never get the same one. */
_must_check_ uint64_t flood_take_suppressed(struct flood *flood);
