/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include "acceptor.h"
#include "audit.h"
#include "compare.h"
#include "credentials_cache.h"
#include "credentials_health.h"
#include "generation.h"
#include "log.h"
#include "notify.h"
#include "region.h"
#include "report.h"
#include "resolver.h"
#include "sandbox.h"
#include "test_hooks.h"
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK_SEC 1                 /* upkeep: watchdog, status line */
#define STALLED (3 * USEC_PER_SEC) /* a worker whose sweep stood still so long hangs */
#define SUPPRESSED_EVERY (10 * USEC_PER_SEC) /* what was left out of the journal */
#define LOAD_TIME (60 * USEC_PER_SEC) /* the largest file, on a slow machine that is busy */
#define COUNTERS_EVERY (300 * USEC_PER_SEC)
#define DRAIN_TIME (30 * USEC_PER_SEC) /* what is in flight at SIGTERM may take so long */

static const int signal_numbers[] = {
	SIGHUP,  SIGTERM, SIGINT, SIGUSR1,
#ifdef TEST_HOOKS
	SIGUSR2,
#endif
};

#define N_SIGNALS ELEMENTSOF(signal_numbers)

/* What the control thread knows of a worker. */
struct pulse {
	uint64_t beat;
	usec_t moved;
	bool behind;  /* there was no memory to tell it what is in force */
	bool loading; /* it has not said yet that it goes by the generation in force */
};

struct server {
	const char *path;
	struct event_base *base;
	struct event *signals[N_SIGNALS], *tick;
	struct mailbox *mailbox;
	struct enclave_table *enclaves;
	struct credentials_health_table *health;
	struct generation *generation;
	struct region region;
	struct config *started_with; /* its `listen` and `workers` are in force until the end */
	struct credentials *credentials;
	struct credentials_cache *cache;
	struct audit *audit;
	struct resolver *resolver;
	struct flood unknown; /* records of peers that are no enclave */
	struct worker **workers;
	struct mailbox **mailboxes; /* theirs */
	struct gauge surplus;      /* connections over their enclave's limit, of all enclaves */
	struct acceptor *acceptor; /* until the first worker has it */
	struct pulse *pulses;
	unsigned n_workers, n_drained;
	bool draining;
	usec_t drain_deadline, next_suppressed, next_counters;
	char refused[sizeof(((struct error *)NULL)->text) +
		     64]; /* when and why the file was, since the last good one; or "" */
	char status[1024];
};

/* ---- what the workers are told ---- */

static bool send_credentials(const struct server *s, unsigned worker)
{
	struct message m = {.kind = MESSAGE_CREDENTIALS,
			    .credentials = credentials_ref(s->credentials)};

	if (!m.credentials || mailbox_send(s->workers[worker]->context.mailbox, &m) == 0)
		return true;
	credentials_unref(m.credentials);
	return false;
}

static bool send_generation(const struct server *s, unsigned worker)
{
	struct message m = {.kind = MESSAGE_GENERATION,
			    .generation = generation_ref(s->generation)};

	if (mailbox_send(s->workers[worker]->context.mailbox, &m) == 0)
		return true;
	generation_unref(m.generation);
	return false;
}

/* A worker must not go on under rules that were withdrawn because memory was short once. */
static void catch_up(struct server *s)
{
	for (unsigned i = 0; i < s->n_workers; i++)
		if (s->pulses[i].behind)
			s->pulses[i].behind = !send_generation(s, i) || !send_credentials(s, i);
}

static void on_credentials(struct credentials *credentials, void *userdata)
{
	struct server *s = userdata;

	credentials_unref(s->credentials);
	s->credentials = credentials_ref(credentials);
	for (unsigned i = 0; i < s->n_workers; i++)
		s->pulses[i].behind |= !send_credentials(s, i);
}

/* ---- status and watchdog ---- */

