/* SPDX-License-Identifier: Apache-2.0 */
#include "test_probe.h"

#ifdef TEST_HOOKS

#include "connector.h"
#include "dial.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOTHING (-ENODATA) /* an earlier step was denied */
#define ENCLAVE_CID 16     /* of the test machine */
#define VSOCK_PORT 9321
#define PROGRAM "/bin/true"

struct probe {
	const char *name;
	int (*run)(const struct probe *p); /* -errno: denied; what else: allowed */
	const char *path;
	int number; /* a family, flags, a type */
};

static void tell(const char *name, int r)
{
	if (r == NOTHING)
		log_event(EVENT_MACHINE, NULL, "probe %s: nothing to try it with", name);
	else if (r < 0)
		log_event(EVENT_MACHINE, NULL, "probe %s: denied (%s)", name,
			  strerrorname_np(-r) ?: "?");
	else
		log_event(EVENT_MACHINE, NULL, "probe %s: ALLOWED", name);
}

static int result(long r)
{
	return r < 0 ? -errno : (int)MIN(r, INT_MAX);
}

/* Descriptors are only a proof. */
static int close_result(long r)
{
	int e = result(r);

	if (e >= 0)
		close(e);
	return MIN(e, 0);
}

/* ---- to run something ---- */

static int wait_for_child(pid_t pid)
{
	int status = 0;

	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : 0; /* exits with the errno */
}

static int try_fork(const struct probe *p)
{
	pid_t pid = fork();

	(void)p;
	if (pid == 0)
		_exit(0);
	return wait_for_child(pid);
}

/* Where nothing forks, a program that can't be is tried in place. */
static int try_execve(const struct probe *p)
{
	char *argv[] = {(char *)p->path, (char *)"-l", NULL}, *envp[] = {NULL};
	pid_t pid = fork();

	if (pid < 0) {
		execve("/etc/hostname/none", argv, envp);
		return errno == ENOTDIR || errno == ENOENT ? 0 : -errno;
	}
	if (pid == 0) {
		execve(p->path, argv, envp);
		_exit(errno);
	}
	return wait_for_child(pid);
}

static int program_in_memory(void)
{
	int from = open(PROGRAM, O_RDONLY | O_CLOEXEC);
	int to = (int)syscall(SYS_memfd_create, "probe", 0);
	int e = errno;

	if (from >= 0 && to >= 0)
		while (sendfile(to, from, NULL, 65536) > 0)
			;
	if (from >= 0)
		close(from);
	return to < 0 ? -e : to;
}

static int try_memfd(const struct probe *p)
{
	(void)p;
	return close_result(program_in_memory());
}

static int try_execveat(const struct probe *p)
{
	char *argv[] = {(char *)p->name, NULL}, *envp[] = {NULL};
	int fd = program_in_memory(), r;
	pid_t pid;

	if (fd < 0)
		return NOTHING;
	pid = fork();
	if (pid == 0) {
		syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
		_exit(errno);
	}
	r = wait_for_child(pid);
	close(fd);
	return r;
}

static int try_mapping(int fd, int flags, int protection)
{
	void *p = mmap(NULL, 4096, protection, MAP_PRIVATE | flags, fd, 0);
	int e = errno;

	if (p == MAP_FAILED)
		return -e;
	munmap(p, 4096);
	return 0;
}

static int try_map_memfd(const struct probe *p)
{
	int fd = program_in_memory(), r;

	(void)p;
	if (fd < 0)
		return NOTHING;
	r = try_mapping(fd, 0, PROT_READ | PROT_EXEC);
	close(fd);
	return r;
}

static int try_map_nothing(const struct probe *p)
{
	return try_mapping(-1, MAP_ANONYMOUS, p->number);
}

static int try_protect(const struct probe *p)
{
	void *page =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (page == MAP_FAILED)
		return NOTHING;
	r = result(mprotect(page, 4096, p->number));
	munmap(page, 4096);
	return r;
}

/* ---- to reach other processes ---- */

