/* SPDX-License-Identifier: Apache-2.0 */
#include "connection.h"

#include "audit.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct enclave_config *connection_config(const struct connection *c)
{
	return generation_enclave(c->generation, c->enclave_index);
}

/* ---- the end ---- */

void connection_record(struct audit *audit, struct flood *flood,
		       const struct identity *identity, enum reason reason, const char *detail,
		       struct instant now)
{
	struct audit_record record;

	if (identity->enclave)
		enclave_count(identity->enclave, COUNTER_CONNECTIONS_REFUSED, 1);
	if (!flood_admit(flood, now.monotonic))
		return;
	identity_record(identity, EVENT_CONNECTION, &record);
	record.reason = reason;
	snprintf(record.detail, sizeof(record.detail), "%s", detail);
	audit_submit(audit, &record);
}

static void free_protocol(struct connection *c, enum reason why, struct instant now)
{
	if (c->ops)
		c->ops->free(c->protocol, why, now);
	c->ops = NULL;
	c->protocol = NULL;
}

bool connection_take(struct gauge *surplus, struct enclave *enclave, unsigned max,
		     bool *ret_surplus)
{
	*ret_surplus = !gauge_take(&enclave->connections, 1, max);
	if (!*ret_surplus)
		return true;
	if (!gauge_take(&enclave->surplus, 1, LIMIT_SURPLUS_EACH))
		return false;
	if (gauge_take(surplus, 1, LIMIT_SURPLUS))
		return true;
	gauge_return(&enclave->surplus, 1);
	return false;
}

void connection_give_back(struct gauge *surplus, struct enclave *enclave, bool is_surplus)
{
	if (!is_surplus) {
		gauge_return(&enclave->connections, 1);
		return;
	}
	gauge_return(surplus, 1);
	gauge_return(&enclave->surplus, 1);
}

/* A place among the enclave's connections is free again, and one among the thread's. */
static void give_back(struct context *context, struct enclave *enclave, bool surplus)
{
	connection_give_back(context->surplus, enclave, surplus);
	atomic_fetch_sub(&context->n_connections, 1);
}

void connection_close(struct connection *c, enum reason why, struct instant now)
{
	if (c->state == CONNECTION_CLOSED)
		return;
	free_protocol(c, why, now);
	c->state = CONNECTION_CLOSED;
	LIST_REMOVE(c, link);
	turns_leave(&c->context->turns, &c->turn);
	event_del(&c->read_event);
	event_del(&c->write_event);
	close(c->fd);
	give_back(c->context, c->identity.enclave, c->surplus);
	generation_unref(c->generation);
	bin_put(&c->context->bin, &c->bin, offsetof(struct connection, context), sizeof(*c));
}

static void record_no_request(struct connection *c, enum reason reason, const char *detail,
			      struct instant now)
{
	struct enclave *e = c->identity.enclave;

	(void)!enclave_take_token(e, connection_config(c), now.monotonic, NULL);
	connection_record(c->context->audit, &e->flood, &c->identity, reason, detail, now);
}

void connection_end_without_request(struct connection *c, enum reason reason,
				    const char *detail, struct instant now)
{
	record_no_request(c, reason, detail, now);
	connection_close(c, REASON_NONE, now);
}

/* Reads and drops what the peer still sends, a piece in each turn: closing with unread bytes
 * would reset the connection and take the answer with it. */
static void linger(struct connection *c, struct instant now)
{
	char *scratch = c->context->scratch;
	size_t left = CONNECTION_PIECE;
	ssize_t n = 0;

	while (left > 0 && (n = connection_recv(c, scratch, left)) > 0) {
		explicit_bzero(scratch, (size_t)n);
		c->lingered += (size_t)n;
		left -= (size_t)n;
	}
	if (c->lingered >= LIMIT_LINGER_BYTES || (n <= 0 && n != -EAGAIN) ||
	    (n == -EAGAIN && !c->unread))
		connection_close(c, REASON_NONE, now);
	else if (left == 0)
		connection_queue_turn(c);
	/* else more may be on its way, until the deadline */
}

void connection_finish(struct connection *c, struct slice bytes, bool unread,
		       struct instant now)
{
	if (bytes.n) /* no room: then it isn't told */
		(void)!send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
	free_protocol(c, REASON_NONE, now);
	shutdown(c->fd, SHUT_WR);
	c->state = CONNECTION_LINGER;
	c->unread = unread;
	c->linger_until = now.monotonic + LIMIT_LINGER_TIME;
	linger(c, now);
}

void connection_refuse(struct connection *c, enum reason reason, struct slice answer,
		       struct instant now)
{
	record_no_request(c, reason, reason_info(reason)->sentence, now);
	connection_finish(c, answer, true, now);
}

/* ---- the socket ---- */

ssize_t connection_recv(struct connection *c, char *p, size_t n)
{
	ssize_t got;

	do
		got = recv(c->fd, p, n, 0);
	while (got < 0 && errno == EINTR);
	/* Fewer than there was room for are all that there were: what comes later is an event
	 * of its own (epoll(7), on edges). */
	if (got < (ssize_t)n && !c->ended)
		c->readable = false;
	return got < 0 ? -errno : got;
}

