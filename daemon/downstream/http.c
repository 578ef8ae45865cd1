/* SPDX-License-Identifier: Apache-2.0 */
#include "http.h"

#include "connection.h"
#include "http2.h"
#include "intake.h"
#include "outbox.h"
#include "request_step.h"
#include "tunnel.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define TLS_HANDSHAKE 0x16 /* the first byte of a TLS client */

static_assert(OUTBOX_SCRATCH <= CONTEXT_SCRATCH,
	      "a small answer is put together in the scratch");

enum http_state {
	HTTP_HEAD,  /* idle, or in the middle of a head */
	HTTP_PLACE, /* the request waits in line or for its turn: none of its body is read */
	HTTP_BODY,  /* reading a body, or dropping that of a refused request */
	HTTP_WAIT,  /* the request is being decided or is upstream: nothing is read */
	HTTP_WRITE, /* writing an answer */
	HTTP_OVER,  /* in the bin: its connection is closed, or another protocol's */
};

struct http {
	struct bin_entry bin;
	enum http_state state;
	/* not to be touched once it is over */
	struct request_client client;
	struct connection *connection;
	usec_t deadline;
	struct intake in; /* an unfinished head, or bytes after a request */
	struct http_head head;
	struct request *request; /* from the head's end until its answer is written */
	struct outbox out;       /* of its answer, whose bytes the request owns */
	bool close;              /* after this answer */
	bool unread;             /* bytes may still come that nobody will read */
	bool retired;            /* its enclave changed: closes when no request is in flight */
	bool had_request;
};

static const struct protocol_ops http_ops;
static const struct request_client_ops client_ops;

static void set_state(struct http *h, enum http_state state, usec_t deadline)
{
	h->state = state;
	h->deadline = deadline;
}

/* Between two requests, with nothing of the next. */
static void become_idle(struct http *h, struct instant now)
{
	http_head_init(&h->head);
	set_state(h, HTTP_HEAD, now.monotonic + LIMIT_IDLE_TIME);
}

static struct request_origin origin_of(struct http *h)
{
	struct connection *c = h->connection;

	return (struct request_origin){
		.context = c->context,
		.client = &h->client,
		.identity = &c->identity,
		.generation = c->generation,
		.enclave_index = c->enclave_index,
	};
}

/* ---- refusing ---- */

/* Answers the request with a refusal, reads no more of what comes, and ends the connection.
 * `message`: see request_refuse(). */
static void refuse_unread(struct http *h, enum refusal refusal, const char *message,
			  struct instant now)
{
	h->close = h->unread = true;
	set_state(h, HTTP_WAIT, 0);
	request_withdraw(h->request);
	request_refuse(h->request, refusal, message, now);
}

/* Answers a head that can't be taken, and ends the connection. */
static void refuse_head(struct http *h, enum refusal refusal, const char *fault,
			struct instant now)
{
	const struct request_origin origin = origin_of(h);

	h->request = request_new_bad(&origin, now);
	if (h->request)
		refuse_unread(h, refusal, fault, now);
	else
		connection_close(h->connection, REASON_NONE, now);
}

static void out_of_memory(struct http *h, struct instant now)
{
	refuse_head(h, REFUSAL_MEMORY, NULL, now);
}

/* The peer ended its side, or was silent for too long, where a head may begin or is begun. */
static void peer_ended(struct http *h, struct instant now)
{
	if (h->in.bytes.n)
		connection_end_without_request(h->connection, REASON_CUT_OFF,
					       "it ended in the middle of a request", now);
	else if (!h->had_request)
		connection_end_without_request(h->connection, REASON_NO_REQUEST,
					       "it ended without a request", now);
	else
		connection_close(h->connection, REASON_NONE, now);
}

/* ---- writing ---- */

/* Looks for the next request. Its turn comes later: reading it here would let a peer that sends
 * faster than we answer hold the loop. */
