/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"
#include "audit.h"
#include "limit.h"
#include "tunnel_internal.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- configuration ---- */

const struct tunnel_config *tunnel_config(const struct tunnel *t)
{
	const struct connection *c = t->connection;

	return &c->generation->config->enclaves[c->enclave].tunnel;
}

/* ---- records ---- */

static void record(struct tunnel *t, enum event_kind event, const char *reason,
		   const char *detail, int status)
{
	struct connection *c = t->connection;
	struct enclave *e = c->identity.enclave;
	struct audit_record r;

	audit_record_init(&r, event);
	snprintf(r.enclave, sizeof(r.enclave), "%s", e->name);
	r.has_cid = c->identity.has_cid;
	r.cid = c->identity.cid;
	r.allowed = event != EVENT_TUNNEL_REFUSED;
	r.reason = reason;
	r.status = status;
	snprintf(r.endpoint, sizeof(r.endpoint), "%.*s", LIMIT_LOG_VALUE, t->name);
	snprintf(r.detail, sizeof(r.detail), "%s", detail);
	if (event == EVENT_TUNNEL_END) {
		r.bytes_in = (int64_t)t->pump.ways[0].bytes;
		r.bytes_out = (int64_t)t->pump.ways[1].bytes;
		r.duration = clock_monotonic() - t->started;
	}
	if (r.allowed ? c->generation->config->audit == AUDIT_REFUSALS
		      : !flood_admit(&e->flood, clock_monotonic()))
		return;
	audit_submit(c->worker->env.audit, &r);
}

static void record_end(struct tunnel *t, const char *why)
{
	struct enclave *e = t->connection->identity.enclave;

	record(t, EVENT_TUNNEL_END, why, "", 0);
	enclave_count(e, COUNTER_BYTES_IN, t->pump.ways[0].bytes);
	enclave_count(e, COUNTER_BYTES_OUT, t->pump.ways[1].bytes);
}

/* It was never open. What ends before its host is known costs a token all the same. */
static void record_refused(struct tunnel *t, const char *reason, const char *detail, int status)
{
	struct connection *c = t->connection;
	struct enclave *e = c->identity.enclave;

	if (!t->host)
		(void)!rate_limit_take(
			&e->requests,
			c->generation->config->enclaves[c->enclave].limits.requests,
			clock_monotonic(), NULL);
	enclave_count(e, COUNTER_CONNECTIONS_REFUSED, 1);
	record(t, EVENT_TUNNEL_REFUSED, reason, detail, status);
}

/* ---- the share of memory ---- */

bool tunnel_recharge(struct tunnel *t, size_t held)
{
	struct enclave *e = t->connection->identity.enclave;

	if (held > t->charged &&
	    !gauge_take(&e->memory, held - t->charged, t->connection->generation->memory_share))
		return false;
	if (held < t->charged)
		gauge_return(&e->memory, t->charged - held);
	t->charged = held;
	return true;
}

/* ---- the end ---- */

struct tunnel *tunnel_free(struct tunnel *t, const char *why)
{
	struct enclave *e = t->connection->identity.enclave;

	if (t->state == TUNNEL_OPEN)
		record_end(t, why);
	else if (why)
		record_refused(t, why, "", 0);
	t->connection->tunnel = NULL;
	(void)!tunnel_recharge(t, 0);
	if (t->counted)
		gauge_return(&e->tunnels, 1);
	if (t->host_fd >= 0) {
		event_del(&t->host_event);
		close(t->host_fd);
	}
	event_del(&t->refill);
	pump_done(&t->pump);
	buf_done(&t->early);
	dial_free(t->dial);
	free(t);
	return NULL;
}

void tunnel_end(struct tunnel *t, const char *why)
{
	connection_close(t->connection, why);
}

/* ---- answers to what is refused ---- */

