/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"
#include "dial.h"
#include "generation.h"
#include "limit.h"
#include "log.h"
#include "upstream_internal.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

#define ADDRESSES_FRESH                                                                        \
	(30 * USEC_PER_SEC)                /* then they are looked up again, beside their use */
#define ADDRESSES_RETRY (1 * USEC_PER_SEC) /* a failed connection asks DNS again after this */
#define HOLD_FIRST (50 * USEC_PER_MSEC)    /* after a failed connection, doubled each time */
#define HOLD_MAX (1 * USEC_PER_SEC)

static unsigned total(const struct upstream *u)
{
	return u->n[LINK_CONNECTING] + u->n[LINK_IDLE] + u->n[LINK_BUSY];
}

/* Where the endpoint is. */
static const char *endpoint_host(const struct upstream *u)
{
	return u->config->connect_to ?: u->config->host;
}

static unsigned endpoint_port(const struct upstream *u)
{
	return u->config->connect_to ? u->config->connect_port : u->config->port;
}

/* What is connected to: that, or the proxy. Only this is looked up. */
static const char *connect_host(const struct upstream *u)
{
	return u->config->proxy.host ?: endpoint_host(u);
}

/* ---- calls ---- */

void upstream_call_done(struct upstream *u, struct upstream_call *call,
			enum upstream_result result, const char *why, struct instant now)
{
	call->upstream = NULL;
	u->n_calls--;
	call->ops->done(call, result, why, now);
}

void upstream_call_queue(struct upstream *u, struct upstream_call *call, struct instant now,
			 bool first)
{
	struct upstream_share *share = &u->shares[call->enclave_index];

	call->deadline = now.monotonic + u->config->queue_timeout;
	if (first)
		TAILQ_INSERT_HEAD(&share->waiting, call, link);
	else
		TAILQ_INSERT_TAIL(&share->waiting, call, link);
	share->n_waiting++;
}

void upstream_call_unqueue(struct upstream *u, struct upstream_call *call)
{
	struct upstream_share *share = &u->shares[call->enclave_index];

	TAILQ_REMOVE(&share->waiting, call, link);
	share->n_waiting--;
}

/* ---- connecting ---- */

static void fail_waiting(struct upstream *u, enum upstream_result result, struct instant now)
{
	struct calls failed = TAILQ_HEAD_INITIALIZER(failed);
	struct upstream_call *call;

	/* All are taken off first: done() may well submit a new call. */
	for (unsigned i = 0; i < u->n_shares; i++) {
		TAILQ_CONCAT(&failed, &u->shares[i].waiting, link);
		u->shares[i].n_waiting = 0;
	}
	while ((call = TAILQ_FIRST(&failed))) {
		TAILQ_REMOVE(&failed, call, link);
		upstream_call_done(u, call, result, u->why, now);
	}
}

static void on_addresses(struct lookup *lookup, const char *addresses, int code,
			 struct instant now);

static int start_lookup(struct upstream *u)
{
	return lookup_start(&u->lookup, u->context, connect_host(u), on_addresses);
}

/* Whether there is an address to connect to; asks for one, or for fresher ones, where not. */
static bool have_addresses(struct upstream *u, struct instant now)
{
	if (u->literal)
		return true;
	if (!u->addresses || now.monotonic - u->addresses_at > ADDRESSES_FRESH)
		if (start_lookup(u) < 0)
			return u->addresses != NULL;
	return u->addresses != NULL;
}

static void log_down(struct upstream *u)
{
	char endpoint[LIMIT_NAME + sizeof("ENDPOINT=")], proxy[320] = "";
	const char *fields[] = {NULL, NULL};

	if (u->down)
		return;
	u->down = true;
	snprintf(endpoint, sizeof(endpoint), "ENDPOINT=%s", u->config->name);
	fields[0] = endpoint;
	if (u->through.host)
		snprintf(proxy, sizeof(proxy), " by the proxy %s port %u",
			 u->config->proxy.host, u->config->proxy.port);
	log_event(EVENT_ENDPOINT_DOWN, fields, "endpoint %s: can't connect to %s port %u%s: %s",
		  u->config->name, endpoint_host(u), endpoint_port(u), proxy, u->why);
}

