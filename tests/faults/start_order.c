/* SPDX-License-Identifier: Apache-2.0 */

/* Preloaded into a daemon that starts: says on stderr when it has put its filter of system
 * calls in force, which takes a while here, and when it accepts a connection. */

#include <dlfcn.h>
#include <seccomp.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define WHILE 300000 /* microseconds */

static void say(const char *text, size_t n)
{
	(void)!write(STDERR_FILENO, text, n);
}

EXPORT int seccomp_load(scmp_filter_ctx context)
{
	int (*real)(scmp_filter_ctx) = dlsym(RTLD_NEXT, "seccomp_load");
	int r;

	usleep(WHILE);
	r = real(context);
	say("order: filter\n", sizeof("order: filter\n") - 1);
	return r;
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
	int (*real)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
	int s = real(fd, address, n, flags);

	if (s >= 0)
		say("order: accepted\n", sizeof("order: accepted\n") - 1);
	return s;
}
