/* SPDX-License-Identifier: Apache-2.0 */

/* The life of one connection, with a made-up protocol that writes down what it is told, and
 * ends the connection, or gives it away, in the middle of it. */

#include "connection.h"

#include "connection_world.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum call { CALL_NONE, CALL_IO, CALL_TURN, CALL_SWEEP, CALL_RELOAD, CALL_DRAIN, _CALL_MAX };

/* What it does when it is told something. */
enum deed { DEED_NOTHING, DEED_CLOSE, DEED_FINISH, DEED_GIVE_AWAY };

struct fake {
	struct connection *connection;
	int fd;                      /* its socket's */
	enum call moment;            /* in which it does the deed */
	enum deed deed;              /* once */
	struct fake *heir;           /* who is given it */
	unsigned calls[_CALL_MAX];   /* how often */
	short what;                  /* of all io() so far */
	struct generation *reloaded; /* the last */
	int enclave_index;
	bool over;
	unsigned freed;
	enum reason why;
};

static struct fake fakes[4]; /* zero but for who is in use */
static int peers[4];

static const struct protocol_ops fake_ops;

static void told(struct fake *f, enum call call, struct instant now)
{
	enum deed deed = f->deed;

	ck_assert_uint_eq(f->freed, 0);
	f->calls[call]++;
	if (f->moment != call)
		return;
	f->deed = DEED_NOTHING;
	if (deed == DEED_CLOSE)
		connection_close(f->connection, REASON_IDLE, now);
	if (deed == DEED_FINISH)
		connection_finish(f->connection, SLICE("bye"), false, now);
	if (deed == DEED_GIVE_AWAY)
		connection_set_protocol(f->connection, &fake_ops, f->heir, now);
}

static void fake_io(void *protocol, short what, struct instant now)
{
	struct fake *f = protocol;

	f->what = (short)(f->what | what);
	told(f, what ? CALL_IO : CALL_TURN, now);
}

static void fake_sweep(void *protocol, struct instant now)
{
	told(protocol, CALL_SWEEP, now);
}

static void fake_reload(void *protocol, struct generation *generation, int enclave_index,
			struct instant now)
{
	struct fake *f = protocol;

	f->reloaded = generation;
	f->enclave_index = enclave_index;
	told(f, CALL_RELOAD, now);
}

static void fake_drain(void *protocol, bool over, struct instant now)
{
	struct fake *f = protocol;

	f->over = over;
	told(f, CALL_DRAIN, now);
}

static void fake_free(void *protocol, enum reason why, struct instant now)
{
	struct fake *f = protocol;

	(void)now;
	f->freed++;
	f->why = why;
}

static const struct protocol_ops fake_ops = {fake_io, fake_sweep, fake_reload, fake_drain,
					     fake_free};

/* fakes[i] has a connection of that enclave, with peers[i] at its other end. */
static struct fake *open_one(unsigned i, const char *enclave)
{
	struct identity identity = world_identity(enclave);
	struct fake *f = &fakes[i];

	f->fd = world_accept(enclave, &peers[i]);
	f->connection = connection_new(&world, f->fd, &identity, false, clock_now());
	ck_assert_ptr_nonnull(f->connection);
	connection_set_protocol(f->connection, &fake_ops, f, clock_now());
	return f;
}

static void setup(void)
{
	world_begin();
	for (size_t i = 0; i < ELEMENTSOF(peers); i++)
		peers[i] = -1;
}

static void teardown(void)
{
	world_end();
	for (size_t i = 0; i < ELEMENTSOF(peers); i++)
		if (peers[i] >= 0)
			close(peers[i]);
}

static unsigned n_calls(const struct fake *f)
{
	unsigned n = 0;

	for (size_t i = 0; i < _CALL_MAX; i++)
		n += f->calls[i];
	return n;
}

static bool is_closed(int fd)
{
	return fcntl(fd, F_GETFD) < 0;
}

/* All that closing does at once, before the turn of the loop is over. */
static void assert_closed(struct fake *f, int peer, enum reason why)
{
	ck_assert_uint_eq(f->freed, 1);
	ck_assert_int_eq(f->why, why);
	ck_assert_int_eq(f->connection->state, CONNECTION_CLOSED);
	ck_assert(is_closed(f->fd));
	ck_assert(recv(peer, &(char){0}, 1, 0) <= 0); /* the end, or a reset */
}

/* ---- what it is told ---- */