static void log_up(struct upstream *u)
{
	const char *fields[] = {NULL, NULL};
	char endpoint[LIMIT_NAME + sizeof("ENDPOINT=")];

	if (!u->down)
		return;
	u->down = false;
	snprintf(endpoint, sizeof(endpoint), "ENDPOINT=%s", u->config->name);
	fields[0] = endpoint;
	log_event(EVENT_ENDPOINT_UP, fields, "endpoint %s: connected again", u->config->name);
}

/* An attempt failed. Those who wait are told at once unless something may still serve them. */
static void upstream_failed(struct upstream *u, enum dial_fault fault, const char *why,
			    struct instant now)
{
	static const enum upstream_result results[] = {
		[DIAL_HOST] = UPSTREAM_NO_CONNECTION,
		[DIAL_NO_PROXY] = UPSTREAM_NO_PROXY,
		[DIAL_PROXY_REFUSED] = UPSTREAM_PROXY_REFUSED,
		[DIAL_PROXY_BROKEN] = UPSTREAM_PROXY_BROKEN,
	};
	char text[sizeof(u->why)];

	u->result = results[fault];

	slice_escape(slice_from(why), text, sizeof(text));
	memcpy(u->why, text, sizeof(text));
	log_down(u);
	u->hold = u->hold ? MIN(u->hold * 2, HOLD_MAX) : HOLD_FIRST;
	u->hold_until = now.monotonic + u->hold;
	connector_tls_renew(u->tls);

	if (!u->literal && u->addresses && now.monotonic - u->addresses_at > ADDRESSES_RETRY)
		(void)start_lookup(u); /* it may have moved */
	if (total(u) == 0 && !u->lookup.id)
		fail_waiting(u, u->result, now);
}

static void on_connected(struct connector *connector, const char *why, void *userdata)
{
	struct upstream_connection *c = userdata;
	struct upstream *u = c->upstream;
	struct instant now = clock_now();
	enum dial_fault fault = DIAL_HOST;
	char reason[sizeof(u->why)];

	if (!why && upstream_connection_watch(c, now) < 0)
		why = "out of memory";
	if (why) {
		/* `why` may live in the connector. */
		snprintf(reason, sizeof(reason), "%s", why);
		fault = connector_fault(connector);
		upstream_connection_close(c);
		upstream_failed(u, fault, reason, now);
		return;
	}
	u->hold = u->hold_until = 0;
	log_up(u);
	upstream_dispatch(u, now);
}

static int start_connection(struct upstream *u, struct instant now)
{
	const struct endpoint_config *e = u->config;
	struct connector_options options = {
		.host = e->host,
		.addresses = u->literal ? connect_host(u) : u->addresses,
		.port = u->through.host ? e->proxy.port : endpoint_port(u),
		.reach = u->through.host ? ADDRESS_LOOPBACK : dial_reach(e->connect_to, true),
		.through = u->through.host ? &u->through : NULL,
		.tls = u->tls,
		.timeout = e->connect_timeout,
	};
	struct upstream_connection *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	r = connector_new(u->context->base, &options, on_connected, c, &c->connector);
	if (r < 0) {
		free(c);
		return r;
	}
	c->upstream = u;
	c->fresh = true;
	c->state = LINK_CONNECTING;
	/* The connector has the same deadline; this one is the backstop. */
	c->deadline = now.monotonic + e->connect_timeout + USEC_PER_SEC;
	TAILQ_INSERT_HEAD(&u->connections[c->state], c, link);
	u->n[c->state]++;
	return 0;
}

/* ---- the calls' turns ---- */

static struct upstream_connection *find_idle(struct upstream *u, bool fresh)
{
	struct upstream_connection *c;

	TAILQ_FOREACH (c, &u->connections[LINK_IDLE], link)
		if (!fresh || c->fresh)
			return c;
	return NULL;
}

/* Its event may not have come yet: an answer that nobody asked for must not be the next one's.
 */
static struct upstream_connection *take_idle(struct upstream *u, bool fresh)
{
	struct upstream_connection *c;

	while ((c = find_idle(u, fresh)) && !connector_is_quiet(c->connector))
		upstream_connection_close(c);
	return c;
}

static unsigned free_places(const struct upstream *u)
{
	return u->config->connections - MIN(u->n[LINK_BUSY], u->config->connections);
}

/* The first call of an enclave may have the last place. A further one starts only if it leaves
 * a place for each enclave that holds none, so that no group can keep another out. */
