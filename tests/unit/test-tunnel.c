/* SPDX-License-Identifier: Apache-2.0 */

/* Tunnels from a socket pair to a host that the test is. Names are looked up by the test too:
 * it stands in for the resolver. */

#include "connection.h"
#include "connection_world.h"
#include "http.h"
#include "lookup.h"
#include "resolver.h"

#include <arpa/inet.h>
#include <check.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT(authority) "CONNECT " authority " HTTP/1.1\r\nHost: " authority "\r\n\r\n"
#define CONNECTED "HTTP/1.1 200 Connection established\r\n\r\n"

/* How the enclave asks for it. */
enum way { BY_TLS, BY_CONNECT, _WAYS };

static int peer, host, listener; /* -1: closed, or not yet there */
static unsigned port;

/* ---- the resolver ---- */

static uint64_t asked; /* the id of the last lookup */
static unsigned n_asked;
static const char *known;

int resolver_lookup(struct resolver *r, const char *name, struct mailbox *mailbox, uint64_t id)
{
	(void)r;
	(void)mailbox;
	ck_assert_str_eq(name, "inside.example");
	asked = id;
	n_asked++;
	return 0;
}

char *resolver_known(struct resolver *r, const char *name)
{
	(void)r;
	ck_assert_str_eq(name, "inside.example");
	return known ? strdup(known) : NULL;
}

/* ---- a hello ---- */

struct bytes {
	char p[1024];
	size_t n;
};

static void put(struct bytes *out, const char *p, size_t n)
{
	memcpy(out->p + out->n, p, n);
	out->n += n;
}

static void put_length(struct bytes *out, size_t at, size_t length)
{
	out->p[at] = (char)(length >> 8);
	out->p[at + 1] = (char)length;
}

/* A ClientHello for that server name; NULL: for none. */
static struct slice hello(const char *name)
{
	static struct bytes out;
	size_t n = name ? strlen(name) : 0;

	out = (struct bytes){.n = 0};
	put(&out, "\x16\x03\x01\0\0\x01\0\0\0\x03\x03", 11);
	out.n += 32;                            /* random */
	put(&out, "\0\0\2\x13\x01\1\0\0\0", 9); /* ... length of the extensions */
	if (name) {
		size_t at = out.n;

		put(&out, "\0\0\0\0\0\0\0\0\0", 9);
		put(&out, name, n);
		put_length(&out, at - 2, n + 9);
		put_length(&out, at + 2, n + 5);
		put_length(&out, at + 4, n + 3);
		put_length(&out, at + 7, n);
	}
	put_length(&out, 3, out.n - 5);
	put_length(&out, 7, out.n - 9);
	return (struct slice){out.p, out.n};
}

/* ---- the ends ---- */

#define HOSTS "tunnel: {hosts: [{host: a.example, port: 443, connect_to: '%s:%u'}]%s}"

/* Enclave "one" has a tunnel to a.example, which is at that address, and `more`. */
static void configure(const char *address, const char *of_tunnel, const char *more)
{
	char text[1024];

	snprintf(text, sizeof(text), "one: {%s, " HOSTS "%s}, %s", WORLD_ENCLAVE("4"), address,
		 port, of_tunnel, more, WORLD_TWO);
	world_configure(text);
}

static void open_peer(void)
{
	struct identity identity = world_identity("one");
	int fd = world_accept("one", &peer);

	http_accept(&world, fd, &identity, clock_now());
}

static void listen_on_loopback(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(address);

	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(listener, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, n), 0);
	ck_assert_int_eq(listen(listener, 8), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &n), 0);
	port = ntohs(address.sin_port);
}

static void setup(void)
{
	world_begin();
	host = -1;
	listen_on_loopback();
	configure("127.0.0.1", "", "");
	open_peer();
}

static void hang_up(int *fd)
{
	if (*fd >= 0)
		close(TAKE_FD(*fd));
}

static void teardown(void)
{
	world_end();
	hang_up(&peer);
	hang_up(&host);
	hang_up(&listener);
}

