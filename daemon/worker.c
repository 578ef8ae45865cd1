/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include "connection.h"
#include "http.h"
#include "request_step.h"
#include "sigv4.h"
#include "surplus.h"
#include "test_hooks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define SWEEP (250 * USEC_PER_MSEC)          /* how late a deadline may be */
#define FIRST_CREDENTIALS (3 * USEC_PER_SEC) /* IMDS answers within 2 s or not */

/* ---- what control is told ---- */

static void tell_drained(struct worker *w)
{
	struct message m = {.kind = MESSAGE_DRAINED, .id = w->index};

	if (!w->context.draining || w->drained || !LIST_EMPTY(&w->context.connections))
		return;
	w->drained = mailbox_send(w->context.control, &m) == 0;
}

/* Control says that a configuration is in force when every worker has said so. */
static void tell_loaded(struct worker *w)
{
	struct message m = {.kind = MESSAGE_LOADED, .id = w->index};

	if (w->told_loaded)
		return;
	m.generation = generation_ref(w->context.generation);
	w->told_loaded = mailbox_send(w->context.control, &m) == 0;
	if (!w->told_loaded)
		generation_unref(m.generation);
}

static void on_sweep(evutil_socket_t fd, short what, void *userdata)
{
	struct worker *w = userdata;
	struct instant now = clock_now();

	(void)fd;
	(void)what;
	atomic_fetch_add_explicit(&w->beat, 1, memory_order_relaxed);
	connections_sweep(&w->context, now);
	requests_sweep(&w->requests, now);
	requests_admit(&w->context, now);
	upstreams_sweep(&w->context, now);
	turns_arm(&w->context.turns);
	tell_loaded(w);
}

/* ---- messages ---- */

static void take_generation(struct worker *w, struct generation *generation, struct instant now)
{
	generation_unref(w->context.generation);
	w->context.generation = generation;
	connections_reload(&w->context, now);
	requests_reload(&w->requests, generation, now);
	w->told_loaded = false;
	tell_loaded(w);
}

static void take_credentials(struct worker *w, struct credentials *credentials,
			     struct instant now)
{
	credentials_unref(w->context.credentials);
	w->context.credentials = credentials;
	signer_forget(w->context.signer);
	requests_wake(&w->requests, WAIT_CREDENTIALS, now);
}

static void start_drain(struct worker *w, struct instant now)
{
	if (w->acceptor)
		w->acceptor = acceptor_drain(w->acceptor);
	w->context.draining = true;
	connections_drain(&w->context, false, now);
}

static void on_message(struct message *m, void *userdata)
{
	struct worker *w = userdata;
	struct instant now = clock_now();

	switch (m->kind) {
	case MESSAGE_ACCEPT:
		w->acceptor = m->acceptor;
		acceptor_start(w->acceptor, w);
		return;
	case MESSAGE_CONNECTION:
		(m->number ? surplus_accept : http_accept)(&w->context, m->fd, &m->identity,
							   now);
		return;
	case MESSAGE_GENERATION:
		take_generation(w, m->generation, now);
		return;
	case MESSAGE_CREDENTIALS:
		take_credentials(w, m->credentials, now);
		return;
	case MESSAGE_ADDRESSES:
		lookups_take(&w->lookups, m->id, m->addresses, m->number, now);
		free(m->addresses);
		return;
	case MESSAGE_DRAIN:
		start_drain(w, now);
		return;
	case MESSAGE_EXIT:
		w->over = true;
		connections_drain(&w->context, true, now);
		return;
	case MESSAGE_POKED:
		requests_admit(&w->context, now);
		return;
	case MESSAGE_TEST_HOOK:
#ifdef TEST_HOOKS
		test_hook_run((enum test_hook)m->number, w->context.base);
		return;
#endif
	case MESSAGE_REJECTED:
	case MESSAGE_RECOVERED:
	case MESSAGE_DRAINED:
	case MESSAGE_LOADED:
		return; /* control's, or nobody's */
	}
}

static void drop_message(struct message *m, void *userdata)
{
	(void)userdata;
	if (m->kind == MESSAGE_CONNECTION)
		close(m->fd);
	acceptor_free(m->acceptor);
	generation_unref(m->generation);
	credentials_unref(m->credentials);
	free(m->addresses);
}

/* ---- the thread ---- */

static void *worker_main(void *userdata)
{
	struct worker *w = userdata;

	int r = 0;

	/* Should the loop fail, the thread ends, and the watchdog ends the daemon. */
	while (r >= 0 && !w->over) {
		r = event_base_loop(w->context.base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
		bin_empty(&w->context.bin);
		tell_drained(w);
	}
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

static int worker_init(struct worker *w)
{
	static const struct timeval sweep = {SWEEP / USEC_PER_SEC, SWEEP % USEC_PER_SEC};
	struct context *c = &w->context;
	int r;

	c->base = event_base_new();
	w->exit = letter_new();
	if (!c->base || !w->exit)
		return -ENOMEM;
	w->sweep = event_new(c->base, -1, EV_PERSIST, on_sweep, w);
	if (!w->sweep || evtimer_add(w->sweep, &sweep) < 0)
		return -ENOMEM;
	r = turns_init(&c->turns, c->base);
	if (r == 0)
		r = mailbox_new(c->base, on_message, drop_message, w, &c->mailbox);
	return r < 0 ? r : signer_new(&c->signer);
}

int worker_new(unsigned index, const struct worker_environment *environment,
	       struct generation *generation, struct credentials *credentials,
	       struct worker **ret_worker)
{
	_cleanup_(worker_freep) struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->index = index;
	w->told_loaded = true; /* by being there */
	w->context.audit = environment->audit;
	w->context.resolver = environment->resolver;
	w->context.control = environment->control;
	w->context.index = index;
	w->context.mailboxes = environment->mailboxes;
	w->context.surplus = environment->surplus;
	w->context.lookups = &w->lookups;
	w->context.upstreams = &w->upstreams;
	w->context.requests = &w->requests;
	w->context.generation = generation_ref(generation);
	w->context.credentials = credentials_ref(credentials);
	w->context.credentials_due = clock_monotonic() + FIRST_CREDENTIALS;
	r = worker_init(w);
	if (r == 0) {
		w->mailbox = &environment->mailboxes[index];
		*w->mailbox = w->context.mailbox;
		r = start_thread(w);
	}
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
	mailbox_post(w->context.mailbox, TAKE_PTR(w->exit), &m);
	pthread_join(w->thread, NULL);
	w->thread = 0;
}

struct worker *worker_free(struct worker *w)
{
	struct context *c;
	struct instant now = clock_now();

	if (!w)
		return NULL;
	c = &w->context;
	worker_stop(w);
	acceptor_free(w->acceptor);
	connections_close(c, REASON_SHUTTING_DOWN, now);
	requests_end(&w->requests, now);
	upstreams_done(&w->upstreams);
	bin_empty(&c->bin);
	letter_free(w->exit);
	if (w->mailbox)
		*w->mailbox = NULL; /* the others end after it, and no more run */
	mailbox_free(c->mailbox);
	turns_done(&c->turns);
	if (w->sweep)
		event_free(w->sweep);
	if (c->base)
		event_base_free(c->base);
	signer_free(c->signer);
	credentials_unref(c->credentials);
	generation_unref(c->generation);
	free(w);
	return NULL;
}
