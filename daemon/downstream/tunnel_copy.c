/* SPDX-License-Identifier: Apache-2.0 */
#include "limit.h"
#include "tunnel_internal.h"

#include <assert.h>
#include <string.h>

/* An event copies little at once: as many events as there are busy tunnels come before the next
 * look at other enclaves' sockets. What is more waits for its turn, of which each enclave has
 * one between two such looks. */
#define EVENT_BYTES (16 * KIB)
#define TURN_BYTES (256 * KIB)

#define KEEP_ALIVE_FROM USEC_PER_SEC /* most tunnels are over by then, and need no probes */

static_assert(sizeof(((struct context *)0)->scratch) >= PUMP_READ,
	      "one read of a pump is made into the scratch");

static struct rate bandwidth_rate(uint64_t bandwidth)
{
	/* A token is 1 KiB; a quarter of a second may come at once, but a whole read at least.
	 */
	return (struct rate){
		.interval = MAX((usec_t)(KIB * USEC_PER_SEC / bandwidth), (usec_t)1),
		.burst = (uint32_t)MAX(bandwidth / KIB / 4, (uint64_t)(PUMP_READ / KIB)),
	};
}

/* How long the bandwidth makes this tunnel wait; 0: it may read. */
static usec_t bandwidth_wait(struct tunnel *t, struct instant now)
{
	uint64_t bandwidth = tunnel_config(t)->bandwidth;

	return bandwidth ? rate_limit_wait(&t->connection->identity.enclave->bandwidth,
					   bandwidth_rate(bandwidth), now.monotonic)
			 : 0;
}

static void bandwidth_spend(struct tunnel *t, size_t bytes, struct instant now)
{
	uint64_t bandwidth = tunnel_config(t)->bandwidth;

	if (bandwidth && bytes)
		rate_limit_spend(&t->connection->identity.enclave->bandwidth,
				 bandwidth_rate(bandwidth), (bytes + KIB - 1) / KIB,
				 now.monotonic);
}

/* What a tunnel waits for is decided here: room at the enclave's end (its socket is watched for
 * reading only, see struct connection), the bandwidth, or its next turn. */
static void wait_for_more(struct tunnel *t, bool again, struct instant now)
{
	struct connection *c = t->connection;
	usec_t wait = again ? bandwidth_wait(t, now) : 0;
	struct timeval tv = {wait / USEC_PER_SEC, wait % USEC_PER_SEC};
	int r = 0;

	if (t->pump.ways[1].held.n && !t->pump.ends[0].writable)
		r = connection_wait_writable(c);
	if (r == 0 && wait)
		r = event_add(&t->refill, &tv);
	else if (again)
		connection_queue_turn(c);
	if (r < 0)
		tunnel_end(t, REASON_MEMORY, now);
}

static enum reason why_done(const struct tunnel *t)
{
	return t->first_ended == 0 ? REASON_CLOSED_BY_ENCLAVE : REASON_CLOSED_BY_HOST;
}

static void note_progress(struct tunnel *t, struct instant now)
{
	uint64_t bytes = t->pump.ways[0].bytes + t->pump.ways[1].bytes;

	if (bytes != t->moved_bytes)
		t->moved = now.monotonic;
	t->moved_bytes = bytes;
	for (int i = 0; i < 2; i++)
		if (t->first_ended < 0 && t->pump.ways[i].ended)
			t->first_ended = i;
}

/* Copies at most so many bytes. */
static void copy(struct tunnel *t, size_t most, struct instant now)
{
	usec_t wait = bandwidth_wait(t, now);
	size_t allowed = wait                          ? 0
			 : tunnel_config(t)->bandwidth ? MIN(most, (size_t)PUMP_READ)
						       : most;
	size_t budget = allowed;
	enum pump_result result;
	unsigned end = 0;

	result = pump_run(&t->pump, t->context->scratch, &budget, now.monotonic, &end);
	explicit_bzero(t->context->scratch, MIN(allowed - budget, (size_t)PUMP_READ));
	bandwidth_spend(t, allowed - budget, now);
	note_progress(t, now);
	if (result >= PUMP_DONE && !tunnel_recharge(t, pump_held(&t->pump)))
		result = PUMP_NO_MEMORY;

	switch (result) {
	case PUMP_BROKEN:
		tunnel_end(t, end == 0 ? REASON_RESET_BY_ENCLAVE : REASON_RESET_BY_HOST, now);
		return;
	case PUMP_NO_MEMORY:
		tunnel_end(t, REASON_MEMORY, now);
		return;
	case PUMP_DONE:
		tunnel_end(t, why_done(t), now);
		return;
	case PUMP_AGAIN:
	case PUMP_WAIT:
		wait_for_more(t, result == PUMP_AGAIN, now);
		return;
	}
}

void tunnel_copy_event(struct tunnel *t, struct instant now)
{
	copy(t, EVENT_BYTES, now);
}

void tunnel_copy_turn(struct tunnel *t, struct instant now)
{
	copy(t, TURN_BYTES, now);
}

void tunnel_on_refill(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	tunnel_copy_event(userdata, clock_now());
}

void tunnel_on_host(evutil_socket_t fd, short what, void *userdata)
{
	struct tunnel *t = userdata;

	(void)fd;
	t->pump.ends[1].readable |= (what & (EV_READ | EV_CLOSED)) != 0;
	t->pump.ends[1].writable |= (what & EV_WRITE) != 0;
	if (t->state == TUNNEL_OPEN)
		tunnel_copy_event(t, clock_now());
}

/* A peer that takes no byte of what waits for it, and a tunnel that nobody uses. */
void tunnel_sweep_open(struct tunnel *t, struct instant now)
{
	bool draining = t->context->draining;

	if (!t->kept_alive && now.monotonic - t->started > KEEP_ALIVE_FROM)
		t->kept_alive = dial_keep_alive(t->host_fd) == 0;
	for (unsigned i = 0; i < ELEMENTSOF(t->pump.ways); i++) {
		usec_t since = t->pump.ways[i].held_since;

		if (since && now.monotonic - since > LIMIT_TUNNEL_STALL) {
			tunnel_end(t, i == 0 ? REASON_HOST_TOO_SLOW : REASON_CLIENT_TOO_SLOW,
				   now);
			return;
		}
	}
	if (now.monotonic - t->moved > (draining ? USEC_PER_SEC : tunnel_config(t)->idle))
		tunnel_end(t, draining ? REASON_SHUTTING_DOWN : REASON_IDLE, now);
}