/* So many bytes, and no more, come there. */
static void expect(int fd, struct slice bytes)
{
	static char got[4096];
	size_t n = 0;
	ssize_t r;

	ck_assert_uint_lt(bytes.n, sizeof(got));
	RUN_UNTIL((r = recv(fd, got + n, sizeof(got) - n, 0), n += r > 0 ? (size_t)r : 0,
		   n >= bytes.n));
	ck_assert_uint_eq(n, bytes.n);
	ck_assert_mem_eq(got, bytes.p, bytes.n);
}

static void expect_alert(char alert)
{
	const char bytes[] = {0x15, 3, 3, 0, 2, 2, alert};

	expect(peer, (struct slice){bytes, sizeof(bytes)});
}

static void expect_status(const char *status)
{
	char got[1024] = "", start[64];
	ssize_t n = 0;

	RUN_UNTIL((n = recv(peer, got, sizeof(got) - 1, 0)) > 0);
	snprintf(start, sizeof(start), "HTTP/1.1 %s\r\n", status);
	ck_assert_msg(strncmp(got, start, strlen(start)) == 0, "%s", got);
	ck_assert_ptr_nonnull(strstr(got, "\r\nConnection: close\r\n"));
}

static bool is_asked(void)
{
	host = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return host >= 0;
}

static void expect_record(enum event_kind event, enum reason reason)
{
	RUN_UNTIL(world_has_record());
	world_assert_record(event, reason);
	world_assert_no_record();
}

/* Nothing is left of it. */
static void expect_end(void)
{
	RUN_UNTIL(world.n_connections == 0);
	world_assert_nothing_held();
	world_assert_no_record();
}

/* After an alert or an answer it waits for the enclave to end. */
static void expect_refused_end(void)
{
	RUN_UNTIL(peer_at_end(peer));
	hang_up(&peer);
	expect_end();
}

static uint64_t counted(enum counter counter)
{
	return world_enclave("one")->counters[counter];
}

/* ---- states ---- */

enum state {
	IN_HELLO,        /* of TLS */
	IN_HELLO_INSIDE, /* of what follows a CONNECT */
	IN_LOOKUP,
	IN_CONNECT,
	IN_OPEN,
	_STATES
};

/* Asks for the tunnel, and is let through. */
static void open_tunnel(enum way way)
{
	if (way == BY_CONNECT) {
		peer_send(peer, SLICE(CONNECT("a.example:443")));
		expect(peer, SLICE(CONNECTED));
	}
	peer_send(peer, hello("A.example"));
	RUN_UNTIL(is_asked());
	expect(host, hello("A.example"));
	expect_record(EVENT_TUNNEL_OPEN, REASON_ALLOWED);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->tunnels), 1);
	ck_assert_uint_eq(counted(COUNTER_TUNNELS), 1);
}

static void enter(enum state state)
{
	switch (state) {
	case IN_HELLO:
		peer_send(peer, (struct slice){hello("a.example").p, 20});
		world_turn();
		break;
	case IN_HELLO_INSIDE:
		peer_send(peer, SLICE(CONNECT("a.example:443")));
		expect(peer, SLICE(CONNECTED));
		RUN_UNTIL(is_asked());
		break;
	case IN_LOOKUP:
		configure("inside.example", "", "");
		connections_reload(&world, clock_now());
		hang_up(&peer);
		RUN_UNTIL(world.n_connections == 0);
		if (world_has_record())
			world_assert_record(EVENT_CONNECTION, REASON_NO_REQUEST);
		open_peer();
		peer_send(peer, hello("a.example"));
		RUN_UNTIL(n_asked == 1);
		break;
	case IN_CONNECT:
		peer_send(peer, hello("a.example"));
		world_turn(); /* that it is connected is the next event */
		ck_assert_uint_eq(gauge_read(&world_enclave("one")->tunnels), 1);
		break;
	case IN_OPEN:
		open_tunnel(BY_TLS);
		break;
	case _STATES:
		break;
	}
	world_assert_no_record();
	ck_assert_uint_eq(world.n_connections, 1);
}

