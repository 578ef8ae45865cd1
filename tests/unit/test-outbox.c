/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST (1 << 20)

static int fds[2]; /* ours, the peer's */
static char scratch[OUTBOX_SCRATCH];
static char head[OUTBOX_SCRATCH + 1], body[MOST];
static char received[OUTBOX_SCRATCH + 1 + MOST];
static size_t n_received;

static void setup(void)
{
	n_received = 0;
	for (size_t i = 0; i < sizeof(head); i++)
		head[i] = (char)('A' + i % 26);
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)('a' + i % 23);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
}

static void teardown(void)
{
	close(fds[0]);
	close(fds[1]);
}

static void receive(void)
{
	ssize_t n;

	while ((n = recv(fds[1], received + n_received, sizeof(received) - n_received, 0)) > 0)
		n_received += (size_t)n;
}

static const struct {
	size_t head, body;
} sizes[] = {
	{1, 0},
	{200, 0},
	{200, 300},
	{200, OUTBOX_SCRATCH - 200},     /* the last that goes as one piece */
	{200, OUTBOX_SCRATCH - 200 + 1}, /* the first that doesn't */
	{OUTBOX_SCRATCH + 1, 1},
	{0, 0},
	{200, MOST}, /* more than the socket has room for */
};

START_TEST(all_of_it_arrives_once)
{
	struct outbox box = {0};
	size_t whole = sizes[_i].head + sizes[_i].body;
	int r;

	ck_assert(outbox_is_empty(&box));
	outbox_fill(&box, (struct slice){head, sizes[_i].head},
		    (struct slice){body, sizes[_i].body});
	ck_assert_uint_eq(outbox_sent(&box), 0);
	while ((r = outbox_send(&box, fds[0], scratch)) == -EAGAIN) {
		ck_assert(!outbox_is_empty(&box));
		receive();
		ck_assert_uint_eq(n_received, outbox_sent(&box));
	}
	ck_assert_int_eq(r, 0);
	ck_assert(outbox_is_empty(&box));
	ck_assert_uint_eq(outbox_sent(&box), whole);
	receive();
	ck_assert_uint_eq(n_received, whole);
	ck_assert_mem_eq(received, head, sizes[_i].head);
	ck_assert_mem_eq(received + sizes[_i].head, body, sizes[_i].body);
}
END_TEST

/* The scratch is of all connections. */
START_TEST(nothing_stays_in_the_scratch)
{
	static const char zero[OUTBOX_SCRATCH];
	struct outbox box;

	outbox_fill(&box, (struct slice){head, 200}, (struct slice){body, 300});
	ck_assert_int_eq(outbox_send(&box, fds[0], scratch), 0);
	ck_assert_mem_eq(scratch, zero, sizeof(zero));
}
END_TEST

START_TEST(a_peer_that_has_gone_is_an_error)
{
	struct outbox box;

	outbox_fill(&box, (struct slice){head, 200}, (struct slice){body, 300});
	shutdown(fds[1], SHUT_RDWR);
	ck_assert_int_eq(outbox_send(&box, fds[0], scratch), -EPIPE);
	ck_assert_uint_eq(outbox_sent(&box), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("outbox");
	TCase *tcase = tcase_create("outbox");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, all_of_it_arrives_once, 0, ELEMENTSOF(sizes));
	tcase_add_test(tcase, nothing_stays_in_the_scratch);
	tcase_add_test(tcase, a_peer_that_has_gone_is_an_error);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
