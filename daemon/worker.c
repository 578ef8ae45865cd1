/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include "test_hooks.h"
#include "tunnel.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SWEEP (250 * USEC_PER_MSEC)          /* how late a deadline may be */
#define FIRST_CREDENTIALS (3 * USEC_PER_SEC) /* IMDS answers within 2 s or not */

/* ---- upstreams ---- */

static struct upstream_set *set_free(struct upstream_set *set)
{
	for (size_t i = 0; set->upstreams && i < set->generation->config->n_endpoints; i++)
		upstream_free(set->upstreams[i]);
	free(set->upstreams);
	generation_unref(set->generation);
	free(set);
	return NULL;
}

static unsigned set_calls(const struct upstream_set *set)
{
	unsigned n = 0;

	for (size_t i = 0; i < set->generation->config->n_endpoints; i++)
		if (set->upstreams[i])
			n += upstream_calls(set->upstreams[i]);
	return n;
}

static struct upstream_set *set_of(struct worker *w, struct generation *generation)
{
	struct upstream_set *set;

	LIST_FOREACH (set, &w->sets, link)
		if (set->generation == generation)
			return set;

	set = calloc(1, sizeof(*set));
	if (!set)
		return NULL;
	set->generation = generation_ref(generation);
	set->upstreams = calloc(generation->config->n_endpoints + 1, sizeof(*set->upstreams));
	if (!set->upstreams)
		return set_free(set);
	LIST_INSERT_HEAD(&w->sets, set, link);
	return set;
}

struct upstream *worker_upstream(struct worker *w, struct generation *generation,
				 unsigned endpoint)
{
	struct upstream_environment env = {
		.base = w->base,
		.resolver = w->env.resolver,
		.mailbox = w->mailbox,
		.next_id = &w->next_lookup,
	};
	struct upstream_set *set = set_of(w, generation);

	if (!set)
		return NULL;
	if (!set->upstreams[endpoint] &&
	    upstream_new(&env, generation, endpoint, &set->upstreams[endpoint]) < 0)
		return NULL;
	return set->upstreams[endpoint];
}

/* Those of old generations go when their last call has ended. */
static void sweep_sets(struct worker *w, usec_t now)
{
	struct upstream_set *set, *next;

	for (set = LIST_FIRST(&w->sets); set; set = next) {
		for (size_t i = 0; i < set->generation->config->n_endpoints; i++)
			if (set->upstreams[i])
				upstream_sweep(set->upstreams[i], now);
		next = LIST_NEXT(set, link);
		if (set->generation == w->generation || set_calls(set) > 0)
			continue;
		LIST_REMOVE(set, link);
		set_free(set);
	}
}

/* ---- turns ---- */

static void arm_turn(struct worker *w)
{
	static const struct timeval at_once = {0};

	if (!TAILQ_EMPTY(&w->turns))
		evtimer_add(w->turn, &at_once);
}

void worker_queue_turn(struct worker *w, struct connection *c)
{
	if (c->in_turns)
		return;
	c->in_turns = true;
	TAILQ_INSERT_TAIL(&w->turns, c, turn);
	arm_turn(w);
}

/* Whether this enclave has had its request of this turn; marks it so. */
static bool served_this_turn(struct worker *w, unsigned enclave)
{
	if (enclave >= w->n_turn_marks) {
		unsigned n = enclave + 16;
		uint64_t *marks = reallocarray(w->turn_marks, n, sizeof(*marks));

		if (!marks)
			return false; /* unfair for a turn, but nobody waits for ever */
		memset(marks + w->n_turn_marks, 0, (n - w->n_turn_marks) * sizeof(*marks));
		w->turn_marks = marks;
		w->n_turn_marks = n;
	}
	if (w->turn_marks[enclave] == w->turn_serial)
		return true;
	w->turn_marks[enclave] = w->turn_serial;
	return false;
}

/* The next in line whose enclave has not been served in this turn. */
static struct connection *next_in_turn(struct worker *w)
{
	struct connection *c;

	TAILQ_FOREACH (c, &w->turns, turn)
		if (!served_this_turn(w, c->identity.enclave->id))
			return c;
	return NULL;
}

static void on_turn(evutil_socket_t fd, short what, void *userdata)
{
	struct worker *w = userdata;
	struct connection *c;

	(void)fd;
	(void)what;
	w->turn_serial++;
	while ((c = next_in_turn(w))) {
		TAILQ_REMOVE(&w->turns, c, turn);
		c->in_turns = false;
		connection_turn(c, clock_monotonic());
	}
	arm_turn(w);
}