static void read_ahead(struct http *h, struct instant now)
{
	char *scratch = h->connection->context->scratch;
	ssize_t n = connection_recv(h->connection, scratch, LIMIT_HEAD);
	bool kept;

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		peer_ended(h, now);
		return;
	}
	h->deadline = now.monotonic + LIMIT_HEAD_TIME;
	kept = intake_keep(&h->in, h->connection, (struct slice){scratch, (size_t)n});
	explicit_bzero(scratch, (size_t)n);
	if (kept)
		connection_queue_turn(h->connection);
	else
		out_of_memory(h, now);
}

/* Whether the connection ends after the answer, whatever it is. */
static bool is_closing(const struct http *h)
{
	return h->close || h->retired || h->connection->context->draining;
}

/* What comes after an answer: the end, the next request, or idleness. */
static void next_request(struct http *h, struct instant now)
{
	if (is_closing(h)) {
		connection_finish(h->connection, (struct slice){0},
				  h->unread || h->in.bytes.n > 0, now);
		return;
	}
	become_idle(h, now);
	if (h->in.bytes.n) {
		h->deadline = now.monotonic + LIMIT_HEAD_TIME;
		connection_queue_turn(h->connection);
		return;
	}
	if (h->connection->readable)
		read_ahead(h, now);
}

static void answer_written(struct http *h, struct instant now)
{
	struct request *r = h->request;
	size_t n = outbox_sent(&h->out);

	h->request = NULL;
	h->out = (struct outbox){0};
	request_end(r, REASON_NONE, n, now);
	next_request(h, now);
}

static void write_answer(struct http *h, struct instant now)
{
	struct connection *c = h->connection;
	int r = outbox_send(&h->out, c->fd, c->context->scratch);

	if (r == -EAGAIN)
		r = connection_wait_writable(c);
	if (r < 0)
		connection_close(c, REASON_CLIENT_GONE, now);
	else if (outbox_is_empty(&h->out))
		answer_written(h, now);
}

/* ---- what a request tells its client ---- */

static struct http *http_of(const struct request_client *client)
{
	return CONTAINER_OF(client, struct http, client);
}

static bool on_closing(const struct request_client *client)
{
	return is_closing(http_of(client));
}

static bool on_gone(const struct request_client *client)
{
	return connection_peer_is_gone(http_of(client)->connection);
}

static void on_answer(struct request_client *client, struct slice head, struct slice body,
		      bool close, struct instant now)
{
	struct http *h = http_of(client);

	outbox_fill(&h->out, head, body);
	h->close |= close;
	set_state(h, HTTP_WRITE, now.monotonic + LIMIT_WRITE_TIME);
	write_answer(h, now);
}

static void on_lost(struct request_client *client, enum reason why, struct instant now)
{
	connection_close(http_of(client)->connection, why, now);
}

/* The rest is done in its connection's turn, as for any request. */
static void on_admitted(struct request_client *client, struct instant now)
{
	(void)now;
	connection_queue_turn(http_of(client)->connection);
}

static const struct request_client_ops client_ops = {on_closing, on_gone, on_admitted,
						     on_answer, on_lost};

/* ---- reading ---- */

static void start_request(struct http *h, struct instant now)
{
	set_state(h, HTTP_WAIT, 0);
	request_run(h->request, now);
}

/* Takes what it can of the body from `bytes`, keeps the rest. */
static bool take_body(struct http *h, struct slice bytes)
{
	struct slice room = request_room(h->request);
	size_t n = MIN(room.n, bytes.n);

	if (n && !h->request->refusal)
		memcpy((char *)room.p, bytes.p, n);
	h->request->body_n += n;
	return intake_keep_rest(&h->in, h->connection,
				(struct slice){bytes.p + n, bytes.n - n});
}