/* An endpoint that rejects the credentials; NULL if none does. */
static const struct credentials_health *find_bad(const struct server *s)
{
	for (size_t i = 0; i < s->generation->config->n_endpoints; i++)
		if (credentials_health_is_bad(s->generation->health[i], s->credentials))
			return s->generation->health[i];
	return NULL;
}

/* What is wrong now stands before what is only for comparison. Whether it is another than it
 * was.
 */
static bool compose_status(struct server *s)
{
	const struct credentials_health *bad = find_bad(s);
	char text[sizeof(s->status)], count[CONFIG_COUNT_SIZE];
	unsigned n = 0;

	for (unsigned i = 0; i < s->n_workers; i++)
		n += atomic_load(&s->workers[i]->context.n_connections);
	if (s->draining)
		snprintf(text, sizeof(text), "Stopping: %u connection%s left", n, plural(n));
	else
		snprintf(text, sizeof(text),
			 "Serving %s, %u connection%s; %s%s%s%s%s; configuration %s",
			 config_count(s->generation->config, count), n, plural(n),
			 bad ? "endpoint " : "", bad ? bad->named.name : "",
			 bad ? " rejects the credentials; " : "",
			 credentials_cache_status(s->cache), s->refused,
			 s->generation->config->hash);
	if (strcmp(text, s->status) == 0)
		return false;
	memcpy(s->status, text, sizeof(text));
	return true;
}

static void update_status(struct server *s)
{
	if (compose_status(s))
		notify_status(s->status);
}

/* Only while every worker's sweep moves: a worker that hangs must be seen. */
static void feed_watchdog(struct server *s, usec_t now)
{
	bool alive = true;

	for (unsigned i = 0; i < s->n_workers; i++) {
		uint64_t beat = atomic_load(&s->workers[i]->beat);

		if (beat != s->pulses[i].beat || s->pulses[i].moved == 0)
			s->pulses[i].beat = beat, s->pulses[i].moved = now;
		alive &= now - s->pulses[i].moved <= STALLED;
	}
	if (alive)
		notify_watchdog();
}

static void on_tick(evutil_socket_t fd, short what, void *userdata)
{
	struct server *s = userdata;
	usec_t now = clock_monotonic();

	(void)fd;
	(void)what;
	feed_watchdog(s, now);
	catch_up(s);
	update_status(s);
	if (now >= s->next_suppressed) {
		report_suppressed(s->enclaves, &s->unknown);
		s->next_suppressed = now + SUPPRESSED_EVERY;
	}
	if (now >= s->next_counters) {
		report_counters(s->enclaves, s->generation);
		s->next_counters = now + COUNTERS_EVERY;
	}
	if (s->draining && now >= s->drain_deadline)
		event_base_loopbreak(s->base);
}

/* ---- reload ---- */

/* `listen` and `workers` need a restart: said, and otherwise left as they are. */
static void warn_of_restart(const struct server *s, const struct config *config)
{
	if (config->workers != s->started_with->workers)
		log_event(EVENT_CONFIG_WARNING, NULL,
			  "%s: `workers` is %u now; a restart is needed for it to take effect",
			  s->path, config->workers);
	if (!config_listen_equal(config, s->started_with))
		log_event(EVENT_CONFIG_WARNING, NULL,
			  "%s: `listen` has changed; a restart is needed for it to take effect",
			  s->path);
}

static void publish_generation(struct server *s, struct generation *generation)
{
	generation_unref(s->generation);
	s->generation = generation;
	/* The first accepts, so it is told last: it hands the others no enclave unknown to
	 * them.
	 */
	for (unsigned i = s->n_workers; i-- > 0;) {
		s->pulses[i].loading = true;
		s->pulses[i].behind |= !send_generation(s, i);
	}
}

