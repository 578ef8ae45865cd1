/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A data thread: its event base, its connections, its upstreams. Nothing of it is touched by
 * another thread but the mailbox and the atomic words. */

#include "acceptor.h"
#include "audit.h"
#include "connection.h"
#include "credentials.h"
#include "generation.h"
#include "json.h"
#include "mailbox.h"
#include "pump.h"
#include "request.h"
#include "request_id.h"
#include "resolver.h"
#include "sigv4.h"
#include "upstream.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

/* What all workers share with the control thread. */
struct worker_environment {
	struct audit *audit;
	struct resolver *resolver;
	struct mailbox *control; /* for the messages "to control" */
};

/* The upstreams of one generation. An old one lives until its last call has ended. */
struct upstream_set {
	LIST_ENTRY(upstream_set) link;
	struct generation *generation;
	struct upstream **upstreams; /* by endpoint; NULL until first needed */
};

struct worker {
	unsigned index;
	struct worker_environment env;
	pthread_t thread;
	struct letter *exit; /* of the message that ends the thread; it must not fail */
	struct event_base *base;
	struct mailbox *mailbox;
	struct event *sweep, *turn;
	struct acceptor *acceptor; /* the first worker's, until it drains */
	struct signer *signer;
	struct generation *generation;
	struct credentials *credentials; /* NULL until the first come */
	usec_t credentials_due;          /* until then requests wait for the first */
	LIST_HEAD(, upstream_set) sets;  /* the first is the current generation's */
	LIST_HEAD(, connection) connections;
	TAILQ_HEAD(, connection)
	turns;                       /* have another request to read, see worker_queue_turn() */
	LIST_HEAD(, request) parked; /* wait for new credentials */
	LIST_HEAD(, request) abandoned; /* KMS has them, their clients are gone */
	uint64_t *turn_marks;           /* by enclave id: the last turn it was served in */
	unsigned n_turn_marks;
	uint64_t turn_serial;
	uint64_t next_lookup;
	bool draining, drained;
	bool told_loaded; /* control knows that it goes by `generation` */
	struct request_id_source request_ids;
	struct json_doc doc;     /* scratch of the body being read */
	char scratch[PUMP_READ]; /* scratch of the read being done */
	/* read by other threads */
	_Atomic unsigned n_connections; /* the acceptor adds when it hands one over */
	_Atomic uint64_t beat;          /* bumped by each sweep: the watchdog's proof of life */
};

/* Starts the thread. The references are taken; `credentials` may be NULL. */
_must_check_ int worker_new(unsigned index, const struct worker_environment *environment,
			    struct generation *generation, struct credentials *credentials,
			    struct worker **ret_worker);

/* Ends the thread, whatever it holds. Nothing but worker_free() may follow. */
void worker_stop(struct worker *w);

/* The same, if that was not done; then frees all that the worker held. Returns NULL. */
struct worker *worker_free(struct worker *w);
DEFINE_CLEANUP(struct worker *, worker_free)

/* ---- for the worker's own objects ---- */

/* The upstream of a request; made when first needed. NULL when memory ran out. */
struct upstream *worker_upstream(struct worker *w, struct generation *generation,
				 unsigned endpoint);

/* The connection has bytes of another request: it gets its turn after the loop's next look at
 * the sockets, one request an enclave a turn, so that a pipelining enclave can't hold the loop.
 */
void worker_queue_turn(struct worker *w, struct connection *c);

/* A connection that was handed over is gone: counts, and ends the drain when it was the last.
 */
void worker_connection_gone(struct worker *w);
