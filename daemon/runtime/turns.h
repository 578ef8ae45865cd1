/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who has more to do than an event may do at once waits here for its turn, which comes after
 * the loop's next look at the sockets: one of each enclave a turn, so that an enclave that
 * sends faster than it is served can't hold the loop. One thread's own. */

#include "clock.h"
#include "macro.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Embedded in who waits. */
struct turn {
	TAILQ_ENTRY(turn) link;
	bool queued;
	unsigned enclave_id; /* struct enclave's `id` */
	void (*take)(struct turn *turn, struct instant now);
};

struct turns {
	TAILQ_HEAD(, turn) queue;
	struct event *event;
	uint64_t *marks; /* by enclave id: the last turn it was served in */
	unsigned n_marks;
	uint64_t serial;
};

/* `turns` is zeroed memory. -ENOMEM. */
_must_check_ int turns_init(struct turns *turns, struct event_base *base);
void turns_done(struct turns *turns);

/* Puts it at the end of the line, unless it stands there. */
void turns_queue(struct turns *turns, struct turn *turn);

/* Takes it out, if it waits. */
void turns_leave(struct turns *turns, struct turn *turn);

/* For the sweep: the timer wanted memory, and there was none. */
void turns_arm(struct turns *turns);
