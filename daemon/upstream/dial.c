/* SPDX-License-Identifier: Apache-2.0 */
#include "dial.h"

#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEPALIVE_SECONDS 60 /* idle, and between probes: NAT forgets after minutes */

/* One address. */
struct attempt {
	struct dial *dial;
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} address;
	bool tried;
	unsigned turn; /* it was tried as this one */
	int fd;        /* connecting; -1: not yet, or not any more */
	struct event event;
};

struct dial {
	struct event_base *base;
	struct attempt attempts[LIMIT_TUNNEL_ADDRESSES];
	unsigned n, n_tried;
	enum address_class reach;
	sa_family_t last; /* the family that was tried last */
	struct attempt *connected;
	bool handed;                       /* its socket is the owner's */
	struct proxy_handshake *handshake; /* NULL: there is no proxy */
	enum dial_fault fault;
	struct event next; /* when to try the next, or to say that there is none */
	dial_cb done;
	void *userdata;
	char why[128];
};

/* ---- addresses ---- */

static bool parse_address(struct attempt *a, const char *text, size_t n, unsigned port)
{
	char host[INET6_ADDRSTRLEN];

	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	if (inet_pton(AF_INET, host, &a->address.in.sin_addr) == 1) {
		a->address.in.sin_family = AF_INET;
		a->address.in.sin_port = htons((uint16_t)port);
		return true;
	}
	if (inet_pton(AF_INET6, host, &a->address.in6.sin6_addr) == 1) {
		a->address.in6.sin6_family = AF_INET6;
		a->address.in6.sin6_port = htons((uint16_t)port);
		return true;
	}
	return false;
}

static void parse_addresses(struct dial *d, const char *text, unsigned port)
{
	while (*text && d->n < ELEMENTSOF(d->attempts)) {
		struct attempt *a = &d->attempts[d->n];
		size_t n = strcspn(text, ",");

		a->dial = d;
		a->fd = -1;
		if (parse_address(a, text, n, port))
			d->n++;
		text += n + (text[n] == ',');
	}
}

static socklen_t address_size(const struct attempt *a)
{
	return a->address.sa.sa_family == AF_INET ? sizeof(a->address.in)
						  : sizeof(a->address.in6);
}

/* The first that was not tried, of the other family if there is one. */
static struct attempt *next_attempt(struct dial *d)
{
	struct attempt *found = NULL;

	for (unsigned i = 0; i < d->n; i++) {
		struct attempt *a = &d->attempts[i];

		if (a->tried)
			continue;
		if (a->address.sa.sa_family != d->last)
			return a;
		found = found ?: a;
	}
	return found;
}

/* ---- one attempt ---- */

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static void note_failure(struct attempt *a, int e)
{
	bool v4 = a->address.sa.sa_family == AF_INET;
	char host[INET6_ADDRSTRLEN] = "";

	inet_ntop(a->address.sa.sa_family,
		  v4 ? (const void *)&a->address.in.sin_addr : &a->address.in6.sin6_addr, host,
		  sizeof(host));
	snprintf(a->dial->why, sizeof(a->dial->why), "%s port %u: %s", host,
		 ntohs(v4 ? a->address.in.sin_port : a->address.in6.sin6_port),
		 strerrordesc_np(e) ?: "failed");
}

static void attempt_end(struct attempt *a)
{
	if (a->fd < 0)
		return;
	event_del(&a->event);
	close(a->fd);
	a->fd = -1;
}

static void on_attempt(evutil_socket_t fd, short what, void *userdata);

/* Watched edge-triggered and for all that a connected socket is watched for: the owner's own
 * event on it, added before this one goes, costs no system call then. */
