/* SPDX-License-Identifier: Apache-2.0 */

/* Each case is a process of its own, since what it gives up is gone; check's own process would
 * miss it. */

#include "sandbox.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLACE "test-sandbox.tmp"

/* A call with arguments that are well formed: without a filter it would do something, or fail
 * otherwise. */
struct call {
	const char *name;
	long number;
	long a[6];
};

static char page[4096];

/* Where there is none of the processor's, the row is passed over. */
#ifndef SYS_fork
#define SYS_fork -1
#define SYS_vfork -1
#define SYS_open -1
#define SYS_creat -1
#define SYS_rename -1
#define SYS_chmod -1
#endif

static const struct call refused[] = {
	{"execve", SYS_execve, {(long)"/none"}},
	{"execveat", SYS_execveat, {AT_FDCWD, (long)"/none"}},
	{"fork", SYS_fork, {0}},
	{"vfork", SYS_vfork, {0}},
	{"clone, a process", SYS_clone, {SIGCHLD}},
	{"clone, with our memory", SYS_clone, {CLONE_VM | CLONE_VFORK | SIGCHLD}},
	{"clone, a thread in a name space", SYS_clone, {CLONE_THREAD | CLONE_NEWNET}},
	{"unshare", SYS_unshare, {CLONE_NEWUSER}},
	{"setns", SYS_setns, {-1}},

	{"io_uring_setup", SYS_io_uring_setup, {1, (long)page}},
	{"io_uring_enter", SYS_io_uring_enter, {-1}},
	{"io_uring_register", SYS_io_uring_register, {-1}},
	{"io_setup", SYS_io_setup, {1, (long)page}},

	{"memfd_create", SYS_memfd_create, {(long)"x"}},
	{"mmap, written and run", SYS_mmap, {0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE, -1}},
	{"mmap, run, of no file",
	 SYS_mmap,
	 {0, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1}},
	{"mprotect, run", SYS_mprotect, {(long)page, 4096, PROT_READ | PROT_EXEC}},
	{"pkey_mprotect", SYS_pkey_mprotect, {(long)page, 4096, PROT_READ, -1}},
	{"shmget", SYS_shmget, {0, 4096, 0600}},
	{"mlock", SYS_mlock, {(long)page, 4096}},

	{"ptrace", SYS_ptrace, {0}},
	{"process_vm_readv", SYS_process_vm_readv, {1}},
	{"process_vm_writev", SYS_process_vm_writev, {1}},
	{"pidfd_open", SYS_pidfd_open, {1}},
	{"kill", SYS_kill, {1, 0}},
	{"tgkill of another", SYS_tgkill, {1, 1, 0}},
	{"fcntl, whom a signal goes to", SYS_fcntl, {0, F_SETOWN, 1}},
	{"fcntl, which signal", SYS_fcntl, {0, F_SETSIG, SIGKILL}},
	{"fcntl, a lease", SYS_fcntl, {0, F_SETLEASE, F_RDLCK}},
	{"keyctl", SYS_keyctl, {0}},
	{"add_key", SYS_add_key, {(long)"user"}},
	{"request_key", SYS_request_key, {(long)"user"}},
	{"bpf", SYS_bpf, {0}},
	{"perf_event_open", SYS_perf_event_open, {0}},
	{"userfaultfd", SYS_userfaultfd, {0}},
	{"seccomp", SYS_seccomp, {0}},
	{"prctl, to be dumpable", SYS_prctl, {PR_SET_DUMPABLE, 1}},
	{"prlimit", SYS_prlimit64, {0, RLIMIT_NOFILE, (long)page}},

	{"open for writing", SYS_open, {(long)"/dev/null", O_WRONLY}},
	{"open for both", SYS_open, {(long)"/dev/null", O_RDWR}},
	{"open to make", SYS_open, {(long)PLACE, O_CREAT, 0600}},
	{"openat for writing", SYS_openat, {AT_FDCWD, (long)"/dev/null", O_WRONLY}},
	{"openat for both", SYS_openat, {AT_FDCWD, (long)"/dev/null", O_RDWR}},
	{"openat with both bits", SYS_openat, {AT_FDCWD, (long)"/dev/null", O_ACCMODE}},
	{"openat to make", SYS_openat, {AT_FDCWD, (long)PLACE, O_CREAT, 0600}},
	{"openat to cut", SYS_openat, {AT_FDCWD, (long)"/dev/null", O_TRUNC}},
	{"openat, without a name", SYS_openat, {AT_FDCWD, (long)".", O_TMPFILE | O_RDWR, 0600}},
	{"creat", SYS_creat, {(long)PLACE, 0600}},
	{"rename", SYS_rename, {(long)PLACE, (long)PLACE}},
	{"renameat2", SYS_renameat2, {AT_FDCWD, (long)PLACE, AT_FDCWD, (long)PLACE}},
	{"linkat", SYS_linkat, {AT_FDCWD, (long)PLACE, AT_FDCWD, (long)PLACE}},
	{"symlinkat", SYS_symlinkat, {(long)PLACE, AT_FDCWD, (long)PLACE}},
	{"mkdirat", SYS_mkdirat, {AT_FDCWD, (long)PLACE, 0700}},
	{"mknodat", SYS_mknodat, {AT_FDCWD, (long)PLACE, 0600}},
	{"chmod", SYS_chmod, {(long)PLACE, 0600}},
	{"fchmodat", SYS_fchmodat, {AT_FDCWD, (long)PLACE, 0600}},
	{"truncate", SYS_truncate, {(long)PLACE, 0}},
	{"mount", SYS_mount, {0}},
	{"ioctl, to type for others", SYS_ioctl, {0, TIOCSTI, (long)page}},

	{"socket, vsock", SYS_socket, {AF_VSOCK, SOCK_STREAM}},
	{"socket, vsock datagrams", SYS_socket, {AF_VSOCK, SOCK_DGRAM}},
	{"socket, netlink", SYS_socket, {AF_NETLINK, SOCK_RAW}},
	{"socket, packet", SYS_socket, {AF_PACKET, SOCK_DGRAM}},
	{"socket, alg", SYS_socket, {AF_ALG, SOCK_SEQPACKET}},
	{"socket, raw", SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_ICMP}},
	{"socket, ping", SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP}},
	{"socket, sctp", SYS_socket, {AF_INET6, SOCK_STREAM, IPPROTO_SCTP}},
	{"socketpair, vsock", SYS_socketpair, {AF_VSOCK, SOCK_STREAM, 0, (long)page}},
	{"bind", SYS_bind, {-1}},
	{"listen", SYS_listen, {-1}},
};