/* ---- the sweep ---- */

static void sweep_parked(struct worker *w, usec_t now)
{
	struct request *r, *next;

	for (r = LIST_FIRST(&w->parked); r; r = next) {
		next = LIST_NEXT(r, parked);
		if (r->park_deadline <= now)
			request_unpark(r, now);
	}
}

static void check_drained(struct worker *w)
{
	struct message m = {.kind = MESSAGE_DRAINED, .id = w->index};

	if (!w->draining || w->drained || !LIST_EMPTY(&w->connections))
		return;
	w->drained = mailbox_send(w->env.control, &m) == 0;
}

/* Control says that a configuration is in force when every worker has said so. */
static void tell_loaded(struct worker *w)
{
	struct message m = {.kind = MESSAGE_LOADED, .id = w->index};

	if (w->told_loaded)
		return;
	m.generation = generation_ref(w->generation);
	w->told_loaded = mailbox_send(w->env.control, &m) == 0;
	if (!w->told_loaded)
		generation_unref(m.generation);
}

static void on_sweep(evutil_socket_t fd, short what, void *userdata)
{
	struct worker *w = userdata;
	struct connection *c, *next;
	usec_t now = clock_monotonic();

	(void)fd;
	(void)what;
	atomic_fetch_add_explicit(&w->beat, 1, memory_order_relaxed);
	for (c = LIST_FIRST(&w->connections); c; c = next) {
		next = LIST_NEXT(c, link);
		connection_sweep(c, now);
	}
	sweep_parked(w, now);
	sweep_sets(w, now);
	check_drained(w);
	tell_loaded(w);
	arm_turn(w); /* its timer wanted memory, and there was none */
}

void worker_connection_gone(struct worker *w)
{
	atomic_fetch_sub(&w->n_connections, 1);
	check_drained(w);
}

/* ---- messages ---- */

static void take_generation(struct worker *w, struct generation *generation)
{
	struct connection *c, *next;
	struct request *r, *next_request;
	usec_t now = clock_monotonic();

	generation_unref(w->generation);
	w->generation = generation;
	for (c = LIST_FIRST(&w->connections); c; c = next) {
		next = LIST_NEXT(c, link);
		connection_reload(c, generation, now);
	}
	for (r = LIST_FIRST(&w->abandoned); r; r = next_request) {
		next_request = LIST_NEXT(r, abandoned);
		if (request_revoke(r, generation))
			request_end(r, r->gone, 0, now);
	}
	w->told_loaded = false;
	tell_loaded(w);
}

static void take_credentials(struct worker *w, struct credentials *credentials)
{
	struct request *r, *next;
	usec_t now = clock_monotonic();

	credentials_unref(w->credentials);
	w->credentials = credentials;
	signer_forget(w->signer);
	for (r = LIST_FIRST(&w->parked); r; r = next) {
		next = LIST_NEXT(r, parked);
		request_unpark(r, now);
	}
}

static void take_addresses(struct worker *w, struct message *m)
{
	usec_t now = clock_monotonic();
	struct upstream_set *set;
	struct connection *c;

	LIST_FOREACH (set, &w->sets, link)
		for (size_t i = 0; i < set->generation->config->n_endpoints; i++)
			if (set->upstreams[i] &&
			    upstream_addresses(set->upstreams[i], m->id, m->addresses,
					       m->number, now))
				return;
	LIST_FOREACH (c, &w->connections, link)
		if (c->tunnel &&
		    tunnel_addresses(c->tunnel, m->id, m->addresses, m->number, now))
			break;
	free(m->addresses);
}

static void start_drain(struct worker *w)
{
	struct connection *c, *next;

	if (w->acceptor)
		w->acceptor = acceptor_drain(w->acceptor);
	w->draining = true;
	for (c = LIST_FIRST(&w->connections); c; c = next) {
		next = LIST_NEXT(c, link);
		connection_drain(c);
	}
	check_drained(w);
}

/* The drain's time is over: those that still wait are told so. */
static void refuse_in_flight(struct worker *w)
{
	struct connection *c, *next;

	for (c = LIST_FIRST(&w->connections); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->state != CONNECTION_WAIT)
			continue;
		request_withdraw(c->request);
		request_refuse(c->request, REFUSAL_SHUTTING_DOWN, NULL, clock_monotonic());
	}
}

