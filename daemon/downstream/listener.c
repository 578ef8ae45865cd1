/* SPDX-License-Identifier: Apache-2.0 */
#include "listener.h"

#include "clock.h"
#include "limit.h"
#include "log.h"

#include <errno.h>
#include <event2/event_struct.h>
#include <grp.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096 /* what comes while the loop is busy; more is reset by the kernel */
#define ACCEPTS 16   /* a turn of the loop: they are served in it, and others want theirs */
#define FIRST_ENCLAVE_CID 4
#define PAUSE_MSEC 100 /* after accept() ran out of descriptors or memory */

struct listener {
	int fd;
	bool handed; /* by systemd: what waits there is for the next start */
	bool started;
	struct event event, pause;
	listener_cb accepted;
	void *userdata;
	char *enclave;
	char *unlink;   /* the Unix socket's path, if we made it */
	bool failing;   /* accept() is failing: said once */
	char name[160]; /* "vsock port 8000", for messages */
};

const char *listener_enclave(const struct listener *l)
{
	return l->enclave;
}

struct peer peer_identify(const struct config *config, const char *listener_enclave,
			  const struct sockaddr *address, socklen_t n)
{
	struct peer peer = {.enclave_index = -1};
	struct sockaddr_vm vm;

	if (n < sizeof(address->sa_family))
		return peer;
	if (address->sa_family == AF_UNIX && listener_enclave) {
		peer.enclave_index = config_find_slot(config, listener_enclave);
		return peer;
	}
	if (address->sa_family != AF_VSOCK || n < sizeof(vm) || listener_enclave)
		return peer;

	memcpy(&vm, address, sizeof(vm));
	peer.has_cid = true;
	peer.cid = vm.svm_cid;
	if (vm.svm_cid >= FIRST_ENCLAVE_CID && vm.svm_cid != VMADDR_CID_ANY)
		peer.enclave_index = config_find_cid(config, vm.svm_cid);
	return peer;
}

/* ---- accepting ---- */

/* Out of something: pauses, rather than spin on a socket that stays readable. */
static void pause_accepting(struct listener *l, int e)
{
	static const struct timeval pause = {0, PAUSE_MSEC * 1000};

	if (!l->failing)
		log_event(EVENT_ACCEPT_FAIL, NULL, "%s: can't accept connections: %s", l->name,
			  strerrordesc_np(e));
	l->failing = true;
	event_del(&l->event);
	event_add(&l->pause, &pause);
}

static void on_pause_over(evutil_socket_t fd, short what, void *userdata)
{
	struct listener *l = userdata;

	(void)fd;
	(void)what;
	if (event_add(&l->event, NULL) < 0)
		pause_accepting(l, ENOMEM);
}

