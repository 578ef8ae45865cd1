/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"
#include "connection_internal.h"
#include "request.h"
#include "tunnel.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct enclave_config *connection_config(const struct connection *c)
{
	return &c->generation->config->enclaves[c->enclave];
}

void connection_set_state(struct connection *c, enum connection_state state, usec_t deadline)
{
	c->state = state;
	c->deadline = deadline;
}

void connection_become_idle(struct connection *c, usec_t now)
{
	http_head_init(&c->head);
	connection_set_state(c, CONNECTION_HEAD, now + LIMIT_IDLE_TIME);
}

/* ---- the end ---- */

void connection_record(struct audit *audit, struct flood *flood,
		       const struct identity *identity, const char *reason, const char *detail)
{
	struct audit_record record;

	if (identity->enclave)
		enclave_count(identity->enclave, COUNTER_CONNECTIONS_REFUSED, 1);
	if (!flood_admit(flood, clock_monotonic()))
		return;
	audit_record_init(&record, EVENT_CONNECTION);
	if (identity->enclave)
		snprintf(record.enclave, sizeof(record.enclave), "%s", identity->enclave->name);
	record.has_cid = identity->has_cid;
	record.cid = identity->cid;
	record.reason = reason;
	snprintf(record.detail, sizeof(record.detail), "%s", detail);
	audit_submit(audit, &record);
}

void connection_free(struct connection *c)
{
	struct worker *w = c->worker;

	c->state = CONNECTION_CLOSED;
	LIST_REMOVE(c, link);
	if (c->in_turns)
		TAILQ_REMOVE(&w->turns, c, turn);
	event_del(&c->read_event);
	event_del(&c->write_event);
	close(c->fd);
	connection_drop_input(c);
	gauge_return(&c->identity.enclave->connections, 1);
	generation_unref(c->generation);
	free(c);
	worker_connection_gone(w);
}

size_t connection_written(const struct connection *c)
{
	return c->out_n - c->out[0].n - c->out[1].n;
}

void connection_close(struct connection *c, const char *why)
{
	if (c->request)
		request_lose_client(c->request, why, connection_written(c), clock_monotonic());
	c->request = NULL;
	if (c->tunnel)
		tunnel_free(c->tunnel, why);
	connection_free(c);
}

void connection_end_without_request(struct connection *c, const char *reason,
				    const char *detail, usec_t now)
{
	(void)!rate_limit_take(&c->identity.enclave->requests,
			       connection_config(c)->limits.requests, now, NULL);
	connection_record(c->worker->env.audit, &c->identity.enclave->flood, &c->identity,
			  reason, detail);
	connection_free(c);
}

void connection_refuse_unread(struct connection *c, enum refusal refusal, const char *message,
			      usec_t now)
{
	c->close = c->unread = true;
	connection_set_state(c, CONNECTION_WAIT, 0);
	request_refuse(c->request, refusal, message, now);
}

void connection_peer_ended(struct connection *c, usec_t now)
{
	if (c->in.n)
		connection_end_without_request(c, "cut-off",
					       "it ended in the middle of a request", now);
	else if (!c->had_request)
		connection_end_without_request(c, "no-request", "it ended without a request",
					       now);
	else
		connection_free(c);
}

/* ---- events ---- */

bool connection_peer_is_gone(const struct connection *c)
{
	struct pollfd p = {.fd = c->fd};

	if (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)))
		return true;
	/* vsock raises POLLHUP only behind our own shutdown. Sending no byte there fails when
	 * the peer reads no more; on other sockets it says nothing. */
	return send(c->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN &&
	       errno != EINTR;
}

static void on_io(evutil_socket_t fd, short what, void *userdata)
{
	struct connection *c = userdata;
	usec_t now = clock_monotonic();

	(void)fd;
	c->readable |= (what & (EV_READ | EV_CLOSED)) != 0;
	c->ending |= (what & EV_CLOSED) != 0;
	switch (c->state) {
	case CONNECTION_HEAD:
	case CONNECTION_BODY:
	case CONNECTION_LINGER:
		connection_read(c, now);
		return;
	case CONNECTION_WAIT:
		if (connection_peer_is_gone(c))
			connection_close(c, "client-gone");
		return;
	case CONNECTION_WRITE:
		if (what & EV_WRITE)
			connection_write(c, now);
		return;
	case CONNECTION_TUNNEL:
		tunnel_io(c->tunnel, what, now);
		return;
	case CONNECTION_CLOSED:
		return;
	}
}

