/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What upstream.c (the pool and its queue) and upstream_connection.c (one connection of it)
 * share; nobody else includes this. */

#include "connector.h"
#include "lookup.h"
#include "upstream.h"

#include <event2/event_struct.h>

enum link_state {
	LINK_CONNECTING,
	LINK_IDLE,
	LINK_BUSY,
	_LINK_MAX,
	LINK_CLOSED = _LINK_MAX, /* in the bin */
};

struct upstream_connection {
	struct bin_entry bin;
	enum link_state state;
	/* not to be touched once it is closed */
	struct upstream *upstream;
	TAILQ_ENTRY(upstream_connection) link;
	struct connector *connector;
	struct event event;
	bool watched;    /* `event` was added */
	bool fresh;      /* has carried no call yet */
	usec_t deadline; /* to connect, to answer, or of being idle */
	/* while busy */
	struct upstream_call *call;
	struct slice unsent;
	size_t to_send;  /* the whole of it */
	bool got_answer; /* a byte of it */
};

TAILQ_HEAD(connections, upstream_connection);
TAILQ_HEAD(calls, upstream_call);

/* What one enclave has here. */
struct upstream_share {
	struct calls waiting;
	unsigned n_waiting;
	unsigned n_busy; /* connections with a call of it, also one whose client has gone */
};

struct upstream {
	struct context *context;
	const struct endpoint_config *config;
	struct proxy_target through; /* host NULL: there is no proxy */
	struct connector_tls *tls;   /* of this endpoint and configuration only */
	struct connections connections[_LINK_MAX];
	unsigned n[_LINK_MAX];
	struct upstream_share *shares; /* by slot */
	unsigned n_shares, turn;
	unsigned n_users;   /* slots whose enclaves' requests may go here */
	unsigned n_holding; /* of them: those with a busy connection */
	unsigned n_calls;
	struct event kick; /* a place became free: dispatches from the loop, not from within */
	/* where to connect */
	bool literal; /* it is an address: nothing to look up */
	char *addresses;
	usec_t addresses_at;
	struct lookup lookup;
	/* how connecting goes */
	bool down;
	usec_t hold, hold_until;
	char why[160];               /* the last failure */
	enum upstream_result result; /* of it */
};

/* ---- upstream.c, for a connection ---- */

/* Ends a call that is neither waiting nor on a connection any more. */
void upstream_call_done(struct upstream *u, struct upstream_call *call,
			enum upstream_result result, const char *why, struct instant now);

/* Into and out of the queue of its enclave. */
void upstream_call_queue(struct upstream *u, struct upstream_call *call, struct instant now,
			 bool first);
void upstream_call_unqueue(struct upstream *u, struct upstream_call *call);

/* Starts what can be started, connects where more connections are wanted. */
void upstream_dispatch(struct upstream *u, struct instant now);

/* ---- upstream_connection.c, for the pool ---- */

/* Watches a connected socket: it is idle from now on. -ENOMEM. */
_must_check_ int upstream_connection_watch(struct upstream_connection *c, struct instant now);

/* Gives an idle connection its call, which may be done, and the connection closed, when this
 * returns. */
void upstream_connection_start(struct upstream_connection *c, struct upstream_call *call,
			       struct instant now);

/* Takes the call off its connection, and the place off its enclave. The connection is of no use
 * for another call before it is set to another state. */
struct upstream_call *upstream_connection_release(struct upstream_connection *c);

/* Closes, and ends the call with `result`, or sends it once more elsewhere. */
void upstream_connection_fail(struct upstream_connection *c, enum upstream_result result,
			      const char *why, struct instant now);

/* Closes a connection without a call. */
void upstream_connection_close(struct upstream_connection *c);
