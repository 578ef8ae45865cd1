/* SPDX-License-Identifier: Apache-2.0 */

/* Connections that speak HTTP, over socket pairs: requests that are refused by themselves (no
 * rule names ListKeys), and such as are allowed and wait, since there are no credentials. */

#include "http_peer.h"

#include "connection.h"
#include "request_step.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- one after the other ---- */

START_TEST(requests_follow_one_another)
{
	for (int i = 0; i < 3; i++) {
		say(REFUSED);
		expect_refused(false);
		expect_open_and_idle();
	}
	ck_assert_uint_eq(counted("one", COUNTER_REQUESTS), 3);
	ck_assert_uint_eq(counted("one", COUNTER_REFUSED), 3);
	ck_assert_uint_eq(counted("one", COUNTER_CONNECTIONS), 1);
	ck_assert_uint_eq(counted("one", COUNTER_BYTES_IN), 3 * strlen(REFUSED));
	shutdown(peer->fd, SHUT_WR);
	expect_end();
}
END_TEST

START_TEST(what_comes_at_once_is_answered_one_a_turn)
{
	peer_send(peer->fd, SLICE(REFUSED REFUSED REFUSED "POST"));
	for (uint64_t n = 0; n < 3; n = counted("one", COUNTER_REQUESTS)) {
		world_turn();
		ck_assert_uint_le(counted("one", COUNTER_REQUESTS), n + 1);
	}
	for (int i = 0; i < 3; i++)
		expect_refused(false);
	ck_assert_uint_gt(gauge_read(&world_enclave("one")->memory), 0); /* the rest */
	shutdown(peer->fd, SHUT_WR);
	RUN_UNTIL(world.n_connections == 0);
	world_assert_record(EVENT_CONNECTION, REASON_CUT_OFF);
	expect_end();
}
END_TEST

/* What comes while a request waits for its turn doesn't bring it forward, and the time that it
 * waits is not its peer's fault. */
START_TEST(a_request_waits_for_its_turn)
{
	peer_send(peer->fd, SLICE(REFUSED REFUSED));
	RUN_UNTIL(counted("one", COUNTER_REQUESTS) == 1);
	connections_sweep(&world, world_later(LIMIT_HEAD_TIME));
	for (uint64_t n = 1; n < 4; n = counted("one", COUNTER_REQUESTS)) {
		if (n == 1)
			peer_send(peer->fd, SLICE(REFUSED REFUSED));
		world_turn();
		ck_assert_uint_le(counted("one", COUNTER_REQUESTS), n + 1);
	}
	for (int i = 0; i < 4; i++)
		expect_refused(false);
	expect_open_and_idle();
}
END_TEST

START_TEST(the_last_says_so)
{
	say(HEAD("ListKeys", "2", "Connection: close\r\n") "{}");
	expect_refused(true);
	expect_end();
}
END_TEST

/* What comes after the last isn't read, and doesn't take its answer away. */
START_TEST(nothing_follows_the_last)
{
	say(HEAD("ListKeys", "2", "Connection: close\r\n") "{}" REFUSED);
	expect_refused(true);
	world_stay_quiet();
	ck_assert_uint_eq(world.n_connections, 1); /* more may be on its way */
	expect_end_of_writing();
	ck_assert_uint_eq(counted("one", COUNTER_REQUESTS), 1);
}
END_TEST

/* ---- in pieces ---- */

START_TEST(a_request_may_be_split_anywhere)
{
	for (size_t i = 1; i < strlen(REFUSED); i++) {
		peer_send(peer->fd, (struct slice){REFUSED, i});
		world_turn();
		world_assert_no_record();
		say(&REFUSED[i]);
		expect_refused(false);
	}
	expect_open_and_idle();
}
END_TEST

static void send_another(void)
{
	peer_send(peer->fd, SLICE(REFUSED));
}

/* It is refused at once, and the next is there before that is over: who sends faster than we
 * refuse doesn't hold the thread. */