enum tunnel_refusal {
	TUNNEL_NO_NAME,
	TUNNEL_BAD_HELLO,
	TUNNEL_HOST,
	TUNNEL_NAME_DIFFERS,
	TUNNEL_RATE,
	TUNNEL_CONNECTIONS,
	TUNNEL_MEMORY,
	TUNNEL_NO_HOST,
	TUNNEL_TIMEOUT,
	TUNNEL_TOO_SLOW,
};

static const struct {
	const char *reason; /* of the record */
	const char *text;   /* for both, unless the record has a closer one */
	int status;         /* to a CONNECT */
	enum tls_alert alert;
} refusals[] = {
	[TUNNEL_NO_NAME] = {"no-server-name", "the ClientHello names no server", 403,
			    TLS_ALERT_UNRECOGNIZED_NAME},
	[TUNNEL_BAD_HELLO] = {"client-hello", "the ClientHello is malformed", 403,
			      TLS_ALERT_DECODE_ERROR},
	[TUNNEL_HOST] = {"tunnel-host", "it is not in tunnel.hosts of the enclave", 403,
			 TLS_ALERT_UNRECOGNIZED_NAME},
	[TUNNEL_NAME_DIFFERS] = {"server-name", "the ClientHello is for another host", 403,
				 TLS_ALERT_UNRECOGNIZED_NAME},
	[TUNNEL_RATE] = {"rate", "limits.requests of the enclave is used up", 403,
			 TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_CONNECTIONS] = {"tunnel-connections",
				"tunnel.connections of the enclave is reached", 403,
				TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_MEMORY] = {"memory", "out of memory", 502, TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_NO_HOST] = {"no-upstream", "the host can't be reached", 502,
			    TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_TIMEOUT] = {"upstream-timeout", "the host did not answer in time", 504,
			    TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_TOO_SLOW] = {"too-slow", "the ClientHello did not come in time", 403,
			     TLS_ALERT_INTERNAL_ERROR},
};

/* An enclave that sent CONNECT is answered in HTTP until it got its 200, else in TLS. It is
 * told the row's text only: `detail` (NULL: none) may tell of the parent's network, and is for
 * the record. `alert` overrides the row's. Nothing may follow a call of this. */
static void refuse_alert(struct tunnel *t, enum tunnel_refusal refusal, enum tls_alert alert,
			 const char *detail, usec_t now)
{
	struct connection *c = t->connection;
	int status = t->by_connect && t->host_fd < 0 ? refusals[refusal].status : 0;
	const char *said = refusals[refusal].text;
	char text[512], bytes[TLS_ALERT_SIZE];
	struct slice answer;
	int n;

	record_refused(t, refusals[refusal].reason, detail ?: said, status);
	if (status) {
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\n"
			     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
			     status, http_reason_phrase(status), strlen(said) + 1, said);
		answer = (struct slice){text, (size_t)n};
	} else {
		answer = tls_alert_write(alert, bytes);
	}
	tunnel_free(t, NULL);
	connection_finish(c, answer, now);
}

static void refuse(struct tunnel *t, enum tunnel_refusal refusal, const char *detail,
		   usec_t now)
{
	refuse_alert(t, refusal, refusals[refusal].alert, detail, now);
}

/* The host was allowed, the connection stands, the hello is checked: from now on bytes pass. */
static void open_tunnel(struct tunnel *t, usec_t now)
{
	t->state = TUNNEL_OPEN;
	t->moved = now;
	record(t, EVENT_TUNNEL_OPEN, "allowed", "", t->by_connect ? 200 : 0);
	enclave_count(t->connection->identity.enclave, COUNTER_TUNNELS, 1);
	if (pump_prepend(&t->pump, 0, buf_slice(&t->early)) < 0) {
		tunnel_end(t, "memory");
		return;
	}
	buf_done(&t->early);
	tunnel_copy_event(t, now);
}

/* ---- the ClientHello ---- */

static struct tunnel_host *find_host(const struct tunnel *t, struct slice name, unsigned port)
{
	const struct tunnel_config *config = tunnel_config(t);

