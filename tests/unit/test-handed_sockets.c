/* SPDX-License-Identifier: Apache-2.0 */
#include "handed_sockets.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A Unix socket under an address that the kernel picks. */
static int unix_bound(int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type, 0);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)) < 0)
		return -1;
	return fd;
}

static int listening(int fd)
{
	return listen(fd, 1) < 0 ? -1 : fd;
}

static int unix_listener(void)
{
	return listening(unix_bound(SOCK_STREAM));
}

static int unix_not_listening(void)
{
	return unix_bound(SOCK_STREAM);
}

static int unix_datagram(void)
{
	return unix_bound(SOCK_DGRAM);
}

static int unix_seqpacket(void)
{
	return listening(unix_bound(SOCK_SEQPACKET));
}

static int inet_listener(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return listening(fd);
}

static int a_file(void)
{
	return open("/dev/null", O_RDWR);
}

#define VSOCK_PORT 51234

/* -1 where the kernel has no vsock. */
static int vsock_listener(void)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VSOCK_PORT};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return listening(fd);
	return -1;
}

/* What systemd would do: the sockets from descriptor 3 on, and the environment. Only in a
 * child, since it overwrites whatever these descriptors are. */
static bool hand_over(const int *fds, int n, const char *names)
{
	int above[8];
	char text[32];

	for (int i = 0; i < n; i++)
		above[i] = fcntl(fds[i], F_DUPFD, 20);
	for (int i = 0; i < n; i++)
		if (dup2(above[i], 3 + i) < 0)
			return false;
	snprintf(text, sizeof(text), "%d", getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%d", n);
	setenv("LISTEN_FDS", text, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	return true;
}

/* Runs `body` in a child; what it returns is 0, or the step that went wrong. */
static void in_child(int (*body)(int), int argument)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(body(argument));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
	ck_assert_msg(WEXITSTATUS(status) == 0, "step %d failed", WEXITSTATUS(status));
}

static int child_takes_two(int ignored)
{
	struct handed_sockets s = {0};
	struct error error = {0};

	(void)ignored;
	if (!hand_over((int[]){unix_listener(), unix_listener()}, 2, "kms:other"))
		return 1;
	if (handed_sockets_take(&s, &error) < 0)
		return 2;
	if (s.n != 2 || strcmp(s.list[0].name, "kms") != 0 ||
	    strcmp(s.list[1].name, "other") != 0)
		return 3;
	for (int i = 0; i < 2; i++) {
		if (s.list[i].fd != 3 + i || s.list[i].family != AF_UNIX)
			return 4;
		if (!(fcntl(s.list[i].fd, F_GETFL) & O_NONBLOCK))
			return 5;
		if (!(fcntl(s.list[i].fd, F_GETFD) & FD_CLOEXEC))
			return 6;
	}
	if (getenv("LISTEN_FDS") || getenv("LISTEN_PID") || getenv("LISTEN_FDNAMES"))
		return 7;
	s.list[0].fd = -1; /* somebody kept it */
	handed_sockets_done(&s);
	if (s.n != 0 || fcntl(3, F_GETFD) < 0 || fcntl(4, F_GETFD) >= 0)
		return 8;
	return 0;
}

START_TEST(takes_what_is_handed_over)
{
	in_child(child_takes_two, 0);
}
END_TEST

static int child_takes_vsock(int ignored)
{
	struct handed_sockets s = {0};
	struct error error = {0};
	int fd = vsock_listener();

	(void)ignored;
	if (fd < 0)
		return 0; /* nothing to show on such a kernel */
	if (!hand_over(&fd, 1, "kms") || handed_sockets_take(&s, &error) < 0)
		return 1;
	if (s.n != 1 || s.list[0].family != AF_VSOCK || s.list[0].port != VSOCK_PORT)
		return 2;
	handed_sockets_done(&s);
	return 0;
}

START_TEST(takes_vsock)
{
	in_child(child_takes_vsock, 0);
}
END_TEST

static const struct {
	int (*make)(void);
	const char *sentence;
} refused[] = {
	{inet_listener, "socket \"bad\" from systemd is neither vsock nor a Unix socket: "
			"anybody on the network could be its peer"},
	{unix_not_listening, "socket \"bad\" from systemd is not a listening stream socket"},
	{unix_datagram, "socket \"bad\" from systemd is not a listening stream socket"},
	{unix_seqpacket, "socket \"bad\" from systemd is not a listening stream socket"},
	{a_file, "socket \"bad\" from systemd is not a listening stream socket"},
};

/* A good one and a bad one: none is kept. */
static int child_refuses(int row)
{
	struct handed_sockets s = {.n = 77};
	struct error error = {0};
	int bad = refused[row].make();

	if (bad < 0 || !hand_over((int[]){unix_listener(), bad}, 2, "good:bad"))
		return 1;
	if (handed_sockets_take(&s, &error) != -EINVAL)
		return 2;
	if (strncmp(error.text, refused[row].sentence, strlen(refused[row].sentence)) != 0)
		return 3;
	if (s.n != 77)
		return 4;
	if (fcntl(3, F_GETFD) >= 0 || fcntl(4, F_GETFD) >= 0)
		return 5;
	return 0;
}

START_TEST(refuses_what_is_of_no_use)
{
	in_child(child_refuses, _i);
}
END_TEST

static int child_takes_none(int for_another)
{
	struct handed_sockets s = {.n = 77};
	struct error error = {0};

	if (for_another) { /* meant for a parent of ours */
		if (!hand_over((int[]){unix_listener()}, 1, "kms"))
			return 1;
		setenv("LISTEN_PID", "1", 1);
	} else {
		unsetenv("LISTEN_FDS");
	}
	if (handed_sockets_take(&s, &error) < 0 || s.n != 0)
		return 2;
	handed_sockets_done(&s);
	return 0;
}

START_TEST(none_is_a_success)
{
	in_child(child_takes_none, _i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("handed_sockets");
	TCase *tcase = tcase_create("handed_sockets");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, takes_what_is_handed_over);
	tcase_add_test(tcase, takes_vsock);
	tcase_add_loop_test(tcase, refuses_what_is_of_no_use, 0,
			    sizeof(refused) / sizeof(refused[0]));
	tcase_add_loop_test(tcase, none_is_a_success, 0, 2);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