static int saved_errno(long r)
{
	return r < 0 ? errno : 0;
}

#define NEED(x)                                                                                \
	do {                                                                                   \
		if (!(x)) {                                                                    \
			dprintf(STDERR_FILENO, "line %d: %s\n", __LINE__, #x);                 \
			_exit(EXIT_FAILURE);                                                   \
		}                                                                              \
	} while (0)

/* What waitpid() says of a process that does this. */
static int status_of(void (*run)(int i), int i)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		run(i);
		_exit(EXIT_SUCCESS);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static long make(const struct call *c)
{
	return syscall((int)c->number, c->a[0], c->a[1], c->a[2], c->a[3], c->a[4], c->a[5]);
}

static void what_is_refused_gets_eperm(int i)
{
	const struct call *c = &refused[i];

	NEED(sandbox_enter() == 0);
	if (c->number < 0)
		return;
	if (saved_errno(make(c)) == EPERM)
		return;
	dprintf(STDERR_FILENO, "%s: %s\n", c->name, strerrordesc_np(errno));
	_exit(EXIT_FAILURE);
}

static void newer_calls_seem_not_to_be_there(int i)
{
	(void)i;
	NEED(sandbox_enter() == 0);
	NEED(saved_errno(syscall(SYS_clone3, page, 64)) == ENOSYS);
	NEED(saved_errno(syscall(SYS_openat2, AT_FDCWD, "/dev/null", page, 24)) == ENOSYS);
}

#ifdef __x86_64__
static void end_well(int signal)
{
	(void)signal;
	_exit(EXIT_SUCCESS);
}

/* The same number is another call there, and x32's are the same with a bit. */
static void another_processors_calls_are_refused(int i)
{
	long r;

	(void)i;
	NEED(sandbox_enter() == 0);
	NEED(saved_errno(syscall(0x40000000 | SYS_socket, AF_VSOCK, SOCK_STREAM)) == EPERM);
	signal(SIGSEGV, end_well); /* a kernel that doesn't have them at all */
	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(20 /* getpid */)
			 : "memory", "r8", "r9", "r10", "r11");
	NEED((int)r < 0);
}
#endif

/* ---- what a daemon that runs needs ---- */

static void *say_filters(void *userdata)
{
	char path[64], *line = NULL;
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)syscall(SYS_gettid));
	f = fopen(path, "re");
	while (f && getline(&line, &n, f) > 0)
		if (sscanf(line, "Seccomp_filters: %d", (int *)userdata) == 1)
			break;
	free(line);
	if (f)
		fclose(f);
	return NULL;
}

static int filters_of_a_new_thread(void)
{
	pthread_t thread;
	int filters = -1;

	NEED(pthread_create(&thread, NULL, say_filters, &filters) == 0);
	pthread_join(thread, NULL);
	return filters;
}

static void threads_that_are_made_later_have_it_too(int i)
{
	int before = filters_of_a_new_thread();

	(void)i;
	NEED(sandbox_enter() == 0);
	NEED(filters_of_a_new_thread() == before + 1);
}

static struct {
	pthread_barrier_t barrier;
	int before, behind, e;
} running;

