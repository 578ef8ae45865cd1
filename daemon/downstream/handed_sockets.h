/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The sockets that the service manager hands over (sd_listen_fds(3)). Without one there are
 * none. */

#include "error.h"
#include "macro.h"

#include <stddef.h>
#include <sys/socket.h>

/* A listening stream socket that was handed over. */
struct handed_socket {
	char *name;         /* FileDescriptorName= */
	int fd;             /* close-on-exec, non-blocking */
	sa_family_t family; /* AF_VSOCK or AF_UNIX */
	unsigned port;      /* of AF_VSOCK */
};

struct handed_sockets {
	struct handed_socket *list;
	size_t n;
};

/* Takes what was handed over, once, before any thread is made (it clears the environment of
 * it). None is a success. -EINVAL with a sentence: one of them is of no use to us (not
 * listening, not a stream, or a socket that the network could reach); then none is kept. */
_must_check_ int handed_sockets_take(struct handed_sockets *ret_sockets, struct error *error);

/* Closes the descriptors that are still there (TAKE_FD what you keep) and frees the list. */
void handed_sockets_done(struct handed_sockets *sockets);