START_TEST(it_is_told_of_bytes_and_of_the_end)
{
	struct fake *f = open_one(0, "one");
	char bytes[8];

	world_stay_quiet();
	ck_assert_uint_eq(f->calls[CALL_IO], 0);
	ck_assert(!f->connection->readable);
	peer_send(peers[0], SLICE("hello"));
	RUN_UNTIL(f->calls[CALL_IO] == 1);
	ck_assert_int_eq(f->what & (EV_READ | EV_WRITE | EV_CLOSED), EV_READ);
	ck_assert(f->connection->readable);
	ck_assert_int_eq(connection_recv(f->connection, bytes, sizeof(bytes)), 5);
	ck_assert(!f->connection->readable); /* fewer than there was room for */
	ck_assert_int_eq(connection_recv(f->connection, bytes, sizeof(bytes)), -EAGAIN);
	world_stay_quiet();
	ck_assert_uint_eq(f->calls[CALL_IO], 1);

	shutdown(peers[0], SHUT_WR);
	RUN_UNTIL(f->calls[CALL_IO] == 2);
	ck_assert(f->what & EV_CLOSED);
	ck_assert(f->connection->ended);
	ck_assert_int_eq(connection_recv(f->connection, bytes, sizeof(bytes)), 0);
	ck_assert(f->connection->readable); /* no event will say it again */
}
END_TEST

START_TEST(it_is_told_of_room_only_when_it_waits_for_it)
{
	struct fake *f = open_one(0, "one");
	static char bytes[64 * KIB];

	ck_assert_uint_gt(peer_fill(f->fd), 0);
	ck_assert_int_eq(connection_wait_writable(f->connection), 0);
	world_stay_quiet();
	ck_assert_uint_eq(f->calls[CALL_IO], 0);
	while (recv(peers[0], bytes, sizeof(bytes), 0) > 0)
		continue;
	RUN_UNTIL(f->what & EV_WRITE);
	ck_assert_uint_gt(peer_fill(f->fd), 0);
	while (recv(peers[0], bytes, sizeof(bytes), 0) > 0)
		continue;
	f->what = 0;
	world_stay_quiet();
	ck_assert_int_eq(f->what & EV_WRITE, 0);
}
END_TEST

START_TEST(it_is_told_of_its_turn_once)
{
	struct fake *f = open_one(0, "one");

	connection_queue_turn(f->connection);
	connection_queue_turn(f->connection);
	RUN_UNTIL(f->calls[CALL_TURN] == 1);
	world_stay_quiet();
	ck_assert_uint_eq(f->calls[CALL_TURN], 1);
	ck_assert_uint_eq(f->calls[CALL_IO], 0);
}
END_TEST

static const struct {
	const char *enclaves; /* of the new configuration */
	int index;            /* of "one" in it */
} reloads[] = {
	{WORLD_ONE ", " WORLD_TWO, 0},           {WORLD_TWO ", " WORLD_ONE, 1}, {WORLD_TWO, -1},
	{"three: {" WORLD_ENCLAVE("4") "}", -1}, /* its CID is another's */
	{"one: {" WORLD_ENCLAVE("6") "}", -1},   /* it has another CID */
};

START_TEST(it_is_told_of_a_reload_with_the_place_of_its_enclave)
{
	struct fake *f = open_one(0, "one");
	struct generation *old = f->connection->generation;

	world_configure(reloads[_i].enclaves);
	connections_reload(&world, clock_now());
	ck_assert_uint_eq(f->calls[CALL_RELOAD], 1);
	ck_assert_ptr_eq(f->reloaded, world.generation);
	ck_assert_int_eq(f->enclave_index, reloads[_i].index);
	ck_assert_ptr_eq(f->connection->generation, old); /* until it moves */
	ck_assert_str_eq(connection_config(f->connection)->name, "one");
	if (f->enclave_index < 0)
		return;
	connection_move(f->connection, world.generation, (unsigned)f->enclave_index);
	ck_assert_ptr_eq(f->connection->generation, world.generation);
	ck_assert_str_eq(connection_config(f->connection)->name, "one");
}
END_TEST

START_TEST(it_is_told_of_time_and_of_the_drain)
{
	struct fake *f = open_one(0, "one");

	connections_sweep(&world, clock_now());
	ck_assert_uint_eq(f->calls[CALL_SWEEP], 1);
	connections_drain(&world, false, clock_now());
	ck_assert(!f->over);
	connections_drain(&world, true, clock_now());
	ck_assert(f->over);
	ck_assert_uint_eq(f->calls[CALL_DRAIN], 2);
	ck_assert_uint_eq(n_calls(f), 3);
	connections_close(&world, REASON_SHUTTING_DOWN, clock_now());
	assert_closed(f, peers[0], REASON_SHUTTING_DOWN);
}
END_TEST