static bool may_start(const struct upstream *u, const struct upstream_share *share)
{
	unsigned holding_none = u->n_users - u->n_holding;

	return free_places(u) > (share->n_busy ? holding_none : 0);
}

/* Starts one call: the next enclave's in turn. False when none can be started. */
static bool start_next(struct upstream *u, struct instant now)
{
	for (unsigned i = 0; i < u->n_shares; i++) {
		unsigned enclave = (u->turn + i) % u->n_shares;
		struct upstream_share *share = &u->shares[enclave];
		struct upstream_call *call = TAILQ_FIRST(&share->waiting);
		struct upstream_connection *c;

		if (!call || !may_start(u, share))
			continue;
		c = take_idle(u, call->repeated);
		if (!c)
			continue;
		u->turn = enclave + 1;
		upstream_connection_start(c, call, now);
		return true;
	}
	return false;
}

/* Calls that new connections would serve now: the first of each enclave that holds none, and of
 * the further ones as many as may_start() would let go after these. */
static unsigned wanted(const struct upstream *u)
{
	unsigned first = 0, further = 0, left, kept;

	for (unsigned i = 0; i < u->n_shares; i++) {
		const struct upstream_share *s = &u->shares[i];
		unsigned is_first = s->n_waiting > 0 && s->n_busy == 0;

		first += is_first;
		further += s->n_waiting - is_first;
	}
	first = MIN(first, free_places(u));
	left = free_places(u) - first;
	kept = u->n_users - u->n_holding - first; /* for those that still hold none */
	return first + (left > kept ? MIN(further, left - kept) : 0);
}

static void connect_more(struct upstream *u, struct instant now)
{
	unsigned n = wanted(u);

	while (u->n[LINK_CONNECTING] < n && now.monotonic >= u->hold_until &&
	       have_addresses(u, now)) {
		/* Idle ones are left over only if a repeated call won't have them. */
		if (total(u) >= u->config->connections) {
			if (TAILQ_EMPTY(&u->connections[LINK_IDLE]))
				return;
			upstream_connection_close(
				TAILQ_LAST(&u->connections[LINK_IDLE], connections));
		}
		if (start_connection(u, now) < 0) {
			upstream_failed(u, DIAL_HOST, "out of memory", now);
			return;
		}
	}
}

void upstream_dispatch(struct upstream *u, struct instant now)
{
	while (start_next(u, now))
		continue;
	if (wanted(u))
		connect_more(u, now);
}

void upstream_submit(struct upstream *u, struct upstream_call *call, struct instant now)
{
	assert(call->enclave_index < u->n_shares);
	call->upstream = u;
	call->connection = NULL;
	call->repeated = false;
	call->sent = call->received = 0;
	u->n_calls++;
	upstream_call_queue(u, call, now, false);
	upstream_dispatch(u, now);
}

/* Whoever cancels may be in the middle of anything, and what is started now could fail at once
 * and answer others: so not from here. */
static void dispatch_soon(struct upstream *u)
{
	event_active(&u->kick, EV_TIMEOUT, 0);
}

static void on_kick(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	upstream_dispatch(userdata, clock_now());
}

void upstream_cancel(struct upstream_call *call)
{
	struct upstream *u = call->upstream;

	if (!u)
		return;
	if (call->connection) {
		struct upstream_connection *c = call->connection;

		upstream_connection_release(c);
		upstream_connection_close(c);
	} else {
		upstream_call_unqueue(u, call);
	}
	call->upstream = NULL;
	u->n_calls--;
	dispatch_soon(u); /* its place, or its turn, is another's */
}

/* Lets the call go on to its end, or cancels it. */
static bool finish_or_cancel(struct upstream_call *call, bool may_finish)
{
	if (may_finish)
		call->final = true;
	else
		upstream_cancel(call);
	return may_finish;
}

bool upstream_abandon(struct upstream_call *call)
{
	const struct upstream_connection *c = call->connection;

	return finish_or_cancel(call, c && c->unsent.n < c->to_send);
}

bool upstream_revoke(struct upstream_call *call)
{
	const struct upstream_connection *c = call->connection;

	return finish_or_cancel(call, c && c->unsent.n == 0);
}