/* Lets what was entered go on until the tunnel is open. */
static void go_on(enum state state)
{
	struct slice whole = hello("a.example");

	if (state == IN_HELLO)
		peer_send(peer, (struct slice){whole.p + 20, whole.n - 20});
	if (state == IN_HELLO_INSIDE)
		peer_send(peer, whole);
	if (state == IN_LOOKUP)
		lookups_take(world.lookups, asked, "127.0.0.1", 0, clock_now());
	if (state != IN_OPEN) {
		if (host < 0)
			RUN_UNTIL(is_asked());
		expect(host, whole);
		expect_record(EVENT_TUNNEL_OPEN, REASON_ALLOWED);
	}
	peer_send(peer, SLICE("to the host"));
	expect(host, SLICE("to the host"));
}

/* ---- what passes ---- */

START_TEST(bytes_pass_both_ways)
{
	const struct audit_record *r;
	bool by_host = _i & 1;
	int *first = by_host ? &host : &peer, *second = by_host ? &peer : &host;

	open_tunnel(_i & 2 ? BY_CONNECT : BY_TLS);
	peer_send(peer, SLICE("question"));
	expect(host, SLICE("question"));
	peer_send(host, SLICE("an answer"));
	expect(peer, SLICE("an answer"));

	shutdown(*first, SHUT_WR);
	RUN_UNTIL(peer_at_end(*second));
	peer_send(*second, SLICE("the rest"));
	expect(*first, SLICE("the rest"));
	ck_assert_uint_eq(world.n_connections, 1);
	shutdown(*second, SHUT_WR);
	RUN_UNTIL(world_has_record());
	r = world_record();
	ck_assert_int_eq(r->event, EVENT_TUNNEL_END);
	ck_assert_int_eq(r->reason, by_host ? REASON_CLOSED_BY_HOST : REASON_CLOSED_BY_ENCLAVE);
	ck_assert_str_eq(r->endpoint, "a.example:443");
	ck_assert_int_eq(r->bytes_in, (int64_t)hello("a.example").n + 8 + (by_host ? 8 : 0));
	ck_assert_int_eq(r->bytes_out, 9 + (by_host ? 0 : 8));
	ck_assert_uint_eq(counted(COUNTER_BYTES_IN), (uint64_t)r->bytes_in);
	ck_assert_uint_eq(counted(COUNTER_BYTES_OUT), (uint64_t)r->bytes_out);
	ck_assert_uint_eq(counted(COUNTER_CONNECTIONS_REFUSED), 0);
	ck_assert(peer_at_end(*first));
	expect_end();
}
END_TEST