	for (size_t i = 0; i < config->n_hosts; i++)
		if (slice_eq_nocase(name, slice_from(config->hosts[i].host)) &&
		    (port == 0 || port == config->hosts[i].port))
			return &config->hosts[i];
	return NULL;
}

static void start_connecting(struct tunnel *t, usec_t now);

static void hello_done(struct tunnel *t, const struct client_hello *hello, usec_t now)
{
	char detail[LIMIT_LOG_VALUE];

	if (!hello->server_name[0]) {
		refuse(t, TUNNEL_NO_NAME, NULL, now);
		return;
	}
	if (t->by_connect) {
		if (strcasecmp(hello->server_name, t->host->host) == 0) {
			open_tunnel(t, now);
			return;
		}
		snprintf(detail, sizeof(detail), "the ClientHello is for %.100s",
			 hello->server_name);
		refuse(t, TUNNEL_NAME_DIFFERS, detail, now);
		return;
	}
	snprintf(t->name, sizeof(t->name), "%s", hello->server_name);
	t->host = find_host(t, slice_from(hello->server_name), 0);
	if (t->host)
		start_connecting(t, now);
	else
		refuse(t, TUNNEL_HOST, NULL, now);
}

/* True: nothing has happened, more bytes are needed. */
static bool check_hello(struct tunnel *t, usec_t now)
{
	struct client_hello_fault fault;
	struct client_hello hello;

	if (t->early.n == 0)
		return true;
	switch (client_hello_read(buf_slice(&t->early), &hello, &fault)) {
	case CLIENT_HELLO_NEED_MORE:
		return true;
	case CLIENT_HELLO_BAD:
		refuse_alert(t, TUNNEL_BAD_HELLO, fault.alert, fault.text, now);
		return false;
	case CLIENT_HELLO_DONE:
		hello_done(t, &hello, now);
		return false;
	}
	return false;
}

static void read_hello(struct tunnel *t, usec_t now)
{
	while (check_hello(t, now)) {
		int r = buf_reserve(&t->early, 4 * KIB);
		ssize_t n;

		/* Full: the reader has said so already, unless memory ran out. */
		if (r < 0 && t->early.n == t->early.cap) {
			tunnel_end(t, "memory");
			return;
		}
		n = recv(t->connection->fd, t->early.p + t->early.n, t->early.cap - t->early.n,
			 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			tunnel_end(t, "cut-off");
			return;
		}
		t->early.n += (size_t)n;
	}
}

/* ---- connecting ---- */

/* A CONNECT is told of the connection; then its ClientHello is due. */
static void answer_connect(struct tunnel *t, usec_t now)
{
	static const char text[] = "HTTP/1.1 200 Connection established\r\n\r\n";

	if (send(t->connection->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) != sizeof(text) - 1) {
		tunnel_end(t, "client-gone");
		return;
	}
	t->state = TUNNEL_HELLO;
	t->deadline = now + LIMIT_HEAD_TIME;
	read_hello(t, now);
}

static int watch_host(struct tunnel *t, int fd)
{
	event_assign(&t->host_event, t->worker->base, fd,
		     EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, tunnel_on_host, t);
	if (event_add(&t->host_event, NULL) < 0)
		return -ENOMEM;
	t->host_fd = fd;
	pump_init(&t->pump, t->connection->fd, fd);
	return 0;
}

static void on_connected(int fd, const char *why, void *userdata)
{
	struct tunnel *t = userdata;
	usec_t now = clock_monotonic();
	char detail[LIMIT_LOG_VALUE];
	int r;

	if (why) {
		slice_escape(slice_from(why), detail, sizeof(detail));
		refuse(t, TUNNEL_NO_HOST, detail, now);
		return;
	}
	r = watch_host(t, fd); /* before the dial goes, which watches it too: see dial.h */
	t->dial = dial_free(t->dial);
	if (r < 0) {
		close(fd);
		refuse(t, TUNNEL_MEMORY, NULL, now);
	} else if (t->by_connect) {
		answer_connect(t, now);
	} else {
		open_tunnel(t, now);
	}
}