/* ---- ending in the middle of it ---- */

/* Has fakes[0] told so; without what comes at the end of a turn. */
static void tell(enum call call)
{
	struct fake *f = &fakes[0];
	usec_t end = clock_monotonic() + WORLD_PATIENCE;

	switch (call) {
	case CALL_NONE:
	case _CALL_MAX:
		return;
	case CALL_IO:
		peer_send(peers[0], SLICE("hello"));
		break;
	case CALL_TURN:
		connection_queue_turn(f->connection);
		break;
	case CALL_SWEEP:
		connections_sweep(&world, clock_now());
		break;
	case CALL_RELOAD:
		world_configure(WORLD_TWO ", " WORLD_ONE);
		connections_reload(&world, clock_now());
		break;
	case CALL_DRAIN:
		connections_drain(&world, true, clock_now());
		break;
	}
	while (!f->calls[call]) {
		ck_assert_int_lt(clock_monotonic(), end);
		world_loop();
	}
}

START_TEST(closing_within_takes_effect_at_once)
{
	struct fake *f = open_one(0, "one");
	unsigned before;

	/* Both of its events are pending, and it stands in the line for its turn. */
	ck_assert_uint_gt(peer_fill(f->fd), 0);
	ck_assert_int_eq(connection_wait_writable(f->connection), 0);
	connection_queue_turn(f->connection);
	f->moment = (enum call)_i;
	f->deed = DEED_CLOSE;
	tell(f->moment);
	ck_assert_uint_eq(f->freed, 1);
	ck_assert_int_eq(f->why, REASON_IDLE);
	ck_assert_int_eq(f->connection->state, CONNECTION_CLOSED);
	ck_assert(is_closed(f->fd));
	world_assert_nothing_held();

	connection_close(f->connection, REASON_CUT_OFF, clock_now());
	connections_close(&world, REASON_CUT_OFF, clock_now());
	ck_assert_uint_eq(f->freed, 1);
	ck_assert_int_eq(f->why, REASON_IDLE);
	world_assert_nothing_held();

	before = n_calls(f);
	bin_empty(&world.bin);
	(void)!send(peers[0], "more", 4, MSG_NOSIGNAL);
	world_stay_quiet();
	connections_sweep(&world, clock_now());
	connections_reload(&world, clock_now());
	connections_drain(&world, true, clock_now());
	ck_assert_uint_eq(n_calls(f), before);
}
END_TEST

/* The kernel gives its number to the next socket, whose events are not the closed one's. */
START_TEST(the_number_of_its_descriptor_is_anothers_at_once)
{
	struct fake *f = open_one(0, "one"), *next;
	static char bytes[64 * KIB];
	unsigned before;

	ck_assert_uint_gt(peer_fill(f->fd), 0);
	ck_assert_int_eq(connection_wait_writable(f->connection), 0);
	connection_close(f->connection, REASON_NONE, clock_now());
	before = n_calls(f);
	next = open_one(1, "two");
	ck_assert_int_eq(next->fd, f->fd);
	bin_empty(&world.bin);
	ck_assert_uint_gt(peer_fill(next->fd), 0);
	ck_assert_int_eq(connection_wait_writable(next->connection), 0);
	peer_send(peers[1], SLICE("hello"));
	RUN_UNTIL(next->what & EV_READ);
	while (recv(peers[1], bytes, sizeof(bytes), 0) > 0)
		continue;
	RUN_UNTIL(next->what & EV_WRITE);
	ck_assert_uint_eq(n_calls(f), before);
}
END_TEST

START_TEST(finishing_within_leaves_only_the_lingering)
{
	struct fake *f = open_one(0, "one");
	char bytes[8];

	f->moment = (enum call)_i;
	f->deed = DEED_FINISH;
	tell(f->moment);
	ck_assert_uint_eq(f->freed, 1);
	ck_assert_int_eq(f->why, REASON_NONE);
	ck_assert_int_eq(f->connection->state, CONNECTION_CLOSED);
	ck_assert_int_eq(recv(peers[0], bytes, sizeof(bytes), 0), 3);
	ck_assert(peer_at_end(peers[0]));
	world_assert_nothing_held();
}
END_TEST

