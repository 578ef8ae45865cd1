/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One accepted socket of an enclave, from its acceptance to its end: its events, its enclave,
 * and how it is left so that the peer can read the last answer. What passes over it is its
 * protocol's affair (http.c, tunnel.c), of which it knows the functions only. Sockets are
 * watched edge-triggered, once for their whole life, so that a request costs no epoll_ctl(). */

#include "clock.h"
#include "context.h"
#include "generation.h"
#include "identity.h"
#include "limit.h"
#include "macro.h"
#include "reason.h"
#include "slice.h"

#include <event2/event_struct.h>
#include <sys/queue.h>
#include <sys/types.h>

/* Of a body, or of what is dropped: so much is read in an event. What is more waits for its
 * turn, as requests do, or many connections that send all they can would hold the loop. */
#define CONNECTION_PIECE (16 * KIB)

/* What a protocol is told of its connection; `protocol` is its object. In each but free() it
 * may close the connection, or hand it to another protocol. */
struct protocol_ops {
	/* The socket changed (EV_READ, EV_WRITE, EV_CLOSED), or it has its turn (0). */
	void (*io)(void *protocol, short what, struct instant now);
	/* Time goes by: to apply its deadlines. */
	void (*sweep)(void *protocol, struct instant now);
	/* There is a new configuration, in which the connection's enclave is `enclave_index`;
	 * -1: it has none any more. The connection goes by it after connection_move(). */
	void (*reload)(void *protocol, struct generation *generation, int enclave_index,
		       struct instant now);
	/* The thread drains: what is idle closes; `over`: the time for it is over too. */
	void (*drain)(void *protocol, bool over, struct instant now);
	/* The connection ends, or is another protocol's from now on. Records what there is to
	 * record: REASON_NONE where nobody cut anything off. */
	void (*free)(void *protocol, enum reason why, struct instant now);
};

enum connection_state {
	CONNECTION_OPEN,   /* its protocol has the say */
	CONNECTION_LINGER, /* dropping what the peer still sends, so that it can read the answer
			    */
	CONNECTION_CLOSED, /* in the bin */
};

struct connection {
	struct bin_entry bin;
	enum connection_state state;
	/* not to be touched once it is closed */
	struct context *context;
	LIST_ENTRY(connection) link; /* of the context */
	struct turn turn;
	struct identity identity;
	struct generation *generation; /* what it is judged by */
	unsigned enclave_index;        /* in it */
	int fd;
	bool readable; /* an event came since the socket was last found empty */
	bool ended;    /* the peer ended its side: reading shows it, no event will again */
	bool surplus;  /* over limits.connections: it is told so, and nothing else */
	struct event read_event;
	struct event write_event; /* only added while something doesn't fit the socket */
	const struct protocol_ops *ops;
	void *protocol;
	/* while it lingers */
	bool unread; /* bytes may still come that nobody will read */
	size_t lingered;
	usec_t linger_until;
};

/* One record of a connection that brought no request, limited by `flood` as refusals are, and
 * one more in the count of its enclave; identity->enclave is NULL for a peer that is none. */
void connection_record(struct audit *audit, struct flood *flood,
		       const struct identity *identity, enum reason reason, const char *detail,
		       struct instant now);

/* Takes one of the enclave's `max` connections, or, where it has as many, one of those that are
 * told so (*ret_surplus). False: there are none of those either. */
_must_check_ bool connection_take(struct gauge *surplus, struct enclave *enclave, unsigned max,
				  bool *ret_surplus);

/* Gives it back, if it comes to no connection_new(). */
void connection_give_back(struct gauge *surplus, struct enclave *enclave, bool is_surplus);

/* Takes over the descriptor, and what connection_take() took, which the caller counted for the
 * thread: both end with the connection. NULL: that is at once, with a record, since its enclave
 * is gone or memory ran out. Its protocol is to be set next. */
_must_check_ struct connection *connection_new(struct context *context, int fd,
					       const struct identity *identity, bool surplus,
					       struct instant now);

/* The connection is that protocol's from now on; the one it had is freed. */
void connection_set_protocol(struct connection *c, const struct protocol_ops *ops,
			     void *protocol, struct instant now);

/* ---- for its protocol ---- */

struct enclave_config *connection_config(const struct connection *c);

/* Bytes received, 0 at the end, -EAGAIN, or another negative errno. */
_must_check_ ssize_t connection_recv(struct connection *c, char *p, size_t n);

/* As connection_recv(), but the bytes stay where they are; connection_drop() takes the first
 * `n` of them away, which overwrites the same place with the same bytes. */
_must_check_ ssize_t connection_peek(struct connection *c, char *p, size_t n);
_must_check_ int connection_drop(struct connection *c, char *p, size_t n);

/* Sends a short text at once, as a whole. A fresh connection's buffer has room for it; one that
 * hasn't is not worth more: false. */
_must_check_ bool connection_say(struct connection *c, struct slice text);

/* Has the protocol's io() called with EV_WRITE when the socket has room. -ENOMEM. */
_must_check_ int connection_wait_writable(struct connection *c);

/* Has it called with 0 in its turn: see turns.h. */
void connection_queue_turn(struct connection *c);

/* Whether nobody is there any more to read an answer; half-closed is not gone. On vsock a peer
 * of which nothing comes at all, not even a reset, counts as there. */
bool connection_peer_is_gone(const struct connection *c);

/* Goes by this configuration from now on. */
void connection_move(struct connection *c, struct generation *generation,
		     unsigned enclave_index);

/* Closes at once; its protocol is freed with `why`. Once it is closed it does nothing. */
void connection_close(struct connection *c, enum reason why, struct instant now);

/* Closes one that brought no request, with a record. It costs a token, as a request does:
 * opening and closing connections is no way round the rate. */
void connection_end_without_request(struct connection *c, enum reason reason,
				    const char *detail, struct instant now);

/* The same, with the reason's own sentence, but the peer is sent `answer` first, as
 * connection_finish() does. */
void connection_refuse(struct connection *c, enum reason reason, struct slice answer,
		       struct instant now);

/* Sends what there is room for of `bytes` (an alert, a short answer; may be empty), reads no
 * more but for dropping, and closes. `unread`: bytes may still come; without, it closes as soon
 * as the socket is empty. */
void connection_finish(struct connection *c, struct slice bytes, bool unread,
		       struct instant now);

/* ---- for its thread ---- */

void connections_sweep(struct context *context, struct instant now);

/* context->generation is new. */
void connections_reload(struct context *context, struct instant now);

/* context->draining is true. `over`: those that still wait are told that it is over. */
void connections_drain(struct context *context, bool over, struct instant now);

void connections_close(struct context *context, enum reason why, struct instant now);
