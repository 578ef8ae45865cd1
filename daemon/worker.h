/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A data thread: its event base, its connections, its upstreams. Nothing of it is touched by
 * another thread but the mailbox and the atomic words. */

#include "acceptor.h"
#include "context.h"
#include "credentials.h"
#include "generation.h"
#include "lookup.h"
#include "mailbox.h"
#include "request.h"
#include "upstreams.h"

#include <pthread.h>
#include <stdatomic.h>

/* What all workers share with the control thread. */
struct worker_environment {
	struct audit *audit;
	struct resolver *resolver;
	struct mailbox *control;    /* for the messages "to control" */
	struct mailbox **mailboxes; /* the workers', by index; one that has none is NULL */
	struct gauge *surplus;
};

struct worker {
	unsigned index;
	pthread_t thread;
	struct context context; /* what all of its objects borrow */
	struct lookups lookups;
	struct upstreams upstreams;
	struct requests requests;
	struct letter *exit; /* of the message that ends the thread; it must not fail */
	struct event *sweep;
	struct acceptor *acceptor; /* the first worker's, until it drains */
	struct mailbox **mailbox;  /* where the other workers find its own */
	bool over;                 /* it was told to end */
	bool drained;              /* control knows that it has nothing left */
	bool told_loaded;          /* control knows that it goes by the generation it has */
	/* read by other threads */
	_Atomic uint64_t beat; /* bumped by each sweep: the watchdog's proof of life */
};

/* Starts the thread. It takes its own references; `credentials` may be NULL. */
_must_check_ int worker_new(unsigned index, const struct worker_environment *environment,
			    struct generation *generation, struct credentials *credentials,
			    struct worker **ret_worker);

/* Ends the thread, whatever it holds. Nothing but worker_free() may follow. */
void worker_stop(struct worker *w);

/* The same, if that was not done; then frees all that the worker held. Returns NULL. */
struct worker *worker_free(struct worker *w);
DEFINE_CLEANUP(struct worker *, worker_free)
