/* SPDX-License-Identifier: Apache-2.0 */

/* Connections to hosts that stand on loopback addresses, one port on each. */

#include "dial.h"

#include "buf.h"
#include "limit.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct event_base *base;
static struct dial *dial;
static unsigned port;
static int connected, called;
static char reason[256];

static void setup(void)
{
	base = event_base_new();
	dial = NULL;
	connected = -1;
	called = 0;
	reason[0] = '\0';
	port = 0;
}

static void teardown(void)
{
	dial_free(dial);
	event_base_free(base);
	if (connected >= 0)
		close(connected);
}

/* A listener on 127.0.0.`last`, all on one port. */
static int listen_on(unsigned last, int backlog)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(0x7f000000 + last)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t n = sizeof(in);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &n), 0);
	port = ntohs(in.sin_port);
	return fd;
}

static void on_done(int fd, const char *why, void *userdata)
{
	(void)userdata;
	called++;
	connected = fd;
	if (why)
		snprintf(reason, sizeof(reason), "%s", why);
	dial = dial_free(dial);
	event_base_loopbreak(base);
}

/* Returns how long it took. */
static usec_t run(const char *addresses, enum address_class reach)
{
	struct dial_options options = {.addresses = addresses, .port = port, .reach = reach};
	usec_t start = clock_monotonic();

	ck_assert_int_eq(dial_new(base, &options, on_done, NULL, &dial), 0);
	ck_assert_int_eq(called, 0);
	ck_assert_int_eq(event_base_dispatch(base), 0);
	ck_assert_int_eq(called, 1);
	ck_assert((connected >= 0) == (reason[0] == '\0'));
	return clock_monotonic() - start;
}

/* The last byte of the address that was connected to. */
static unsigned peer(void)
{
	struct sockaddr_in in;
	socklen_t n = sizeof(in);

	ck_assert_int_ge(connected, 0);
	ck_assert_int_eq(getpeername(connected, (struct sockaddr *)&in, &n), 0);
	return ntohl(in.sin_addr.s_addr) & 0xff;
}

static int option(int level, int name)
{
	socklen_t n = sizeof(int);
	int value = -1;

	ck_assert_int_eq(getsockopt(connected, level, name, &value, &n), 0);
	return value;
}

