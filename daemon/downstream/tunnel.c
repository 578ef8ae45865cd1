/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"
#include "audit.h"
#include "connector.h"
#include "limit.h"
#include "resolver.h"
#include "tunnel_internal.h"
#include "tunnel_rules.h"

#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- configuration ---- */

const struct tunnel_config *tunnel_config(const struct tunnel *t)
{
	return &connection_config(t->connection)->tunnel;
}

/* ---- records ---- */

static void record(struct tunnel *t, enum event_kind event, enum reason reason,
		   const char *detail, int status, struct instant now)
{
	struct connection *c = t->connection;
	struct audit_record r;

	identity_record(&c->identity, event, &r);
	r.allowed = event != EVENT_TUNNEL_REFUSED;
	r.reason = reason;
	r.status = status;
	r.cleartext = event == EVENT_TUNNEL_OPEN && !t->host->tls;
	snprintf(r.endpoint, sizeof(r.endpoint), "%.*s", LIMIT_LOG_VALUE, t->name);
	snprintf(r.detail, sizeof(r.detail), "%s", detail);
	if (event == EVENT_TUNNEL_END) {
		r.bytes_in = (int64_t)t->pump.ways[0].bytes;
		r.bytes_out = (int64_t)t->pump.ways[1].bytes;
		r.duration = now.monotonic - t->started;
	}
	if (r.allowed ? c->generation->config->audit == AUDIT_REFUSALS
		      : !flood_admit(&c->identity.enclave->flood, now.monotonic))
		return;
	audit_submit(t->context->audit, &r);
}

/* Why TLS failed, where an end says so before there are keys: of a certificate that an enclave
 * doesn't take, say, all else that can be seen is an end. */
static void tell_alert(const struct tunnel *t, char *out, size_t size)
{
	static const char *const ends[] = {"the enclave", "the host"};

	out[0] = '\0';
	for (unsigned i = 0; i < ELEMENTSOF(ends) && t->host->tls && !out[0]; i++)
		if (t->pump.ways[i].alert)
			snprintf(out, size, "%s sent the TLS alert \"%s\" (%d)", ends[i],
				 connector_alert_name(t->pump.ways[i].alert - 1),
				 t->pump.ways[i].alert - 1);
}

static void record_end(struct tunnel *t, enum reason why, struct instant now)
{
	struct enclave *e = t->connection->identity.enclave;
	char alert[128];

	tell_alert(t, alert, sizeof(alert));
	record(t, EVENT_TUNNEL_END, why, alert, 0, now);
	enclave_count(e, COUNTER_BYTES_IN, t->pump.ways[0].bytes);
	enclave_count(e, COUNTER_BYTES_OUT, t->pump.ways[1].bytes);
}

/* It was never open. What ends before its host is known costs a token all the same. */
static void record_refused(struct tunnel *t, enum reason reason, const char *detail, int status,
			   struct instant now)
{
	struct enclave *e = t->connection->identity.enclave;

	if (!t->host)
		(void)!enclave_take_token(e, connection_config(t->connection), now.monotonic,
					  NULL);
	enclave_count(e, COUNTER_CONNECTIONS_REFUSED, 1);
	record(t, EVENT_TUNNEL_REFUSED, reason, detail, status, now);
}

/* ---- the share of memory ---- */

bool tunnel_recharge(struct tunnel *t, size_t held)
{
	struct connection *c = t->connection;

	return enclave_charge(c->identity.enclave, c->generation->memory_share, &t->charged,
			      held);
}

/* ---- the end ---- */

static void tunnel_free(void *protocol, enum reason why, struct instant now)
{
	struct tunnel *t = protocol;
	struct enclave *e = t->connection->identity.enclave;

	if (t->state == TUNNEL_OPEN)
		record_end(t, why, now);
	else if (why)
		record_refused(t, why, "", 0, now);
	enclave_uncharge(e, &t->charged);
	if (t->counted)
		gauge_return(&e->tunnels, 1);
	if (t->host_fd >= 0) {
		event_del(&t->host_event);
		close(t->host_fd);
	}
	event_del(&t->refill);
	pump_done(&t->pump);
	buf_done(&t->early);
	lookup_cancel(&t->lookup);
	dial_free(t->dial);
	t->state = TUNNEL_OVER;
	bin_put(&t->context->bin, &t->bin, offsetof(struct tunnel, connection), sizeof(*t));
}

void tunnel_end(struct tunnel *t, enum reason why, struct instant now)
{
	connection_close(t->connection, why, now);
}

