/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What one slot of an enclave has used so far: its rate limiter, gauges and counters, and who
 * waits for it. They live outside the configuration, keyed by the enclave's name and the slot's
 * CID, and survive a reload. All threads share them, so every member that changes is one atomic
 * word, or one thread's own. */

#include "config.h"
#include "counter.h"
#include "flood.h"
#include "macro.h"
#include "named_table.h"
#include "place.h"
#include "rate_limit.h"

#include <stdatomic.h>
#include <stdint.h>

struct enclave {
	struct named named; /* its number is the CID; its `id` the index of per-worker tables */
	struct rate_limit requests;
	struct rate_limit bandwidth; /* of its tunnels */
	struct gauge in_flight, connections, memory, tunnels;
	struct gauge surplus; /* connections over its limit that are being told so */
	struct places places; /* who waits for one in flight */
	struct flood flood;   /* of audit records */
	_Atomic uint64_t counters[_COUNTER_MAX];
	uint64_t reported; /* the control thread's: their sum when they were last written */
};

static inline void enclave_count(struct enclave *e, enum counter counter, uint64_t n)
{
	atomic_fetch_add_explicit(&e->counters[counter], n, memory_order_relaxed);
}

/* One token of its request rate. False, and in how long there is one, in *ret_wait (may be
 * NULL): the rate is used up. */
bool enclave_take_token(struct enclave *e, const struct enclave_config *config, usec_t now,
			usec_t *ret_wait);

/* Has `*charged`, bytes of the enclave's share of memory, become `n`. False: the share is used
 * up, and nothing has changed. Less is always possible. */
_must_check_ bool enclave_charge(struct enclave *e, size_t share, size_t *charged, size_t n);
void enclave_uncharge(struct enclave *e, size_t *charged); /* of all */

/* All slots of enclaves this process has known, the control thread's: see named_table.h. */
struct enclave_table;

_must_check_ int enclave_table_new(struct enclave_table **ret_table);
struct enclave_table *enclave_table_free(struct enclave_table *table);
DEFINE_CLEANUP(struct enclave_table *, enclave_table_free)

/* The enclave of that name, as the peer with that CID; 0: as the peers of listeners that name
 * it. Made if it isn't there. NULL when memory ran out. */
struct enclave *enclave_table_get(struct enclave_table *table, const char *name, unsigned cid);

/* The i-th in the order they were made; NULL after the last. */
struct enclave *enclave_table_at(const struct enclave_table *table, unsigned i);