static int attempt_connect(struct attempt *a)
{
	int r;

	a->fd = socket(a->address.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		return -errno;
	event_assign(&a->event, a->dial->base, a->fd,
		     EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_attempt, a);
	r = set_option(a->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (r == 0 && connect(a->fd, &a->address.sa, address_size(a)) < 0)
		r = -errno;
	if (r < 0 && r != -EINPROGRESS)
		return r;
	return event_add(&a->event, NULL) < 0 ? -ENOMEM : 0;
}

/* An enclave can have many hosts dialled, and a name server name as many addresses that say
 * nothing: what has had its time gives its socket to the next. */
static void make_room(struct dial *d)
{
	struct attempt *oldest = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < d->n; i++) {
		struct attempt *a = &d->attempts[i];

		if (a->fd < 0)
			continue;
		n++;
		if (!oldest || a->turn < oldest->turn)
			oldest = a;
	}
	if (n >= LIMIT_DIAL_SOCKETS) {
		note_failure(oldest, ETIMEDOUT);
		attempt_end(oldest);
	}
}

/* False: it has failed at once. */
static bool attempt_start(struct attempt *a)
{
	struct dial *d = a->dial;
	int r;

	a->tried = true;
	a->turn = d->n_tried++;
	d->last = a->address.sa.sa_family;
	/* The last word on where a connection goes, whatever a name resolved to. */
	if (address_classify(&a->address.sa, address_size(a)) > d->reach) {
		snprintf(d->why, sizeof(d->why),
			 "it leads to a loopback, link-local or metadata address");
		return false;
	}
	make_room(d);
	r = attempt_connect(a);
	if (r < 0) {
		note_failure(a, -r);
		attempt_end(a);
	}
	return r == 0;
}

/* ---- all of them ---- */

static bool is_connecting(const struct dial *d)
{
	for (unsigned i = 0; i < d->n; i++)
		if (d->attempts[i].fd >= 0)
			return true;
	return false;
}

/* Starts the next that can be started. When nothing is left, the timer tells the owner. */
static void go_on(struct dial *d)
{
	static const struct timeval stagger = {0, DIAL_STAGGER}, at_once = {0};
	struct attempt *a;

	do
		a = next_attempt(d);
	while (a && !attempt_start(a));
	/* Without memory for the timer its owner's deadline ends it. */
	if (next_attempt(d))
		(void)event_add(&d->next, &stagger);
	else if (!is_connecting(d))
		(void)event_add(&d->next, &at_once);
}

static void on_next(evutil_socket_t fd, short what, void *userdata)
{
	struct dial *d = userdata;

	(void)fd;
	(void)what;
	if (next_attempt(d) || is_connecting(d))
		go_on(d);
	else
		d->done(-1, d->why, d->userdata);
}

static void hand_over(struct dial *d)
{
	d->handed = true;
	d->done(d->connected->fd, NULL, d->userdata);
}

/* ---- the proxy ---- */

static void talk_to_proxy(struct dial *d)
{
	enum proxy_result result = proxy_handshake_go(d->handshake, d->connected->fd);

	switch (result) {
	case PROXY_WAIT:
		return;
	case PROXY_THROUGH:
		hand_over(d);
		return;
	case PROXY_REFUSED:
	case PROXY_BROKEN:
		d->fault = result == PROXY_REFUSED ? DIAL_PROXY_REFUSED : DIAL_PROXY_BROKEN;
		d->done(-1, proxy_handshake_why(d->handshake), d->userdata);
	}
}

/* The others are too late. */
static void begin_handshake(struct dial *d)
{
	for (unsigned i = 0; i < d->n; i++)
		if (&d->attempts[i] != d->connected)
			attempt_end(&d->attempts[i]);
	d->fault = DIAL_PROXY_BROKEN; /* until it has answered */
	talk_to_proxy(d);
}

/* ---- events ---- */

static void on_attempt(evutil_socket_t fd, short what, void *userdata)
{
	struct attempt *a = userdata;
	struct dial *d = a->dial;
	socklen_t n = sizeof(int);
	int e = 0;

	if (d->connected) {
		talk_to_proxy(d);
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0)
		e = errno;
	if (e) {
		note_failure(a, e);
		attempt_end(a);
		go_on(d);
	} else if (what & EV_WRITE) {
		event_del(&d->next);
		d->connected = a;
		if (d->handshake)
			begin_handshake(d);
		else
			hand_over(d);
	}
}

enum address_class dial_reach(const char *connect_to, bool tls)
{
	if (!connect_to)
		return ADDRESS_OTHER;
	return tls && address_is_literal(connect_to) ? ADDRESS_SPECIAL : ADDRESS_LOOPBACK;
}

int dial_new(struct event_base *base, const struct dial_options *options, dial_cb done,
	     void *userdata, struct dial **ret_dial)
{
	_cleanup_(dial_freep) struct dial *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	if (options->through) {
		if (proxy_handshake_new(options->through, &d->handshake) < 0)
			return -ENOMEM;
		d->fault = DIAL_NO_PROXY;
	}
	d->base = base;
	d->reach = options->reach;
	d->done = done;
	d->userdata = userdata;
	snprintf(d->why, sizeof(d->why), "it has no address");
	evtimer_assign(&d->next, base, on_next, d);
	parse_addresses(d, options->addresses, options->port);
	go_on(d);
	*ret_dial = TAKE_PTR(d);
	return 0;
}

enum dial_fault dial_fault(const struct dial *d)
{
	return d->fault;
}

struct dial *dial_free(struct dial *d)
{
	if (!d)
		return NULL;
	if (event_initialized(&d->next))
		event_del(&d->next);
	for (unsigned i = 0; i < d->n; i++) {
		if (d->handed && &d->attempts[i] == d->connected)
			event_del(&d->connected->event);
		else
			attempt_end(&d->attempts[i]);
	}
	proxy_handshake_free(d->handshake);
	free(d);
	return NULL;
}

int dial_keep_alive(int fd)
{
	return set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
		       ?: set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_SECONDS)
		       ?: set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_SECONDS);
}