static int try_ptrace(const struct probe *p)
{
	(void)p;
	return result(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int try_process_vm(const struct probe *p)
{
	char from = 'x', to = 'y';
	struct iovec a = {&to, 1}, b = {&from, 1};

	return result(syscall(p->number, getpid(), &a, 1, &b, 1, 0));
}

static int try_keyctl(const struct probe *p)
{
	(void)p;
	return result(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

static int try_add_key(const struct probe *p)
{
	return result(syscall(SYS_add_key, "user", p->name, "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

static int try_request_key(const struct probe *p)
{
	int r = result(syscall(SYS_request_key, "user", p->name, NULL, 0));

	return r == -ENOKEY ? 0 : r;
}

static int try_write(const struct probe *p)
{
	int r = close_result(open(p->path, p->number | O_CLOEXEC, 0600));

	if (r == 0 && p->number & O_CREAT)
		unlink(p->path);
	return r;
}

/* The way round every rule about pages that are both written and run. */
static int try_memory(const struct probe *p)
{
	int r = result(prctl(PR_SET_DUMPABLE, 1));

	if (r == 0)
		r = close_result(open(p->path, O_RDWR | O_CLOEXEC));
	(void)prctl(PR_SET_DUMPABLE, 0);
	return r;
}

/* ---- sockets ---- */

static int try_socket(const struct probe *p)
{
	return close_result(socket(p->number, SOCK_RAW | SOCK_CLOEXEC, 0));
}

static int try_stream(const struct probe *p)
{
	return close_result(socket(p->number, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/* The family of vsock has no pairs: it says so only where nothing was in the way. */
static int try_pair(const struct probe *p)
{
	int s[2], r = result(socketpair(p->number, SOCK_STREAM | SOCK_CLOEXEC, 0, s));

	if (r == 0)
		close(s[0]), close(s[1]);
	return r == -EOPNOTSUPP ? 0 : r;
}

static int try_ring(const struct probe *p)
{
	int r = test_probe_ring_socket(p->number,
				       p->number == AF_VSOCK ? SOCK_STREAM : SOCK_RAW);

	if (r >= 0)
		close(r);
	return MIN(r, 0);
}

/* By any way that works. */
static int vsock_socket(void)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 ? fd : test_probe_ring_socket(AF_VSOCK, SOCK_STREAM);
}

static int try_vsock_listen(const struct probe *p)
{
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VSOCK_PORT};
	int fd = vsock_socket(), r;

	(void)p;
	if (fd < 0)
		return NOTHING;
	r = result(bind(fd, (struct sockaddr *)&vm, sizeof(vm)));
	if (r == 0)
		r = result(listen(fd, 1));
	close(fd);
	return r;
}

static int try_vsock_connect(const struct probe *p)
{
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK, .svm_cid = ENCLAVE_CID, .svm_port = VSOCK_PORT};
	int fd = vsock_socket(), r;

	(void)p;
	if (fd < 0)
		return NOTHING;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	r = result(connect(fd, (struct sockaddr *)&vm, sizeof(vm)));
	close(fd);
	return r == -EPERM || r == -EACCES ? r : 0;
}

/* A path that begins with @ is an abstract name. */
static struct sockaddr_un unix_address(const char *path, socklen_t *ret_n)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	memcpy(un.sun_path, path, n);
	if (un.sun_path[0] == '@')
		un.sun_path[0] = '\0';
	*ret_n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return un;
}

static int try_bind(const struct probe *p)
{
	socklen_t n;
	struct sockaddr_un un = unix_address(p->path, &n);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = result(bind(fd, (struct sockaddr *)&un, n));

	if (r == 0 && p->path[0] == '/')
		unlink(p->path);
	if (fd >= 0)
		close(fd);
	return r;
}

static int try_listen(const struct probe *p)
{
	int fd = socket(p->number, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = result(listen(fd, 1));

	if (fd >= 0)
		close(fd);
	return r == -EINVAL ? 0 : r; /* a Unix socket without a name: the kernel was asked */
}

static int try_connect(const struct probe *p)
{
	socklen_t n;
	struct sockaddr_un un = unix_address(p->path, &n);
	int fd = socket(AF_UNIX, p->number | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = result(connect(fd, (struct sockaddr *)&un, n));

	if (fd >= 0)
		close(fd);
	return r == -EAGAIN ? 0 : r;
}

static const struct probe probes[] = {
	{"fork", try_fork},
	{"execve", try_execve, PROGRAM},
	{"execve-listed", try_execve, "/bin/kill"},
	{"memfd", try_memfd},
	{"execveat-memfd", try_execveat},
	{"map-exec-memfd", try_map_memfd},
	{"map-exec-anonymous", try_map_nothing, .number = PROT_READ | PROT_EXEC},
	{"map-write-exec", try_map_nothing, .number = PROT_READ | PROT_WRITE | PROT_EXEC},
	{"protect-exec", try_protect, .number = PROT_READ | PROT_EXEC},

	{"ptrace", try_ptrace},
	{"process-vm-readv", try_process_vm, .number = SYS_process_vm_readv},
	{"process-vm-writev", try_process_vm, .number = SYS_process_vm_writev},
	{"keyctl", try_keyctl},
	{"add-key", try_add_key},
	{"request-key", try_request_key},

	{"write-etc", try_write, "/etc/kms-vsock-proxy-probe", O_WRONLY | O_CREAT},
	{"write-var", try_write, "/var/tmp/kms-vsock-proxy-probe", O_WRONLY | O_CREAT},
	{"write-run", try_write, "/run/kms-vsock-proxy/probe", O_WRONLY | O_CREAT},
	{"write-null", try_write, "/dev/null", O_RDWR},
	{"write-memory", try_memory, "/proc/self/mem"},

	{"socket-vsock", try_stream, .number = AF_VSOCK},
	{"socket-netlink", try_socket, .number = AF_NETLINK},
	{"socket-packet", try_socket, .number = AF_PACKET},
	{"pair-vsock", try_pair, .number = AF_VSOCK},
	{"ring-vsock", try_ring, .number = AF_VSOCK},
	{"ring-netlink", try_ring, .number = AF_NETLINK},
	{"ring-packet", try_ring, .number = AF_PACKET},
	{"vsock-listen", try_vsock_listen},
	{"vsock-connect", try_vsock_connect},
	{"listen", try_listen, .number = AF_UNIX},
	{"listen-inet", try_listen, .number = AF_INET},
	{"bind-named", try_bind, "/run/kms-vsock-proxy/probe.sock"},
	{"bind-abstract", try_bind, "@kms-vsock-proxy-probe"},

	{"unix-abstract", try_connect, "@kms-vsock-proxy-test", SOCK_STREAM},
	{"unix-bus", try_connect, "/run/dbus/system_bus_socket", SOCK_STREAM},
	{"unix-oom", try_connect, "/run/systemd/io.system.ManagedOOM", SOCK_STREAM},
	{"unix-userdb", try_connect, "/run/systemd/userdb/io.systemd.DynamicUser", SOCK_STREAM},
	{"unix-journal", try_connect, "/run/systemd/journal/socket", SOCK_DGRAM},
	{"unix-notify", try_connect, "/run/systemd/notify", SOCK_DGRAM},
	{"unix-resolve", try_connect, "/run/systemd/resolve/io.systemd.Resolve", SOCK_STREAM},
};

/* ---- connections as a worker makes them ---- */

struct connect_probe {
	const char *name;
	const char *address;
	struct connector_tls *tls;
	struct connector *connector;
	struct dial *dial;
};

static void tell_connect(const struct connect_probe *p, const char *way, const char *why)
{
	if (why)
		log_event(EVENT_MACHINE, NULL, "probe %s-%s: denied (%s)", way, p->name, why);
	else
		log_event(EVENT_MACHINE, NULL, "probe %s-%s: ALLOWED", way, p->name);
}

static void on_connected(struct connector *c, const char *why, void *userdata)
{
	struct connect_probe *p = userdata;

	(void)c;
	tell_connect(p, "connect", why);
	p->connector = connector_free(p->connector);
	p->tls = connector_tls_free(p->tls);
}

static void on_dialled(int fd, const char *why, void *userdata)
{
	struct connect_probe *p = userdata;

	tell_connect(p, "dial", why);
	p->dial = dial_free(p->dial);
	if (fd >= 0)
		close(fd);
}

/* As a worker connects to a name that resolved to this address, for a request and a tunnel. */
static void probe_connect(struct connect_probe *p, struct event_base *base)
{
	X509_STORE *store = X509_STORE_new();
	struct connector_options options = {
		.host = "probe.invalid",
		.addresses = p->address,
		.port = 443,
		.timeout = USEC_PER_SEC,
	};
	struct dial_options dial = {.addresses = p->address, .port = 443};

	if (!store || connector_tls_new(store, &p->tls) < 0 ||
	    (options.tls = p->tls,
	     connector_new(base, &options, on_connected, p, &p->connector)) < 0 ||
	    dial_new(base, &dial, on_dialled, p, &p->dial) < 0)
		log_event(EVENT_MACHINE, NULL, "probe %s: out of memory", p->name);
	X509_STORE_free(store);
}

void test_probe(struct event_base *base)
{
	static struct connect_probe connects[] = {
		{.name = "loopback", .address = "127.0.0.1"},
		{.name = "imds", .address = "169.254.169.254"},
		{.name = "imds6", .address = "[fd00:ec2::254]"},
	};

	for (size_t i = 0; i < ELEMENTSOF(probes); i++)
		tell(probes[i].name, probes[i].run(&probes[i]));
	for (size_t i = 0; i < ELEMENTSOF(connects); i++)
		probe_connect(&connects[i], base);
}

#endif