static void on_message(struct message *m, void *userdata)
{
	struct worker *w = userdata;

	switch (m->kind) {
	case MESSAGE_ACCEPT:
		w->acceptor = m->acceptor;
		acceptor_start(w->acceptor, w);
		return;
	case MESSAGE_CONNECTION:
		connection_new(w, m->fd, &m->identity, clock_monotonic());
		return;
	case MESSAGE_GENERATION:
		take_generation(w, m->generation);
		return;
	case MESSAGE_CREDENTIALS:
		take_credentials(w, m->credentials);
		return;
	case MESSAGE_ADDRESSES:
		take_addresses(w, m);
		return;
	case MESSAGE_DRAIN:
		start_drain(w);
		return;
	case MESSAGE_EXIT:
		refuse_in_flight(w);
		event_base_loopbreak(w->base);
		return;
	case MESSAGE_TEST_HOOK:
#ifdef TEST_HOOKS
		test_hook_run((enum test_hook)m->number, w->base);
		return;
#endif
	case MESSAGE_REJECTED:
	case MESSAGE_RECOVERED:
	case MESSAGE_DRAINED:
	case MESSAGE_LOADED:
		return; /* control's, or nobody's */
	}
}

/* ---- the thread ---- */

static void *worker_main(void *userdata)
{
	struct worker *w = userdata;

	event_base_loop(w->base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

/* Signals are the control thread's. */
static int start_thread(struct worker *w)
{
	sigset_t all, before;
	char name[16];
	int e;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	e = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (e != 0)
		return -e;
	snprintf(name, sizeof(name), "worker-%u", w->index % 1000);
	pthread_setname_np(w->thread, name);
	return 0;
}

int worker_new(unsigned index, const struct worker_environment *environment,
	       struct generation *generation, struct credentials *credentials,
	       struct worker **ret_worker)
{
	static const struct timeval sweep = {SWEEP / USEC_PER_SEC, SWEEP % USEC_PER_SEC};
	_cleanup_(worker_freep) struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->index = index;
	w->env = *environment;
	w->generation = generation_ref(generation);
	w->told_loaded = true; /* by being there */
	w->credentials = credentials_ref(credentials);
	w->credentials_due = clock_monotonic() + FIRST_CREDENTIALS;
	TAILQ_INIT(&w->turns);
	w->base = event_base_new();
	if (!w->base)
		return -ENOMEM;
	w->sweep = event_new(w->base, -1, EV_PERSIST, on_sweep, w);
	w->turn = evtimer_new(w->base, on_turn, w);
	if (!w->sweep || !w->turn || evtimer_add(w->sweep, &sweep) < 0)
		return -ENOMEM;
	w->exit = letter_new();
	r = w->exit ? mailbox_new(w->base, on_message, w, &w->mailbox) : -ENOMEM;
	if (r == 0)
		r = signer_new(&w->signer);
	if (r == 0)
		r = start_thread(w);
	if (r < 0)
		return r;
	*ret_worker = TAKE_PTR(w);
	return 0;
}

void worker_stop(struct worker *w)
{
	struct message m = {.kind = MESSAGE_EXIT};

	if (!w->thread)
		return;
	mailbox_post(w->mailbox, TAKE_PTR(w->exit), &m);
	pthread_join(w->thread, NULL);
	w->thread = 0;
}

struct worker *worker_free(struct worker *w)
{
	struct upstream_set *set;
	struct connection *c;
	struct request *r;

	if (!w)
		return NULL;
	worker_stop(w);
	acceptor_free(w->acceptor);
	while ((c = LIST_FIRST(&w->connections)))
		connection_close(c, "shutting-down");
	while ((r = LIST_FIRST(&w->abandoned)))
		request_end(r, r->gone, 0, clock_monotonic());
	while ((set = LIST_FIRST(&w->sets))) {
		LIST_REMOVE(set, link);
		set_free(set);
	}
	letter_free(w->exit);
	mailbox_free(w->mailbox);
	if (w->sweep)
		event_free(w->sweep);
	if (w->turn)
		event_free(w->turn);
	if (w->base)
		event_base_free(w->base);
	signer_free(w->signer);
	credentials_unref(w->credentials);
	generation_unref(w->generation);
	free(w->turn_marks);
	free(w);
	return NULL;
}