static void on_addresses(struct lookup *lookup, const char *addresses, int code,
			 struct instant now)
{
	struct upstream *u = CONTAINER_OF(lookup, struct upstream, lookup);
	char *copy = addresses ? strdup(addresses) : NULL;

	if (copy) {
		free(u->addresses);
		u->addresses = copy;
	}
	if (u->addresses) { /* if only the last good ones, which serve on */
		u->addresses_at = now.monotonic;
		upstream_dispatch(u, now);
	} else {
		upstream_failed(u, u->through.host ? DIAL_NO_PROXY : DIAL_HOST,
				gai_strerror(addresses ? EAI_MEMORY : code), now);
	}
}

/* ---- deadlines ---- */

/* The list is in the order of the deadlines, but for repeated ones, which are at its head. */
static struct upstream_call *find_late(struct upstream_share *share, struct instant now)
{
	struct upstream_call *call;

	TAILQ_FOREACH (call, &share->waiting, link)
		if (call->deadline <= now.monotonic || !call->repeated)
			break;
	return call && call->deadline <= now.monotonic ? call : NULL;
}

static void sweep_waiting(struct upstream *u, struct instant now)
{
	for (unsigned i = 0; i < u->n_shares; i++) {
		struct upstream_call *call;

		while ((call = find_late(&u->shares[i], now))) {
			upstream_call_unqueue(u, call);
			upstream_call_done(u, call, UPSTREAM_QUEUE_TIMEOUT,
					   u->down ? u->why : NULL, now);
		}
	}
}

static struct upstream_connection *find_overdue(struct upstream *u, enum link_state state,
						struct instant now)
{
	struct upstream_connection *c;

	TAILQ_FOREACH (c, &u->connections[state], link)
		if (c->deadline <= now.monotonic)
			return c;
	return NULL;
}

void upstream_sweep(struct upstream *u, struct instant now)
{
	struct upstream_connection *c;

	sweep_waiting(u, now);
	while ((c = find_overdue(u, LINK_CONNECTING, now))) {
		upstream_connection_close(c);
		upstream_failed(u, DIAL_HOST, "connecting timed out", now);
	}
	while ((c = find_overdue(u, LINK_BUSY, now)))
		upstream_connection_fail(c, UPSTREAM_TIMEOUT, NULL, now);
	while ((c = find_overdue(u, LINK_IDLE, now)))
		upstream_connection_close(c);
	upstream_dispatch(u, now);
}

unsigned upstream_calls(const struct upstream *u)
{
	return u->n_calls;
}

/* ---- the whole ---- */

int upstream_new(struct context *context, const struct generation *generation,
		 unsigned endpoint, struct upstream **ret_upstream)
{
	const struct config *config = generation->config;
	_cleanup_(upstream_freep) struct upstream *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->context = context;
	u->config = &config->endpoints[endpoint];
	u->literal = address_is_literal(connect_host(u));
	if (u->config->proxy.host)
		u->through = (struct proxy_target){
			endpoint_host(u), endpoint_port(u),
			generation_proxy_authorization(generation, &u->config->proxy)};
	u->n_users = config_endpoint_users(config, endpoint);
	event_assign(&u->kick, u->context->base, -1, 0, on_kick, u);
	for (size_t i = 0; i < _LINK_MAX; i++)
		TAILQ_INIT(&u->connections[i]);
	u->shares = calloc(config->n_slots + 1, sizeof(*u->shares));
	if (!u->shares || connector_tls_new(generation->trusts[endpoint].store, &u->tls) < 0)
		return -ENOMEM;
	u->n_shares = (unsigned)config->n_slots;
	for (unsigned i = 0; i < u->n_shares; i++)
		TAILQ_INIT(&u->shares[i].waiting);
	*ret_upstream = TAKE_PTR(u);
	return 0;
}

struct upstream *upstream_free(struct upstream *u)
{
	struct upstream_connection *c;

	if (!u)
		return NULL;
	assert(u->n_calls == 0);
	if (event_initialized(&u->kick))
		event_del(&u->kick);
	for (size_t i = 0; i < _LINK_MAX; i++)
		while ((c = TAILQ_FIRST(&u->connections[i])))
			upstream_connection_close(c);
	lookup_cancel(&u->lookup);
	connector_tls_free(u->tls);
	free(u->shares);
	free(u->addresses);
	free(u);
	return NULL;
}