START_TEST(one_request_an_event)
{
	world_on_record = send_another;
	send_another();
	for (unsigned i = 0; i < 5; i++) {
		world_loop();
		world_assert_record(EVENT_REFUSED, REASON_ACTION);
		world_assert_no_record();
	}
	world_on_record = NULL;
	world_loop();
	(void)world_record();
	world_stay_quiet();
}
END_TEST

START_TEST(a_request_may_come_byte_by_byte)
{
	for (size_t i = 0; i < strlen(REFUSED); i++) {
		world_assert_no_record();
		peer_send(peer->fd, (struct slice){&REFUSED[i], 1});
		world_turn();
	}
	expect_refused(false);
	expect_open_and_idle();
}
END_TEST

START_TEST(a_client_may_wait_to_be_told_to_continue)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	say(HEAD("ListKeys", "2", "Expect: 100-continue\r\n"));
	RUN_UNTIL((receive(peer), peer->n == strlen(text)));
	ck_assert_str_eq(peer->got, text);
	peer->n = 0;
	say("{}");
	expect_refused(false);
	expect_open_and_idle();
}
END_TEST

/* Whether its body comes is its choice then, so that nothing can follow. */
START_TEST(a_client_that_waits_is_refused_at_once)
{
	world_configure("one: {" WORLD_ENCLAVE("4") ", limits: {requests: 1/h, burst: 1}}");
	connections_close(&world, REASON_NONE, clock_now());
	open_peer(&peers[1], "one");
	*peer = peers[1];
	peers[1].fd = -1;
	say(REFUSED);
	expect_refused(false);
	say(HEAD("ListKeys", "2", "Expect: 100-continue\r\n"));
	expect_answer(peer, 400, "ThrottlingException", true);
	world_assert_record(EVENT_REFUSED, REASON_RATE);
	say("{}");
	expect_end_of_writing();
}
END_TEST

/* ---- what can't be taken ---- */

static const struct {
	const char *bytes;
	int status;
	const char *word;
	enum reason reason;
	bool close;
} faults[] = {
	{"GET / HTTP/1.1\r\n\r\n", 400, "SerializationException", REASON_FRAMING, true},
	{"CONNECT a.example:443 HTTP/1.1\r\n\r\n", 400, "SerializationException",
	 REASON_FRAMING, true}, /* it has no tunnel */
	{HEAD("ListKeys", "2", "Expect: 200-ok\r\n") "{}", 417, "SerializationException",
	 REASON_EXPECTATION, true},
	{HEAD("ListKeys", "524289", ""), 413, "RequestEntityTooLarge", REASON_BODY_TOO_LARGE,
	 true},
	{HEAD("ListKeys", "2", "") "}{", 400, "SerializationException", REASON_JSON, false},
	{HEAD("NoSuchAction", "2", "") "{}", 400, "UnknownOperationException",
	 REASON_UNKNOWN_ACTION, false},
};

START_TEST(what_is_wrong_is_refused)
{
	say(faults[_i].bytes);
	expect_answer(peer, faults[_i].status, faults[_i].word, faults[_i].close);
	world_assert_record(EVENT_REFUSED, faults[_i].reason);
	if (faults[_i].close)
		expect_end_of_writing();
	else
		expect_open_and_idle();
}
END_TEST

START_TEST(a_head_has_a_limit)
{
	static char bytes[LIMIT_HEAD + 1];
	int n = snprintf(bytes, sizeof(bytes), "POST / HTTP/1.1\r\nX-Filler: ");

	memset(bytes + n, 'x', sizeof(bytes) - (size_t)n);
	peer_send(peer->fd, (struct slice){bytes, sizeof(bytes)});
	expect_answer(peer, 431, "SerializationException", true);
	world_assert_record(EVENT_REFUSED, REASON_HEAD_TOO_LARGE);
	expect_end_of_writing();
}
END_TEST

START_TEST(tls_is_no_http)
{
	say("\x16\x03\x01");
	RUN_UNTIL(world.n_connections == 0);
	world_assert_record(EVENT_CONNECTION, REASON_TLS);
	expect_end();
}
END_TEST