START_TEST(connects)
{
	int fd = listen_on(1, 5);

	run("127.0.0.1", ADDRESS_LOOPBACK);
	ck_assert_uint_eq(peer(), 1);
	ck_assert(fcntl(connected, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(connected, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_ne(option(IPPROTO_TCP, TCP_NODELAY), 0);
	close(fd);
}
END_TEST

START_TEST(keeps_alive)
{
	int fd = listen_on(1, 5);

	run("127.0.0.1", ADDRESS_LOOPBACK);
	ck_assert_int_eq(option(SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(dial_keep_alive(connected), 0);
	ck_assert_int_ne(option(SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(option(IPPROTO_TCP, TCP_KEEPIDLE), 60);
	ck_assert_int_eq(option(IPPROTO_TCP, TCP_KEEPINTVL), 60);
	ck_assert_int_eq(dial_keep_alive(-1), -EBADF);
	close(fd);
}
END_TEST

START_TEST(takes_the_first_that_answers)
{
	int fd = listen_on(3, 5);

	run("127.0.0.1,127.0.0.2,127.0.0.3,127.0.0.4", ADDRESS_LOOPBACK);
	ck_assert_uint_eq(peer(), 3);
	close(fd);
}
END_TEST

/* The queue of a listener that nobody accepts from is full: the kernel answers nothing. */
START_TEST(does_not_wait_for_one_that_is_silent)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
	int fd = listen_on(1, 0), other = listen_on(2, 5), filler[8];
	usec_t took;

	in.sin_port = htons((uint16_t)port);
	for (size_t i = 0; i < ELEMENTSOF(filler); i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(filler[i], (struct sockaddr *)&in, sizeof(in));
	}
	took = run("127.0.0.1,127.0.0.2", ADDRESS_LOOPBACK);
	ck_assert_uint_eq(peer(), 2);
	ck_assert_uint_ge(took, DIAL_STAGGER - USEC_PER_MSEC);
	for (size_t i = 0; i < ELEMENTSOF(filler); i++)
		close(filler[i]);
	close(fd);
	close(other);
}
END_TEST

static unsigned descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static unsigned held;

static void on_done_counted(int fd, const char *why, void *userdata)
{
	held = descriptors();
	on_done(fd, why, userdata);
}

/* A name server may give as many silent ones as there is room for. */
START_TEST(holds_few_sockets_at_once)
{
	enum { SILENT = LIMIT_DIAL_SOCKETS + 2, FILLERS = 4 };
	static const char list[] =
		"127.0.0.1,127.0.0.2,127.0.0.3,127.0.0.4,127.0.0.5,127.0.0.6,127.0.0.200";
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct dial_options options = {.addresses = list, .reach = ADDRESS_LOOPBACK};
	int fds[SILENT * (FILLERS + 1) + 1], n = 0;
	unsigned before;

	fds[n++] = listen_on(200, 5);
	in.sin_port = htons((uint16_t)port);
	for (unsigned i = 1; i <= SILENT; i++) {
		in.sin_addr.s_addr = htonl(0x7f000000 + i);
		fds[n++] = listen_on(i, 0);
		for (unsigned k = 0; k < FILLERS; k++) {
			fds[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
			(void)!connect(fds[n++], (struct sockaddr *)&in, sizeof(in));
		}
	}
	options.port = port;
	before = descriptors();
	ck_assert_int_eq(dial_new(base, &options, on_done_counted, NULL, &dial), 0);
	ck_assert_int_eq(event_base_dispatch(base), 0);
	ck_assert_uint_eq(peer(), 200);
	ck_assert_uint_eq(held - before, LIMIT_DIAL_SOCKETS);
	while (n > 0)
		close(fds[--n]);
}
END_TEST

START_TEST(tries_no_more_than_its_number)
{
	int fd = listen_on(200, 5);

	for (unsigned n = LIMIT_TUNNEL_ADDRESSES - 1; n <= LIMIT_TUNNEL_ADDRESSES; n++) {
		_cleanup_(buf_done) struct buf text = BUF_INIT(1024);

		for (unsigned i = 1; i <= n; i++)
			ck_assert_int_eq(buf_printf(&text, "127.0.0.%u,", i), 0);
		ck_assert_int_eq(buf_printf(&text, "127.0.0.200"), 0);
		called = 0;
		run(text.p, ADDRESS_LOOPBACK);
		if (n < LIMIT_TUNNEL_ADDRESSES) {
			ck_assert_uint_eq(peer(), 200);
			close(connected);
		}
	}
	ck_assert_int_eq(connected, -1);
	close(fd);
}
END_TEST

static const struct {
	const char *addresses;
	enum address_class reach;
	const char *why; /* a part of it */
} failures[] = {
	{"127.0.0.1", ADDRESS_LOOPBACK, "127.0.0.1 port 1: Connection refused"},
	{"127.0.0.1,127.0.0.2", ADDRESS_LOOPBACK, "127.0.0.2 port 1: Connection refused"},
	{"[::1],[::1],127.0.0.1", ADDRESS_LOOPBACK, "::1 port 1: "}, /* the families in turn */
	{"127.0.0.1", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"[::1]", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"::1", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"[::ffff:127.0.0.1]", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"169.254.169.254", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"169.254.169.254,127.0.0.1", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"[fd00:ec2::254]", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"0.0.0.0", ADDRESS_OTHER, "loopback, link-local or metadata"},
	{"", ADDRESS_LOOPBACK, "no address"},
	{",,", ADDRESS_LOOPBACK, "no address"},
	{"kms.invalid", ADDRESS_LOOPBACK, "no address"},
	{"127.1", ADDRESS_LOOPBACK, "no address"},
	{"[127.0.0.1", ADDRESS_LOOPBACK, "no address"},
	{"[]", ADDRESS_LOOPBACK, "no address"},
	{"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc", ADDRESS_LOOPBACK,
	 "no address"},
	{"169.254.169.254", ADDRESS_LOOPBACK, "loopback, link-local or metadata"},
	{"[::ffff:169.254.170.2]", ADDRESS_LOOPBACK, "link-local or metadata"},
	{"[64:ff9b::169.254.169.254]", ADDRESS_LOOPBACK, "link-local or metadata"},
	{"[2002:a9fe:a9fe::1]", ADDRESS_LOOPBACK, "link-local or metadata"},
	{"[fd00:ec2::23],[fe80::1]", ADDRESS_LOOPBACK, "link-local or metadata"},
	{"169.254.169.254,127.0.0.1", ADDRESS_LOOPBACK, "127.0.0.1 port 1: Connection refused"},
};

START_TEST(fails)
{
	port = 1; /* where nobody listens */
	run(failures[_i].addresses, failures[_i].reach);
	ck_assert_int_eq(connected, -1);
	ck_assert_msg(strstr(reason, failures[_i].why), "%s", reason);
}
END_TEST

START_TEST(is_given_up)
{
	struct dial_options options = {.addresses = "127.0.0.1,127.0.0.2",
				       .reach = ADDRESS_LOOPBACK};
	int fd = listen_on(1, 5), before, after;

	options.port = port;
	before = dup(0);
	close(before);
	ck_assert_int_eq(dial_new(base, &options, on_done, NULL, &dial), 0);
	dial = dial_free(dial);
	after = dup(0);
	close(after);
	ck_assert_int_eq(event_base_dispatch(base), 1); /* nothing is left to wait for */
	ck_assert_int_eq(called, 0);
	ck_assert_int_eq(before, after);
	close(fd);
}
END_TEST

/* ---- by a proxy ---- */

static int accepted;
static enum dial_fault fault;

static void on_through(int fd, const char *why, void *userdata)
{
	fault = dial_fault(dial);
	on_done(fd, why, userdata);
}

/* Begins to connect by the proxy that listens on `fd`, which has been asked when this returns.
 */
static void ask_proxy(int fd)
{
	static const struct proxy_target target = {"h.example", 443, NULL};
	struct dial_options options = {.addresses = "127.0.0.2,127.0.0.1",
				       .port = port,
				       .reach = ADDRESS_LOOPBACK,
				       .through = &target};
	char got[256];

	ck_assert_int_eq(dial_new(base, &options, on_through, NULL, &dial), 0);
	ck_assert_int_eq(dial_fault(dial), DIAL_NO_PROXY);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while ((accepted = accept(fd, NULL, NULL)) < 0)
		event_base_loop(base, EVLOOP_NONBLOCK);
	while (recv(accepted, got, sizeof(got), MSG_DONTWAIT) <= 0)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert(strncmp(got, "CONNECT h.example:443 ", 22) == 0);
	ck_assert_int_eq(called, 0);
	ck_assert_int_eq(dial_fault(dial), DIAL_PROXY_BROKEN); /* if nothing came any more */
}

static const struct {
	const char *answer; /* NULL: it closes */
	enum dial_fault fault;
	const char *why;
} proxies[] = {
	{"HTTP/1.1 200 OK\r\n\r\n", DIAL_PROXY_BROKEN, ""}, /* of no interest then */
	{"HTTP/1.1 403 No\r\n\r\n", DIAL_PROXY_REFUSED, "status 403"},
	{"HTTP/1.1 200 OK\r\n\r\nx", DIAL_PROXY_BROKEN, "bytes came behind"},
	{NULL, DIAL_PROXY_BROKEN, "it closed before its answer"},
};

START_TEST(goes_by_a_proxy)
{
	const char *answer = proxies[_i].answer;
	int fd = listen_on(1, 5);

	ask_proxy(fd);
	if (answer)
		ck_assert_int_eq(send(accepted, answer, strlen(answer), 0),
				 (ssize_t)strlen(answer));
	else
		close(accepted);
	ck_assert_int_eq(event_base_dispatch(base), 0);
	ck_assert_int_eq(called, 1);
	ck_assert_int_eq(fault, proxies[_i].fault);
	ck_assert_msg(strstr(reason, proxies[_i].why), "%s", reason);
	ck_assert((connected >= 0) == (_i == 0));
	if (connected >= 0) {
		ck_assert_int_eq(send(connected, "hello", 5, 0), 5);
		ck_assert_int_eq(recv(accepted, (char[5]){0}, 5, MSG_WAITALL), 5);
	} else if (answer) { /* it was closed */
		ck_assert_int_le(recv(accepted, (char[1]){0}, 1, 0), 0);
	}
	close(fd);
}
END_TEST

START_TEST(a_proxy_can_not_be_reached)
{
	static const struct proxy_target target = {"h.example", 443, NULL};
	struct dial_options options = {.addresses = "127.0.0.1",
				       .port = 1,
				       .reach = ADDRESS_LOOPBACK,
				       .through = &target};

	ck_assert_int_eq(dial_new(base, &options, on_through, NULL, &dial), 0);
	ck_assert_int_eq(event_base_dispatch(base), 0);
	ck_assert_int_eq(fault, DIAL_NO_PROXY);
	ck_assert_msg(strstr(reason, "127.0.0.1 port 1: Connection refused"), "%s", reason);
}
END_TEST

/* The connection to the proxy goes as well. */
START_TEST(is_given_up_while_a_proxy_is_asked)
{
	int fd = listen_on(1, 5), before = dup(0), after;

	close(before);
	ask_proxy(fd);
	dial = dial_free(dial);
	ck_assert_int_eq(recv(accepted, (char[1]){0}, 1, 0), 0);
	close(accepted);
	after = dup(0);
	close(after);
	ck_assert_int_eq(before, after);
	ck_assert_int_eq(event_base_dispatch(base), 1);
	close(fd);
}
END_TEST

static const struct {
	const char *connect_to;
	bool tls;
	enum address_class reach;
} reaches[] = {
	{NULL, true, ADDRESS_OTHER},
	{NULL, false, ADDRESS_OTHER},
	{"127.0.0.1", true, ADDRESS_SPECIAL}, /* whatever stands there */
	{"fd00:ec2::254", true, ADDRESS_SPECIAL},
	{"169.254.169.254", false, ADDRESS_LOOPBACK},
	{"vpce.example", true, ADDRESS_LOOPBACK}, /* a name server says what it is */
	{"vpce.example", false, ADDRESS_LOOPBACK},
};

START_TEST(reaches_no_further)
{
	ck_assert_int_eq(dial_reach(reaches[_i].connect_to, reaches[_i].tls),
			 reaches[_i].reach);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dial");
	TCase *test = tcase_create("dial");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(test, setup, teardown);
	tcase_add_test(test, connects);
	tcase_add_test(test, keeps_alive);
	tcase_add_test(test, takes_the_first_that_answers);
	tcase_add_test(test, does_not_wait_for_one_that_is_silent);
	tcase_add_test(test, holds_few_sockets_at_once);
	tcase_add_test(test, tries_no_more_than_its_number);
	tcase_add_loop_test(test, fails, 0, ELEMENTSOF(failures));
	tcase_add_test(test, is_given_up);
	tcase_add_loop_test(test, goes_by_a_proxy, 0, ELEMENTSOF(proxies));
	tcase_add_test(test, a_proxy_can_not_be_reached);
	tcase_add_test(test, is_given_up_while_a_proxy_is_asked);
	tcase_add_loop_test(test, reaches_no_further, 0, ELEMENTSOF(reaches));
	suite_add_tcase(suite, test);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
