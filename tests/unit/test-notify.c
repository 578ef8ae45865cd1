/* SPDX-License-Identifier: Apache-2.0 */
#include "notify.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/test-notify-XXXXXX";
static char path[64];

static void setup(void)
{
	memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
}

static void teardown(void)
{
	unlink(path);
	rmdir(folder);
	unsetenv("NOTIFY_SOCKET");
}

static int notify_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	memcpy(address.sun_path, path, strlen(path));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static const char *received(int fd)
{
	static char text[512];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

START_TEST(tells_the_manager)
{
	int fd = notify_socket();
	usec_t before, after;
	long long usec;

	setenv("NOTIFY_SOCKET", path, 1);
	notify_ready("Serving 2 enclaves");
	ck_assert_str_eq(received(fd), "READY=1\nSTATUS=Serving 2 enclaves");
	notify_status("50% of 100");
	ck_assert_str_eq(received(fd), "STATUS=50% of 100");
	notify_watchdog();
	ck_assert_str_eq(received(fd), "WATCHDOG=1");
	notify_stopping("Stopping");
	ck_assert_str_eq(received(fd), "STOPPING=1\nSTATUS=Stopping");
	notify_extend_timeout(35 * USEC_PER_SEC);
	ck_assert_str_eq(received(fd), "EXTEND_TIMEOUT_USEC=35000000");

	notify_watchdog_wait(USEC_PER_SEC); /* where there is one */
	notify_watchdog_again();
	ck_assert_str_eq(received(fd), "");
	setenv("WATCHDOG_USEC", "5000000", 1);
	notify_watchdog_wait(60 * USEC_PER_SEC);
	ck_assert_str_eq(received(fd), "WATCHDOG=1\nWATCHDOG_USEC=60000000");
	notify_watchdog_again();
	ck_assert_str_eq(received(fd), "WATCHDOG=1\nWATCHDOG_USEC=5000000");
	unsetenv("WATCHDOG_USEC");

	before = clock_monotonic();
	notify_reloading();
	after = clock_monotonic();
	ck_assert_int_eq(sscanf(received(fd), "RELOADING=1\nMONOTONIC_USEC=%lld", &usec), 1);
	ck_assert(before <= usec && usec <= after);
	ck_assert_str_eq(received(fd), "");
	close(fd);
}
END_TEST

START_TEST(says_nothing_without_a_manager)
{
	unsetenv("NOTIFY_SOCKET");
	notify_ready("x"); /* and doesn't fail */
	setenv("NOTIFY_SOCKET", path, 1);
	notify_watchdog(); /* nobody there */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("notify");
	TCase *tcase = tcase_create("notify");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, tells_the_manager);
	tcase_add_test(tcase, says_nothing_without_a_manager);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