/* All of it is read and checked before any of it is taken over. */
static int reload(struct server *s, struct error *ret_error)
{
	_cleanup_(generation_unrefp) struct generation *generation = NULL;
	_cleanup_(config_unrefp) struct config *config = NULL;
	_cleanup_(findings_done) struct findings findings = {0};
	const struct config_facts facts = region_facts(&s->region);
	int r;

	r = config_load(s->path, &facts, &config, &findings);
	report_findings(&findings, s->path, EVENT_CONFIG_REFUSED);
	if (r < 0) {
		report_first_error(&findings, s->path, ret_error);
		return r;
	}
	r = generation_new(config, s->enclaves, s->health, &generation, ret_error);
	if (r == 0)
		r = credentials_cache_configure(s->cache, &config->credentials);
	if (r < 0) {
		if (!ret_error->text[0])
			error_set_errno(ret_error, r, "can't be loaded");
		log_event(EVENT_CONFIG_REFUSED, NULL, "%s: %s", s->path, ret_error->text);
		return r;
	}
	warn_of_restart(s, config);
	publish_generation(s, TAKE_PTR(generation));
	s->refused[0] = '\0';
	return 0;
}

/* The status line keeps it until a good file was read: whoever looks later sees it too. */
static void note_refusal(struct server *s, const char *why)
{
	time_t now = time(NULL);
	struct tm tm = {0};

	localtime_r(&now, &tm);
	snprintf(s->refused, sizeof(s->refused), "; the file was refused at %02d:%02d: %s",
		 tm.tm_hour, tm.tm_min, why);
}

static bool is_loading(const struct server *s)
{
	for (unsigned i = 0; i < s->n_workers; i++)
		if (s->pulses[i].loading)
			return true;
	return false;
}

static void on_reload(struct server *s)
{
	struct error why = {0};
	int r;

	notify_reloading();
	notify_watchdog_wait(LOAD_TIME);
	r = reload(s, &why);
	notify_watchdog_again();
	if (r == 0)
		return; /* on_loaded() ends it */
	log_event(EVENT_CONFIG_REFUSED, NULL,
		  "%s: not loaded; the configuration in force stays as it was", s->path);
	note_refusal(s, why.text[0] ? why.text : "out of memory");
	compose_status(s);
	if (!is_loading(s))
		notify_ready(s->status);
}

/* What is said to be loaded is in force for every connection. */
static void on_loaded(struct server *s, unsigned worker, const struct generation *generation)
{
	if (generation != s->generation || !s->pulses[worker].loading)
		return;
	s->pulses[worker].loading = false;
	if (is_loading(s))
		return;
	report_loaded(s->path, generation->config);
	compose_status(s);
	notify_ready(s->status);
}

/* ---- the end ---- */

static void on_stop(struct server *s)
{
	struct message m = {.kind = MESSAGE_DRAIN};

	if (s->draining) {
		event_base_loopbreak(s->base);
		return;
	}
	s->draining = true;
	s->drain_deadline = clock_monotonic() + DRAIN_TIME;
	log_event(EVENT_STOP, NULL,
		  "stopping: no new connections; requests in flight have %lld s to end",
		  (long long)(DRAIN_TIME / USEC_PER_SEC));
	notify_stopping("Stopping: requests in flight are being answered");
	notify_extend_timeout(DRAIN_TIME + 5 * USEC_PER_SEC);
	/* The first, which accepts, tells the others after the last it has handed them. */
	if (mailbox_send(s->workers[0]->context.mailbox, &m) < 0)
		event_base_loopbreak(s->base);
}

#ifdef TEST_HOOKS
static void on_test_hook(struct server *s)
{
	struct message m = {.kind = MESSAGE_TEST_HOOK, .number = test_hook_read()};

	if (mailbox_send(s->workers[0]->context.mailbox, &m) < 0)
		log_event(EVENT_MACHINE, NULL, "test hook: out of memory");
}
#endif

static void on_signal(evutil_socket_t number, short what, void *userdata)
{
	struct server *s = userdata;

	(void)what;
	if (region_take_signal(&s->region, (int)number))
		return;
	switch (number) {
	case SIGHUP:
		if (!s->draining)
			on_reload(s);
		return;
	case SIGUSR1:
		report_counters(s->enclaves, s->generation);
		return;
#ifdef TEST_HOOKS
	case SIGUSR2:
		on_test_hook(s);
		return;
#endif
	default:
		on_stop(s);
	}
}

