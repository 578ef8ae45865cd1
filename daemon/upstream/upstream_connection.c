/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"
#include "limit.h"
#include "upstream_internal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define READ_SIZE (16 * KIB) /* a TLS record */

static void set_state(struct upstream_connection *c, enum link_state state)
{
	struct upstream *u = c->upstream;

	TAILQ_REMOVE(&u->connections[c->state], c, link);
	u->n[c->state]--;
	c->state = state;
	TAILQ_INSERT_HEAD(&u->connections[state], c, link); /* the last used is used next */
	u->n[state]++;
}

void upstream_connection_close(struct upstream_connection *c)
{
	struct upstream *u = c->upstream;

	TAILQ_REMOVE(&u->connections[c->state], c, link);
	u->n[c->state]--;
	c->state = LINK_CLOSED;
	if (c->watched)
		event_del(&c->event);
	connector_free(c->connector);
	bin_put(&u->context->bin, &c->bin, offsetof(struct upstream_connection, upstream),
		sizeof(*c));
}

static void take_place(struct upstream *u, const struct upstream_call *call)
{
	u->n_holding += u->shares[call->enclave_index].n_busy++ == 0;
}

static void give_place(struct upstream *u, const struct upstream_call *call)
{
	u->n_holding -= --u->shares[call->enclave_index].n_busy == 0;
}

struct upstream_call *upstream_connection_release(struct upstream_connection *c)
{
	struct upstream_call *call = c->call;

	give_place(c->upstream, call);
	call->connection = NULL;
	c->call = NULL;
	return call;
}

/* The call on `c` can't go on there. */
void upstream_connection_fail(struct upstream_connection *c, enum upstream_result result,
			      const char *why, struct instant now)
{
	struct upstream *u = c->upstream;
	bool untouched =
		c->unsent.n == c->to_send; /* TLS took no byte: KMS can't have seen it */
	bool got_answer = c->got_answer;
	struct upstream_call *call = upstream_connection_release(c);

	upstream_connection_close(c);
	if (result == UPSTREAM_LOST && !got_answer && !call->repeated && !call->final &&
	    (call->repeatable || untouched)) {
		call->repeated = true;
		upstream_call_queue(u, call, now, true);
	} else {
		upstream_call_done(u, call, result, why, now);
	}
	upstream_dispatch(u, now);
}

static void link_answered(struct upstream_connection *c, bool whole, struct instant now)
{
	struct upstream *u = c->upstream;
	struct upstream_call *call = upstream_connection_release(c);

	call->received = now.monotonic;
	if (whole && call->reply.keep_alive && c->unsent.n == 0) {
		c->fresh = false;
		c->deadline = now.monotonic + LIMIT_UPSTREAM_IDLE;
		set_state(c, LINK_IDLE);
	} else {
		upstream_connection_close(c);
	}
	upstream_call_done(u, call, UPSTREAM_REPLY, NULL, now);
	upstream_dispatch(u, now);
}

/* Sends what is left. False: the connection failed, and is closed. */
static bool link_send(struct upstream_connection *c, struct instant now)
{
	while (c->unsent.n) {
		ssize_t n = connector_send(c->connector, c->unsent);

		if (n == -EAGAIN)
			return true;
		if (n <= 0) {
			upstream_connection_fail(c, UPSTREAM_LOST,
						 "the connection broke while sending", now);
			return false;
		}
		c->call->exposed = true;
		c->unsent.p += n;
		c->unsent.n -= (size_t)n;
	}
	return true;
}

/* False: the call is over, and the connection closed or another call's. */
static bool link_take(struct upstream_connection *c, struct slice bytes, struct instant now)
{
	enum reply_result result;
	size_t used;

	c->got_answer = true;
	result = http_reply_read(&c->call->reply, bytes, &used);
	if (result != REPLY_BAD && !c->call->ops->grow(c->call)) {
		upstream_connection_fail(c, UPSTREAM_NO_MEMORY, NULL, now);
		return false;
	}
	switch (result) {
	case REPLY_NEED_MORE:
		return true;
	case REPLY_DONE:
		link_answered(c, used == bytes.n, now);
		return false;
	case REPLY_BAD:
		upstream_connection_fail(c, UPSTREAM_MALFORMED, c->call->reply.fault, now);
		return false;
	}
	return false;
}

/* Reads until the socket is empty: events are edge-triggered. */
static void link_receive(struct upstream_connection *c, struct instant now)
{
	_uninitialized_ char bytes[READ_SIZE];
	bool going = true;
	ssize_t n;

	do {
		n = connector_recv(c->connector, bytes, sizeof(bytes));
		if (n > 0) {
			going = link_take(c, (struct slice){bytes, (size_t)n}, now);
			explicit_bzero(bytes, (size_t)n);
		}
	} while (n > 0 && going);

	if (going && n != -EAGAIN)
		upstream_connection_fail(c, UPSTREAM_LOST,
					 "the connection ended before the whole answer", now);
}

/* The server closed it, or sent what nobody asked for; TLS tickets read as -EAGAIN. */
static void link_check_idle(struct upstream_connection *c, struct instant now)
{
	struct upstream *u = c->upstream;

	if (connector_is_quiet(c->connector))
		return;
	upstream_connection_close(c);
	upstream_dispatch(u, now);
}

static void on_io(evutil_socket_t fd, short what, void *userdata)
{
	struct upstream_connection *c = userdata;
	struct instant now = clock_now();

	(void)fd;
	switch (c->state) {
	case LINK_IDLE:
		if (what & (EV_READ | EV_CLOSED))
			link_check_idle(c, now);
		return;
	case LINK_BUSY:
		if (link_send(c, now) && (what & (EV_READ | EV_CLOSED)))
			link_receive(c, now);
		return;
	case LINK_CONNECTING:
	case LINK_CLOSED:
		return;
	}
}

void upstream_connection_start(struct upstream_connection *c, struct upstream_call *call,
			       struct instant now)
{
	struct upstream *u = c->upstream;
	struct slice bytes;

	upstream_call_unqueue(u, call);
	http_reply_done(&call->reply); /* of an earlier try */
	http_reply_init(&call->reply, LIMIT_REPLY_BODY);
	if (call->ops->prepare(call, now, &bytes) < 0) {
		upstream_call_done(u, call, UPSTREAM_NOT_SENT, NULL, now);
		return;
	}
	set_state(c, LINK_BUSY);
	take_place(u, call);
	call->connection = c;
	call->sent = now.monotonic;
	c->call = call;
	c->unsent = bytes;
	c->to_send = bytes.n;
	c->got_answer = false;
	c->deadline = now.monotonic + u->config->reply_timeout;
	(void)link_send(c, now);
}

int upstream_connection_watch(struct upstream_connection *c, struct instant now)
{
	event_assign(&c->event, c->upstream->context->base, connector_fd(c->connector),
		     EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_io, c);
	if (event_add(&c->event, NULL) < 0)
		return -ENOMEM;
	c->watched = true;
	c->deadline = now.monotonic + LIMIT_UPSTREAM_IDLE;
	set_state(c, LINK_IDLE);
	return 0;
}