/* Two frames: SETTINGS, and GOAWAY with HTTP_1_1_REQUIRED (13) and a text. */
static void expect_http2_declined(void)
{
	static const char start[] = "\0\0\0\4\0\0\0\0\0\0\0\x48\7\0\0\0\0\0\0\0\0\0\0\0\0\x0d";

	RUN_UNTIL(world_has_record());
	world_assert_record(EVENT_CONNECTION, REASON_HTTP2);
	RUN_UNTIL((receive(peer), peer->n >= 9 + 9 + 0x48));
	ck_assert_uint_eq(peer->n, 9 + 9 + 0x48);
	ck_assert_mem_eq(peer->got, start, sizeof(start) - 1);
	ck_assert_ptr_nonnull(strstr(peer->got + sizeof(start) - 1, "HTTP/1.1"));
	peer->n = 0;
	expect_end_of_writing();
}

static const char http2_client[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

START_TEST(http2_is_told_to_speak_http_1_however_it_is_split)
{
	for (size_t n = 1; n <= strlen(http2_client); n++) {
		peer_send(peer->fd, (struct slice){http2_client, n});
		world_stay_quiet();
		say(http2_client + n);
		expect_http2_declined();
		close_peer(peer);
		open_peer(peer, "one");
	}
}
END_TEST

#define OFFER                                                                                  \
	"Connection: Upgrade, HTTP2-Settings, TE\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"

/* What follows a request is the next one, whatever it offered; HTTP/2 was not agreed on. */
START_TEST(an_offer_is_declined)
{
	say(HEAD("ListKeys", "2", OFFER) "{}" HEAD("ListKeys", "2",
						   OFFER "TE: gzip\r\n") "{}" REFUSED);
	for (unsigned i = 0; i < 3; i++)
		expect_refused(false);
	expect_open_and_idle();
	say(HEAD("ListKeys", "2", OFFER) "{}");
	expect_refused(false);
	say(http2_client);
	expect_http2_declined();
}
END_TEST

/* Those that are over a limit are read to their end, and another may follow. */
START_TEST(limits)
{
	static const struct {
		const char *enclave;
		enum reason reason;
	} rows[] = {
		{"limits: {requests: 1/h, burst: 1}", REASON_RATE},
		{"limits: {in_flight: 1}", REASON_IN_FLIGHT},
	};
	uint64_t waited;
	char text[512];

	snprintf(text, sizeof(text), "one: {%s, %s}", WORLD_ENCLAVE("4"), rows[_i].enclave);
	world_configure(text);
	open_peer(&peers[1], "one");
	peer_send(peers[1].fd, SLICE(WAITING));
	RUN_UNTIL(counted("one", COUNTER_REQUESTS) == 1);
	open_peer(&peers[2], "one");
	for (unsigned i = 0; i < 2; i++) {
		waited = counted("one", COUNTER_WAITED);
		peer_send(peers[2].fd, SLICE(REFUSED));
		if (rows[_i].reason == REASON_IN_FLIGHT) {
			RUN_UNTIL(counted("one", COUNTER_WAITED) > waited);
			requests_sweep(world.requests, world_later(LIMIT_PLACE_TIME));
		}
		expect_answer(&peers[2], 400, "ThrottlingException", false);
		world_assert_record(EVENT_REFUSED, rows[_i].reason);
	}
	ck_assert_uint_eq(counted("one", COUNTER_THROTTLED), 2);
	close_peer(&peers[1]);
	RUN_UNTIL(world.n_connections == 2);
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
}
END_TEST

START_TEST(the_share_of_memory_is_a_limit)
{
	size_t taken = 0;

	world_configure("one: {" WORLD_ENCLAVE("4") "}");
	ck_assert(enclave_charge(world_enclave("one"), world.generation->memory_share, &taken,
				 world.generation->memory_share - 4 * KIB));
	open_peer(&peers[1], "one");
	peer_send(peers[1].fd, SLICE(REFUSED));
	expect_answer(&peers[1], 400, "ThrottlingException", false);
	world_assert_record(EVENT_REFUSED, REASON_MEMORY);
	/* A part of a head can't be kept; what comes next isn't known then. */
	peer_send(peers[1].fd, SLICE("POST"));
	expect_answer(&peers[1], 400, "ThrottlingException", true);
	world_assert_record(EVENT_REFUSED, REASON_MEMORY);
	enclave_uncharge(world_enclave("one"), &taken);
}
END_TEST

START_TEST(no_memory_for_a_connection)
{
	world_fail_calloc(2); /* the first is the connection's */
	open_peer(&peers[1], "one");
	world_assert_record(EVENT_CONNECTION, REASON_MEMORY);
	ck_assert(peer_at_end(peers[1].fd));
	ck_assert_uint_eq(world.n_connections, 1);
}
END_TEST

/* ---- states ---- */

enum state { IDLE, IDLE_AGAIN, IN_HEAD, IN_BODY, IN_PLACE, IN_WAIT, IN_WRITE, _STATES };

static bool reads_nothing(enum state state)
{
	return state == IN_PLACE || state == IN_WAIT || state == IN_WRITE;
}

/* Brings the connection into that state. */
static void enter(enum state state)
{
	switch (state) {
	case IDLE:
	case _STATES:
		return;
	case IDLE_AGAIN:
		say(REFUSED);
		expect_refused(false);
		return;
	case IN_HEAD:
		say("POST / HTTP/1.1\r\nHost: 127");
		return;
	case IN_BODY:
		say(HEAD("ListKeys", "2", "") "{");
		ck_assert_uint_eq(gauge_read(&world_enclave("one")->in_flight), 1);
		return;
	case IN_PLACE:
		fill_places();
		say(REFUSED);
		ck_assert_uint_eq(counted("one", COUNTER_WAITED), 1);
		ck_assert_int_eq(unread(), 2);
		ck_assert_uint_eq(gauge_read(&world_enclave("one")->memory), 0);
		return;
	case IN_WAIT:
		say(WAITING);
		ck_assert_uint_eq(gauge_read(&world_enclave("one")->in_flight), 1);
		return;
	case IN_WRITE:
		ck_assert_uint_gt(peer_fill(peer->other), 0);
		say(REFUSED);
		ck_assert_uint_eq(counted("one", COUNTER_REQUESTS), 1);
		/* Whoever has the answer may ask again at once. */
		ck_assert_uint_eq(gauge_read(&world_enclave("one")->in_flight), 0);
		return;
	}
}

/* Reads away what the socket was filled with, until the answer comes. */
static void read_filling(void)
{
	size_t zeros = 0;

	peer->n = 0;
	RUN_UNTIL(({
		receive(peer);
		for (zeros = 0; zeros < peer->n && !peer->got[zeros];)
			zeros++;
		peer->n -= zeros;
		memmove(peer->got, peer->got + zeros, peer->n + 1);
		peer->n > 0;
	}));
}

static const struct {
	enum event_kind event; /* of its record; 0: it has none, whatever the reason */
	enum reason reason;
} ended[_STATES] = {
	[IDLE] = {EVENT_CONNECTION, REASON_NO_REQUEST},
	[IDLE_AGAIN] = {0, REASON_NONE},
	[IN_HEAD] = {EVENT_CONNECTION, REASON_CUT_OFF},
	[IN_BODY] = {EVENT_REFUSED, REASON_CUT_OFF},
	[IN_PLACE] = {EVENT_REFUSED, REASON_CLIENT_GONE},
	[IN_WAIT] = {EVENT_REFUSED, REASON_CLIENT_GONE},
	[IN_WRITE] = {EVENT_REFUSED, REASON_CLIENT_GONE},
};

START_TEST(the_peer_vanishes)
{
	enter((enum state)_i);
	close_peer(peer);
	RUN_UNTIL(world.n_connections == 0);
	empty_places();
	world_assert_nothing_held();
	if (ended[_i].event)
		world_assert_record(ended[_i].event, ended[_i].reason);
}
END_TEST

/* As above, but no event has come yet. */
START_TEST(the_sweep_sees_that_the_peer_has_vanished)
{
	enter((enum state)_i);
	close_peer(peer);
	connections_sweep(&world, clock_now());
	ck_assert_uint_eq(world.n_connections, 0);
	empty_places();
	world_assert_nothing_held();
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
}
END_TEST

/* It sends no more, but reads. */
START_TEST(the_peer_ends_its_side)
{
	enter((enum state)_i);
	shutdown(peer->fd, SHUT_WR);
	if (reads_nothing((enum state)_i)) {
		world_stay_quiet();
		connections_sweep(&world, clock_now());
		ck_assert_uint_eq(world.n_connections, 1);
		world_assert_no_record();
	}
	if (_i == IN_PLACE || _i == IN_WAIT) {
		connections_drain(&world, true, clock_now());
		expect_answer(peer, 503, "ServiceUnavailableException", true);
		world_assert_record(EVENT_REFUSED, REASON_SHUTTING_DOWN);
	} else if (_i == IN_WRITE) {
		read_filling();
		expect_refused(false);
	} else {
		RUN_UNTIL(world.n_connections == 0);
		if (ended[_i].event)
			world_assert_record(ended[_i].event, ended[_i].reason);
	}
	empty_places();
	expect_end();
}
END_TEST

static const struct {
	usec_t limit; /* 0: no deadline of the connection's */
	int status;   /* of the answer; 0: none */
	enum event_kind event;
	enum reason reason;
} late[_STATES] = {
	[IDLE] = {LIMIT_IDLE_TIME, 0, EVENT_CONNECTION, REASON_NO_REQUEST},
	[IDLE_AGAIN] = {LIMIT_IDLE_TIME, 0, 0, REASON_NONE},
	[IN_HEAD] = {LIMIT_HEAD_TIME, 408, EVENT_REFUSED, REASON_TOO_SLOW},
	[IN_BODY] = {LIMIT_BODY_TIME, 408, EVENT_REFUSED, REASON_TOO_SLOW},
	[IN_PLACE] = {0, 0, 0, REASON_NONE},
	[IN_WAIT] = {0, 0, 0, REASON_NONE},
	[IN_WRITE] = {LIMIT_WRITE_TIME, 0, EVENT_REFUSED, REASON_CLIENT_TOO_SLOW},
};

START_TEST(each_state_has_its_time)
{
	usec_t limit = late[_i].limit ?: 1000 * USEC_PER_SEC;
	struct instant early = _i == IDLE ? begun : clock_now();

	enter((enum state)_i);
	early.monotonic += limit - 1; /* it began in that moment or later */
	connections_sweep(&world, early);
	world_assert_no_record();
	ck_assert_uint_eq(world.n_connections, 1);
	connections_sweep(&world, world_later(limit));
	if (late[_i].status)
		expect_answer(peer, late[_i].status, "RequestTimeoutException", true);
	if (late[_i].event)
		world_assert_record(late[_i].event, late[_i].reason);
	world_assert_no_record();
	if (late[_i].status)
		expect_end_of_writing();
	else
		ck_assert_uint_eq(world.n_connections, !late[_i].limit);
	if (_i == IN_PLACE || _i == IN_WAIT) {
		close_peer(peer);
		RUN_UNTIL(world.n_connections == 0);
		world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
	}
	empty_places();
	world_assert_nothing_held();
}
END_TEST

/* An absolute time: a byte now and then doesn't make it longer. */
START_TEST(the_time_of_a_head_begins_with_its_first_byte)
{
	struct instant now;

	say("P");
	now = world_later(LIMIT_HEAD_TIME);
	for (const char *p = "OST"; *p; p++) {
		peer_send(peer->fd, (struct slice){p, 1});
		world_turn();
	}
	connections_sweep(&world, now);
	expect_answer(peer, 408, "RequestTimeoutException", true);
	world_assert_record(EVENT_REFUSED, REASON_TOO_SLOW);
	expect_end_of_writing();
}
END_TEST

START_TEST(an_answer_waits_for_room)
{
	enter(IN_WRITE);
	read_filling();
	expect_refused(false);
	expect_open_and_idle();
	say(REFUSED);
	expect_refused(false);
}
END_TEST

/* Its event came while nothing was read, and no other will. */
START_TEST(the_next_may_come_before_the_answer)
{
	enter(_i == 0 ? IN_WAIT : IN_WRITE);
	say(REFUSED);
	world_stay_quiet();
	ck_assert_uint_eq(counted("one", COUNTER_REQUESTS), 1);
	if (_i == 0) {
		requests_sweep(world.requests, world_later(2000 * USEC_PER_SEC));
		expect_answer(peer, 503, "ServiceUnavailableException", false);
		world_assert_record(EVENT_REFUSED, REASON_NO_CREDENTIALS);
	} else {
		read_filling();
		expect_refused(false);
	}
	expect_refused(false);
	expect_open_and_idle();
}
END_TEST

/* ---- a place in flight ---- */

/* Wherever the request is split, its body stays in the socket until it has a place. */
START_TEST(a_body_is_unread_until_its_request_has_a_place)
{
	struct slice all = SLICE(REFUSED);

	for (size_t split = 1; split <= all.n; split++) {
		uint64_t waited = counted("one", COUNTER_WAITED);

		fill_places();
		peer_send(peer->fd, (struct slice){all.p, split});
		world_turn();
		peer_send(peer->fd, (struct slice){all.p + split, all.n - split});
		RUN_UNTIL(counted("one", COUNTER_WAITED) == waited + 1 && unread() == 2);
		ck_assert_uint_eq(gauge_read(&world_enclave("one")->memory), 0);
		get_place();
		expect_answer(peer, 400, "AccessDeniedException", false);
		ck_assert_int_ge(world_record()->wait, 0);
		empty_places();
	}
	expect_open_and_idle();
}
END_TEST

START_TEST(who_waits_is_not_told_to_continue)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	fill_places();
	say(HEAD("ListKeys", "2", "Expect: 100-continue\r\n"));
	world_stay_quiet();
	receive(peer);
	ck_assert_uint_eq(peer->n, 0);
	if (_i == 0) {
		get_place();
		RUN_UNTIL((receive(peer), peer->n == strlen(text)));
		ck_assert_str_eq(peer->got, text);
		peer->n = 0;
		say("{}");
		expect_refused(false);
		empty_places();
		expect_open_and_idle();
		return;
	}
	requests_sweep(world.requests, world_later(LIMIT_PLACE_TIME));
	expect_answer(peer, 400, "ThrottlingException", true);
	world_assert_record(EVENT_REFUSED, REASON_IN_FLIGHT);
	empty_places();
	expect_end_of_writing();
}
END_TEST

