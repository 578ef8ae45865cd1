/* SPDX-License-Identifier: Apache-2.0 */
#include "turns.h"

#include <errno.h>
#include <string.h>

void turns_arm(struct turns *turns)
{
	static const struct timeval at_once = {0};

	if (!TAILQ_EMPTY(&turns->queue))
		evtimer_add(turns->event, &at_once);
}

void turns_queue(struct turns *turns, struct turn *turn)
{
	if (turn->queued)
		return;
	turn->queued = true;
	TAILQ_INSERT_TAIL(&turns->queue, turn, link);
	turns_arm(turns);
}

void turns_leave(struct turns *turns, struct turn *turn)
{
	if (turn->queued)
		TAILQ_REMOVE(&turns->queue, turn, link);
	turn->queued = false;
}

/* Whether this enclave has had its turn of this round; marks it so. */
static bool was_served(struct turns *turns, unsigned enclave)
{
	if (enclave >= turns->n_marks) {
		unsigned n = enclave + 16;
		uint64_t *marks = reallocarray(turns->marks, n, sizeof(*marks));

		if (!marks)
			return false; /* unfair for a turn, but nobody waits for ever */
		memset(marks + turns->n_marks, 0, (n - turns->n_marks) * sizeof(*marks));
		turns->marks = marks;
		turns->n_marks = n;
	}
	if (turns->marks[enclave] == turns->serial)
		return true;
	turns->marks[enclave] = turns->serial;
	return false;
}

/* The next in line whose enclave has not been served in this round. */
static struct turn *next_in_line(struct turns *turns)
{
	struct turn *turn;

	TAILQ_FOREACH (turn, &turns->queue, link)
		if (!was_served(turns, turn->enclave_id))
			return turn;
	return NULL;
}

static void on_turn(evutil_socket_t fd, short what, void *userdata)
{
	struct turns *turns = userdata;
	struct turn *turn;

	(void)fd;
	(void)what;
	turns->serial++;
	while ((turn = next_in_line(turns))) {
		turns_leave(turns, turn);
		turn->take(turn, clock_now());
	}
	turns_arm(turns);
}

int turns_init(struct turns *turns, struct event_base *base)
{
	TAILQ_INIT(&turns->queue);
	turns->event = evtimer_new(base, on_turn, turns);
	return turns->event ? 0 : -ENOMEM;
}

void turns_done(struct turns *turns)
{
	if (turns->event)
		event_free(turns->event);
	free(turns->marks);
}