/* The kernel makes a whole socket before it finds that none is there to accept. */
static bool is_waiting(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* At least one is waiting. */
static void accept_waiting(struct listener *l, int most)
{
	for (int i = 0; i < most && (i == 0 || is_waiting(l->fd)); i++) {
		struct sockaddr_storage peer = {0};
		socklen_t n = sizeof(peer);
		int s = accept4(l->fd, (struct sockaddr *)&peer, &n,
				SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (s >= 0) {
			l->failing = false;
			l->accepted(l, s, (struct sockaddr *)&peer, n, l->userdata);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue; /* that one is gone; the next may not be */
		if (errno != EAGAIN)
			pause_accepting(l, errno);
		return;
	}
}

static void on_connection(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	accept_waiting(userdata, ACCEPTS);
}

void listener_accept_rest(struct listener *l)
{
	if (l->started && !l->handed && is_waiting(l->fd))
		accept_waiting(l, BACKLOG);
}

/* ---- opening ---- */

/* Of the connections that it will accept, which take it over. It is no more than the kernel's
 * default where that fails. */
static void bound_buffer(int fd)
{
	uint64_t size = LIMIT_VSOCK_BUFFER;

	(void)setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof(size));
}

static bool hands_vsock(const struct handed_sockets *handed)
{
	for (size_t i = 0; i < handed->n; i++)
		if (handed->list[i].family == AF_VSOCK)
			return true;
	return false;
}

/* What the operator can do: the unit of the daemon can't make such a socket, and need not. */
static int explain_no_vsock(const struct listener *l, int e, unsigned port,
			    const struct handed_sockets *handed, struct error *error)
{
	if (e == -EPERM || e == -EACCES)
		return error_set_errno(
			error, e,
			"%s: a seccomp filter or security module forbids vsock "
			"sockets; it must allow socket(AF_VSOCK), as the default "
			"profiles of container runtimes don't",
			l->name);
	if (hands_vsock(handed))
		return error_set_errno(
			error, e,
			"%s: no vsock socket can be made here, and kms-vsock-proxy.socket "
			"hands "
			"over other ports only; add ListenStream=vsock::%u to it in a drop-in "
			"(systemctl edit kms-vsock-proxy.socket) and restart it",
			l->name, port);
	return error_set_errno(error, e,
			       "%s: no vsock socket can be made here; enable "
			       "kms-vsock-proxy.socket, which hands one over",
			       l->name);
}

static int bind_vsock(struct listener *l, unsigned port, const struct handed_sockets *handed,
		      struct error *error)
{
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	int e;

	l->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return explain_no_vsock(l, -errno, port, handed, error);
	bound_buffer(l->fd);
	if (bind(l->fd, (struct sockaddr *)&vm, sizeof(vm)) < 0) {
		e = -errno;
		return error_set_errno(error, e, "%s: can't bind%s", l->name,
				       e == -EADDRINUSE
					       ? " (another process, or "
						 "kms-vsock-proxy.socket, has the port)"
					       : "");
	}
	return 0;
}

/* A socket file nobody listens on any more is removed; one that answers is somebody's. */
static int remove_stale(const struct sockaddr_un *un, const char *name, struct error *error)
{
	struct stat st;
	int s, r, e;

	if (lstat(un->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		error_set(error, "%s: there is a file that is no socket", name);
		return -EEXIST;
	}
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	r = connect(s, (const struct sockaddr *)un, sizeof(*un));
	e = errno;
	close(s);
	if (r == 0 || e != ECONNREFUSED) {
		error_set(error, "%s: another process listens there", name);
		return -EADDRINUSE;
	}
	return unlink(un->sun_path) < 0 ? -errno : 0;
}

static int set_group(const char *path, const char *group, const char *name, struct error *error)
{
	const struct group *g = getgrnam(group);
	int e;

	if (!g) {
		error_set(error, "%s: there is no group %s", name, group);
		return -ENOENT;
	}
	if (chown(path, (uid_t)-1, g->gr_gid) < 0) {
		e = -errno;
		return error_set_errno(error, e, "%s: can't give it to group %s", name, group);
	}
	return 0;
}

static int bind_unix(struct listener *l, const struct listener_config *config,
		     struct error *error)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	mode_t before;
	int r, e;

	if (strlen(config->path) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	memcpy(un.sun_path, config->path, strlen(config->path));
	r = remove_stale(&un, l->name, error);
	if (r < 0)
		return r;

	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return -errno;
	before = umask(0777); /* nobody may connect before mode and group are right */
	r = bind(l->fd, (struct sockaddr *)&un, sizeof(un));
	e = errno;
	umask(before);
	if (r < 0)
		return error_set_errno(error, -e, "%s: can't bind", l->name);
	l->unlink = strdup(config->path);
	if (config->group) {
		r = set_group(config->path, config->group, l->name, error);
		if (r < 0)
			return r;
	}
	return chmod(config->path, config->mode) < 0 ? -errno : 0;
}

/* The socket that was handed over for this entry, or -1. */
static int take_handed(const struct listener_config *config, struct handed_sockets *handed,
		       sa_family_t *ret_family)
{
	for (size_t i = 0; i < handed->n; i++) {
		struct handed_socket *s = &handed->list[i];
		bool fits = config->kind == LISTENER_SYSTEMD
				    ? strcmp(s->name, config->fd_name) == 0
				    : config->kind == LISTENER_VSOCK && s->family == AF_VSOCK &&
					      s->port == config->port;

		if (s->fd < 0 || !fits)
			continue;
		*ret_family = s->family;
		return TAKE_FD(s->fd);
	}
	return -1;
}

static int open_socket(struct listener *l, const struct listener_config *config,
		       struct handed_sockets *handed, struct error *error)
{
	sa_family_t family = AF_UNSPEC;
	int r;

	l->fd = take_handed(config, handed, &family);
	if (l->fd >= 0) {
		l->handed = true;
		if (family == AF_VSOCK)
			bound_buffer(l->fd);
		if ((family == AF_UNIX) == (l->enclave != NULL))
			return 0;
		return error_set(
			error,
			family == AF_UNIX
				? "%s: a Unix socket has no CID; the entry must name its "
				  "`enclave`"
				: "%s: the CID names the enclave of a vsock socket; the "
				  "entry must not",
			l->name);
	}
	switch (config->kind) {
	case LISTENER_VSOCK:
		r = bind_vsock(l, config->port, handed, error);
		break;
	case LISTENER_UNIX:
		r = bind_unix(l, config, error);
		break;
	case LISTENER_SYSTEMD:
		return error_set(error, "%s: systemd handed over no socket of this name",
				 l->name);
	default:
		return -EINVAL;
	}
	if (r == 0 && listen(l->fd, BACKLOG) < 0)
		r = -errno;
	return r;
}

static void set_name(struct listener *l, const struct listener_config *config)
{
	switch (config->kind) {
	case LISTENER_VSOCK:
		snprintf(l->name, sizeof(l->name), "vsock port %u", config->port);
		return;
	case LISTENER_UNIX:
		snprintf(l->name, sizeof(l->name), "unix socket %s", config->path);
		return;
	case LISTENER_SYSTEMD:
		snprintf(l->name, sizeof(l->name), "socket \"%s\" of systemd", config->fd_name);
		return;
	}
}

int listener_new(const struct listener_config *config, const char *enclave,
		 struct handed_sockets *handed, struct listener **ret_listener,
		 struct error *error)
{
	_cleanup_(listener_freep) struct listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->fd = -1;
	l->enclave = enclave ? strdup(enclave) : NULL;
	if (enclave && !l->enclave)
		return -ENOMEM;
	set_name(l, config);
	r = open_socket(l, config, handed, error);
	if (r < 0) {
		if (!error->text[0])
			error_set_errno(error, r, "%s", l->name);
		return r;
	}
	*ret_listener = TAKE_PTR(l);
	return 0;
}

void listener_start(struct listener *l, struct event_base *base, listener_cb accepted,
		    void *userdata)
{
	l->accepted = accepted;
	l->userdata = userdata;
	l->started = true;
	event_assign(&l->event, base, l->fd, EV_READ | EV_PERSIST, on_connection, l);
	evtimer_assign(&l->pause, base, on_pause_over, l);
	on_pause_over(-1, 0, l);
}

struct listener *listener_free(struct listener *l)
{
	if (!l)
		return NULL;
	if (l->started) {
		event_del(&l->event);
		event_del(&l->pause);
	}
	if (l->unlink)
		(void)unlink(l->unlink);
	if (l->fd >= 0)
		close(l->fd);
	free(l->unlink);
	free(l->enclave);
	free(l);
	return NULL;
}
