/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INT 0xffffffff /* of an int; the upper half of the register means nothing */
#define TYPE 0xf       /* of a socket, without SOCK_NONBLOCK and SOCK_CLOEXEC */
#define WRITES (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))
#define NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |         \
	 CLONE_NEWPID | CLONE_NEWNET)
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

/* What our code, libevent, OpenSSL, libcurl, and glibc with its modules for names may call
 * while the daemon runs. Names that this processor doesn't have are passed over. */
static const int calls[] = {
	/* time, memory */
	SCMP_SYS(brk),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_getres_time64),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_gettime64),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(clock_nanosleep_time64),
	SCMP_SYS(getrandom),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),
	SCMP_SYS(nanosleep),
	SCMP_SYS(time),

	/* threads: the resolver's and libcurl's are made when there is a name to look up */
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(futex),
	SCMP_SYS(futex_time64),
	SCMP_SYS(getcpu),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity), /* malloc() counts the processors */
	SCMP_SYS(sched_yield),
	SCMP_SYS(set_robust_list),

	/* who and where we are */
	SCMP_SYS(getegid),
	SCMP_SYS(getegid32),
	SCMP_SYS(geteuid),
	SCMP_SYS(geteuid32),
	SCMP_SYS(getgid),
	SCMP_SYS(getgid32),
	SCMP_SYS(getpid),
	SCMP_SYS(getppid),
	SCMP_SYS(getrlimit),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(getuid32),
	SCMP_SYS(sysinfo), /* qsort() asks for the memory there is */
	SCMP_SYS(ugetrlimit),
	SCMP_SYS(uname),

	/* what is open */
	SCMP_SYS(_llseek),
	SCMP_SYS(_newselect),
	SCMP_SYS(close),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(lseek),
	SCMP_SYS(pipe2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(ppoll_time64),
	SCMP_SYS(pread64),
	SCMP_SYS(pselect6),
	SCMP_SYS(pselect6_time64),
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(select),
	SCMP_SYS(write),
	SCMP_SYS(writev),

	/* files, which open() has for reading only; a `unix:` listener's is removed at the end
	 */
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(fstat),
	SCMP_SYS(fstat64),
	SCMP_SYS(fstatat64),
	SCMP_SYS(getdents),
	SCMP_SYS(getdents64),
	SCMP_SYS(lstat),
	SCMP_SYS(lstat64),
	SCMP_SYS(newfstatat),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(stat),
	SCMP_SYS(stat64),
	SCMP_SYS(statx),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),

	/* sockets. Neither bind() nor listen(): those are done, and no filter can look at the
	 * address. getaddrinfo() would bind one of netlink, to leave out the family that this
	 * machine has no address of; without it tries both. */
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(connect),
	SCMP_SYS(getpeername),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(recv),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(send),
	SCMP_SYS(sendmmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),
};

/* An argument's bits under the mask are the value. */
struct condition {
	unsigned argument;
	uint64_t mask, value;
};

