/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One outgoing TCP connection that is being made, to whichever of a host's addresses answers
 * first (RFC 8305): the next is tried when one failed or took DIAL_STAGGER, IPv4 and IPv6 in
 * turn, LIMIT_DIAL_SOCKETS of them at a time. Or to those of an HTTP proxy, which is then asked
 * for the way to the host. The connected socket is its caller's. */

#include "address.h"
#include "clock.h"
#include "macro.h"
#include "proxy_handshake.h"

#include <event2/event.h>
#include <stdbool.h>

#define DIAL_STAGGER (250 * USEC_PER_MSEC)

struct dial;

/* Whose fault it is that there is no connection. */
enum dial_fault {
	DIAL_HOST = 0,
	DIAL_NO_PROXY,      /* the proxy can't be reached */
	DIAL_PROXY_REFUSED, /* it was asked, and answered that it won't */
	DIAL_PROXY_BROKEN,  /* it was asked, and did not answer as it must */
};

struct dial_options {
	const char *addresses; /* as the resolver gives them, or one IP literal */
	unsigned port;
	enum address_class reach; /* the worst that it may connect to: see dial_reach() */
	const struct proxy_target *through; /* addresses and port are a proxy's; NULL: not */
};

/* Called once: `fd` is connected, non-blocking and the callee's, or it is -1 and `why` says in
 * one phrase why the last address failed. The dial must be freed in it: until then it still
 * watches the socket. */
typedef void (*dial_cb)(int fd, const char *why, void *userdata);

/* How far what the operator named may reach: a host that is looked up no place of this machine;
 * `connect_to` loopback as well; and an IP address that stands there whatever it is, where TLS
 * checks who answers, and how it is spoken to (`tls`). */
enum address_class dial_reach(const char *connect_to, bool tls);

/* Begins to connect; never calls `done` before it returns. There is no deadline but the
 * kernel's: the owner has one. */
_must_check_ int dial_new(struct event_base *base, const struct dial_options *options,
			  dial_cb done, void *userdata, struct dial **ret_dial);

/* Whose fault it is: called in `done`, or when the owner's deadline is over. */
enum dial_fault dial_fault(const struct dial *d);

/* Closes what isn't connected yet; accepts NULL; returns NULL. */
struct dial *dial_free(struct dial *d);
DEFINE_CLEANUP(struct dial *, dial_free)

/* Has the kernel send probes on a connected socket that is idle, so that NAT on the way doesn't
 * forget it. Three system calls, which a short connection is spared. Negative errno. */
_must_check_ int dial_keep_alive(int fd);
