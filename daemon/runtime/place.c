/* SPDX-License-Identifier: Apache-2.0 */
#include "place.h"

#include "context.h"
#include "enclave.h"
#include "mailbox.h"

#include <assert.h>

/* No wake is lost: who joins shows its ticket and then looks for a free place; who gives a
 * place back frees it and then looks for tickets. In the one order that all of these have
 * (memory_order_seq_cst), at least one of the two sees the other. And whoever leaves a line
 * empty hands the wake on that may have been meant for it. */

static bool someone_waits(const struct enclave *e)
{
	return atomic_load(&e->places.has_waiter) != 0;
}

/* The thread that has the oldest ticket; -1: nobody waits. */
static int first_thread(const struct enclave *e)
{
	uint64_t oldest = UINT64_MAX;
	int first = -1;

	for (uint64_t left = atomic_load(&e->places.has_waiter); left; left &= left - 1) {
		int i = __builtin_ctzll(left);
		uint64_t ticket = atomic_load(&e->places.lines[i].first);

		if (ticket < oldest)
			oldest = ticket, first = i;
	}
	return first;
}

static void poke_first(struct context *c, const struct enclave *e)
{
	int i = first_thread(e);

	if (i >= 0 && c->mailboxes[i])
		mailbox_poke(c->mailboxes[i]);
}

bool place_is_free(const struct enclave *e, unsigned max)
{
	return !someone_waits(e) && gauge_read(&e->in_flight) < max;
}

/* ---- the line ---- */

static uint64_t bit_of(const struct context *c)
{
	assert(c->index < PLACE_THREADS);
	return UINT64_C(1) << c->index;
}

/* The first of the line is another one, or none. */
static void show_first(struct context *c, struct enclave *e, struct place_line *line)
{
	const struct place_waiter *first = TAILQ_FIRST(&line->waiters);
	if (first) {
		atomic_store(&line->first, first->ticket);
		return;
	}
	LIST_REMOVE(line, link);
	atomic_fetch_and(&e->places.has_waiter, ~bit_of(c));
	poke_first(c, e);
}

static void join(struct context *c, struct enclave *e, struct place_waiter *waiter,
		 unsigned max)
{
	struct place_line *line = &e->places.lines[c->index];
	bool was_empty = TAILQ_EMPTY(&line->waiters);

	if (was_empty)
		TAILQ_INIT(&line->waiters); /* zeroed memory isn't one */
	waiter->ticket = atomic_fetch_add(&e->places.tickets, 1) + 1;
	waiter->max = max;
	TAILQ_INSERT_TAIL(&line->waiters, waiter, link);
	if (was_empty) {
		line->enclave = e;
		LIST_INSERT_HEAD(&c->lines, line, link);
		atomic_store(&line->first, waiter->ticket);
		atomic_fetch_or(&e->places.has_waiter, bit_of(c));
	}
	if (gauge_read(&e->in_flight) < max)
		poke_first(c, e);
}

void place_leave(struct context *c, struct enclave *e, struct place_waiter *waiter)
{
	struct place_line *line = &e->places.lines[c->index];
	bool was_first;

	if (waiter->ticket == 0)
		return;
	was_first = TAILQ_FIRST(&line->waiters) == waiter;
	TAILQ_REMOVE(&line->waiters, waiter, link);
	waiter->ticket = 0;
	if (was_first)
		show_first(c, e, line);
}

/* ---- places ---- */

bool place_take(struct context *c, struct enclave *e, struct place_waiter *waiter, unsigned max)
{
	if (waiter->ticket)
		return false;
	if (!someone_waits(e) && gauge_take(&e->in_flight, 1, max))
		return true;
	join(c, e, waiter, max);
	return false;
}

void place_return(struct context *c, struct enclave *e)
{
	gauge_return(&e->in_flight, 1);
	if (someone_waits(e))
		poke_first(c, e);
}

/* The first of this line, if it is the first of all and there is a place. */
static struct place_waiter *admit_first(struct context *c, struct place_line *line)
{
	struct place_waiter *waiter = TAILQ_FIRST(&line->waiters);
	struct enclave *e = line->enclave;

	if (first_thread(e) != (int)c->index) {
		/* The wake was meant for one that is first no more. */
		if (gauge_read(&e->in_flight) < waiter->max)
			poke_first(c, e);
		return NULL;
	}
	if (!gauge_take(&e->in_flight, 1, waiter->max))
		return NULL;
	place_leave(c, e, waiter);
	return waiter;
}

struct place_waiter *place_admit(struct context *c)
{
	struct place_waiter *waiter = NULL;
	struct place_line *line;

	LIST_FOREACH (line, &c->lines, link) {
		waiter = admit_first(c, line);
		if (waiter)
			break;
	}
	return waiter;
}