static void refuse_new(struct worker *w, int fd, const struct identity *identity,
		       const char *reason, const char *detail)
{
	connection_record(w->env.audit, &identity->enclave->flood, identity, reason, detail);
	close(fd);
	gauge_return(&identity->enclave->connections, 1);
	worker_connection_gone(w);
}

void connection_new(struct worker *w, int fd, const struct identity *identity, usec_t now)
{
	int enclave = generation_find(w->generation, identity);
	struct connection *c;

	if (enclave < 0) {
		refuse_new(w, fd, identity, "unknown-peer", "a reload has removed the enclave");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		refuse_new(w, fd, identity, "no-memory", "out of memory");
		return;
	}
	c->worker = w;
	c->fd = fd;
	c->identity = *identity;
	c->generation = generation_ref(w->generation);
	c->enclave = (unsigned)enclave;
	c->in = BUF_INIT(2 * LIMIT_HEAD + 2); /* a head that is refused for its length, whole */
	LIST_INSERT_HEAD(&w->connections, c, link);
	connection_become_idle(c, now);
	event_assign(&c->read_event, w->base, fd, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST,
		     on_io, c);
	event_assign(&c->write_event, w->base, fd, EV_WRITE | EV_ET, on_io, c);
	enclave_count(identity->enclave, COUNTER_CONNECTIONS, 1);
	if (event_add(&c->read_event, NULL) < 0)
		connection_end_without_request(c, "no-memory", "out of memory", now);
}

/* ---- deadlines, reload, drain ---- */

void connection_sweep(struct connection *c, usec_t now)
{
	if (c->tunnel) {
		tunnel_sweep(c->tunnel, now);
		return;
	}
	/* For one that only waits for the peer's bytes, reading says it. */
	if ((c->state == CONNECTION_WAIT || c->state == CONNECTION_WRITE) &&
	    connection_peer_is_gone(c)) {
		connection_close(c, "client-gone");
		return;
	}
	if (c->deadline == 0 || c->deadline > now)
		return;
	switch (c->state) {
	case CONNECTION_HEAD:
		if (c->in_turns)
			return; /* its bytes wait for us; what is missing is seen in its turn */
		if (c->in.n)
			connection_refuse_head(c, REFUSAL_TOO_SLOW, NULL, now);
		else
			connection_peer_ended(c, now);
		return;
	case CONNECTION_BODY:
		connection_refuse_unread(c, REFUSAL_TOO_SLOW, NULL, now);
		return;
	case CONNECTION_WRITE:
		connection_close(c, "client-too-slow");
		return;
	case CONNECTION_LINGER:
		connection_free(c);
		return;
	case CONNECTION_WAIT: /* its upstream has the deadline */
	case CONNECTION_TUNNEL:
	case CONNECTION_CLOSED:
		return;
	}
}

/* Nothing of a request has come yet, not even to the socket, whose event may be on its way. */
static bool is_idle(const struct connection *c)
{
	char byte;

	return c->state == CONNECTION_HEAD && c->in.n == 0 &&
	       recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

/* Goes by the new generation from now on, unless its enclave changed. */
static void move_on_or_retire(struct connection *c, struct generation *generation, int enclave)
{
	if (c->retired || !generation_same(c->generation, generation, &c->identity)) {
		c->retired = true;
		return;
	}
	generation_unref(c->generation);
	c->generation = generation_ref(generation);
	c->enclave = (unsigned)enclave;
}

void connection_reload(struct connection *c, struct generation *generation, usec_t now)
{
	int enclave = generation_find(generation, &c->identity);
	enum refusal refusal;

	if (c->tunnel) {
		tunnel_reload(c->tunnel, generation, enclave);
		return;
	}
	move_on_or_retire(c, generation, enclave);
	switch (c->state) {
	case CONNECTION_HEAD:
		/* A head begun under the old rules is not judged by them. */
		if (c->retired)
			connection_free(c);
		return;
	case CONNECTION_BODY:
		refusal = request_renew(c->request, generation);
		if (refusal)
			connection_refuse_unread(c, refusal, NULL, now);
		return;
	case CONNECTION_WAIT:
		if (request_revoke(c->request, generation))
			request_refuse(c->request, REFUSAL_RELOADED, NULL, now);
		return;
	case CONNECTION_WRITE:
	case CONNECTION_TUNNEL:
	case CONNECTION_LINGER:
	case CONNECTION_CLOSED:
		return;
	}
}

void connection_drain(struct connection *c)
{
	if (is_idle(c))
		connection_free(c);
}
