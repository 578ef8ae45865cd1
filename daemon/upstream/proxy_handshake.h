/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What is said to an HTTP proxy before a connection through it is the host's: CONNECT (RFC 9110
 * 9.3.6), and its answer. Does no waiting: whoever watches the socket has it go on. */

#include "macro.h"
#include "proxy_authorization.h"

/* Where the proxy is to lead. */
struct proxy_target {
	const char *host; /* a name or an address without brackets */
	unsigned port;
	struct proxy_authorization *authorization; /* borrowed; NULL: none */
};

enum proxy_result {
	PROXY_WAIT,    /* for the socket to change */
	PROXY_THROUGH, /* what is sent and received from now on is the host's */
	PROXY_REFUSED, /* it answered with another status than 2xx */
	PROXY_BROKEN,  /* it ended, or said what it must not */
};

struct proxy_handshake;

/* Keeps what it needs of `target`. -ENOMEM. */
_must_check_ int proxy_handshake_new(const struct proxy_target *target,
				     struct proxy_handshake **ret_handshake);

/* Accepts and returns NULL. */
struct proxy_handshake *proxy_handshake_free(struct proxy_handshake *h);
DEFINE_CLEANUP(struct proxy_handshake *, proxy_handshake_free)

/* Goes on with a connected, non-blocking socket, when it may have changed. Not to be called
 * again after another result than PROXY_WAIT. */
_must_check_ enum proxy_result proxy_handshake_go(struct proxy_handshake *h, int fd);

/* After PROXY_REFUSED and PROXY_BROKEN: why, in one phrase, without anything from the wire. */
const char *proxy_handshake_why(const struct proxy_handshake *h);