/* Read ahead while another was answered: what came with the head is kept. */
START_TEST(a_request_that_was_read_ahead_may_wait)
{
	enter(IN_WRITE);
	say(REFUSED REFUSED);
	fill_places();
	read_filling();
	expect_refused(false);
	RUN_UNTIL(counted("one", COUNTER_WAITED) == 1);
	ck_assert_int_eq(unread(), 0);
	get_place();
	expect_refused(false);
	expect_refused(false);
	empty_places();
	expect_open_and_idle();
}
END_TEST

/* What is no request waits for nothing. */
START_TEST(only_requests_wait)
{
	fill_places();
	say(_i == 0 ? "\x16\x03\x01 and more" : "GET / HTTP/1.1\r\nHost: a\r\n\r\nmore");
	if (_i == 1)
		expect_answer(peer, 400, "SerializationException", true);
	world_assert_record(_i == 0 ? EVENT_CONNECTION : EVENT_REFUSED,
			    _i == 0 ? REASON_TLS : REASON_FRAMING);
	empty_places();
	if (_i == 0)
		RUN_UNTIL(world.n_connections == 0);
	else
		expect_end_of_writing();
}
END_TEST

/* The turn of one that has a place comes after its end. */
START_TEST(who_has_a_place_may_vanish)
{
	enter(IN_PLACE);
	get_place();
	requests_admit(&world, clock_now());
	ck_assert(connection()->turn.queued);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->in_flight), PLACES);
	close_peer(peer);
	connections_sweep(&world, clock_now());
	ck_assert_uint_eq(world.n_connections, 0);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->in_flight), PLACES - 1);
	world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
	world_stay_quiet();
}
END_TEST