/* An enclave that sent CONNECT is answered in HTTP until it got its 200, else in TLS. It is
 * told the row's text only: `detail` (NULL: none) may tell of the parent's network, and is for
 * the record. `alert` overrides the row's. */
static void refuse_alert(struct tunnel *t, enum tunnel_refusal refusal, enum tls_alert alert,
			 const char *detail, struct instant now)
{
	const struct tunnel_refusal_info *info = tunnel_refusal_info(refusal);
	int status = t->by_connect && t->host_fd < 0 ? info->status : 0;
	char text[TUNNEL_ANSWER_SIZE];

	record_refused(t, info->reason, detail ?: info->text, status, now);
	connection_finish(t->connection, tunnel_refusal_write(refusal, status, alert, text),
			  true, now);
}

static void refuse(struct tunnel *t, enum tunnel_refusal refusal, const char *detail,
		   struct instant now)
{
	refuse_alert(t, refusal, tunnel_refusal_info(refusal)->alert, detail, now);
}

/* The host was allowed, the connection stands, the hello is checked: from now on bytes pass. */
static void open_tunnel(struct tunnel *t, struct instant now)
{
	t->state = TUNNEL_OPEN;
	t->moved = now.monotonic;
	record(t, EVENT_TUNNEL_OPEN, REASON_ALLOWED, "", t->by_connect ? 200 : 0, now);
	enclave_count(t->connection->identity.enclave, COUNTER_TUNNELS, 1);
	if (pump_prepend(&t->pump, 0, buf_slice(&t->early)) < 0) {
		tunnel_end(t, REASON_MEMORY, now);
		return;
	}
	buf_done(&t->early);
	tunnel_copy_event(t, now);
}

/* ---- the ClientHello ---- */

static void start_connecting(struct tunnel *t, struct instant now);

