/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the objects of one data thread borrow: they know this, and not the worker that owns it.
 * All of it is that thread's own but what is said to be shared. */

#include "bin.h"
#include "json.h"
#include "limit.h"
#include "request_id.h"
#include "turns.h"

#include <event2/event.h>
#include <stdatomic.h>

#define CONTEXT_SCRATCH (64 * KIB)

struct context {
	unsigned index; /* of this thread among the workers */
	struct event_base *base;
	struct audit *audit;              /* shared */
	struct resolver *resolver;        /* shared */
	struct mailbox *mailbox;          /* this thread's: the others write to it */
	struct mailbox *control;          /* the control thread's */
	struct mailbox *const *mailboxes; /* shared: the workers', by index */
	struct gauge *surplus; /* shared: connections over their enclave's limit, of all */
	struct signer *signer;
	struct turns turns;
	struct bin bin;
	struct request_id_source request_ids;

	/* The objects of the rooms above, of which this one only knows that they are there. */
	struct lookups *lookups;
	struct upstreams *upstreams;
	struct requests *requests;
	LIST_HEAD(, connection) connections;
	LIST_HEAD(, place_line) lines; /* of those who wait for a place in flight */

	/* In force; they change between two turns only. */
	struct generation *generation;
	struct credentials *credentials; /* NULL until the first come */
	usec_t credentials_due;          /* until then requests wait for the first; monotonic */
	bool draining;

	struct json_doc doc;           /* scratch of the body being read */
	char scratch[CONTEXT_SCRATCH]; /* scratch of the read or write being done; wiped after
					*/

	/* Other threads read it: the acceptor gives to who has the fewest, and adds. */
	_Atomic unsigned n_connections;
};