static void *run_before_and_behind(void *userdata)
{
	(void)userdata;
	say_filters(&running.before);
	pthread_barrier_wait(&running.barrier);
	pthread_barrier_wait(&running.barrier);
	say_filters(&running.behind);
	running.e = saved_errno(socket(AF_VSOCK, SOCK_STREAM, 0));
	return NULL;
}

static void threads_that_ran_before_have_it_too(int i)
{
	pthread_t thread;

	(void)i;
	pthread_barrier_init(&running.barrier, NULL, 2);
	NEED(pthread_create(&thread, NULL, run_before_and_behind, NULL) == 0);
	pthread_barrier_wait(&running.barrier);
	NEED(sandbox_enter() == 0);
	pthread_barrier_wait(&running.barrier);
	pthread_join(thread, NULL);
	NEED(running.behind == running.before + 1);
	NEED(running.e == EPERM);
}

/* Modules for names are mapped, and of netlink nothing is needed. */
static void names_are_looked_up(int i)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;

	(void)i;
	NEED(sandbox_enter() == 0);
	NEED(getaddrinfo("localhost", NULL, &hints, &list) == 0);
	NEED(list);
	freeaddrinfo(list);
	hints.ai_flags = AI_ADDRCONFIG;
	NEED(getaddrinfo("localhost", NULL, &hints, &list) == 0);
	freeaddrinfo(list);
}

static void files_are_read_and_removed(int i)
{
	char text[8];
	FILE *f;
	int fd = open(PLACE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	void *p;

	(void)i;
	NEED(fd >= 0);
	NEED(write(fd, "hello", 5) == 5);
	close(fd);
	NEED(sandbox_enter() == 0);

	fd = open(PLACE, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	NEED(fd >= 0);
	p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	NEED(p != MAP_FAILED);
	munmap(p, 4096);
	close(fd);
	f = fopen(PLACE, "re");
	NEED(f);
	NEED(fread(text, 1, sizeof(text), f) == 5);
	fclose(f);
	NEED(unlink(PLACE) == 0);
}

static void sockets_of_three_families_connect(int i)
{
	static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), s, waiting, pair[2];
	socklen_t n = offsetof(struct sockaddr_un, sun_path) + 1;

	(void)i;
	snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "kms-vsock-proxy-%d", (int)getpid());
	n += (socklen_t)strlen(un.sun_path + 1);
	NEED(bind(listening, (struct sockaddr *)&un, n) == 0);
	NEED(listen(listening, 1) == 0);
	NEED(sandbox_enter() == 0);

	for (size_t f = 0; f < ELEMENTSOF(families); f++) {
		s = socket(families[f], SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		NEED(s >= 0);
		close(s);
		s = socket(families[f], SOCK_DGRAM | SOCK_CLOEXEC, 0);
		NEED(s >= 0);
		close(s);
	}
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	NEED(connect(s, (struct sockaddr *)&un, n) == 0);
	waiting = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	NEED(waiting >= 0);
	NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
}

static void what_libraries_ask_for(int i)
{
	struct rlimit limit;
	char name[16], byte;
	int n;

	(void)i;
	NEED(sandbox_enter() == 0);
	NEED(prctl(PR_SET_NAME, "name") == 0);
	NEED(prctl(PR_GET_NAME, name) == 0);
	NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	NEED(getrandom(&byte, 1, 0) == 1);
	NEED(eventfd(0, EFD_CLOEXEC) >= 0);
	n = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	NEED(ioctl(n, FIONREAD, &n) == 0);
	NEED(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
	NEED(sysconf(_SC_PHYS_PAGES) >= 1);
}

/* The watchdog ends a daemon that hangs by SIGABRT, and assert() does it itself. */
static void it_can_still_abort(int i)
{
	(void)i;
	NEED(sandbox_enter() == 0);
	abort();
}

static void (*const cases[])(int i) = {
	newer_calls_seem_not_to_be_there,
#ifdef __x86_64__
	another_processors_calls_are_refused,
#endif
	threads_that_are_made_later_have_it_too,
	threads_that_ran_before_have_it_too,
	names_are_looked_up,
	files_are_read_and_removed,
	sockets_of_three_families_connect,
	what_libraries_ask_for,
};

START_TEST(each_call_is_refused)
{
	ck_assert_int_eq(status_of(what_is_refused_gets_eperm, _i), 0);
}
END_TEST

START_TEST(each_case)
{
	ck_assert_int_eq(status_of(cases[_i], _i), 0);
}
END_TEST

START_TEST(abort_ends_it)
{
	int status = status_of(it_can_still_abort, 0);

	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sandbox");
	TCase *tcase = tcase_create("sandbox");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, each_call_is_refused, 0, ELEMENTSOF(refused));
	tcase_add_loop_test(tcase, each_case, 0, ELEMENTSOF(cases));
	tcase_add_test(tcase, abort_ends_it);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
