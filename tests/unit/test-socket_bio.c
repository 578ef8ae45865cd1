/* SPDX-License-Identifier: Apache-2.0 */
#include "socket_bio.h"

#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fds[2]; /* the BIO's, the peer's */
static BIO_METHOD *method;
static BIO *bio;

static void setup(void)
{
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	method = socket_bio_method();
	ck_assert_ptr_nonnull(method);
	bio = socket_bio_new(method, &fds[0]);
	ck_assert_ptr_nonnull(bio);
}

static void teardown(void)
{
	BIO_free(bio);
	BIO_meth_free(method);
	ck_assert_int_eq(close(fds[0]), 0); /* it is still ours */
	if (fds[1] >= 0)
		close(fds[1]);
}

static void peer_goes(void)
{
	close(fds[1]);
	fds[1] = -1;
}

START_TEST(bytes_pass_both_ways)
{
	char bytes[16];
	size_t n;

	ck_assert_int_eq(BIO_write_ex(bio, "hello", 5, &n), 1);
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(recv(fds[1], bytes, sizeof(bytes), 0), 5);
	ck_assert_int_eq(send(fds[1], "you there", 9, 0), 9);
	ck_assert_int_eq(BIO_read_ex(bio, bytes, 3, &n), 1);
	ck_assert_uint_eq(n, 3);
	ck_assert_int_eq(BIO_read_ex(bio, bytes, sizeof(bytes), &n), 1);
	ck_assert_uint_eq(n, 6);
	ck_assert_int_eq(memcmp(bytes, " there", 6), 0);
	ck_assert_int_eq(BIO_flush(bio), 1);
}
END_TEST

START_TEST(nothing_there_is_no_end)
{
	char byte;
	size_t n = 9;

	ck_assert_int_eq(BIO_read_ex(bio, &byte, 1, &n), 0);
	ck_assert(BIO_should_retry(bio) && BIO_should_read(bio) && !BIO_eof(bio));
	ck_assert_int_eq(send(fds[1], "x", 1, 0), 1);
	ck_assert_int_eq(BIO_read_ex(bio, &byte, 1, &n), 1);
	ck_assert(!BIO_should_retry(bio));
}
END_TEST

START_TEST(no_room_is_no_end)
{
	static const char much[1 << 16];
	size_t n = 0, sum = 0;

	while (BIO_write_ex(bio, much, sizeof(much), &n)) {
		ck_assert_uint_gt(n, 0);
		sum += n;
	}
	ck_assert_uint_gt(sum, 0);
	ck_assert(BIO_should_retry(bio) && BIO_should_write(bio) && !BIO_eof(bio));
}
END_TEST

START_TEST(the_end_is_told_behind_the_last_byte)
{
	char bytes[16];
	size_t n;

	ck_assert_int_eq(send(fds[1], "last", 4, 0), 4);
	peer_goes();
	ck_assert_int_eq(BIO_read_ex(bio, bytes, sizeof(bytes), &n), 1);
	ck_assert_uint_eq(n, 4);
	ck_assert(!BIO_eof(bio));
	ck_assert_int_eq(BIO_read_ex(bio, bytes, sizeof(bytes), &n), 0);
	ck_assert(BIO_eof(bio) && !BIO_should_retry(bio));
}
END_TEST

START_TEST(a_peer_that_is_gone_raises_no_signal)
{
	size_t n;

	signal(SIGPIPE, SIG_DFL);
	peer_goes();
	ck_assert_int_eq(BIO_write_ex(bio, "x", 1, &n), 0);
	ck_assert(!BIO_should_retry(bio));
}
END_TEST

/* A reset is an error, not the end. */
START_TEST(a_reset_is_no_end)
{
	char byte;
	size_t n;

	ck_assert_int_eq(BIO_write_ex(bio, "x", 1, &n), 1);
	peer_goes(); /* with a byte unread */
	ck_assert_int_eq(BIO_read_ex(bio, &byte, 1, &n), 0);
	ck_assert(!BIO_eof(bio) && !BIO_should_retry(bio));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("socket_bio");
	TCase *tcase = tcase_create("socket_bio");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, bytes_pass_both_ways);
	tcase_add_test(tcase, nothing_there_is_no_end);
	tcase_add_test(tcase, no_room_is_no_end);
	tcase_add_test(tcase, the_end_is_told_behind_the_last_byte);
	tcase_add_test(tcase, a_peer_that_is_gone_raises_no_signal);
	tcase_add_test(tcase, a_reset_is_no_end);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