START_TEST(an_end_breaks_off)
{
	const struct linger at_once = {.l_onoff = 1};

	open_tunnel(BY_TLS);
	if (_i == 0) {
		setsockopt(host, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		hang_up(&host);
		expect_record(EVENT_TUNNEL_END, REASON_RESET_BY_HOST);
	} else {
		hang_up(&peer);
		RUN_UNTIL(peer_at_end(host));
		(void)!send(host, "to nobody", 9, MSG_NOSIGNAL);
		expect_record(EVENT_TUNNEL_END, REASON_RESET_BY_ENCLAVE);
	}
	expect_end();
}
END_TEST

/* More than the sockets hold, which takes many turns: nothing is lost, and it ends in time. */
START_TEST(much_passes)
{
	static char block[16384], got[65536];
	size_t sent = 0, received = 0, most = 3 * MIB;

	open_tunnel(BY_TLS);
	RUN_UNTIL(({
		ssize_t n;

		while (sent < most && (n = send(peer, block, sizeof(block), 0)) > 0)
			sent += (size_t)n;
		while ((n = recv(host, got, sizeof(got), 0)) > 0)
			received += (size_t)n;
		sent >= most &&received == sent;
	}));
	ck_assert_uint_le(gauge_read(&world_enclave("one")->memory), 2 * 65536);
	hang_up(&peer);
	hang_up(&host);
	RUN_UNTIL(world_has_record());
	ck_assert_int_eq(world_record()->bytes_in, (int64_t)(hello("a.example").n + sent));
	expect_end();
}
END_TEST

/* ---- what is refused ---- */

static const struct {
	enum way way;
	const char *authority; /* of the CONNECT; NULL: there is none */
	const char *name;      /* of the hello; NULL: of none; "": no hello at all */
	const char *status;    /* or an alert: */
	char alert;
	enum reason reason;
	bool asks; /* the host is connected before */
} refused[] = {
	{BY_TLS, NULL, "b.example", NULL, 112, REASON_TUNNEL_HOST, false},
	{BY_TLS, NULL, "x.a.example", NULL, 112, REASON_TUNNEL_HOST, false},
	{BY_TLS, NULL, NULL, NULL, 112, REASON_NO_SERVER_NAME, false},
	{BY_TLS, NULL, "a..example", NULL, 112, REASON_CLIENT_HELLO, false},
	{BY_CONNECT, CONNECT("b.example:443"), "", "403 Forbidden", 0, REASON_TUNNEL_HOST,
	 false},
	{BY_CONNECT, CONNECT("a.example:444"), "", "403 Forbidden", 0, REASON_TUNNEL_HOST,
	 false},
	{BY_CONNECT, CONNECT("127.0.0.1:443"), "", "403 Forbidden", 0, REASON_TUNNEL_HOST,
	 false},
	{BY_CONNECT, CONNECT("a.example:443"), "b.example", NULL, 112, REASON_SERVER_NAME,
	 true},
	{BY_CONNECT, CONNECT("a.example:443"), "a..example", NULL, 112, REASON_CLIENT_HELLO,
	 true},
};

START_TEST(what_is_refused)
{
	struct enclave *one = world_enclave("one");

	configure("127.0.0.1", "", ", limits: {requests: 1/h, burst: 2}");
	connections_reload(&world, clock_now());
	ck_assert_int_eq(world.n_connections, 0); /* it has changed */
	hang_up(&peer);
	open_peer();
	if (refused[_i].authority)
		peer_send(peer, slice_from(refused[_i].authority));
	if (refused[_i].asks)
		expect(peer, SLICE(CONNECTED));
	if (!refused[_i].name || refused[_i].name[0])
		peer_send(peer, hello(refused[_i].name));
	if (refused[_i].status)
		expect_status(refused[_i].status);
	else
		expect_alert(refused[_i].alert);
	expect_record(EVENT_TUNNEL_REFUSED, refused[_i].reason);
	expect_refused_end();
	ck_assert(is_asked() == refused[_i].asks);
	ck_assert_uint_eq(counted(COUNTER_CONNECTIONS_REFUSED), 1);
	ck_assert_uint_eq(counted(COUNTER_TUNNELS), 0);
	/* Whatever it was, it cost one token. */
	for (int left = 1; left >= 0; left--)
		ck_assert(enclave_take_token(one, generation_enclave(world.generation, 0),
					     clock_monotonic(), NULL) == (left > 0));
}
END_TEST

/* The CONNECT has one. */
START_TEST(a_hello_without_a_name)
{
	peer_send(peer, SLICE(CONNECT("a.example:443")));
	expect(peer, SLICE(CONNECTED));
	peer_send(peer, hello(NULL));
	RUN_UNTIL(is_asked());
	expect(host, hello(NULL));
	RUN_UNTIL(world_has_record());
	ck_assert(!world_record()->cleartext);
}
END_TEST

/* ---- what isn't TLS ---- */

static void configure_plain(void)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "one: {%s, tunnel: {hosts: [{host: a.example, port: 25, connect_to: "
		 "'127.0.0.1:%u', tls: false}]}}, %s",
		 WORLD_ENCLAVE("4"), port, WORLD_TWO);
	world_configure(text);
	connections_reload(&world, clock_now());
	hang_up(&peer);
	open_peer();
}