/* Reads a piece of it. More of it has its turn. */
static void read_body(struct http *h, struct instant now)
{
	struct request *r = h->request;
	size_t left = CONNECTION_PIECE;

	while (left > 0 && r->body_n < r->content_length) {
		struct slice room = request_room(r);
		ssize_t n = connection_recv(h->connection, (char *)room.p, MIN(room.n, left));

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			connection_close(h->connection, REASON_CUT_OFF, now);
			return;
		}
		if (r->refusal)
			explicit_bzero((char *)room.p, (size_t)n); /* the scratch */
		r->body_n += (size_t)n;
		left -= (size_t)n;
	}
	if (r->body_n == r->content_length)
		start_request(h, now);
	else
		connection_queue_turn(h->connection);
}

/* Its limits let the request pass, or refuse it: reads its body, or drops it. */
static void begin_body(struct http *h, struct slice rest, struct instant now)
{
	if (h->head.expect_continue && h->request->refusal) {
		/* Whether the body comes is the client's choice now: only closing is safe. */
		refuse_unread(h, h->request->refusal, NULL, now);
		return;
	}
	if (h->head.expect_continue &&
	    !connection_say(h->connection, SLICE("HTTP/1.1 100 Continue\r\n\r\n"))) {
		connection_close(h->connection, REASON_CLIENT_GONE, now);
		return;
	}
	if (!take_body(h, rest)) {
		refuse_unread(h, REFUSAL_MEMORY, NULL, now);
		return;
	}
	set_state(h, HTTP_BODY, now.monotonic + LIMIT_BODY_TIME);
	read_body(h, now);
}

/* A whole head is there; `rest` is what was read after it. */
static void head_done(struct http *h, struct slice rest, struct instant now)
{
	const struct request_origin origin = origin_of(h);

	h->request = request_new(&origin, &h->head, now);
	if (!h->request) {
		connection_close(h->connection, REASON_NONE, now);
		return;
	}
	h->had_request = true;
	h->close = h->head.close;
	if (!h->request->wait)
		begin_body(h, rest, now);
	else if (intake_keep_rest(&h->in, h->connection, rest))
		set_state(h, HTTP_PLACE, 0);
	else
		refuse_unread(h, REFUSAL_MEMORY, NULL, now);
}

/* Step 2: from now on the connection is a tunnel's. */
static void start_tunnel(struct http *h, struct slice bytes, bool by_connect,
			 struct instant now)
{
	struct connection *c = h->connection;
	int r = by_connect ? tunnel_new_connect(c, &h->head, bytes, now)
			   : tunnel_new_tls(c, bytes, now);

	if (r < 0)
		connection_end_without_request(c, REASON_MEMORY,
					       "its share of memory is used up", now);
}

/* It speaks TLS, from the first byte on. */
static void tls_begun(struct http *h, struct slice bytes, struct instant now)
{
	if (connection_config(h->connection)->tunnel.n_hosts > 0)
		start_tunnel(h, bytes, false, now);
	else
		connection_end_without_request(h->connection, REASON_TLS,
					       "it speaks TLS, and the enclave has no tunnel",
					       now);
}

/* Step 2: a whole head is there; `rest` is what came after it. */
static void take_branch(struct http *h, struct slice rest, struct instant now)
{
	if (h->head.kind == HEAD_CONNECT)
		start_tunnel(h, rest, true, now);
	else if (h->head.kind == HEAD_HTTP2)
		connection_refuse(h->connection, REASON_HTTP2, http2_goaway(), now);
	else
		head_done(h, rest, now);
}

