/* SPDX-License-Identifier: Apache-2.0 */
#include "connection_internal.h"
#include "request.h"
#include "tunnel.h"
#include "worker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define TLS_HANDSHAKE 0x16  /* the first byte of a TLS client */
#define ONE_PIECE (4 * KIB) /* of an answer; less than the worker's scratch */

/* ---- what was read and not yet used ---- */

/* -EAGAIN: nothing now. 0: the end. */
static ssize_t connection_recv(struct connection *c, char *p, size_t n)
{
	ssize_t got;

	do
		got = recv(c->fd, p, n, 0);
	while (got < 0 && errno == EINTR);
	/* Fewer than there was room for are all that there were: what comes later is an event
	 * of its own (epoll(7), on edges). */
	if (got < (ssize_t)n && !c->ending)
		c->readable = false;
	return got < 0 ? -errno : got;
}

void connection_drop_input(struct connection *c)
{
	buf_done(&c->in);
	if (c->in_charged)
		gauge_return(&c->identity.enclave->memory, LIMIT_HEAD);
	c->in_charged = false;
}

/* Keeps bytes for later. False: the enclave's share of memory is used up. */
static bool keep_input(struct connection *c, struct slice bytes)
{
	if (bytes.n == 0)
		return true;
	if (!c->in_charged &&
	    !gauge_take(&c->identity.enclave->memory, LIMIT_HEAD, c->generation->memory_share))
		return false;
	c->in_charged = true;
	return buf_append(&c->in, bytes) == 0;
}

/* The bytes up to `rest` are used; `rest` lies in the buffer or in the worker's scratch. */
static bool keep_rest(struct connection *c, struct slice rest)
{
	if (!c->in.n)
		return keep_input(c, rest);
	buf_consume(&c->in, c->in.n - rest.n);
	if (c->in.n == 0)
		connection_drop_input(c);
	return true;
}

/* ---- writing ---- */

void connection_refuse_head(struct connection *c, enum refusal refusal, const char *fault,
			    usec_t now)
{
	c->request = request_new_bad(c, now);
	if (!c->request) {
		connection_free(c);
		return;
	}
	connection_refuse_unread(c, refusal, fault, now);
}

static void out_of_memory(struct connection *c, usec_t now)
{
	connection_refuse_head(c, REFUSAL_MEMORY, NULL, now);
}

/* Reads and drops what the peer still sends: closing with unread bytes would reset the
 * connection and take the answer with it. */
static void linger(struct connection *c)
{
	ssize_t n = 0;

	while (c->lingered < LIMIT_LINGER_BYTES) {
		n = connection_recv(c, c->worker->scratch, sizeof(c->worker->scratch));
		if (n <= 0)
			break;
		explicit_bzero(c->worker->scratch, (size_t)n);
		c->lingered += (size_t)n;
	}
	if (n == -EAGAIN && c->unread)
		return; /* more may be on its way, until the deadline */
	connection_free(c);
}

/* Looks for the next request. Its turn comes later: reading it here would let a peer that sends
 * faster than we answer hold the loop. */
static void read_ahead(struct connection *c, usec_t now)
{
	ssize_t n = connection_recv(c, c->worker->scratch, LIMIT_HEAD);
	bool kept;

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		connection_peer_ended(c, now);
		return;
	}
	c->deadline = now + LIMIT_HEAD_TIME;
	kept = keep_input(c, (struct slice){c->worker->scratch, (size_t)n});
	explicit_bzero(c->worker->scratch, (size_t)n);
	if (kept)
		worker_queue_turn(c->worker, c);
	else
		out_of_memory(c, now);
}

/* What comes after an answer: the end, the next request, or idleness. */
static void next_request(struct connection *c, usec_t now)
{
	if (c->close || c->retired || c->worker->draining) {
		c->unread |= c->in.n > 0;
		connection_drop_input(c);
		shutdown(c->fd, SHUT_WR);
		connection_set_state(c, CONNECTION_LINGER, now + LIMIT_LINGER_TIME);
		linger(c);
		return;
	}
	connection_become_idle(c, now);
	if (c->in.n) {
		c->deadline = now + LIMIT_HEAD_TIME;
		worker_queue_turn(c->worker, c);
		return;
	}
	if (c->readable)
		read_ahead(c, now);
}