/* Either end may speak first, and either may end first. */
START_TEST(anything_passes_without_tls)
{
	bool host_first = _i & 1, host_ends = _i & 2;
	int *first = host_ends ? &host : &peer, *second = host_ends ? &peer : &host;

	configure_plain();
	peer_send(peer, SLICE(CONNECT("A.example:25") "early"));
	expect(peer, SLICE(CONNECTED));
	RUN_UNTIL(is_asked());
	if (host_first) {
		peer_send(host, SLICE("220 ready"));
		expect(peer, SLICE("220 ready"));
	}
	expect(host, SLICE("early"));
	RUN_UNTIL(world_has_record());
	ck_assert(world_record()->cleartext);
	peer_send(peer, SLICE("\x16\x03 or not"));
	expect(host, SLICE("\x16\x03 or not"));
	shutdown(*first, SHUT_WR);
	RUN_UNTIL(peer_at_end(*second));
	peer_send(*second, SLICE("the rest"));
	expect(*first, SLICE("the rest"));
	shutdown(*second, SHUT_WR);
	RUN_UNTIL(world_has_record());
	ck_assert(!world_record()->cleartext);
	ck_assert(peer_at_end(*first));
	expect_end();
}
END_TEST

START_TEST(what_is_not_tls_is_never_reached_by_a_server_name)
{
	configure_plain();
	peer_send(peer, hello("a.example"));
	expect_alert(112);
	expect_record(EVENT_TUNNEL_REFUSED, REASON_TUNNEL_HOST);
	expect_refused_end();
	ck_assert(!is_asked());
}
END_TEST

START_TEST(a_malformed_hello)
{
	struct bytes bad = {.n = 0};
	struct slice good = hello("a.example");

	put(&bad, good.p, good.n);
	bad.p[43] = 33; /* the length of the session id, at most 32 */
	peer_send(peer, (struct slice){bad.p, bad.n});
	expect_alert(50);
	expect_record(EVENT_TUNNEL_REFUSED, REASON_CLIENT_HELLO);
	expect_refused_end();
}
END_TEST

static const struct {
	const char *of_tunnel, *more;
	enum reason reason;
} limits[] = {
	{"", ", limits: {requests: 1/h, burst: 1}", REASON_RATE},
	{", connections: 1", "", REASON_TUNNEL_CONNECTIONS},
};

START_TEST(what_is_over_a_limit)
{
	enum way way = (enum way)(_i % _WAYS);
	int first;

	hang_up(&peer);
	RUN_UNTIL(world.n_connections == 0);
	world_assert_record(EVENT_CONNECTION, REASON_NO_REQUEST);
	world_enclave("one")->requests = (struct rate_limit){0};
	configure("127.0.0.1", limits[_i / _WAYS].of_tunnel, limits[_i / _WAYS].more);
	open_peer();
	open_tunnel(BY_TLS);
	first = peer;
	open_peer();
	if (way == BY_CONNECT) {
		peer_send(peer, SLICE(CONNECT("a.example:443")));
		expect_status("403 Forbidden");
	} else {
		peer_send(peer, hello("a.example"));
		expect_alert(80);
	}
	expect_record(EVENT_TUNNEL_REFUSED, limits[_i / _WAYS].reason);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->tunnels), 1);
	close(first);
	hang_up(&host);
	expect_record(EVENT_TUNNEL_END, REASON_CLOSED_BY_ENCLAVE);
	expect_refused_end();
}
END_TEST

START_TEST(a_hello_needs_its_share_of_memory)
{
	size_t taken = 0;

	ck_assert(enclave_charge(world_enclave("one"), world.generation->memory_share, &taken,
				 world.generation->memory_share - 2 * LIMIT_HELLO + 1));
	peer_send(peer, _i == BY_TLS ? hello("a.example") : SLICE(CONNECT("a.example:443")));
	expect_record(EVENT_CONNECTION, REASON_MEMORY);
	enclave_uncharge(world_enclave("one"), &taken);
	expect_end();
}
END_TEST

START_TEST(no_memory_for_a_tunnel)
{
	world_fail_calloc(1);
	peer_send(peer, _i == BY_TLS ? hello("a.example") : SLICE(CONNECT("a.example:443")));
	expect_record(EVENT_CONNECTION, REASON_MEMORY);
	expect_end();
}
END_TEST

