/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The service manager: what we tell it (sd_notify(3)), and the sockets it hands over
 * (sd_listen_fds(3)). Without one all of it does nothing. The control thread's. */

#include "clock.h"
#include "error.h"
#include "macro.h"

#include <stddef.h>
#include <sys/socket.h>

/* Started, or a reload is over. `status` is the line that `systemctl status` shows. */
void notify_ready(const char *status);

/* A reload begins; notify_ready() ends it, also when it failed. */
void notify_reloading(void);

void notify_stopping(const char *status);
void notify_status(const char *status);

/* The daemon is alive: at least twice in the unit's WatchdogSec=. */
void notify_watchdog(void);

/* What goes on now, start or stop, may take `more` from now on. */
void notify_extend_timeout(usec_t more);

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
_must_check_ int notify_take_sockets(struct handed_sockets *ret_sockets, struct error *error);

/* Closes the descriptors that are still there (TAKE_FD what you keep) and frees the list. */
void handed_sockets_done(struct handed_sockets *sockets);