/* ---- a reload ---- */

START_TEST(what_has_not_changed_lives_on)
{
	enter((enum state)_i);
	world_configure(WORLD_TWO ", " WORLD_ONE);
	connections_reload(&world, clock_now());
	world_assert_no_record();
	ck_assert_uint_eq(world.n_connections, 1);
	ck_assert_ptr_eq(connection()->generation, world.generation);
	ck_assert_str_eq(connection_config(connection())->name, "one");
	if (_i == IN_WRITE)
		read_filling();
	if (_i == IN_HEAD)
		say(strstr(REFUSED, "127") + 3);
	if (_i == IN_BODY)
		say("}");
	empty_places();
	if (_i == IN_HEAD || _i == IN_BODY || _i == IN_PLACE || _i == IN_WRITE)
		expect_refused(false);
	if (_i == IN_WAIT) {
		close_peer(peer);
		RUN_UNTIL(world.n_connections == 0);
		world_assert_record(EVENT_REFUSED, REASON_CLIENT_GONE);
		return;
	}
	say(REFUSED);
	expect_refused(false);
}
END_TEST

static const char *const changes[] = {
	"one: {" WORLD_ENCLAVE("4") ", limits: {burst: 7}}, " WORLD_TWO,
	WORLD_TWO, /* it is gone */
};

