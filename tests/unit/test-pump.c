/* SPDX-License-Identifier: Apache-2.0 */

/* The pump between two socket pairs: enclave <-> (ends[0] pump ends[1]) <-> host. */

#include "pump.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int enclave, host, inner[2];
static struct pump pump;
static char scratch[PUMP_READ];

static void setup(void)
{
	int a[2], b[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
	enclave = a[0];
	inner[0] = a[1];
	host = b[0];
	inner[1] = b[1];
	pump_init(&pump, inner[0], inner[1]);
}

static void teardown(void)
{
	pump_done(&pump);
	close(enclave);
	close(host);
	close(inner[0]);
	close(inner[1]);
}

/* As the loop would: both ends may have changed. */
static enum pump_result run(size_t budget, unsigned *ret_end)
{
	for (unsigned i = 0; i < 2; i++)
		pump.ends[i].readable = pump.ends[i].writable = true;
	return pump_run(&pump, scratch, &budget, 1000, ret_end);
}

static void expect(int fd, const char *text)
{
	char bytes[64];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	ck_assert_int_eq(n, (ssize_t)strlen(text));
	ck_assert_int_eq(memcmp(bytes, text, strlen(text)), 0);
}

START_TEST(copies_both_ways)
{
	unsigned end = 9;

	ck_assert_int_eq(send(enclave, "hello", 5, 0), 5);
	ck_assert_int_eq(send(host, "world!", 6, 0), 6);
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
	expect(host, "hello");
	expect(enclave, "world!");
	ck_assert_uint_eq(pump.ways[0].bytes, 5);
	ck_assert_uint_eq(pump.ways[1].bytes, 6);
	ck_assert_uint_eq(pump_held(&pump), 0);
	ck_assert(!pump.ends[0].readable && !pump.ends[1].readable);
}
END_TEST

START_TEST(sends_first_what_was_prepended)
{
	unsigned end;

	ck_assert_int_eq(pump_prepend(&pump, 0, SLICE("first ")), 0);
	ck_assert_int_eq(send(enclave, "second", 6, 0), 6);
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
	expect(host, "first second");
	ck_assert_uint_eq(pump.ways[0].bytes, 12);
}
END_TEST

START_TEST(passes_the_end_on_each_way_by_itself)
{
	unsigned end;
	char byte;

	ck_assert_int_eq(send(enclave, "last", 4, 0), 4);
	shutdown(enclave, SHUT_WR);
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
	expect(host, "last");
	ck_assert_int_eq(recv(host, &byte, 1, 0), 0);
	/* the other way lives on */
	ck_assert_int_eq(send(host, "answer", 6, 0), 6);
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
	expect(enclave, "answer");
	shutdown(host, SHUT_WR);
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_DONE);
	ck_assert_int_eq(recv(enclave, &byte, 1, 0), 0);
}
END_TEST

START_TEST(stops_reading_when_the_sink_takes_nothing)
{
	static char block[PUMP_READ];
	size_t sent = 0, got = 0;
	unsigned end;
	ssize_t n;

	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 100; i++) {
		n = send(enclave, block, sizeof(block), 0);
		if (n > 0)
			sent += (size_t)n;
		ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
		ck_assert_uint_le(pump_held(&pump), PUMP_READ);
	}
	ck_assert_uint_gt(pump_held(&pump), 0);
	ck_assert_int_eq(pump.ways[0].held_since, 1000);
	ck_assert_int_eq(send(enclave, block, sizeof(block), 0), -1); /* it is full up to us */

	/* nothing is lost when it flows again */
	while (got < sent) {
		n = recv(host, block, sizeof(block), 0);
		if (n > 0)
			got += (size_t)n;
		ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
	}
	ck_assert_uint_eq(pump_held(&pump), 0);
	ck_assert_int_eq(pump.ways[0].held_since, 0);
	ck_assert_ptr_null(pump.ways[0].held.p);
	ck_assert_uint_eq(pump.ways[0].bytes, sent);
}
END_TEST

START_TEST(leaves_the_rest_for_another_turn)
{
	unsigned end;

	ck_assert_int_eq(send(enclave, "0123456789", 10, 0), 10);
	ck_assert_int_eq(run(4, &end), PUMP_AGAIN);
	expect(host, "0123");
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
	expect(host, "456789");
}
END_TEST

static const struct {
	const char *bytes;
	size_t n;
	int alert; /* its number; -1: none */
} alerts[] = {
	{"\x15\x03\x03\x00\x02\x02\x2a", 7, 42},     /* bad_certificate */
	{"\x15\x03\x01\x00\x02\x02\x30", 7, 48},     /* unknown_ca, the oldest version */
	{"data\x15\x03\x03\x00\x02\x02\x00", 11, 0}, /* after others; close_notify, fatal */
	{"\x15\x03\x03\x00\x02\x01\x00", 7, -1},     /* a warning */
	{"\x15\x03\x03\x00\x02\x02\x2a.", 8, -1},    /* something came behind it */
	{"\x15\x03\x03\x00\x1a\x02\x2a", 7, -1},     /* the beginning of an encrypted one */
	{"\x15\x03\x03\x00\x02\x02", 6, -1},         /* not all of it */
	{"\x16\x03\x03\x00\x02\x02\x2a", 7, -1},     {"hello", 5, -1},
};

START_TEST(tells_an_alert)
{
	unsigned end;

	for (unsigned i = 0; i < 2; i++) {
		int from = i == 0 ? enclave : host;

		ck_assert_int_eq(send(from, alerts[_i].bytes, alerts[_i].n, 0),
				 (ssize_t)alerts[_i].n);
		ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
		ck_assert_int_eq(pump.ways[i].alert, alerts[_i].alert + 1);
	}
	/* what comes after it takes it back */
	ck_assert_int_eq(send(enclave, "more", 4, 0), 4);
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_WAIT);
	ck_assert_int_eq(pump.ways[0].alert, 0);
	ck_assert_int_eq(pump.ways[1].alert, alerts[_i].alert + 1);
}
END_TEST

START_TEST(blames_the_end_that_broke)
{
	unsigned end = 9;

	close(host);
	host = -1;
	ck_assert_int_eq(send(enclave, "to nobody", 9, 0), 9);
	ck_assert_int_eq(run(SIZE_MAX, &end), PUMP_BROKEN);
	ck_assert_uint_eq(end, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pump");
	TCase *tcase = tcase_create("pump");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, copies_both_ways);
	tcase_add_test(tcase, sends_first_what_was_prepended);
	tcase_add_test(tcase, passes_the_end_on_each_way_by_itself);
	tcase_add_test(tcase, stops_reading_when_the_sink_takes_nothing);
	tcase_add_test(tcase, leaves_the_rest_for_another_turn);
	tcase_add_loop_test(tcase, tells_an_alert, 0, ELEMENTSOF(alerts));
	tcase_add_test(tcase, blames_the_end_that_broke);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