static void on_health(struct server *s, const struct message *m)
{
	if (m->kind == MESSAGE_REJECTED && m->number)
		credentials_cache_reject(s->cache, m->id);
	credentials_health_take(m, s->credentials, clock_monotonic());
}

static void on_message(struct message *m, void *userdata)
{
	struct server *s = userdata;

	if (m->kind == MESSAGE_REJECTED || m->kind == MESSAGE_RECOVERED)
		on_health(s, m);
	if (m->kind == MESSAGE_DRAINED && ++s->n_drained == s->n_workers)
		event_base_loopbreak(s->base);
	if (m->kind == MESSAGE_LOADED) {
		on_loaded(s, (unsigned)m->id, m->generation);
		generation_unref(m->generation);
	}
}

static void drop_message(struct message *m, void *userdata)
{
	(void)userdata;
	generation_unref(m->generation);
}

/* ---- the start ---- */

static int watch_signals(struct server *s)
{
	signal(SIGPIPE, SIG_IGN); /* OpenSSL and libcurl write without MSG_NOSIGNAL */
	for (size_t i = 0; i < N_SIGNALS; i++) {
		s->signals[i] = evsignal_new(s->base, signal_numbers[i], on_signal, s);
		if (!s->signals[i] || evsignal_add(s->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Without its event a signal kills again, and this late there is nothing left to end. */
static void free_signals(struct server *s)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (size_t i = 0; i < N_SIGNALS; i++)
		if (s->signals[i])
			event_free(s->signals[i]);
}

static int start_workers(struct server *s)
{
	unsigned n = s->generation->config->workers;
	struct worker_environment env;
	int r;

	s->workers = calloc(n, sizeof(*s->workers));
	s->mailboxes = calloc(n, sizeof(*s->mailboxes));
	s->pulses = calloc(n, sizeof(*s->pulses));
	if (!s->workers || !s->mailboxes || !s->pulses)
		return -ENOMEM;
	env = (struct worker_environment){s->audit, s->resolver, s->mailbox, s->mailboxes,
					  &s->surplus};
	for (unsigned i = 0; i < n; i++) {
		r = worker_new(i, &env, s->generation, s->credentials, &s->workers[i]);
		if (r < 0)
			return r;
		s->n_workers++;
	}
	return 0;
}

/* Has the first worker accept. */
static int start_accepting(struct server *s)
{
	struct message m = {.kind = MESSAGE_ACCEPT, .acceptor = s->acceptor};
	int r = mailbox_send(s->workers[0]->context.mailbox, &m);

	if (r == 0)
		s->acceptor = NULL;
	return r;
}

static int server_start(struct server *s, struct config *config, struct error *error)
{
	static const struct timeval tick = {TICK_SEC, 0};
	_cleanup_(handed_sockets_done) struct handed_sockets handed = {0};
	int r;

	r = handed_sockets_take(&handed, error);
	r = r < 0 ? r : mailbox_new(s->base, on_message, drop_message, s, &s->mailbox);
	r = r < 0 ? r : enclave_table_new(&s->enclaves);
	r = r < 0 ? r : credentials_health_table_new(&s->health);
	r = r < 0 ? r : generation_new(config, s->enclaves, s->health, &s->generation, error);
	r = r < 0 ? r : audit_new(&s->audit);
	r = r < 0 ? r : resolver_new(&s->resolver);
	r = r < 0 ? r : start_workers(s);
	r = r < 0 ? r
		  : credentials_cache_new(s->base, &config->credentials, on_credentials, s,
					  &s->cache);
	r = r < 0 ? r
		  : acceptor_new(config, &handed, s->audit, &s->unknown, s->workers,
				 s->n_workers, &s->acceptor, error);
	if (r < 0)
		return r;
	s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
	if (!s->tick || event_add(s->tick, &tick) < 0)
		return -ENOMEM;
	s->next_counters = clock_monotonic() + COUNTERS_EVERY;
	return 0;
}

static void server_done(struct server *s)
{
	credentials_cache_free(s->cache);
	acceptor_free(s->acceptor);
	/* A worker asks the resolver until it stops, and the resolver writes to its mailbox. */
	for (unsigned i = 0; i < s->n_workers; i++)
		worker_stop(s->workers[i]);
	resolver_free(s->resolver);
	for (unsigned i = 0; i < s->n_workers; i++)
		worker_free(s->workers[i]);
	if (s->enclaves)
		report_suppressed(s->enclaves, &s->unknown); /* since the last tick that did */
	audit_free(s->audit);
	generation_unref(s->generation);
	enclave_table_free(s->enclaves);
	credentials_health_table_free(s->health);
	config_unref(s->started_with);
	credentials_unref(s->credentials);
	mailbox_free(s->mailbox);
	if (s->tick)
		event_free(s->tick);
	free_signals(s);
	if (s->base)
		event_base_free(s->base);
	free(s->workers);
	free(s->mailboxes);
	free(s->pulses);
}

/* Signals count from here on. 1: one came while the region was asked for. */
static int settle(struct server *s, struct config **config)
{
	int r;

	s->base = event_base_new();
	if (!s->base)
		return -ENOMEM;
	r = watch_signals(s);
	return r < 0 ? r : region_settle(&s->region, s->base, s->path, config);
}

/* What only the start needed is given up, in all threads. */
static int give_up_calls(void)
{
	int r = sandbox_enter();

	if (r >= 0 || r == -ENOMEM)
		return r;
	log_event(
		EVENT_SANDBOX, NULL,
		"no filter of its own system calls can be put in force (%s); going on without",
		strerrordesc_np(-r));
	return 0;
}

/* Nobody in another network namespace is reached then, and an enclave counts as one. */
static void warn_of_namespace(void)
{
	FILE *f = fopen("/proc/sys/net/vsock/ns_mode", "re"); /* since Linux 7.0 */
	char mode[16] = "";

	if (f) {
		(void)!fgets(mode, sizeof(mode), f);
		fclose(f);
	}
	if (strncmp(mode, "local", 5) == 0)
		log_event(
			EVENT_CONFIG_WARNING, NULL,
			"net.vsock.ns_mode is local in this network namespace: enclaves are in "
			"the global one and can't reach vsock listeners here; run the daemon "
			"in "
			"the host's");
}

static void warn_of_loopback(void)
{
	if (access("/sys/module/vsock_loopback", F_OK) == 0)
		log_event(
			EVENT_CONFIG_WARNING, NULL,
			"the module vsock_loopback is loaded: local processes can reach vsock "
			"listeners; they are refused (CID 1), but nothing here needs it");
}

int server_run(const char *path, struct config *given, const struct findings *findings)
{
	_cleanup_(config_unrefp) struct config *config = config_ref(given);
	_cleanup_(server_done) struct server s = {.path = path};
	struct error error = {0};
	int r;

	if (!config_needs_region(config)) /* else it is read again */
		report_findings(findings, path, EVENT_CONFIG_REFUSED);
	warn_of_loopback();
	warn_of_namespace();
	r = settle(&s, &config);
	if (r == 1)
		return 0;
	s.started_with = config_ref(config);
	r = r < 0 ? r : server_start(&s, config, &error);
	r = r < 0 ? r : give_up_calls();
	r = r < 0 ? r : start_accepting(&s); /* no byte of an enclave is read before */
	if (r < 0) {
		log_event(EVENT_MACHINE, NULL, "can't start: %s",
			  error.text[0] ? error.text : strerrordesc_np(-r));
		return r;
	}
	update_status(&s);
	report_started(config);
	notify_ready(s.status);
	event_base_dispatch(s.base);
	log_event(EVENT_STOP, NULL, "stopped");
	return 0;
}