START_TEST(what_has_changed_retires)
{
	enum state state = (enum state)(_i % _STATES);
	bool gone = _i >= _STATES;

	enter(state);
	world_configure(changes[gone]);
	connections_reload(&world, clock_now());
	if (state == IN_BODY && gone) {
		expect_answer(peer, 503, "ServiceUnavailableException", true);
		world_assert_record(EVENT_REFUSED, REASON_RELOADED);
		expect_end_of_writing();
		return;
	}
	if (state == IN_BODY) { /* the new rules are for it */
		say("}");
		expect_refused(true);
	}
	if (state == IN_PLACE || state == IN_WAIT) {
		expect_answer(peer, 503, "ServiceUnavailableException", true);
		world_assert_record(EVENT_REFUSED, REASON_RELOADED);
	}
	empty_places();
	if (state == IN_PLACE) { /* its body may be on its way */
		expect_end_of_writing();
		return;
	}
	if (state == IN_WRITE) {
		read_filling();
		expect_refused(false); /* it was written before */
	}
	if (state == IN_HEAD) /* with bytes unread, but the peer isn't answered */
		ck_assert_uint_eq(world.n_connections, 0);
	expect_end();
}
END_TEST

/* ---- a drain ---- */

static void drain(bool over)
{
	world.draining = true;
	connections_drain(&world, over, clock_now());
}

