/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One accepted socket of an enclave: reads heads and bodies, hands each request to request.c,
 * writes the answer. It decides nothing about a request. Sockets are watched edge-triggered,
 * once for their whole life, so that a request costs no epoll_ctl(). */

#include "buf.h"
#include "clock.h"
#include "generation.h"
#include "http_head.h"
#include "macro.h"
#include "slice.h"

#include <event2/event_struct.h>
#include <sys/queue.h>

struct audit;
struct request;
struct tunnel;
struct worker;

enum connection_state {
	CONNECTION_HEAD,   /* idle, or in the middle of a head */
	CONNECTION_BODY,   /* reading a body, or dropping that of a refused request */
	CONNECTION_WAIT,   /* the request is being decided or is upstream: nothing is read */
	CONNECTION_WRITE,  /* writing an answer */
	CONNECTION_TUNNEL, /* passed through: `tunnel` has the say */
	CONNECTION_LINGER, /* dropping what the peer still sends, so that it can read the answer
			    */
	CONNECTION_CLOSED, /* freed at the end of the call that closed it */
};

struct connection {
	LIST_ENTRY(connection) link;  /* of the worker */
	TAILQ_ENTRY(connection) turn; /* of the worker's turns, while in_turns */
	bool in_turns;
	struct worker *worker;
	struct identity identity;
	struct generation *generation; /* what its next request is judged by */
	unsigned enclave;              /* index in it */
	int fd;
	struct event read_event;
	struct event write_event; /* only added while an answer doesn't fit the socket */
	enum connection_state state;
	usec_t deadline;
	struct buf in;   /* an unfinished head, or bytes behind a request; freed while idle */
	bool in_charged; /* `in` is charged to the enclave's share of memory */
	bool readable;   /* an event came since the socket was last found empty */
	bool ending;     /* the peer ended its side: reading shows it, no event will again */
	struct http_head head;
	struct request *request; /* from the head's end until its answer is written */
	struct tunnel *tunnel;
	struct slice out[2]; /* what is left of the answer; the request owns the bytes */
	size_t out_n;        /* the whole of it */
	bool close;          /* after this answer */
	bool unread;         /* bytes may still come that nobody will read */
	bool retired;        /* its enclave changed: closes when no request is in flight */
	bool had_request;
	size_t lingered; /* bytes dropped */
};

/* One record of a connection that brought no request, limited by `flood` as refusals are, and
 * one more in the count of its enclave; identity->enclave is NULL for a peer that is none. */
void connection_record(struct audit *audit, struct flood *flood,
		       const struct identity *identity, const char *reason, const char *detail);

/* Takes over the descriptor. The caller took the enclave's `connections` gauge and counted it
 * for the worker: both end with the connection, which is at once, with a record, if its enclave
 * is gone or memory ran out. */
void connection_new(struct worker *w, int fd, const struct identity *identity, usec_t now);

/* Closes at once; a tunnel ends and is recorded, a request too unless KMS has it already: see
 * request_lose_client(). Frees the connection. */
void connection_close(struct connection *c, const char *why);

/* Reads on where bytes are waiting: a turn, see worker_queue_turn(). May free the connection.
 */
void connection_turn(struct connection *c, usec_t now);

/* Writes the answer of the current request; both slices stay valid until request_end(). May
 * free the connection. */
void connection_answer(struct connection *c, struct slice head, struct slice body, bool close,
		       usec_t now);

/* Sends what there is room for of `bytes` (an alert, a short answer), drops what still comes
 * for a moment, and closes. There is no request, and the tunnel is gone. */
void connection_finish(struct connection *c, struct slice bytes, usec_t now);

/* Frees what was read ahead of a request. */
void connection_drop_input(struct connection *c);

/* Whether nobody is there any more to read an answer; half-closed is not gone. On vsock a peer
 * of which nothing comes at all, not even a reset, counts as there. */
bool connection_peer_is_gone(const struct connection *c);

/* Applies the deadline. May free the connection. */
void connection_sweep(struct connection *c, usec_t now);

/* A new generation: moves on to it, or retires. No request is decided by withdrawn rules
 * afterwards, nor sent but for what has left as a whole. May free the connection. */
void connection_reload(struct connection *c, struct generation *generation, usec_t now);

/* The worker drains: closes if idle. May free the connection. */
void connection_drain(struct connection *c);
