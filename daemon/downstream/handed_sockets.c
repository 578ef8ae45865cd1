/* SPDX-License-Identifier: Apache-2.0 */
#include "handed_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* Fills in what the kernel says of the socket; `s` has its name and descriptor. */
static int handed_socket_check(struct handed_socket *s, struct error *error)
{
	union {
		struct sockaddr any;
		struct sockaddr_vm vm;
		struct sockaddr_storage storage;
	} address = {0};
	socklen_t n = sizeof(address);
	int flags;

	if (sd_is_socket(s->fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
		return error_set(error,
				 "socket \"%s\" from systemd is not a listening stream "
				 "socket (use ListenStream= and Accept=no)",
				 s->name);
	if (getsockname(s->fd, &address.any, &n) < 0)
		return error_set_errno(error, -errno, "socket \"%s\" from systemd", s->name);
	s->family = address.any.sa_family;
	if (s->family != AF_VSOCK && s->family != AF_UNIX)
		return error_set(
			error,
			"socket \"%s\" from systemd is neither vsock nor a Unix socket: "
			"anybody on the network could be its peer",
			s->name);
	s->port = s->family == AF_VSOCK ? address.vm.svm_port : 0;

	flags = fcntl(s->fd, F_GETFL);
	if (flags < 0 || fcntl(s->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_set_errno(error, -errno, "socket \"%s\" from systemd", s->name);
	return 0;
}

void handed_sockets_done(struct handed_sockets *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->list[i].fd >= 0)
			close(s->list[i].fd);
		free(s->list[i].name);
	}
	free(s->list);
	*s = (struct handed_sockets){0};
}

/* Takes the names over; libsystemd made them. */
static int handed_sockets_init(struct handed_sockets *s, char **names, size_t n)
{
	s->list = calloc(n, sizeof(*s->list));
	for (size_t i = 0; i < n; i++) {
		if (s->list)
			s->list[s->n++] = (struct handed_socket){
				.name = names[i],
				.fd = SD_LISTEN_FDS_START + (int)i,
			};
		else
			free(names[i]);
	}
	free(names);
	return s->list ? 0 : -ENOMEM;
}

int handed_sockets_take(struct handed_sockets *ret_sockets, struct error *error)
{
	_cleanup_(handed_sockets_done) struct handed_sockets s = {0};
	char **names = NULL;
	int n, r = 0;

	n = sd_listen_fds_with_names(1, &names); /* sets close-on-exec */
	if (n > 0)
		r = handed_sockets_init(&s, names, (size_t)n);
	if (n < 0 || r < 0)
		return error_set_errno(error, MIN(n, r), "sockets from systemd");
	for (size_t i = 0; i < s.n; i++) {
		r = handed_socket_check(&s.list[i], error);
		if (r < 0)
			return r;
	}
	*ret_sockets = s;
	s = (struct handed_sockets){0};
	return 0;
}
