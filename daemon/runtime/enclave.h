/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an enclave has used so far: its rate limiter, gauges and counters. They live outside the
 * configuration, keyed by the enclave's name, and survive a reload. All threads share them, so
 * every member that changes is one atomic word. */

#include "flood.h"
#include "limit.h"
#include "macro.h"
#include "rate_limit.h"

#include <stdatomic.h>
#include <stdint.h>

/* Monotonic counters, written to the journal every 5 minutes and on SIGUSR1. */
enum counter {
	COUNTER_CONNECTIONS,
	COUNTER_CONNECTIONS_REFUSED,
	COUNTER_REQUESTS,
	COUNTER_ALLOWED,
	COUNTER_REFUSED,   /* by framing, JSON or policy */
	COUNTER_THROTTLED, /* by a limit */
	COUNTER_FAILED,    /* no credentials, no upstream, or a reply that may not pass */
	COUNTER_BYTES_IN,
	COUNTER_BYTES_OUT,
	COUNTER_TUNNELS,
	_COUNTER_MAX,
};

struct enclave {
	unsigned id; /* dense, from 0: the index of per-worker tables */
	char name[LIMIT_NAME + 1];
	struct rate_limit requests;
	struct rate_limit bandwidth; /* of its tunnels */
	struct gauge in_flight, connections, memory, tunnels;
	struct flood flood; /* of audit records */
	_Atomic uint64_t counters[_COUNTER_MAX];
};

static inline void enclave_count(struct enclave *e, enum counter counter, uint64_t n)
{
	atomic_fetch_add_explicit(&e->counters[counter], n, memory_order_relaxed);
}

/* The journal field of a counter, e.g. "REQUESTS". */
const char *counter_name(enum counter counter);

/* All enclaves this process has known, the control thread's; an enclave is never freed before
 * the table, so that a worker's pointer stays good. */
struct enclave_table;

_must_check_ int enclave_table_new(struct enclave_table **ret_table);
struct enclave_table *enclave_table_free(struct enclave_table *table);
DEFINE_CLEANUP(struct enclave_table *, enclave_table_free)

/* The enclave of that name; made if it isn't there. NULL when memory ran out. */
struct enclave *enclave_table_get(struct enclave_table *table, const char *name);

/* The i-th enclave in the order they were made; NULL behind the last. */
struct enclave *enclave_table_at(const struct enclave_table *table, unsigned i);
