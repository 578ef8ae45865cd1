/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Places in flight (limits.in_flight) of an enclave, and the line of those who wait for one:
 * first come, first served, whichever threads they are on, and nobody who comes later overtakes
 * them. Without a lock: each thread has a line of its own, in the order of the enclave's
 * tickets, and shows the others the ticket of its first. A place that is given back is free for
 * all to see, and the thread that has the oldest ticket is poked to take it. */

#include "macro.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define PLACE_THREADS 64 /* the most that `workers` may say */

struct context;
struct enclave;

/* Embedded in who waits; zeroed memory is in no line. */
struct place_waiter {
	TAILQ_ENTRY(place_waiter) link;
	uint64_t ticket; /* 0: it stands in no line */
	unsigned max;    /* places that the enclave had when it came */
};

/* Those of one enclave who wait on one thread, whose own all is but `first`. */
struct place_line {
	_Atomic uint64_t first; /* the ticket of the first, while there is one */
	TAILQ_HEAD(, place_waiter) waiters;
	LIST_ENTRY(place_line) link; /* of the thread's lines that aren't empty */
	struct enclave *enclave;
};

/* An enclave's; zeroed memory is one where nobody waits. */
struct places {
	_Atomic uint64_t tickets;    /* the last that was drawn */
	_Atomic uint64_t has_waiter; /* a bit for each thread */
	struct place_line lines[PLACE_THREADS];
};

/* Takes one of the enclave's `max` places, if there is one and nobody waits; else has `waiter`
 * join the line, which may be over by place_admit() or place_leave(). */
_must_check_ bool place_take(struct context *context, struct enclave *enclave,
			     struct place_waiter *waiter, unsigned max);

/* Whether place_take() is likely to have one. */
bool place_is_free(const struct enclave *enclave, unsigned max);

/* Gives one back, and has who is first in line know. */
void place_return(struct context *context, struct enclave *enclave);

/* Leaves the line without a place. No effect on who stands in none. */
void place_leave(struct context *context, struct enclave *enclave, struct place_waiter *waiter);

/* One of this thread who has a place now, taken out of its line; NULL: nobody has. To be called
 * until it is NULL, when the thread was poked, see mailbox_poke(). */
struct place_waiter *place_admit(struct context *context);
