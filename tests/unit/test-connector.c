/* SPDX-License-Identifier: Apache-2.0 */
#include "connector.h"

#include "tls_peer.h"

#include <check.h>
#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE (20 * USEC_PER_SEC) /* on a busy machine */

static const struct slice request = {"GET\r\n\r\n", 7};

static struct event_base *base;
static struct tls_peer *peer;
static struct connector_tls *tls;
static struct connector *connector;
static unsigned standing;

static void done(struct connector *c, const char *why, void *userdata)
{
	(void)c;
	(void)userdata;
	ck_assert_msg(!why, "%s", why);
	standing++;
}

/* The peer is on the same thread, and minds. */
static void turn(void)
{
	ERR_clear_error();
	event_base_loop(base, EVLOOP_NONBLOCK);
	usleep(500);
}

/* So many errors of something else, as a lookup in the certificate store leaves them. */
static void leave_errors(unsigned n)
{
	while (n--)
		ERR_raise(ERR_LIB_X509, X509_R_CERT_ALREADY_IN_HASH_TABLE);
}

static void begin_to_connect(struct connector **ret_connector)
{
	struct connector_options options = {
		.host = "kms.test",
		.addresses = "127.0.0.1",
		.port = tls_peer_port(peer),
		.reach = ADDRESS_LOOPBACK,
		.tls = tls,
		.timeout = PATIENCE,
	};

	ck_assert_int_eq(connector_new(base, &options, done, NULL, ret_connector), 0);
}

static void connect_to_peer(void)
{
	begin_to_connect(&connector);
	while (!standing) /* or done() has failed the test */
		turn();
}

static void setup(void)
{
	base = event_base_new();
	ck_assert_ptr_nonnull(base);
	peer = tls_peer_new(base);
	ck_assert_int_eq(connector_tls_new(tls_peer_store(peer), &tls), 0);
	standing = 0;
}

static void teardown(void)
{
	connector = connector_free(connector);
	tls = connector_tls_free(tls);
	tls_peer_free(peer);
	event_base_free(base);
	ERR_clear_error();
}

/* What comes within a deadline: bytes, 0 at the end, or an error other than -EAGAIN. */
static ssize_t receive(char *p, size_t n, unsigned errors)
{
	usec_t end = clock_monotonic() + PATIENCE;
	ssize_t r;

	do {
		turn();
		leave_errors(errors);
		r = connector_recv(connector, p, n);
		ck_assert_int_lt(clock_monotonic(), end);
	} while (r == -EAGAIN);
	return r;
}

/* None, one, and more than OpenSSL keeps. */
static const unsigned counts[] = {0, 1, 2, 40};

START_TEST(an_error_of_something_else_is_not_the_connections)
{
	unsigned n = counts[_i];
	char bytes[100];

	connect_to_peer();
	leave_errors(n);
	ck_assert_int_eq(connector_recv(connector, bytes, sizeof(bytes)), -EAGAIN);
	leave_errors(n);
	ck_assert_int_eq(connector_send(connector, request), request.n);
	leave_errors(n);
	tls_peer_set(peer, TLS_PEER_ANSWER);
	ck_assert_int_gt(receive(bytes, sizeof(bytes), n), 0);
	ck_assert(strncmp(bytes, "HTTP/1.1 200 OK\r\n", 17) == 0);
	leave_errors(n);
	ck_assert(connector_is_quiet(connector));
	leave_errors(n);
	ck_assert_int_eq(connector_recv(connector, bytes, sizeof(bytes)), -EAGAIN);
}
END_TEST