START_TEST(giving_away_within_makes_it_the_other_protocols)
{
	struct fake *f = open_one(0, "one"), *heir = &fakes[3];

	heir->connection = f->connection;
	heir->fd = f->fd;
	f->heir = heir;
	f->moment = (enum call)_i;
	f->deed = DEED_GIVE_AWAY;
	tell(f->moment);
	ck_assert_uint_eq(f->freed, 1);
	ck_assert_int_eq(f->why, REASON_NONE);
	ck_assert_int_eq(f->connection->state, CONNECTION_OPEN);

	peer_send(peers[0], SLICE("more"));
	connection_queue_turn(f->connection);
	RUN_UNTIL(heir->calls[CALL_IO] && heir->calls[CALL_TURN]);
	connections_sweep(&world, clock_now());
	ck_assert_uint_eq(heir->calls[CALL_SWEEP], 1);
	ck_assert_uint_eq(n_calls(f), 1);
	connection_close(heir->connection, REASON_CUT_OFF, clock_now());
	assert_closed(heir, peers[0], REASON_CUT_OFF);
	ck_assert_uint_eq(f->freed, 1);
}
END_TEST

/* One of three, whichever, ends in what its thread tells all of them. */
START_TEST(the_others_are_told_too_when_one_ends)
{
	static const enum call calls[] = {CALL_SWEEP, CALL_RELOAD, CALL_DRAIN};
	enum call call = calls[_i / 3];
	unsigned ends = (unsigned)_i % 3;

	for (unsigned i = 0; i < 3; i++)
		open_one(i, i == 1 ? "two" : "one");
	fakes[ends].moment = call;
	fakes[ends].deed = DEED_CLOSE;
	tell(call);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(fakes[i].calls[call], 1);
		ck_assert_uint_eq(fakes[i].freed, i == ends);
	}
	assert_closed(&fakes[ends], peers[ends], REASON_IDLE);
	bin_empty(&world.bin);
	ck_assert_uint_eq(world.n_connections, 2);
	connections_sweep(&world, clock_now());
	connections_close(&world, REASON_SHUTTING_DOWN, clock_now());
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(fakes[i].why, i == ends ? REASON_IDLE : REASON_SHUTTING_DOWN);
}
END_TEST

/* ---- the end that lets the peer read ---- */

START_TEST(what_is_unread_does_not_take_the_answer_with_it)
{
	struct fake *f = open_one(0, "one");
	char bytes[8];

	peer_send(peers[0], SLICE("nobody reads this"));
	connection_finish(f->connection, SLICE("answer"), true, clock_now());
	ck_assert_uint_eq(f->freed, 1);
	ck_assert_int_eq(f->connection->state, CONNECTION_LINGER);
	ck_assert_int_eq(recv(peers[0], bytes, sizeof(bytes), 0), 6);
	ck_assert(peer_at_end(peers[0])); /* not a reset */
	peer_send(peers[0], SLICE("nor this"));
	world_stay_quiet();
	ck_assert_int_eq(f->connection->state, CONNECTION_LINGER);
	ck_assert_uint_eq(n_calls(f), 0);

	/* Nobody is told any more, and reloads and drains pass it by. */
	connections_sweep(&world, clock_now());
	connections_reload(&world, clock_now());
	connections_drain(&world, true, clock_now());
	ck_assert_uint_eq(n_calls(f), 0);
	ck_assert_uint_eq(world.n_connections, 1);

	shutdown(peers[0], SHUT_WR);
	RUN_UNTIL(world.n_connections == 0);
	ck_assert(is_closed(f->fd));
}
END_TEST

START_TEST(lingering_ends_at_its_deadline)
{
	struct fake *f = open_one(0, "one");
	struct instant now = clock_now();

	connection_finish(f->connection, (struct slice){0}, true, now);
	now.monotonic += LIMIT_LINGER_TIME - 1;
	connections_sweep(&world, now);
	ck_assert_int_eq(f->connection->state, CONNECTION_LINGER);
	ck_assert_uint_eq(world.n_connections, 1);
	now.monotonic++;
	connections_sweep(&world, now);
	ck_assert_int_eq(f->connection->state, CONNECTION_CLOSED);
	world_assert_nothing_held();
}
END_TEST