static void connect_host(struct tunnel *t, const char *addresses, usec_t now)
{
	struct dial_options options = {
		.addresses = addresses,
		.port = t->host->connect_to ? t->host->connect_port : t->host->port,
		.any_address = t->host->connect_to != NULL,
	};

	t->state = TUNNEL_CONNECT;
	if (dial_new(t->worker->base, &options, on_connected, t, &t->dial) < 0)
		refuse(t, TUNNEL_MEMORY, NULL, now);
}

/* Rate, number and memory; false: refused, and the tunnel may be gone. */
static bool take_limits(struct tunnel *t, usec_t now)
{
	struct connection *c = t->connection;
	struct enclave *e = c->identity.enclave;
	const struct enclave_config *config = &c->generation->config->enclaves[c->enclave];
	bool counted;

	if (!rate_limit_take(&e->requests, config->limits.requests, now, NULL)) {
		refuse(t, TUNNEL_RATE, NULL, now);
		return false;
	}
	t->counted = counted = gauge_take(&e->tunnels, 1, config->tunnel.connections);
	if (!counted)
		refuse(t, TUNNEL_CONNECTIONS, NULL, now);
	return counted;
}

static void start_connecting(struct tunnel *t, usec_t now)
{
	const char *name = t->host->connect_to ?: t->host->host;
	int r;

	snprintf(t->name, sizeof(t->name), "%s:%u", t->host->host, t->host->port);
	if (!take_limits(t, now))
		return;
	t->deadline = now + LIMIT_TUNNEL_CONNECT;
	if (address_is_literal(name)) {
		connect_host(t, name, now);
		return;
	}
	t->state = TUNNEL_LOOKUP;
	t->lookup = ++t->worker->next_lookup;
	r = resolver_lookup(t->worker->env.resolver, name, t->worker->mailbox, t->lookup);
	if (r < 0)
		refuse(t, TUNNEL_NO_HOST, strerrordesc_np(-r), now);
}

bool tunnel_addresses(struct tunnel *t, uint64_t id, const char *addresses, int code,
		      usec_t now)
{
	if (t->state != TUNNEL_LOOKUP || t->lookup != id)
		return false;
	t->lookup = 0;
	if (addresses)
		connect_host(t, addresses, now);
	else
		refuse(t, TUNNEL_NO_HOST, gai_strerror(code), now);
	return true;
}

/* A lookup that takes long: a name server that is away doesn't stop what went well before. */
static void use_known_addresses(struct tunnel *t, usec_t now)
{
	_cleanup_(freep) char *addresses =
		resolver_known(t->worker->env.resolver, t->host->connect_to ?: t->host->host);

	if (addresses)
		connect_host(t, addresses, now);
}

/* ---- what the connection tells ---- */

void tunnel_io(struct tunnel *t, short what, usec_t now)
{
	switch (t->state) {
	case TUNNEL_HELLO:
		read_hello(t, now);
		return;
	case TUNNEL_LOOKUP:
	case TUNNEL_CONNECT:
		if (connection_peer_is_gone(t->connection))
			tunnel_end(t, "client-gone");
		return;
	case TUNNEL_OPEN:
		t->pump.ends[0].readable |= (what & (EV_READ | EV_CLOSED)) != 0;
		t->pump.ends[0].writable |= (what & EV_WRITE) != 0;
		if (what)
			tunnel_copy_event(t, now);
		else
			tunnel_copy_turn(t, now);
		return;
	}
}