/* Reads on in a head; `bytes` are all of it, kept or in the scratch. True: it wants more. */
static bool take_head(struct http *h, struct slice bytes, struct instant now)
{
	struct connection *c = h->connection;
	const struct enclave_config *config = connection_config(c);
	struct http_head_options options = {.body_max = config->limits.body,
					    .allow_connect = config->tunnel.n_hosts > 0};
	bool is_tls = bytes.p[0] == TLS_HANDSHAKE;
	enum head_result result =
		is_tls ? HEAD_NEED_MORE : http_head_read(&h->head, bytes, &options);
	bool is_request = result == HEAD_DONE && h->head.kind == HEAD_KMS;
	struct slice none = {0}, rest = {0};

	if (result == HEAD_DONE)
		rest = (struct slice){bytes.p + h->head.length, bytes.n - h->head.length};
	if (!intake_settle(&h->in, c, is_request ? &rest : &none)) {
		connection_close(c, REASON_CLIENT_GONE, now);
		return false;
	}
	if (is_tls)
		tls_begun(h, bytes, now);
	else if (result == HEAD_DONE)
		take_branch(h, rest, now);
	else if (result == HEAD_REFUSED)
		refuse_head(h, h->head.refusal, h->head.fault, now);
	else if (h->in.bytes.n || intake_keep(&h->in, c, bytes))
		return true;
	else
		out_of_memory(h, now);
	return false;
}

/* Reads one piece of a head. True: it wants more. The body of a request that will have to wait
 * stays where it is, and counts for nothing. */
static bool read_head(struct http *h, struct instant now)
{
	struct connection *c = h->connection;
	char *scratch = c->context->scratch;
	bool peek = !place_is_free(c->identity.enclave, connection_config(c)->limits.in_flight);
	ssize_t n = intake_recv(&h->in, c, peek);
	bool more = false;

	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		peer_ended(h, now);
		return false;
	}
	if (h->in.bytes.n == 0) {
		h->deadline = now.monotonic + LIMIT_HEAD_TIME;
		more = take_head(h, (struct slice){scratch, (size_t)n}, now);
	} else if (intake_keep(&h->in, c, (struct slice){scratch, (size_t)n})) {
		more = take_head(h, buf_slice(&h->in.bytes), now);
	} else {
		out_of_memory(h, now);
	}
	explicit_bzero(scratch, (size_t)n); /* it may have held a body */
	return more;
}

/* Until the head is whole, or the socket empty, since events are edge-triggered. One request at
 * most, however fast it was answered: the next waits for its turn, see read_ahead(). */
static void read_request(struct http *h, struct instant now)
{
	while (read_head(h, now))
		continue;
}

/* ---- what its connection tells it ---- */

static void http_io(void *protocol, short what, struct instant now)
{
	struct http *h = protocol;
	bool in_turn = what == 0;

	switch (h->state) {
	case HTTP_HEAD:
		/* Bytes that come while it waits for its turn are read in it. */
		if (in_turn ? take_head(h, buf_slice(&h->in.bytes), now)
			    : !h->connection->turn.queued)
			read_request(h, now);
		return;
	case HTTP_BODY:
		if (in_turn || !h->connection->turn.queued)
			read_body(h, now);
		return;
	case HTTP_PLACE:
	case HTTP_WAIT:
		if (h->state == HTTP_PLACE && in_turn)
			begin_body(h, buf_slice(&h->in.bytes), now);
		else if (connection_peer_is_gone(h->connection))
			connection_close(h->connection, REASON_CLIENT_GONE, now);
		return;
	case HTTP_WRITE:
		if (what & EV_WRITE)
			write_answer(h, now);
		return;
	case HTTP_OVER:
		return;
	}
}

static void apply_deadline(struct http *h, struct instant now)
{
	switch (h->state) {
	case HTTP_HEAD:
		if (h->connection->turn.queued)
			return; /* its bytes wait for us; what is missing is seen in its turn */
		if (h->in.bytes.n)
			refuse_head(h, REFUSAL_TOO_SLOW, NULL, now);
		else
			peer_ended(h, now);
		return;
	case HTTP_BODY:
		refuse_unread(h, REFUSAL_TOO_SLOW, NULL, now);
		return;
	case HTTP_WRITE:
		connection_close(h->connection, REASON_CLIENT_TOO_SLOW, now);
		return;
	case HTTP_PLACE: /* its request has the deadline */
	case HTTP_WAIT:  /* its upstream */
	case HTTP_OVER:
		return;
	}
}