START_TEST(lingering_ends_at_its_limit_of_bytes)
{
	struct fake *f = open_one(0, "one");
	static char block[64 * KIB];
	const int blocks = LIMIT_LINGER_BYTES / sizeof(block);

	connection_finish(f->connection, (struct slice){0}, true, clock_now());
	for (int i = 0; i < blocks - 1; i++) {
		peer_send(peers[0], (struct slice){block, sizeof(block)});
		RUN_UNTIL(f->connection->lingered == (size_t)(i + 1) * sizeof(block));
	}
	peer_send(peers[0], (struct slice){block, sizeof(block) - 1});
	RUN_UNTIL(f->connection->lingered == LIMIT_LINGER_BYTES - 1);
	ck_assert_uint_eq(world.n_connections, 1);
	peer_send(peers[0], SLICE("x"));
	RUN_UNTIL(world.n_connections == 0);
	ck_assert(is_closed(f->fd));
}
END_TEST

/* An answer that finds no room isn't told; the connection ends all the same. */
START_TEST(an_answer_without_room_is_left_out)
{
	struct fake *f = open_one(0, "one");
	static char bytes[64 * KIB];
	size_t sent = peer_fill(f->fd), got = 0;
	ssize_t n;

	connection_finish(f->connection, SLICE("answer"), false, clock_now());
	ck_assert_int_eq(f->connection->state, CONNECTION_CLOSED);
	while ((n = recv(peers[0], bytes, sizeof(bytes), 0)) > 0)
		got += (size_t)n;
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(got, sent);
}
END_TEST

/* ---- the beginning ---- */

static void accept_refused(enum reason reason, const char *detail)
{
	struct identity identity = world_identity("one");
	int fd = world_accept("one", &peers[0]);
	struct connection *c = connection_new(&world, fd, &identity, false, clock_now());
	const struct audit_record *r;

	ck_assert_ptr_null(c);
	ck_assert(is_closed(fd));
	ck_assert(peer_at_end(peers[0]));
	world_assert_nothing_held();
	r = world_record();
	ck_assert_int_eq(r->event, EVENT_CONNECTION);
	ck_assert_int_eq(r->reason, reason);
	ck_assert_str_eq(r->detail, detail);
	ck_assert_str_eq(r->enclave, "one");
	ck_assert(r->has_cid && r->cid == 4 && !r->allowed);
	ck_assert_uint_eq(world_enclave("one")->counters[COUNTER_CONNECTIONS_REFUSED], 1);
}

START_TEST(none_begins_for_an_enclave_that_a_reload_took)
{
	world_configure(WORLD_TWO);
	accept_refused(REASON_UNKNOWN_PEER, "a reload has removed the enclave");
	ck_assert_uint_eq(world_enclave("one")->counters[COUNTER_CONNECTIONS], 0);
}
END_TEST

START_TEST(none_begins_without_memory)
{
	world_fail_calloc(1);
	accept_refused(REASON_MEMORY, "out of memory");
}
END_TEST

START_TEST(it_is_counted_once)
{
	struct fake *f = open_one(0, "one");

	ck_assert_uint_eq(world_enclave("one")->counters[COUNTER_CONNECTIONS], 1);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->connections), 1);
	connection_close(f->connection, REASON_NONE, clock_now());
	ck_assert_uint_eq(world_enclave("one")->counters[COUNTER_CONNECTIONS], 1);
	ck_assert_uint_eq(world_enclave("one")->counters[COUNTER_CONNECTIONS_REFUSED], 0);
}
END_TEST

/* ---- those that bring nothing ---- */

START_TEST(one_without_a_request_costs_a_token_and_leaves_a_record)
{
	struct enclave *one = world_enclave("one");
	struct fake *f;

	world_configure("one: {" WORLD_ENCLAVE("4") ", limits: {requests: 1/h, burst: 2}}");
	f = open_one(0, "one");
	connection_end_without_request(f->connection, REASON_NO_REQUEST, "it said nothing",
				       clock_now());
	assert_closed(f, peers[0], REASON_NONE);
	world_assert_record(EVENT_CONNECTION, REASON_NO_REQUEST);
	world_assert_no_record();
	world_assert_nothing_held();
	ck_assert_uint_eq(one->counters[COUNTER_CONNECTIONS_REFUSED], 1);
	ck_assert(enclave_take_token(one, generation_enclave(world.generation, 0),
				     clock_monotonic(), NULL));
	ck_assert(!enclave_take_token(one, generation_enclave(world.generation, 0),
				      clock_monotonic(), NULL));
}
END_TEST