static void answer_written(struct connection *c, usec_t now)
{
	struct request *r = c->request;
	size_t n = connection_written(c);

	c->request = NULL;
	c->out_n = 0;
	request_end(r, NULL, n, now);
	next_request(c, now);
}

void connection_finish(struct connection *c, struct slice bytes, usec_t now)
{
	(void)!send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL); /* no room: then it isn't told */
	c->close = c->unread = true;
	next_request(c, now);
}

static void advance(struct connection *c, size_t n)
{
	for (size_t i = 0; i < ELEMENTSOF(c->out); i++) {
		size_t used = MIN(n, c->out[i].n);

		c->out[i].p += used;
		c->out[i].n -= used;
		n -= used;
	}
}

/* Sends what it can of the answer. A small one goes as one piece: to have the kernel gather two
 * costs more than the copy. */
static ssize_t send_answer(struct connection *c)
{
	struct slice head = c->out[0], body = c->out[1];
	char *whole = c->worker->scratch;
	struct iovec iov[] = {{(void *)head.p, head.n}, {(void *)body.p, body.n}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = ELEMENTSOF(iov)};
	ssize_t n;

	if (body.n == 0)
		return send(c->fd, head.p, head.n, MSG_NOSIGNAL);
	if (head.n + body.n > ONE_PIECE)
		return sendmsg(c->fd, &m, MSG_NOSIGNAL);
	memcpy(whole, head.p, head.n);
	memcpy(whole + head.n, body.p, body.n);
	n = send(c->fd, whole, head.n + body.n, MSG_NOSIGNAL);
	explicit_bzero(whole, head.n + body.n);
	return n;
}

void connection_write(struct connection *c, usec_t now)
{
	while (c->out[0].n || c->out[1].n) {
		ssize_t n = send_answer(c);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && event_add(&c->write_event, NULL) == 0)
			return;
		if (n < 0) {
			connection_close(c, "client-gone");
			return;
		}
		advance(c, (size_t)n);
	}
	answer_written(c, now);
}

void connection_answer(struct connection *c, struct slice head, struct slice body, bool close,
		       usec_t now)
{
	c->out[0] = head;
	c->out[1] = body;
	c->out_n = head.n + body.n;
	c->close |= close;
	connection_set_state(c, CONNECTION_WRITE, now + LIMIT_WRITE_TIME);
	/* Before it can be read: whoever has the answer may ask another worker at once. */
	request_leave(c->request);
	connection_write(c, now);
}

/* ---- reading ---- */

static void start_request(struct connection *c, usec_t now)
{
	struct request *r = c->request;

	connection_set_state(c, CONNECTION_WAIT, 0);
	request_run(r, now);
}

/* Takes what it can of the body from `bytes`, keeps the rest. */
static bool take_body(struct connection *c, struct slice bytes)
{
	struct slice room = request_room(c->request);
	size_t n = MIN(room.n, bytes.n);

	if (n && !c->request->refusal)
		memcpy((char *)room.p, bytes.p, n);
	c->request->body_n += n;
	return keep_rest(c, (struct slice){bytes.p + n, bytes.n - n});
}

static void read_body(struct connection *c, usec_t now)
{
	struct slice room;

	while ((room = request_room(c->request)).n) {
		ssize_t n = connection_recv(c, (char *)room.p, room.n);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			connection_close(c, "cut-off");
			return;
		}
		if (c->request->refusal)
			explicit_bzero((char *)room.p, (size_t)n); /* the scratch */
		c->request->body_n += (size_t)n;
	}
	start_request(c, now);
}

/* Tells a client that waits for it to go on. False: it is gone. */
static bool send_continue(struct connection *c)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	/* A fresh connection's buffer has room for 25 bytes; one that hasn't is not worth more.
	 */
	return send(c->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) == sizeof(text) - 1;
}