/* A proxy that speaks between its answer and the hello is not the host. */
static void open_connected(struct tunnel *t, struct instant now)
{
	char byte;

	if (t->host->proxy.host && recv(t->host_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		refuse(t, TUNNEL_PROXY_BROKEN, "bytes came before the ClientHello", now);
	else
		open_tunnel(t, now);
}

static void hello_done(struct tunnel *t, const struct client_hello *hello, struct instant now)
{
	char detail[LIMIT_LOG_VALUE];

	if (!hello->server_name[0] && !t->by_connect) {
		refuse(t, TUNNEL_NO_NAME, NULL, now);
		return;
	}
	if (t->by_connect) { /* its authority was listed: a name may be missing, not differ */
		if (!hello->server_name[0] ||
		    strcasecmp(hello->server_name, t->host->host) == 0) {
			open_connected(t, now);
			return;
		}
		snprintf(detail, sizeof(detail), "the ClientHello is for %.100s",
			 hello->server_name);
		refuse(t, TUNNEL_NAME_DIFFERS, detail, now);
		return;
	}
	snprintf(t->name, sizeof(t->name), "%s", hello->server_name);
	t->host = tunnel_find_host(tunnel_config(t), slice_from(hello->server_name), 0);
	if (t->host)
		start_connecting(t, now);
	else
		refuse(t, TUNNEL_HOST, NULL, now);
}

/* True: nothing has happened, more bytes are needed. */
static bool check_hello(struct tunnel *t, struct instant now)
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

static void read_hello(struct tunnel *t, struct instant now)
{
	while (check_hello(t, now)) {
		int r = buf_reserve(&t->early, 4 * KIB);
		ssize_t n;

		/* Full: the reader has said so already, unless memory ran out. */
		if (r < 0 && t->early.n == t->early.cap) {
			tunnel_end(t, REASON_MEMORY, now);
			return;
		}
		n = recv(t->connection->fd, t->early.p + t->early.n, t->early.cap - t->early.n,
			 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			tunnel_end(t, REASON_CUT_OFF, now);
			return;
		}
		t->early.n += (size_t)n;
	}
}

/* ---- connecting ---- */

/* A CONNECT is told of the connection; then its ClientHello is due, or whatever either end has
 * to say where it is no TLS. */
static void answer_connect(struct tunnel *t, struct instant now)
{
	static const char text[] = "HTTP/1.1 200 Connection established\r\n\r\n";

	if (send(t->connection->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) != sizeof(text) - 1) {
		tunnel_end(t, REASON_CLIENT_GONE, now);
		return;
	}
	if (!t->host->tls) {
		open_tunnel(t, now);
		return;
	}
	t->state = TUNNEL_HELLO;
	t->deadline = now.monotonic + LIMIT_HEAD_TIME;
	read_hello(t, now);
}

static int watch_host(struct tunnel *t, int fd)
{
	event_assign(&t->host_event, t->context->base, fd,
		     EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, tunnel_on_host, t);
	if (event_add(&t->host_event, NULL) < 0)
		return -ENOMEM;
	t->host_fd = fd;
	pump_init(&t->pump, t->connection->fd, fd);
	return 0;
}

/* Indexed by dial_fault. */
static const enum tunnel_refusal faults[] = {
	[DIAL_HOST] = TUNNEL_NO_HOST,
	[DIAL_NO_PROXY] = TUNNEL_NO_PROXY,
	[DIAL_PROXY_REFUSED] = TUNNEL_PROXY_REFUSED,
	[DIAL_PROXY_BROKEN] = TUNNEL_PROXY_BROKEN,
};

static void on_connected(int fd, const char *why, void *userdata)
{
	struct tunnel *t = userdata;
	struct instant now = clock_now();
	char detail[LIMIT_LOG_VALUE];
	int r;

	if (why) {
		slice_escape(slice_from(why), detail, sizeof(detail));
		refuse(t, faults[dial_fault(t->dial)], detail, now);
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

/* Where the host is. */
static const char *host_name(const struct tunnel *t)
{
	return t->host->connect_to ?: t->host->host;
}

static unsigned host_port(const struct tunnel *t)
{
	return t->host->connect_to ? t->host->connect_port : t->host->port;
}

/* What is looked up, and connected to: that, or the proxy. */
static const char *connect_name(const struct tunnel *t)
{
	return t->host->proxy.host ?: host_name(t);
}

static void connect_host(struct tunnel *t, const char *addresses, struct instant now)
{
	const struct proxy_config *proxy = &t->host->proxy;
	const struct proxy_target through = {
		host_name(t), host_port(t),
		generation_proxy_authorization(t->connection->generation, proxy)};
	struct dial_options options = {
		.addresses = addresses,
		.port = proxy->host ? proxy->port : host_port(t),
		.reach = proxy->host ? ADDRESS_LOOPBACK
				     : dial_reach(t->host->connect_to, t->host->tls),
		.through = proxy->host ? &through : NULL,
	};

	t->state = TUNNEL_CONNECT;
	if (dial_new(t->context->base, &options, on_connected, t, &t->dial) < 0)
		refuse(t, TUNNEL_MEMORY, NULL, now);
}

static enum tunnel_refusal not_found(const struct tunnel *t)
{
	return t->host->proxy.host ? TUNNEL_NO_PROXY : TUNNEL_NO_HOST;
}

static void on_addresses(struct lookup *lookup, const char *addresses, int code,
			 struct instant now)
{
	struct tunnel *t = CONTAINER_OF(lookup, struct tunnel, lookup);

	if (addresses)
		connect_host(t, addresses, now);
	else
		refuse(t, not_found(t), gai_strerror(code), now);
}

static void start_connecting(struct tunnel *t, struct instant now)
{
	const char *name = connect_name(t);
	enum tunnel_refusal refusal;
	int r;

	snprintf(t->name, sizeof(t->name), "%s:%u", t->host->host, t->host->port);
	refusal = tunnel_admit(t->connection->identity.enclave,
			       connection_config(t->connection), now.monotonic, &t->counted);
	if (refusal) {
		refuse(t, refusal, NULL, now);
		return;
	}
	t->deadline = now.monotonic + LIMIT_TUNNEL_CONNECT;
	if (address_is_literal(name)) {
		connect_host(t, name, now);
		return;
	}
	t->state = TUNNEL_LOOKUP;
	r = lookup_start(&t->lookup, t->context, name, on_addresses);
	if (r < 0)
		refuse(t, not_found(t), strerrordesc_np(-r), now);
}

/* A lookup that takes long: a name server that is away doesn't stop what went well before. */
static void use_known_addresses(struct tunnel *t, struct instant now)
{
	_cleanup_(freep) char *addresses =
		resolver_known(t->context->resolver, connect_name(t));

	if (!addresses)
		return;
	lookup_cancel(&t->lookup);
	connect_host(t, addresses, now);
}

/* ---- what the connection tells ---- */

static void tunnel_io(void *protocol, short what, struct instant now)
{
	struct tunnel *t = protocol;

	switch (t->state) {
	case TUNNEL_HELLO:
		read_hello(t, now);
		return;
	case TUNNEL_LOOKUP:
	case TUNNEL_CONNECT:
		if (connection_peer_is_gone(t->connection))
			tunnel_end(t, REASON_CLIENT_GONE, now);
		return;
	case TUNNEL_OPEN:
		t->pump.ends[0].readable |= (what & (EV_READ | EV_CLOSED)) != 0;
		t->pump.ends[0].writable |= (what & EV_WRITE) != 0;
		if (what)
			tunnel_copy_event(t, now);
		else
			tunnel_copy_turn(t, now);
		return;
	case TUNNEL_OVER:
		return;
	}
}

static void tunnel_sweep(void *protocol, struct instant now)
{
	struct tunnel *t = protocol;

	switch (t->state) {
	case TUNNEL_OPEN:
		tunnel_sweep_open(t, now);
		return;
	case TUNNEL_HELLO:
		if (t->deadline <= now.monotonic)
			refuse(t, TUNNEL_TOO_SLOW, NULL, now);
		return;
	case TUNNEL_LOOKUP:
		if (connection_peer_is_gone(t->connection))
			tunnel_end(t, REASON_CLIENT_GONE, now);
		else if (t->deadline <= now.monotonic)
			refuse(t, t->host->proxy.host ? TUNNEL_NO_PROXY : TUNNEL_TIMEOUT,
			       "the name was not found in time", now);
		else if (t->deadline - now.monotonic <
			 LIMIT_TUNNEL_CONNECT - LIMIT_TUNNEL_LOOKUP)
			use_known_addresses(t, now);
		return;
	case TUNNEL_CONNECT:
		if (connection_peer_is_gone(t->connection))
			tunnel_end(t, REASON_CLIENT_GONE, now);
		else if (t->deadline <= now.monotonic)
			refuse(t,
			       dial_fault(t->dial) ? faults[dial_fault(t->dial)]
						   : TUNNEL_TIMEOUT,
			       "connecting took too long", now);
		return;
	case TUNNEL_OVER:
		return;
	}
}

/* It lives on, under the new configuration, if its host is still allowed. */
static void tunnel_reload(void *protocol, struct generation *generation, int enclave_index,
			  struct instant now)
{
	struct tunnel *t = protocol;
	struct tunnel_host *host = NULL;

	if (enclave_index >= 0)
		host = tunnel_keep_host(
			&generation_enclave(generation, (unsigned)enclave_index)->tunnel,
			t->host);
	if (!host) {
		tunnel_end(t, REASON_NO_LONGER_ALLOWED, now);
		return;
	}
	if (t->host)
		t->host = host;
	connection_move(t->connection, generation, (unsigned)enclave_index);
}

/* A tunnel has no end of its own to wait for: its sweep sees that the thread drains. */
static void tunnel_drain(void *protocol, bool over, struct instant now)
{
	(void)protocol;
	(void)over;
	(void)now;
}

static const struct protocol_ops tunnel_ops = {tunnel_io, tunnel_sweep, tunnel_reload,
					       tunnel_drain, tunnel_free};

/* ---- the beginning ---- */

static struct tunnel *tunnel_alloc(struct connection *c, struct slice bytes, struct instant now)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->connection = c;
	t->context = c->context;
	t->host_fd = t->first_ended = -1;
	t->started = t->moved = now.monotonic;
	t->deadline = now.monotonic + LIMIT_HEAD_TIME;
	/* Room for a whole hello and what a read may bring after it. */
	t->early = BUF_INIT(2 * LIMIT_HELLO);
	evtimer_assign(&t->refill, t->context->base, tunnel_on_refill, t);
	if (!tunnel_recharge(t, 2 * LIMIT_HELLO) || buf_append(&t->early, bytes) < 0) {
		tunnel_free(t, REASON_NONE, now);
		return NULL;
	}
	return t;
}

int tunnel_new_tls(struct connection *c, struct slice bytes, struct instant now)
{
	struct tunnel *t = tunnel_alloc(c, bytes, now);

	if (!t)
		return -ENOMEM;
	connection_set_protocol(c, &tunnel_ops, t, now); /* `bytes` may go with the old one */
	read_hello(t, now);
	return 0;
}

int tunnel_new_connect(struct connection *c, const struct http_head *head, struct slice rest,
		       struct instant now)
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
	t->host = tunnel_find_host(tunnel_config(t), head->host, head->port);
	connection_set_protocol(c, &tunnel_ops, t, now); /* the head may go with the old one */
	if (t->host)
		start_connecting(t, now);
	else
		refuse(t, TUNNEL_HOST, NULL, now);
	return 0;
}