START_TEST(what_is_under_way_is_answered)
{
	enter((enum state)_i);
	drain(false);
	world_assert_no_record();
	if (_i == IDLE || _i == IDLE_AGAIN) {
		expect_end();
		return;
	}
	world_stay_quiet();
	ck_assert_uint_eq(world.n_connections, 1);
	if (_i == IN_HEAD)
		say(strstr(REFUSED, "127") + 3);
	if (_i == IN_BODY)
		say("}");
	if (_i == IN_WRITE)
		read_filling();
	if (_i == IN_PLACE || _i == IN_WAIT) {
		drain(true);
		expect_answer(peer, 503, "ServiceUnavailableException", true);
		world_assert_record(EVENT_REFUSED, REASON_SHUTTING_DOWN);
	} else {
		expect_refused(_i != IN_WRITE);
	}
	empty_places();
	if (_i == IN_PLACE)
		expect_end_of_writing();
	else
		expect_end();
}
END_TEST

/* A request that has just come is no idleness, though its event hasn't. */
START_TEST(what_has_come_is_not_idle)
{
	peer_send(peer->fd, SLICE(REFUSED));
	drain(false);
	ck_assert_uint_eq(world.n_connections, 1);
	expect_refused(true);
	expect_end();
}
END_TEST

/* ---- the thread ends ---- */