/* A whole head is there; `rest` is what came behind it. */
static void head_done(struct connection *c, struct slice rest, usec_t now)
{
	c->request = request_new(c, &c->head, now);
	if (!c->request) {
		connection_free(c);
		return;
	}
	c->had_request = true;
	c->close = c->head.close;
	if (c->head.expect_continue && c->request->refusal) {
		/* Whether the body comes is the client's choice now: only closing is safe. */
		connection_refuse_unread(c, c->request->refusal, NULL, now);
		return;
	}
	if (c->head.expect_continue && !send_continue(c)) {
		connection_close(c, "client-gone");
		return;
	}
	if (!take_body(c, rest)) {
		connection_refuse_unread(c, REFUSAL_MEMORY, NULL, now);
		return;
	}
	connection_set_state(c, CONNECTION_BODY, now + LIMIT_BODY_TIME);
	read_body(c, now);
}

/* Step 2, the other branches: from now on the connection is a tunnel's. */
static void start_tunnel(struct connection *c, struct slice bytes, bool by_connect, usec_t now)
{
	int r;

	c->had_request = true;
	connection_set_state(c, CONNECTION_TUNNEL, 0);
	r = by_connect ? tunnel_new_connect(c, &c->head, bytes, now)
		       : tunnel_new_tls(c, bytes, now);
	if (r < 0)
		connection_end_without_request(c, "memory", "its share of memory is used up",
					       now);
}

/* Reads on in a head; `bytes` are all of it so far, in `in` or in the worker's scratch. True:
 * it wants more; false: something else happened, and the connection may be gone. */
static bool take_head(struct connection *c, struct slice bytes, usec_t now)
{
	bool has_tunnel = connection_config(c)->tunnel.n_hosts > 0;
	struct http_head_options options = {.body_max = connection_config(c)->limits.body,
					    .allow_connect = has_tunnel};
	struct slice rest;

	if (bytes.p[0] == TLS_HANDSHAKE) {
		if (has_tunnel)
			start_tunnel(c, bytes, false, now);
		else
			connection_end_without_request(
				c, "tls", "it speaks TLS, and the enclave has no tunnel", now);
		return false;
	}
	switch (http_head_read(&c->head, bytes, &options)) {
	case HEAD_NEED_MORE:
		if (c->in.n || keep_input(c, bytes))
			return true;
		out_of_memory(c, now);
		return false;
	case HEAD_REFUSED:
		connection_refuse_head(c, c->head.refusal, c->head.fault, now);
		return false;
	case HEAD_DONE:
		rest = (struct slice){bytes.p + c->head.length, bytes.n - c->head.length};
		if (c->head.kind == HEAD_CONNECT)
			start_tunnel(c, rest, true, now);
		else
			head_done(c, rest, now);
		return false;
	}
	return false;
}

/* Reads one piece of a head; true: go on. */
static bool read_head(struct connection *c, usec_t now)
{
	struct worker *w = c->worker;
	bool more;
	ssize_t n;

	n = connection_recv(c, w->scratch, LIMIT_HEAD + 1 - MIN(c->in.n, (size_t)LIMIT_HEAD));
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		connection_peer_ended(c, now);
		return false;
	}
	if (c->in.n == 0) {
		c->deadline = now + LIMIT_HEAD_TIME;
		more = take_head(c, (struct slice){w->scratch, (size_t)n}, now);
	} else if (keep_input(c, (struct slice){w->scratch, (size_t)n})) {
		more = take_head(c, buf_slice(&c->in), now);
	} else {
		out_of_memory(c, now);
		more = false;
	}
	explicit_bzero(w->scratch, (size_t)n); /* it may have held a body */
	return more;
}

void connection_read(struct connection *c, usec_t now)
{
	switch (c->state) {
	case CONNECTION_HEAD:
		/* Until the socket is empty: events are edge-triggered. */
		while (!c->in_turns && read_head(c, now))
			continue;
		return;
	case CONNECTION_BODY:
		read_body(c, now);
		return;
	case CONNECTION_LINGER:
		linger(c);
		return;
	case CONNECTION_WAIT:
	case CONNECTION_WRITE:
	case CONNECTION_TUNNEL:
	case CONNECTION_CLOSED:
		return;
	}
}

void connection_turn(struct connection *c, usec_t now)
{
	if (c->tunnel)
		tunnel_io(c->tunnel, 0, now);
	else if (take_head(c, buf_slice(&c->in), now))
		connection_read(c, now);
}
