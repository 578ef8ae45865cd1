/* SPDX-License-Identifier: Apache-2.0 */
#include "test_hooks.h"

#ifdef TEST_HOOKS

#include "connector.h"
#include "dial.h"
#include "log.h"
#include "macro.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum test_hook test_hook_read(void)
{
	int fd = open(TEST_HOOK_FILE, O_RDONLY | O_CLOEXEC);
	char word[16] = "";

	if (fd < 0)
		return TEST_HOOK_NONE;
	if (read(fd, word, sizeof(word) - 1) < 0)
		word[0] = '\0';
	close(fd);
	word[strcspn(word, "\n")] = '\0';
	return strcmp(word, "spin") == 0    ? TEST_HOOK_SPIN
	       : strcmp(word, "probe") == 0 ? TEST_HOOK_PROBE
					    : TEST_HOOK_NONE;
}

static void tell(const char *name, int r, int e)
{
	if (r < 0)
		log_event(EVENT_MACHINE, NULL, "probe %s: denied (%s)", name,
			  strerrorname_np(e) ?: "?");
	else
		log_event(EVENT_MACHINE, NULL, "probe %s: ALLOWED", name);
}

/* In a child, whose exit code is the errno: an execve() that works doesn't come back. */
static void probe_execve(void)
{
	char name[] = "true", *argv[] = {name, NULL}, *envp[] = {NULL};
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		execve("/bin/true", argv, envp);
		_exit(errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		tell("execve", -1, errno);
		return;
	}
	tell("execve", WEXITSTATUS(status) ? -1 : 0, WEXITSTATUS(status));
}

static void probe_write(const char *name, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int e = errno;

	tell(name, fd, e);
	if (fd >= 0)
		close(fd);
}

static void probe_socket(const char *name, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int e = errno;

	tell(name, fd, e);
	if (fd >= 0)
		close(fd);
}

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

static void probe(struct event_base *base)
{
	static struct connect_probe connects[] = {
		{.name = "loopback", .address = "127.0.0.1"},
		{.name = "imds", .address = "169.254.169.254"},
		{.name = "imds6", .address = "[fd00:ec2::254]"},
	};
	int r;

	probe_execve();
	probe_write("write-etc", "/etc/kms-vsock-proxy-probe");
	probe_write("write-var", "/var/tmp/kms-vsock-proxy-probe");
	r = (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
	tell("ptrace", r, errno);
	probe_socket("socket-vsock", AF_VSOCK);
	probe_socket("socket-netlink", AF_NETLINK);
	for (size_t i = 0; i < ELEMENTSOF(connects); i++)
		probe_connect(&connects[i], base);
}

void test_hook_run(enum test_hook hook, struct event_base *base)
{
	switch (hook) {
	case TEST_HOOK_SPIN:
		for (;;)
			pause();
	case TEST_HOOK_PROBE:
		probe(base);
		return;
	case TEST_HOOK_NONE:
		return;
	}
}

#endif