START_TEST(a_host_that_refuses)
{
	hang_up(&listener);
	if (_i == BY_TLS) {
		peer_send(peer, hello("a.example"));
		expect_alert(80);
	} else {
		peer_send(peer, SLICE(CONNECT("a.example:443")));
		expect_status("502 Bad Gateway");
	}
	expect_record(EVENT_TUNNEL_REFUSED, REASON_NO_UPSTREAM);
	expect_refused_end();
}
END_TEST

/* ---- lookups ---- */

START_TEST(a_name_is_looked_up)
{
	enter(IN_LOOKUP);
	go_on(IN_LOOKUP);
	ck_assert_uint_eq(n_asked, 1);
	ck_assert(LIST_EMPTY(&world.lookups->list));
}
END_TEST

START_TEST(a_name_that_is_not_found)
{
	enter(IN_LOOKUP);
	lookups_take(world.lookups, asked, NULL, EAI_NONAME, clock_now());
	expect_alert(80);
	expect_record(EVENT_TUNNEL_REFUSED, REASON_NO_UPSTREAM);
	expect_refused_end();
}
END_TEST

/* Names that don't come serve as they were, but not at once. */
START_TEST(a_slow_lookup_does_not_stop_what_went_well_before)
{
	struct instant early = clock_now();

	known = "127.0.0.1";
	enter(IN_LOOKUP);
	early.monotonic += LIMIT_TUNNEL_LOOKUP;
	connections_sweep(&world, early);
	world_stay_quiet();
	ck_assert(!is_asked());
	connections_sweep(&world, world_later(LIMIT_TUNNEL_LOOKUP + 1));
	RUN_UNTIL(is_asked());
	expect_record(EVENT_TUNNEL_OPEN, REASON_ALLOWED);
	/* What comes late is nobody's. */
	lookups_take(world.lookups, asked, NULL, EAI_NONAME, clock_now());
	world_stay_quiet();
	ck_assert_uint_eq(world.n_connections, 1);
}
END_TEST

/* ---- the enclave goes ---- */

static const enum reason gone[_STATES] = {
	[IN_HELLO] = REASON_CUT_OFF,
	[IN_HELLO_INSIDE] = REASON_CUT_OFF,
	[IN_LOOKUP] = REASON_CLIENT_GONE,
	[IN_CONNECT] = REASON_CLIENT_GONE,
};

START_TEST(the_enclave_vanishes)
{
	bool swept = _i >= _STATES;
	enum state state = (enum state)(_i % _STATES);

	if (swept && state != IN_LOOKUP && state != IN_CONNECT)
		return;
	enter(state);
	hang_up(&peer);
	if (swept)
		connections_sweep(&world, clock_now());
	else if (state == IN_OPEN)
		RUN_UNTIL(peer_at_end(host));
	else
		RUN_UNTIL(world_has_record());
	if (state == IN_OPEN) {
		hang_up(&host);
		RUN_UNTIL(world_has_record());
		world_assert_record(EVENT_TUNNEL_END, REASON_CLOSED_BY_ENCLAVE);
	} else if (state == IN_CONNECT && !swept) {
		/* That the host is there may be seen first. */
		if (world_record()->event == EVENT_TUNNEL_OPEN) {
			hang_up(&listener);
			RUN_UNTIL(world_has_record());
			ck_assert_int_eq(world_record()->event, EVENT_TUNNEL_END);
		}
	} else {
		world_assert_record(EVENT_TUNNEL_REFUSED, gone[state]);
	}
	expect_end();
}
END_TEST

/* ---- time ---- */

static const struct {
	usec_t limit;
	enum event_kind event;
	enum reason reason;
} late[_STATES] = {
	[IN_HELLO] = {LIMIT_HEAD_TIME, EVENT_TUNNEL_REFUSED, REASON_TOO_SLOW},
	[IN_HELLO_INSIDE] = {LIMIT_HEAD_TIME, EVENT_TUNNEL_REFUSED, REASON_TOO_SLOW},
	[IN_LOOKUP] = {LIMIT_TUNNEL_CONNECT, EVENT_TUNNEL_REFUSED, REASON_UPSTREAM_TIMEOUT},
	[IN_CONNECT] = {LIMIT_TUNNEL_CONNECT, EVENT_TUNNEL_REFUSED, REASON_UPSTREAM_TIMEOUT},
	[IN_OPEN] = {300 * USEC_PER_SEC + 1, EVENT_TUNNEL_END, REASON_IDLE},
};

