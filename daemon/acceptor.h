/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Step 1 of a request's way: takes sockets off the listeners, names their enclave, applies its
 * connection cap, and gives each to the worker with the fewest connections. It lives on the
 * loop of one worker, the first, which needs nobody to be woken for those it keeps itself:
 * event bases that share a listening socket don't share its load. */

#include "audit.h"
#include "config.h"
#include "error.h"
#include "flood.h"
#include "handed_sockets.h"
#include "macro.h"

struct acceptor;
struct worker;

/* Opens all that the configuration's `listen` names; accepts nothing yet. Every socket that was
 * handed over must be wanted by an entry. `unknown` limits the records of peers that are no
 * enclave; it and `workers` are borrowed. */
_must_check_ int acceptor_new(const struct config *config, struct handed_sockets *handed,
			      struct audit *audit, struct flood *unknown,
			      struct worker **workers, unsigned n_workers,
			      struct acceptor **ret_acceptor, struct error *error);

/* On the thread of `self`, whose it is from now on: begins to accept. */
void acceptor_start(struct acceptor *a, struct worker *self);

/* On that thread: accepts what waits, closes the listeners, and tells the other workers to
 * drain, after the last connection that each was handed. Frees; returns NULL. */
struct acceptor *acceptor_drain(struct acceptor *a);

/* On that thread, or when it isn't running. Closes the listeners. Accepts and returns NULL. */
struct acceptor *acceptor_free(struct acceptor *a);
DEFINE_CLEANUP(struct acceptor *, acceptor_free)