void tunnel_sweep(struct tunnel *t, usec_t now)
{
	switch (t->state) {
	case TUNNEL_OPEN:
		tunnel_sweep_open(t, now);
		return;
	case TUNNEL_HELLO:
		if (t->deadline <= now)
			refuse(t, TUNNEL_TOO_SLOW, NULL, now);
		return;
	case TUNNEL_LOOKUP:
		if (connection_peer_is_gone(t->connection))
			tunnel_end(t, "client-gone");
		else if (t->deadline <= now)
			refuse(t, TUNNEL_TIMEOUT, "the name was not found in time", now);
		else if (t->deadline - now < LIMIT_TUNNEL_CONNECT - LIMIT_TUNNEL_LOOKUP)
			use_known_addresses(t, now);
		return;
	case TUNNEL_CONNECT:
		if (connection_peer_is_gone(t->connection))
			tunnel_end(t, "client-gone");
		else if (t->deadline <= now)
			refuse(t, TUNNEL_TIMEOUT, "connecting took too long", now);
		return;
	}
}

/* Whether it is the same name, and leads to the same place. */
static bool host_equal(const struct tunnel_host *a, const struct tunnel_host *b)
{
	const char *to_a = a->connect_to ?: a->host, *to_b = b->connect_to ?: b->host;

	return strcmp(a->host, b->host) == 0 && strcmp(to_a, to_b) == 0 && a->port == b->port &&
	       a->connect_port == b->connect_port;
}

void tunnel_reload(struct tunnel *t, struct generation *generation, int enclave)
{
	struct connection *c = t->connection;
	const struct tunnel_config *config;
	struct tunnel_host *host = NULL;

	if (enclave >= 0) {
		config = &generation->config->enclaves[enclave].tunnel;
		for (size_t i = 0; i < config->n_hosts && !host; i++)
			if (!t->host || host_equal(t->host, &config->hosts[i]))
				host = &config->hosts[i];
	}
	if (!host) {
		tunnel_end(t, "no-longer-allowed");
		return;
	}
	if (t->host)
		t->host = host;
	generation_ref(generation);
	generation_unref(c->generation);
	c->generation = generation;
	c->enclave = (unsigned)enclave;
}

/* ---- the beginning ---- */

static struct tunnel *tunnel_alloc(struct connection *c, struct slice bytes, usec_t now)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->connection = c;
	t->worker = c->worker;
	t->host_fd = t->first_ended = -1;
	t->started = t->moved = now;
	t->deadline = now + LIMIT_HEAD_TIME;
	/* Room for a whole hello and what a read may bring behind it. */
	t->early = BUF_INIT(2 * LIMIT_HELLO);
	c->tunnel = t;
	evtimer_assign(&t->refill, c->worker->base, tunnel_on_refill, t);
	if (!tunnel_recharge(t, 2 * LIMIT_HELLO) || buf_append(&t->early, bytes) < 0) {
		tunnel_free(t, NULL);
		return NULL;
	}
	return t;
}

int tunnel_new_tls(struct connection *c, struct slice bytes, usec_t now)
{
	struct tunnel *t = tunnel_alloc(c, bytes, now);

	if (!t)
		return -ENOMEM;
	connection_drop_input(c); /* `bytes` may have been in it */
	read_hello(t, now);
	return 0;
}

int tunnel_new_connect(struct connection *c, const struct http_head *head, struct slice rest,
		       usec_t now)
{
	char host[SERVER_NAME_SIZE];
	struct tunnel *t = tunnel_alloc(c, rest, now);
	bool is_ip6;

	if (!t)
		return -ENOMEM;
	t->by_connect = true;
	slice_escape(head->host, host, sizeof(host));
	is_ip6 = strchr(host, ':');
	snprintf(t->name, sizeof(t->name), "%s%s%s:%u", is_ip6 ? "[" : "", host,
		 is_ip6 ? "]" : "", head->port);
	t->host = find_host(t, head->host, head->port);
	connection_drop_input(c); /* the head may have been in it */
	if (t->host)
		start_connecting(t, now);
	else
		refuse(t, TUNNEL_HOST, NULL, now);
	return 0;
}