START_TEST(each_state_has_its_time)
{
	struct instant early = clock_now();

	enter((enum state)_i);
	early.monotonic += late[_i].limit - 1;
	connections_sweep(&world, early);
	world_assert_no_record();
	ck_assert_uint_eq(world.n_connections, 1);
	connections_sweep(&world, world_later(late[_i].limit));
	world_assert_record(late[_i].event, late[_i].reason);
	if (_i != IN_OPEN)
		expect_alert(80);
	expect_refused_end();
}
END_TEST

START_TEST(an_end_that_takes_nothing)
{
	struct instant before;
	unsigned quiet = 0;

	open_tunnel(BY_TLS);
	/* Until the tunnel holds bytes that it can't get rid of. */
	before = clock_now();
	RUN_UNTIL(({
		bool moves = peer_fill(_i == 0 ? peer : host) > 0;

		quiet = moves ? 0 : quiet + 1;
		quiet >= 50 && gauge_read(&world_enclave("one")->memory) > 0;
	}));
	world_stay_quiet();
	before.monotonic += LIMIT_TUNNEL_STALL;
	connections_sweep(&world, before);
	world_assert_no_record();
	connections_sweep(&world, world_later(LIMIT_TUNNEL_STALL + 1));
	world_assert_record(EVENT_TUNNEL_END,
			    _i == 0 ? REASON_HOST_TOO_SLOW : REASON_CLIENT_TOO_SLOW);
	expect_end();
}
END_TEST

START_TEST(a_drain_lets_it_come_to_its_end)
{
	struct instant early = clock_now();

	open_tunnel(BY_TLS);
	world.draining = true;
	connections_drain(&world, false, clock_now());
	connections_drain(&world, true, clock_now());
	early.monotonic += USEC_PER_SEC;
	connections_sweep(&world, early);
	peer_send(peer, SLICE("still"));
	expect(host, SLICE("still"));
	world_assert_no_record();
	connections_sweep(&world, world_later(USEC_PER_SEC + 1));
	world_assert_record(EVENT_TUNNEL_END, REASON_SHUTTING_DOWN);
	expect_end();
}
END_TEST

START_TEST(its_thread_closes_it)
{
	enter((enum state)_i);
	connections_close(&world, REASON_SHUTTING_DOWN, clock_now());
	world_assert_record(_i == IN_OPEN ? EVENT_TUNNEL_END : EVENT_TUNNEL_REFUSED,
			    REASON_SHUTTING_DOWN);
	world_assert_nothing_held();
	lookups_take(world.lookups, asked, "127.0.0.1", 0, clock_now());
	world_stay_quiet();
	if (_i != IN_OPEN && _i != IN_HELLO_INSIDE && _i != IN_CONNECT)
		ck_assert(!is_asked());
}
END_TEST

/* ---- a reload ---- */

static const char *address_in(enum state state)
{
	return state == IN_LOOKUP ? "inside.example" : "127.0.0.1";
}

/* All but the host and its place may change. */
START_TEST(a_reload_keeps_what_is_still_allowed)
{
	enter((enum state)_i);
	configure(address_in((enum state)_i), ", idle: 7s", ", limits: {burst: 7}");
	connections_reload(&world, clock_now());
	ck_assert_ptr_eq(LIST_FIRST(&world.connections)->generation, world.generation);
	go_on((enum state)_i);
	connections_sweep(&world, world_later(7 * USEC_PER_SEC + 1));
	world_assert_record(EVENT_TUNNEL_END, REASON_IDLE);
	expect_end();
}
END_TEST