START_TEST(records_of_connections_are_limited)
{
	struct identity identity = world_identity("one"), nobody = {.has_cid = true, .cid = 9};
	struct instant now = clock_now();
	struct flood flood = {0};

	for (unsigned i = 0; i < LIMIT_AUDIT_BURST + 3; i++)
		connection_record(NULL, &flood, &identity, REASON_CONNECTIONS, "too many", now);
	for (unsigned i = 0; i < LIMIT_AUDIT_BURST; i++)
		world_assert_record(EVENT_CONNECTION, REASON_CONNECTIONS);
	world_assert_no_record();
	ck_assert_uint_eq(flood_take_suppressed(&flood), 3);
	ck_assert_uint_eq(identity.enclave->counters[COUNTER_CONNECTIONS_REFUSED],
			  LIMIT_AUDIT_BURST + 3);

	/* A peer that is no enclave has a record, and no count. */
	flood = (struct flood){0};
	connection_record(NULL, &flood, &nobody, REASON_UNKNOWN_PEER, "no enclave has it", now);
	ck_assert_str_eq(world_record()->enclave, "");
}
END_TEST

START_TEST(a_half_closed_peer_is_not_gone)
{
	struct fake *f = open_one(0, "one");

	ck_assert(!connection_peer_is_gone(f->connection));
	peer_send(peers[0], SLICE("bytes"));
	ck_assert(!connection_peer_is_gone(f->connection));
	shutdown(peers[0], SHUT_WR);
	ck_assert(!connection_peer_is_gone(f->connection));
	ck_assert_uint_gt(peer_fill(f->fd), 0);
	ck_assert(!connection_peer_is_gone(f->connection)); /* full is not gone */
	close(TAKE_FD(peers[0]));
	ck_assert(connection_peer_is_gone(f->connection));
}
END_TEST

/* ---- what nobody may touch ---- */

#ifdef WITH_ASAN
START_TEST(to_touch_a_closed_one_is_reported)
{
	struct connection *c = open_one(0, "one")->connection;
	int status;
	pid_t pid;

	connection_close(c, REASON_NONE, clock_now());
	ck_assert_int_eq(c->state, CONNECTION_CLOSED);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		close(STDERR_FILENO); /* the report */
		_exit(((volatile struct connection *)c)->fd >= -1 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}
END_TEST
#endif

static void add_tests(TCase *tcase)
{
	tcase_add_test(tcase, it_is_told_of_bytes_and_of_the_end);
	tcase_add_test(tcase, it_is_told_of_room_only_when_it_waits_for_it);
	tcase_add_test(tcase, it_is_told_of_its_turn_once);
	tcase_add_loop_test(tcase, it_is_told_of_a_reload_with_the_place_of_its_enclave, 0,
			    ELEMENTSOF(reloads));
	tcase_add_test(tcase, it_is_told_of_time_and_of_the_drain);
	tcase_add_loop_test(tcase, closing_within_takes_effect_at_once, CALL_IO, _CALL_MAX);
	tcase_add_test(tcase, the_number_of_its_descriptor_is_anothers_at_once);
	tcase_add_loop_test(tcase, finishing_within_leaves_only_the_lingering, CALL_IO,
			    _CALL_MAX);
	tcase_add_loop_test(tcase, giving_away_within_makes_it_the_other_protocols, CALL_IO,
			    _CALL_MAX);
	tcase_add_loop_test(tcase, the_others_are_told_too_when_one_ends, 0, 9);
	tcase_add_test(tcase, what_is_unread_does_not_take_the_answer_with_it);
	tcase_add_test(tcase, lingering_ends_at_its_deadline);
	tcase_add_test(tcase, lingering_ends_at_its_limit_of_bytes);
	tcase_add_test(tcase, an_answer_without_room_is_left_out);
	tcase_add_test(tcase, none_begins_for_an_enclave_that_a_reload_took);
	tcase_add_test(tcase, none_begins_without_memory);
	tcase_add_test(tcase, it_is_counted_once);
	tcase_add_test(tcase, one_without_a_request_costs_a_token_and_leaves_a_record);
	tcase_add_test(tcase, records_of_connections_are_limited);
	tcase_add_test(tcase, a_half_closed_peer_is_not_gone);
#ifdef WITH_ASAN
	tcase_add_test(tcase, to_touch_a_closed_one_is_reported);
#endif
}

int main(void)
{
	Suite *suite = suite_create("connection");
	TCase *tcase = tcase_create("connection");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	add_tests(tcase);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
