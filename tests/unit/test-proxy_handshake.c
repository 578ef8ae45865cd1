/* SPDX-License-Identifier: Apache-2.0 */

/* With a proxy at the other end of a socket pair that the test is. */

#include "proxy_handshake.h"

#include "macro.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OK "HTTP/1.1 200 OK\r\n\r\n"

static int near, far; /* -1: closed */

static void setup(void)
{
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	near = ends[0];
	far = ends[1];
}

static void hang_up(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void teardown(void)
{
	hang_up(&near);
	hang_up(&far);
}

static struct proxy_handshake *begin(const char *host, unsigned port, const char *secret)
{
	struct proxy_target target = {host, port, NULL};
	struct proxy_handshake *h = NULL;

	if (secret)
		ck_assert_int_eq(proxy_authorization_parse(slice_from(secret),
							   &target.authorization, NULL),
				 0);
	ck_assert_int_eq(proxy_handshake_new(&target, &h), 0);
	proxy_authorization_unref(target.authorization); /* it keeps one of its own */
	return h;
}

static void say(struct slice bytes)
{
	ck_assert_int_eq(send(far, bytes.p, bytes.n, 0), (ssize_t)bytes.n);
}

static void expect_asked(const char *text)
{
	char got[2048] = "";

	ck_assert_int_gt(recv(far, got, sizeof(got) - 1, 0), 0);
	ck_assert_str_eq(got, text);
}

static const struct {
	const char *host;
	unsigned port;
	const char *secret, *head;
} heads[] = {
	{"kms.example", 443, NULL,
	 "CONNECT kms.example:443 HTTP/1.1\r\nHost: kms.example:443\r\n\r\n"},
	{"10.0.0.7", 65535, NULL,
	 "CONNECT 10.0.0.7:65535 HTTP/1.1\r\nHost: 10.0.0.7:65535\r\n\r\n"},
	{"2001:db8::7", 1, NULL,
	 "CONNECT [2001:db8::7]:1 HTTP/1.1\r\nHost: [2001:db8::7]:1\r\n\r\n"},
	{"kms.example", 443, "Aladdin:open sesame",
	 "CONNECT kms.example:443 HTTP/1.1\r\nHost: kms.example:443\r\n"
	 "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"},
};

START_TEST(asks)
{
	_cleanup_(proxy_handshake_freep) struct proxy_handshake *h =
		begin(heads[_i].host, heads[_i].port, heads[_i].secret);

	ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_WAIT);
	expect_asked(heads[_i].head);
	ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_WAIT); /* asks once */
	say(SLICE(OK));
	ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_THROUGH);
	ck_assert_int_lt(recv(far, (char[1]){0}, 1, 0), 0);
}
END_TEST

static const struct {
	struct slice answer;
	enum proxy_result result;
	const char *why;
} answers[] = {
	{SLICE(OK), PROXY_THROUGH, ""},
	{SLICE("HTTP/1.0 299 x\r\nContent-Length: 9\r\n\r\n"), PROXY_THROUGH, ""},
	{SLICE(OK "\x16"), PROXY_BROKEN, "bytes came behind its answer"},
	{SLICE("HTTP/1.1 199 x\r\n\r\n" OK), PROXY_THROUGH, ""}, /* an interim one */
	{SLICE("HTTP/1.1 300 x\r\n\r\n"), PROXY_REFUSED, "it answered CONNECT with status 300"},
	{SLICE("HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno"), PROXY_REFUSED,
	 "it answered CONNECT with status 403"},
	{SLICE("HTTP/1.1 407 x\r\n\r\n"), PROXY_REFUSED,
	 "it answered CONNECT with status 407: see proxy_credentials_file"},
	{SLICE("HTTP/1.1 200 OK\n"), PROXY_BROKEN, "its answer: bare LF"},
	{SLICE("\x15\x03\x03"), PROXY_BROKEN, NULL},
};

START_TEST(takes_an_answer)
{
	struct slice all = answers[_i].answer;

	for (size_t first = 1; first <= all.n; first++) {
		_cleanup_(proxy_handshake_freep) struct proxy_handshake *h =
			begin("h.example", 443, NULL);
		enum proxy_result result;

		ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_WAIT);
		say((struct slice){all.p, first});
		result = proxy_handshake_go(h, near);
		/* What comes after a whole good answer is its owner's to see. */
		if (result == PROXY_WAIT) {
			say((struct slice){all.p + first, all.n - first});
			result = proxy_handshake_go(h, near);
		} else if (result == PROXY_THROUGH) {
			ck_assert(answers[_i].result == PROXY_THROUGH || first < all.n);
			result = answers[_i].result;
		}
		ck_assert_int_eq(result, answers[_i].result);
		if (first == all.n && answers[_i].why)
			ck_assert_str_eq(proxy_handshake_why(h), answers[_i].why);
		teardown();
		setup();
	}
}
END_TEST

START_TEST(sees_the_end)
{
	_cleanup_(proxy_handshake_freep) struct proxy_handshake *h =
		begin("h.example", 443, "user:secret");

	if (_i > 0)
		ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_WAIT);
	if (_i == 2)
		say(SLICE("HTTP/1.1 200"));
	if (_i == 3)
		say(SLICE(OK));
	hang_up(&far);
	ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_BROKEN);
	ck_assert_str_eq(proxy_handshake_why(h), _i == 0   ? "it closed before it was asked"
						 : _i == 3 ? "it closed behind its answer"
							   : "it closed before its answer");
}
END_TEST

/* A socket without room: what is left is sent when there is some. */
START_TEST(asks_as_there_is_room)
{
	_cleanup_(proxy_handshake_freep) struct proxy_handshake *h =
		begin("h.example", 443, "user:secret");
	static char filler[4096], got[1 << 20];
	ssize_t n;

	while (send(near, filler, sizeof(filler), MSG_DONTWAIT) > 0)
		continue;
	ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_WAIT);
	while ((n = recv(far, got, sizeof(got), 0)) > 0)
		continue;
	ck_assert_int_eq(proxy_handshake_go(h, near), PROXY_WAIT);
	n = recv(far, got, sizeof(got) - 1, 0);
	ck_assert_int_gt(n, 0);
	ck_assert(strncmp(got, "CONNECT h.example:443 HTTP/1.1\r\n", 32) == 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("proxy_handshake");
	TCase *tcase = tcase_create("proxy_handshake");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, asks, 0, ELEMENTSOF(heads));
	tcase_add_loop_test(tcase, takes_an_answer, 0, ELEMENTSOF(answers));
	tcase_add_loop_test(tcase, sees_the_end, 0, 4);
	tcase_add_test(tcase, asks_as_there_is_room);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