START_TEST(a_reload_ends_what_no_longer_is)
{
	enum state state = (enum state)(_i % _STATES);

	enter(state);
	switch (_i / _STATES) {
	case 0: /* the enclave is gone */
		world_configure(WORLD_TWO);
		break;
	case 1: /* it has no tunnel */
		world_configure(WORLD_ONE ", " WORLD_TWO);
		break;
	case 2: /* the host is elsewhere */
		port++;
		configure(address_in(state), "", "");
		break;
	}
	connections_reload(&world, clock_now());
	if (state == IN_HELLO && _i / _STATES == 2) {
		world_assert_no_record(); /* it hasn't said where to */
		return;
	}
	world_assert_record(state == IN_OPEN ? EVENT_TUNNEL_END : EVENT_TUNNEL_REFUSED,
			    REASON_NO_LONGER_ALLOWED);
	expect_end();
	ck_assert(recv(peer, &(char){0}, 1, 0) <= 0);
}
END_TEST

/* ---- bandwidth ---- */

/* What is more than it allows waits, and nobody asks again and again. */
START_TEST(the_bandwidth_is_that_of_the_enclave)
{
	static char block[100 * KIB];
	size_t got = 0;

	hang_up(&peer);
	RUN_UNTIL(world.n_connections == 0);
	world_assert_record(EVENT_CONNECTION, REASON_NO_REQUEST);
	configure("127.0.0.1", ", bandwidth: 1KiB/s", "");
	open_peer();
	open_tunnel(BY_TLS);
	peer_send(peer, (struct slice){block, sizeof(block)});
	RUN_UNTIL(({
		ssize_t n = recv(host, block, sizeof(block), 0);

		got += n > 0 ? (size_t)n : 0;
		got >= 64 * KIB - 1024;
	}));
	world_stay_quiet();
	ck_assert_int_le(recv(host, block, sizeof(block), 0), 2 * (ssize_t)KIB);
	ck_assert_uint_eq(world.n_connections, 1);
}
END_TEST

static void add_tests(TCase *tcase)
{
	tcase_add_loop_test(tcase, bytes_pass_both_ways, 0, 4);
	tcase_add_loop_test(tcase, an_end_breaks_off, 0, 2);
	tcase_add_test(tcase, much_passes);
	tcase_add_loop_test(tcase, what_is_refused, 0, ELEMENTSOF(refused));
	tcase_add_test(tcase, a_hello_without_a_name);
	tcase_add_loop_test(tcase, anything_passes_without_tls, 0, 4);
	tcase_add_test(tcase, what_is_not_tls_is_never_reached_by_a_server_name);
	tcase_add_test(tcase, a_malformed_hello);
	tcase_add_loop_test(tcase, what_is_over_a_limit, 0, ELEMENTSOF(limits) * _WAYS);
	tcase_add_loop_test(tcase, a_hello_needs_its_share_of_memory, 0, _WAYS);
	tcase_add_loop_test(tcase, no_memory_for_a_tunnel, 0, _WAYS);
	tcase_add_loop_test(tcase, a_host_that_refuses, 0, _WAYS);
	tcase_add_test(tcase, a_name_is_looked_up);
	tcase_add_test(tcase, a_name_that_is_not_found);
	tcase_add_test(tcase, a_slow_lookup_does_not_stop_what_went_well_before);
	tcase_add_test(tcase, the_bandwidth_is_that_of_the_enclave);
}

static void add_tests_of_states(TCase *tcase)
{
	tcase_add_loop_test(tcase, the_enclave_vanishes, 0, 2 * _STATES);
	tcase_add_loop_test(tcase, each_state_has_its_time, 0, _STATES);
	tcase_add_loop_test(tcase, an_end_that_takes_nothing, 0, 2);
	tcase_add_test(tcase, a_drain_lets_it_come_to_its_end);
	tcase_add_loop_test(tcase, its_thread_closes_it, 0, _STATES);
	tcase_add_loop_test(tcase, a_reload_keeps_what_is_still_allowed, 0, _STATES);
	tcase_add_loop_test(tcase, a_reload_ends_what_no_longer_is, 0, 3 * _STATES);
}

int main(void)
{
	Suite *suite = suite_create("tunnel");
	TCase *tcase = tcase_create("tunnel");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	add_tests(tcase);
	add_tests_of_states(tcase);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
