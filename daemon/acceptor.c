/* SPDX-License-Identifier: Apache-2.0 */
#include "acceptor.h"

#include "connection.h"
#include "http.h"
#include "limit.h"
#include "listener.h"
#include "surplus.h"
#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

struct acceptor {
	struct audit *audit;
	struct flood *unknown;
	struct worker **workers, *self;
	unsigned n_workers;
	struct listener **listeners;
	size_t n_listeners;
};

/* ---- accepting ---- */

static struct worker *least_loaded(const struct acceptor *a)
{
	struct worker *best = a->workers[0];

	for (unsigned i = 1; i < a->n_workers; i++)
		if (atomic_load(&a->workers[i]->context.n_connections) <
		    atomic_load(&best->context.n_connections))
			best = a->workers[i];
	return best;
}

static void hand_over(struct acceptor *a, int fd, const struct identity *identity, bool surplus,
		      struct instant now)
{
	struct message m = {
		.kind = MESSAGE_CONNECTION, .fd = fd, .number = surplus, .identity = *identity};
	struct context *context = &least_loaded(a)->context;

	atomic_fetch_add(&context->n_connections, 1);
	if (context == &a->self->context) {
		(surplus ? surplus_accept : http_accept)(context, fd, identity, now);
	} else if (mailbox_send(context->mailbox, &m) < 0) {
		connection_record(a->audit, &identity->enclave->flood, identity, REASON_MEMORY,
				  "out of memory", now);
		atomic_fetch_sub(&context->n_connections, 1);
		connection_give_back(context->surplus, identity->enclave, surplus);
		close(fd);
	}
}

/* `max` is limits.connections of its enclave. */
static void let_in(struct acceptor *a, int fd, const struct identity *identity, unsigned max,
		   struct instant now)
{
	char detail[LIMIT_LOG_VALUE];
	bool surplus;

	if (connection_take(a->self->context.surplus, identity->enclave, max, &surplus)) {
		hand_over(a, fd, identity, surplus, now);
		return;
	}
	snprintf(detail, sizeof(detail),
		 "limits.connections (%u) of enclave %s is reached, and too many were just "
		 "told so",
		 max, identity->enclave->named.name);
	connection_record(a->audit, &identity->enclave->flood, identity, REASON_CONNECTIONS,
			  detail, now);
	close(fd);
}

static void on_accepted(struct listener *listener, int fd, const struct sockaddr *address,
			socklen_t n, void *userdata)
{
	struct acceptor *a = userdata;
	const struct generation *generation = a->self->context.generation;
	struct peer peer =
		peer_identify(generation->config, listener_enclave(listener), address, n);
	struct identity identity = {.has_cid = peer.has_cid, .cid = peer.cid};
	struct instant now = clock_now();

	if (peer.enclave_index < 0) {
		connection_record(a->audit, a->unknown, &identity, REASON_UNKNOWN_PEER,
				  peer.has_cid ? "no enclave has this CID"
					       : "no listener of the file names its enclave",
				  now);
		close(fd);
		return;
	}
	identity.enclave = generation->enclaves[peer.enclave_index];
	let_in(a, fd, &identity,
	       generation_enclave(generation, (unsigned)peer.enclave_index)->limits.connections,
	       now);
}

void acceptor_start(struct acceptor *a, struct worker *self)
{
	a->self = self;
	for (size_t i = 0; i < a->n_listeners; i++)
		listener_start(a->listeners[i], self->context.base, on_accepted, a);
}

struct acceptor *acceptor_drain(struct acceptor *a)
{
	struct message m = {.kind = MESSAGE_DRAIN};

	for (size_t i = 0; i < a->n_listeners; i++)
		listener_accept_rest(a->listeners[i]);
	/* One that could not be told ends when the drain's time is over. */
	for (unsigned i = 0; i < a->n_workers; i++)
		if (a->workers[i] != a->self)
			(void)!mailbox_send(a->workers[i]->context.mailbox, &m);
	return acceptor_free(a);
}

/* ---- opening ---- */

static int check_handed(const struct handed_sockets *handed, struct error *error)
{
	for (size_t i = 0; i < handed->n; i++)
		if (handed->list[i].fd >= 0)
			return error_set(error,
					 "systemd handed over a socket \"%s\" that no entry of "
					 "`listen` names",
					 handed->list[i].name);
	return 0;
}

static int open_listeners(struct acceptor *a, const struct config *config,
			  struct handed_sockets *handed, struct error *error)
{
	int r;

	a->listeners = calloc(config->n_listeners, sizeof(*a->listeners));
	if (!a->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *l = &config->listeners[i];
		const char *enclave =
			l->enclave_index >= 0 ? config->enclaves[l->enclave_index].name : NULL;

		r = listener_new(l, enclave, handed, &a->listeners[i], error);
		if (r < 0)
			return r;
		a->n_listeners++;
	}
	return check_handed(handed, error);
}

int acceptor_new(const struct config *config, struct handed_sockets *handed,
		 struct audit *audit, struct flood *unknown, struct worker **workers,
		 unsigned n_workers, struct acceptor **ret_acceptor, struct error *error)
{
	_cleanup_(acceptor_freep) struct acceptor *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->audit = audit;
	a->unknown = unknown;
	a->workers = workers;
	a->n_workers = n_workers;
	r = open_listeners(a, config, handed, error);
	if (r < 0)
		return r;
	*ret_acceptor = TAKE_PTR(a);
	return 0;
}

struct acceptor *acceptor_free(struct acceptor *a)
{
	if (!a)
		return NULL;
	for (size_t i = 0; i < a->n_listeners; i++)
		listener_free(a->listeners[i]);
	free(a->listeners);
	free(a);
	return NULL;
}