ssize_t connection_peek(struct connection *c, char *p, size_t n)
{
	ssize_t got;

	do
		got = recv(c->fd, p, n, MSG_PEEK);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

int connection_drop(struct connection *c, char *p, size_t n)
{
	while (n > 0) {
		ssize_t got = recv(c->fd, p, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EPIPE; /* it was there, and is reset */
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

bool connection_say(struct connection *c, struct slice text)
{
	return send(c->fd, text.p, text.n, MSG_NOSIGNAL) == (ssize_t)text.n;
}

int connection_wait_writable(struct connection *c)
{
	return event_add(&c->write_event, NULL) < 0 ? -ENOMEM : 0;
}

void connection_queue_turn(struct connection *c)
{
	turns_queue(&c->context->turns, &c->turn);
}

bool connection_peer_is_gone(const struct connection *c)
{
	struct pollfd p = {.fd = c->fd};

	if (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)))
		return true;
	/* vsock raises POLLHUP only after our own shutdown. Sending no byte there fails when
	 * the peer reads no more; on other sockets it says nothing. */
	return send(c->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN &&
	       errno != EINTR;
}

static void on_io(evutil_socket_t fd, short what, void *userdata)
{
	struct connection *c = userdata;
	struct instant now = clock_now();

	(void)fd;
	c->readable |= (what & (EV_READ | EV_CLOSED)) != 0;
	c->ended |= (what & EV_CLOSED) != 0;
	if (c->state == CONNECTION_OPEN)
		c->ops->io(c->protocol, what, now);
	else if (c->state == CONNECTION_LINGER && !c->turn.queued)
		linger(c, now);
}

static void on_turn(struct turn *turn, struct instant now)
{
	struct connection *c = CONTAINER_OF(turn, struct connection, turn);

	if (c->state == CONNECTION_OPEN)
		c->ops->io(c->protocol, 0, now);
	else if (c->state == CONNECTION_LINGER)
		linger(c, now);
}

/* ---- the beginning ---- */

static struct connection *refuse_new(struct context *context, int fd,
				     const struct identity *identity, bool surplus,
				     enum reason reason, const char *detail, struct instant now)
{
	connection_record(context->audit, &identity->enclave->flood, identity, reason, detail,
			  now);
	close(fd);
	give_back(context, identity->enclave, surplus);
	return NULL;
}

struct connection *connection_new(struct context *context, int fd,
				  const struct identity *identity, bool surplus,
				  struct instant now)
{
	int enclave_index = generation_find(context->generation, identity);
	struct connection *c;

	if (enclave_index < 0)
		return refuse_new(context, fd, identity, surplus, REASON_UNKNOWN_PEER,
				  "a reload has removed the enclave", now);
	c = calloc(1, sizeof(*c));
	if (!c)
		return refuse_new(context, fd, identity, surplus, REASON_MEMORY,
				  "out of memory", now);
	c->context = context;
	c->fd = fd;
	c->identity = *identity;
	c->generation = generation_ref(context->generation);
	c->enclave_index = (unsigned)enclave_index;
	c->surplus = surplus;
	c->turn = (struct turn){.enclave_id = identity->enclave->named.id, .take = on_turn};
	LIST_INSERT_HEAD(&context->connections, c, link);
	event_assign(&c->read_event, context->base, fd,
		     EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_io, c);
	event_assign(&c->write_event, context->base, fd, EV_WRITE | EV_ET, on_io, c);
	if (!surplus)
		enclave_count(identity->enclave, COUNTER_CONNECTIONS, 1);
	if (event_add(&c->read_event, NULL) == 0)
		return c;
	connection_end_without_request(c, REASON_MEMORY, "out of memory", now);
	return NULL;
}

void connection_set_protocol(struct connection *c, const struct protocol_ops *ops,
			     void *protocol, struct instant now)
{
	free_protocol(c, REASON_NONE, now);
	c->ops = ops;
	c->protocol = protocol;
}

void connection_move(struct connection *c, struct generation *generation,
		     unsigned enclave_index)
{
	generation_swap(&c->generation, generation);
	c->enclave_index = enclave_index;
}

/* ---- what its thread tells all of them ---- */

static void sweep_one(struct connection *c, struct instant now)
{
	if (c->state == CONNECTION_OPEN)
		c->ops->sweep(c->protocol, now);
	else if (c->state == CONNECTION_LINGER && c->linger_until <= now.monotonic)
		connection_close(c, REASON_NONE, now);
}

void connections_sweep(struct context *context, struct instant now)
{
	struct connection *c, *next;

	for (c = LIST_FIRST(&context->connections); c; c = next) {
		next = LIST_NEXT(c, link);
		sweep_one(c, now);
	}
}

void connections_reload(struct context *context, struct instant now)
{
	struct connection *c, *next;

	for (c = LIST_FIRST(&context->connections); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->state == CONNECTION_OPEN)
			c->ops->reload(c->protocol, context->generation,
				       generation_find(context->generation, &c->identity), now);
	}
}

void connections_drain(struct context *context, bool over, struct instant now)
{
	struct connection *c, *next;

	for (c = LIST_FIRST(&context->connections); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->state == CONNECTION_OPEN)
			c->ops->drain(c->protocol, over, now);
	}
}

void connections_close(struct context *context, enum reason why, struct instant now)
{
	struct connection *c;

	while ((c = LIST_FIRST(&context->connections)))
		connection_close(c, why, now);
}
