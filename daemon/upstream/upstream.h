/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Upstream: the verified connections of one worker to one endpoint under one configuration, and
 * the calls that wait for one. Enclaves are served in turn, and no group of them may hold the
 * last connections of one that holds none. A call whose connection died before any byte of the
 * answer is sent once more on a fresh one, if it is safe to repeat. Everything here runs on the
 * thread of its context. */

#include "clock.h"
#include "context.h"
#include "http_reply.h"
#include "macro.h"
#include <sys/queue.h>

enum upstream_result {
	UPSTREAM_NO_CONNECTION, /* DNS, connect or TLS failed */
	UPSTREAM_NO_PROXY,      /* that to the proxy did */
	UPSTREAM_PROXY_REFUSED, /* the proxy won't lead there */
	UPSTREAM_PROXY_BROKEN,  /* the proxy did not answer as it must */
	UPSTREAM_QUEUE_TIMEOUT, /* no connection became free in queue_timeout */
	UPSTREAM_NOT_SENT,      /* the call's own prepare() failed */
	UPSTREAM_LOST,          /* the connection died before the whole answer */
	UPSTREAM_TIMEOUT,       /* no whole answer in reply_timeout */
	UPSTREAM_MALFORMED,     /* the answer is not strict HTTP or passes a cap */
	UPSTREAM_NO_MEMORY,     /* the enclave's share of memory can't hold the answer */
	UPSTREAM_REPLY,         /* `reply` is whole */
};

struct generation;
struct upstream;
struct upstream_call;

struct upstream_call_ops {
	/* A connection is there: makes the bytes to send (they stay valid until done). Called
	 * again if the call is repeated. Negative errno ends the call with UPSTREAM_NOT_SENT.
	 */
	int (*prepare)(struct upstream_call *call, struct instant now, struct slice *ret_bytes);
	/* More of the answer was read, and its buffers may have grown; false refuses it. */
	bool (*grow)(struct upstream_call *call);
	/* The end of the call, exactly once unless it was cancelled. `why` is one phrase or
	 * NULL. */
	void (*done)(struct upstream_call *call, enum upstream_result result, const char *why,
		     struct instant now);
};

/* Embedded in the caller's object. */
struct upstream_call {
	/* set by the caller */
	const struct upstream_call_ops *ops;
	unsigned enclave_index; /* of a slot in the generation's configuration */
	bool repeatable;
	bool final; /* not to be sent again, whatever happens; may be set at any time */
	/* to read in done() */
	struct http_reply reply;
	usec_t sent, received; /* monotonic, of the last try; 0: never */
	bool exposed; /* TLS has taken a byte of it, in this try or an earlier one: the endpoint
		       * may have acted. Never cleared */
	/* upstream's own */
	TAILQ_ENTRY(upstream_call) link;
	struct upstream *upstream;              /* while waiting or in flight */
	struct upstream_connection *connection; /* while in flight */
	usec_t deadline;                        /* of waiting */
	bool repeated; /* sent twice already; needs a fresh connection */
};

/* `context` and `generation` are borrowed and must outlive it. -ENOMEM. */
_must_check_ int upstream_new(struct context *context, const struct generation *generation,
			      unsigned endpoint, struct upstream **ret_upstream);

/* No call may be left. Returns NULL. */
struct upstream *upstream_free(struct upstream *u);
DEFINE_CLEANUP(struct upstream *, upstream_free)

/* Queues the call, and sends it at once if a connection is idle; done() may be called before
 * this returns. A call may be submitted again after done(); its `reply` is zeroed memory or
 * that of the last time, and the caller frees it in the end. */
void upstream_submit(struct upstream *u, struct upstream_call *call, struct instant now);

/* Forgets the call without done(); a connection in the middle of it is closed. */
void upstream_cancel(struct upstream_call *call);

/* Nobody waits for the answer any more. True: bytes of the call are out, so it goes on to its
 * end without a repeat, and done() comes; its connection then serves others. False: there was
 * nothing to wait for, and it is cancelled. */
_must_check_ bool upstream_abandon(struct upstream_call *call);

/* The rules that allowed the call are no longer in force. True: TLS has passed the whole of it
 * to the socket, which nothing can take back, so it goes on to its end without a repeat, and
 * done() comes. False: it is cancelled, and the endpoint never has the whole of it. */
_must_check_ bool upstream_revoke(struct upstream_call *call);

/* Applies all deadlines. */
void upstream_sweep(struct upstream *u, struct instant now);

/* Calls waiting or in flight. */
unsigned upstream_calls(const struct upstream *u);