static void http_sweep(void *protocol, struct instant now)
{
	struct http *h = protocol;
	/* One that only waits for the peer's bytes learns it by reading. */
	bool reads_nothing =
		h->state == HTTP_PLACE || h->state == HTTP_WAIT || h->state == HTTP_WRITE;

	if (reads_nothing && connection_peer_is_gone(h->connection))
		connection_close(h->connection, REASON_CLIENT_GONE, now);
	else if (h->deadline != 0 && h->deadline <= now.monotonic)
		apply_deadline(h, now);
}

/* Goes by the new configuration from now on, unless its enclave changed. */
static void move_on_or_retire(struct http *h, struct generation *generation, int enclave_index)
{
	struct connection *c = h->connection;

	h->retired |= !generation_same(c->generation, generation, &c->identity);
	if (!h->retired)
		connection_move(c, generation, (unsigned)enclave_index);
}

static void http_reload(void *protocol, struct generation *generation, int enclave_index,
			struct instant now)
{
	struct http *h = protocol;
	enum refusal refusal;

	move_on_or_retire(h, generation, enclave_index);
	switch (h->state) {
	case HTTP_HEAD:
		/* A head begun under the old rules is not judged by them. */
		if (h->retired)
			connection_close(h->connection, REASON_NONE, now);
		return;
	case HTTP_PLACE: /* nobody waits in line by another number of places */
	case HTTP_BODY:
		refusal = h->state == HTTP_PLACE && h->retired
				  ? REFUSAL_RELOADED
				  : request_renew(h->request, generation);
		if (refusal)
			refuse_unread(h, refusal, NULL, now);
		return;
	case HTTP_WAIT:
		if (request_revoke(h->request, generation))
			request_refuse(h->request, REFUSAL_RELOADED, NULL, now);
		return;
	case HTTP_WRITE:
	case HTTP_OVER:
		return;
	}
}

/* Nothing of a request has come yet, not even to the socket, whose event may be on its way. */
static bool is_idle(const struct http *h)
{
	char byte;

	return h->state == HTTP_HEAD && h->in.bytes.n == 0 &&
	       connection_peek(h->connection, &byte, 1) <= 0;
}

static void http_drain(void *protocol, bool over, struct instant now)
{
	struct http *h = protocol;

	if (is_idle(h)) {
		connection_close(h->connection, REASON_NONE, now);
	} else if (over && (h->state == HTTP_PLACE || h->state == HTTP_WAIT)) {
		h->unread |= h->state == HTTP_PLACE;
		request_withdraw(h->request);
		request_refuse(h->request, REFUSAL_SHUTTING_DOWN, NULL, now);
	}
}

static void http_free(void *protocol, enum reason why, struct instant now)
{
	struct http *h = protocol;

	if (h->request)
		request_lose_client(h->request, why, outbox_sent(&h->out), now);
	h->request = NULL;
	intake_drop(&h->in, h->connection);
	h->state = HTTP_OVER;
	bin_put(&h->connection->context->bin, &h->bin, offsetof(struct http, client),
		sizeof(*h));
}

static const struct protocol_ops http_ops = {http_io, http_sweep, http_reload, http_drain,
					     http_free};

void http_accept(struct context *context, int fd, const struct identity *identity,
		 struct instant now)
{
	struct connection *c = connection_new(context, fd, identity, false, now);
	struct http *h;

	if (!c)
		return;
	h = calloc(1, sizeof(*h));
	if (!h) {
		connection_end_without_request(c, REASON_MEMORY, "out of memory", now);
		return;
	}
	h->client.ops = &client_ops;
	h->connection = c;
	intake_init(&h->in);
	connection_set_protocol(c, &http_ops, h, now);
	become_idle(h, now);
}