/* A full socket: the send that does nothing is no error either. */
START_TEST(a_peer_that_reads_nothing_is_waited_for)
{
	static char much[1 << 20];
	struct slice bytes = {much, sizeof(much)};
	usec_t end = clock_monotonic() + PATIENCE;
	ssize_t r;

	tls_peer_set(peer, TLS_PEER_DEAF);
	connect_to_peer();
	do {
		leave_errors(1);
		r = connector_send(connector, bytes);
		ck_assert_int_lt(clock_monotonic(), end);
	} while (r > 0);
	ck_assert_int_eq(r, -EAGAIN);
	leave_errors(1);
	ck_assert_int_eq(connector_send(connector, bytes), -EAGAIN);
}
END_TEST

/* TLS did not say that it ends: it may be cut off, and the next use is told the same. */
START_TEST(an_end_without_notice_is_an_error)
{
	char bytes[100];

	tls_peer_set(peer, TLS_PEER_CLOSE);
	connect_to_peer();
	ck_assert_int_eq(connector_send(connector, request), request.n);
	ck_assert_int_eq(receive(bytes, sizeof(bytes), 0), -EPIPE);
	ck_assert(!connector_is_quiet(connector));
	ck_assert_int_lt(connector_recv(connector, bytes, sizeof(bytes)), 0);
	ck_assert_int_lt(connector_send(connector, request), 0);
}
END_TEST

/* More connections come before one of them has read a session of its own. */
START_TEST(one_session_is_resumed_by_many)
{
	struct connector *burst[8];
	usec_t end = clock_monotonic() + PATIENCE;
	char bytes[100];

	tls_peer_set(peer, TLS_PEER_ANSWER);
	connect_to_peer();
	ck_assert_int_eq(connector_send(connector, request), request.n);
	ck_assert_int_gt(receive(bytes, sizeof(bytes), 0),
			 0); /* the session, then the answer */
	for (unsigned i = 0; i < ELEMENTSOF(burst); i++) {
		begin_to_connect(&burst[i]);
		while (standing < 2 + i)
			turn();
	}
	while (tls_peer_resumed(peer) < ELEMENTSOF(burst)) {
		turn();
		ck_assert_msg(clock_monotonic() < end, "%u of %zu resumed",
			      tls_peer_resumed(peer), ELEMENTSOF(burst));
	}
	for (size_t i = 0; i < ELEMENTSOF(burst); i++)
		connector_free(burst[i]);
}
END_TEST

/* Else all new connections would die of it, the repeat of a call among them. */
START_TEST(a_session_of_a_broken_connection_is_not_resumed)
{
	struct connector *first, *next;
	char bytes[100];

	tls_peer_set(peer, TLS_PEER_ANSWER);
	connect_to_peer();
	ck_assert_int_eq(connector_send(connector, request), request.n);
	ck_assert_int_gt(receive(bytes, sizeof(bytes), 0), 0);
	first = connector;

	tls_peer_set(peer, TLS_PEER_CLOSE);
	tls_peer_give_no_sessions(peer);
	begin_to_connect(&connector);
	while (standing < 2)
		turn();
	ck_assert_int_eq(connector_send(connector, request), request.n);
	ck_assert_int_eq(receive(bytes, sizeof(bytes), 0), -EPIPE);
	ck_assert_uint_eq(tls_peer_resumed(peer), 1);

	tls_peer_set(peer, TLS_PEER_ANSWER);
	begin_to_connect(&next);
	while (standing < 3)
		turn();
	connector_free(connector);
	connector = next;
	ck_assert_int_eq(connector_send(connector, request), request.n);
	ck_assert_int_gt(receive(bytes, sizeof(bytes), 0), 0);
	ck_assert_uint_eq(tls_peer_resumed(peer), 1);
	connector_free(first);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("connector");
	TCase *tcase = tcase_create("connector");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, an_error_of_something_else_is_not_the_connections, 0,
			    ELEMENTSOF(counts));
	tcase_add_test(tcase, a_peer_that_reads_nothing_is_waited_for);
	tcase_add_test(tcase, an_end_without_notice_is_an_error);
	tcase_add_test(tcase, one_session_is_resumed_by_many);
	tcase_add_test(tcase, a_session_of_a_broken_connection_is_not_resumed);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