/* Allowed if all conditions hold; a call with several rows, if those of one do. */
static const struct rule {
	int call;
	unsigned n;
	struct condition conditions[3];
} rules[] = {
	/* libnss_* are mapped at the first lookup: pages of a file, which nobody writes to */
	{SCMP_SYS(mmap), 1, {{2, PROT_EXEC, 0}}},
	{SCMP_SYS(mmap), 2, {{2, PROT_EXEC | PROT_WRITE, PROT_EXEC}, {3, MAP_ANONYMOUS, 0}}},
	{SCMP_SYS(mmap2), 1, {{2, PROT_EXEC, 0}}},
	{SCMP_SYS(mmap2), 2, {{2, PROT_EXEC | PROT_WRITE, PROT_EXEC}, {3, MAP_ANONYMOUS, 0}}},
	{SCMP_SYS(mprotect), 1, {{2, PROT_EXEC, 0}}},

	{SCMP_SYS(open), 1, {{1, WRITES, 0}}},
	{SCMP_SYS(openat), 1, {{2, WRITES, 0}}},

	{SCMP_SYS(clone), 1, {{0, CLONE_THREAD | NAMESPACES, CLONE_THREAD}}},
	{SCMP_SYS(prctl), 1, {{0, INT, PR_SET_NAME}}},
	{SCMP_SYS(prctl), 1, {{0, INT, PR_GET_NAME}}},
	{SCMP_SYS(prctl), 1, {{0, INT, PR_SET_VMA}}},
	{SCMP_SYS(prlimit64), 1, {{2, UINT64_MAX, 0}}}, /* to be told, not to set */

	/* not F_SETOWN and F_SETSIG, which have the kernel send any signal to any process of
	 * this user */
	{SCMP_SYS(fcntl), 1, {{1, INT, F_DUPFD}}},
	{SCMP_SYS(fcntl), 1, {{1, INT, F_DUPFD_CLOEXEC}}},
	{SCMP_SYS(fcntl), 1, {{1, INT, F_GETFD}}},
	{SCMP_SYS(fcntl), 1, {{1, INT, F_SETFD}}},
	{SCMP_SYS(fcntl), 1, {{1, INT, F_GETFL}}},
	{SCMP_SYS(fcntl), 1, {{1, INT, F_SETFL}}},
	{SCMP_SYS(fcntl64), 1, {{1, INT, F_DUPFD}}},
	{SCMP_SYS(fcntl64), 1, {{1, INT, F_DUPFD_CLOEXEC}}},
	{SCMP_SYS(fcntl64), 1, {{1, INT, F_GETFD}}},
	{SCMP_SYS(fcntl64), 1, {{1, INT, F_SETFD}}},
	{SCMP_SYS(fcntl64), 1, {{1, INT, F_GETFL}}},
	{SCMP_SYS(fcntl64), 1, {{1, INT, F_SETFL}}},

	{SCMP_SYS(ioctl), 1, {{1, INT, FIONREAD}}},
	{SCMP_SYS(ioctl), 1, {{1, INT, FIONBIO}}},
	{SCMP_SYS(ioctl), 1, {{1, INT, TCGETS}}},
	{SCMP_SYS(ioctl), 1, {{1, INT, SIOCGIFINDEX}}}, /* a name server's fe80::1%eth0 */

	{SCMP_SYS(socket), 3, {{0, INT, AF_INET}, {1, TYPE, SOCK_STREAM}, {2, INT, 0}}},
	{SCMP_SYS(socket),
	 3,
	 {{0, INT, AF_INET}, {1, TYPE, SOCK_STREAM}, {2, INT, IPPROTO_TCP}}},
	{SCMP_SYS(socket), 3, {{0, INT, AF_INET}, {1, TYPE, SOCK_DGRAM}, {2, INT, 0}}},
	{SCMP_SYS(socket),
	 3,
	 {{0, INT, AF_INET}, {1, TYPE, SOCK_DGRAM}, {2, INT, IPPROTO_UDP}}},
	{SCMP_SYS(socket), 3, {{0, INT, AF_INET6}, {1, TYPE, SOCK_STREAM}, {2, INT, 0}}},
	{SCMP_SYS(socket),
	 3,
	 {{0, INT, AF_INET6}, {1, TYPE, SOCK_STREAM}, {2, INT, IPPROTO_TCP}}},
	{SCMP_SYS(socket), 3, {{0, INT, AF_INET6}, {1, TYPE, SOCK_DGRAM}, {2, INT, 0}}},
	{SCMP_SYS(socket),
	 3,
	 {{0, INT, AF_INET6}, {1, TYPE, SOCK_DGRAM}, {2, INT, IPPROTO_UDP}}},
	{SCMP_SYS(socket), 2, {{0, INT, AF_UNIX}, {1, TYPE, SOCK_STREAM}}},
	{SCMP_SYS(socket), 2, {{0, INT, AF_UNIX}, {1, TYPE, SOCK_DGRAM}}},
	{SCMP_SYS(socketpair), 1, {{0, INT, AF_UNIX}}},
};

/* For these glibc has an older call, which it takes when it is told that there is none. Their
 * arguments are in memory, where no filter can look. */
static const int unknown[] = {SCMP_SYS(clone3), SCMP_SYS(openat2)};

static int add_rule(scmp_filter_ctx filter, const struct rule *rule)
{
	struct scmp_arg_cmp all[ELEMENTSOF(rule->conditions)];

	for (unsigned i = 0; i < rule->n; i++)
		all[i] = SCMP_CMP(rule->conditions[i].argument, SCMP_CMP_MASKED_EQ,
				  rule->conditions[i].mask, rule->conditions[i].value);
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, rule->n, all);
}

static int add_rules(scmp_filter_ctx filter)
{
	/* abort() sends a signal to its own thread */
	const struct rule own = {SCMP_SYS(tgkill), 1, {{0, INT, (uint64_t)getpid()}}};
	int r = add_rule(filter, &own);

	for (size_t i = 0; r >= 0 && i < ELEMENTSOF(calls); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	for (size_t i = 0; r >= 0 && i < ELEMENTSOF(rules); i++)
		r = add_rule(filter, &rules[i]);
	for (size_t i = 0; r >= 0 && i < ELEMENTSOF(unknown); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), unknown[i], 0);
	return r;
}

/* Never kills: whatever is missing above must not be more than a call that failed. */
static int set_attributes(scmp_filter_ctx filter)
{
	static const struct {
		enum scmp_filter_attr name;
		uint32_t value;
	} attributes[] = {
		{SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM)},
		{SCMP_FLTATR_API_SYSRAWRC, 1},
		{SCMP_FLTATR_CTL_OPTIMIZE, 2}, /* a tree, for kernels that cache no outcome */
		{SCMP_FLTATR_CTL_TSYNC, 1},
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ELEMENTSOF(attributes); i++)
		r = seccomp_attr_set(filter, attributes[i].name, attributes[i].value);
	return r;
}

int sandbox_enter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!filter)
		return -ENOMEM;
	r = set_attributes(filter);
	r = r < 0 ? r : add_rules(filter);
	r = r < 0 ? r : seccomp_load(filter);
	seccomp_release(filter);
	return r > 0 ? -ESRCH : r; /* a thread that could not follow */
}