START_TEST(its_thread_closes_it)
{
	enter((enum state)_i);
	connections_close(&world, REASON_SHUTTING_DOWN, clock_now());
	empty_places();
	world_assert_nothing_held();
	if (_i == IN_PLACE || _i == IN_BODY || _i == IN_WAIT || _i == IN_WRITE)
		world_assert_record(EVENT_REFUSED, REASON_SHUTTING_DOWN);
}
END_TEST

static void add_tests(TCase *tcase)
{
	tcase_add_test(tcase, requests_follow_one_another);
	tcase_add_test(tcase, what_comes_at_once_is_answered_one_a_turn);
	tcase_add_test(tcase, a_request_waits_for_its_turn);
	tcase_add_test(tcase, the_last_says_so);
	tcase_add_test(tcase, nothing_follows_the_last);
	tcase_add_test(tcase, a_request_may_be_split_anywhere);
	tcase_add_test(tcase, one_request_an_event);
	tcase_add_test(tcase, a_request_may_come_byte_by_byte);
	tcase_add_test(tcase, a_client_may_wait_to_be_told_to_continue);
	tcase_add_test(tcase, a_client_that_waits_is_refused_at_once);
	tcase_add_loop_test(tcase, what_is_wrong_is_refused, 0, ELEMENTSOF(faults));
	tcase_add_test(tcase, a_head_has_a_limit);
	tcase_add_test(tcase, tls_is_no_http);
	tcase_add_test(tcase, http2_is_told_to_speak_http_1_however_it_is_split);
	tcase_add_test(tcase, an_offer_is_declined);
	tcase_add_loop_test(tcase, limits, 0, 2);
	tcase_add_test(tcase, the_share_of_memory_is_a_limit);
	tcase_add_test(tcase, no_memory_for_a_connection);
}

static void add_tests_of_states(TCase *tcase)
{
	tcase_add_loop_test(tcase, the_peer_vanishes, 0, _STATES);
	tcase_add_loop_test(tcase, the_sweep_sees_that_the_peer_has_vanished, IN_PLACE,
			    _STATES);
	tcase_add_loop_test(tcase, the_peer_ends_its_side, 0, _STATES);
	tcase_add_loop_test(tcase, each_state_has_its_time, 0, _STATES);
	tcase_add_test(tcase, the_time_of_a_head_begins_with_its_first_byte);
	tcase_add_test(tcase, an_answer_waits_for_room);
	tcase_add_loop_test(tcase, the_next_may_come_before_the_answer, 0, 2);
	tcase_add_test(tcase, a_body_is_unread_until_its_request_has_a_place);
	tcase_add_loop_test(tcase, who_waits_is_not_told_to_continue, 0, 2);
	tcase_add_test(tcase, a_request_that_was_read_ahead_may_wait);
	tcase_add_loop_test(tcase, only_requests_wait, 0, 2);
	tcase_add_test(tcase, who_has_a_place_may_vanish);
	tcase_add_loop_test(tcase, what_has_not_changed_lives_on, 0, _STATES);
	tcase_add_loop_test(tcase, what_has_changed_retires, 0, 2 * _STATES);
	tcase_add_loop_test(tcase, what_is_under_way_is_answered, 0, _STATES);
	tcase_add_test(tcase, what_has_come_is_not_idle);
	tcase_add_loop_test(tcase, its_thread_closes_it, 0, _STATES);
}

int main(void)
{
	Suite *suite = suite_create("http");
	TCase *tcase = tcase_create("http");
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
