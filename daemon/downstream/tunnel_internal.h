/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What tunnel.c (until a tunnel is open, and its end) and tunnel_copy.c (while it is open)
 * share; nobody else includes this. */

#include "client_hello.h"
#include "connection.h"
#include "dial.h"
#include "lookup.h"
#include "pump.h"
#include "tunnel.h"

#include <event2/event_struct.h>

enum tunnel_state {
	TUNNEL_HELLO,   /* reading the ClientHello: the first thing, or that inside a CONNECT */
	TUNNEL_LOOKUP,  /* of the host's name */
	TUNNEL_CONNECT, /* to the host */
	TUNNEL_OPEN,
	TUNNEL_OVER, /* in the bin */
};

struct tunnel {
	struct bin_entry bin;
	enum tunnel_state state;
	/* not to be touched once it is over */
	struct connection *connection;
	struct context *context;
	bool by_connect;          /* CONNECT: connected before the hello comes */
	struct tunnel_host *host; /* of the connection's generation; NULL until it is known */
	char name[SERVER_NAME_SIZE + 8]; /* host:port, for records; "" until it is known */
	bool counted;                    /* in the enclave's gauge of tunnels */
	size_t charged;                  /* of its share of memory */
	struct buf early;                /* from the enclave, until the tunnel is open */
	struct lookup lookup;
	struct dial *dial; /* while it connects */
	int host_fd;       /* connected, and watched by host_event; -1: not yet */
	struct event host_event;
	bool kept_alive; /* by probes, which one that lasts gets */
	struct pump pump;
	struct event refill; /* waits for the bandwidth */
	usec_t deadline, started, moved;
	uint64_t moved_bytes;
	int first_ended; /* the end that closed first; -1: none yet */
};

/* ---- tunnel.c ---- */

const struct tunnel_config *tunnel_config(const struct tunnel *t);

/* Charges what is held now to the enclave's share of memory; false: it is used up. */
bool tunnel_recharge(struct tunnel *t, size_t held);

/* Ends an open tunnel, or one that nobody waits for. */
void tunnel_end(struct tunnel *t, enum reason why, struct instant now);

/* ---- tunnel_copy.c; each may end the tunnel ---- */

/* Copies a little, when something has happened, or more, when it has its turn. */
void tunnel_copy_event(struct tunnel *t, struct instant now);
void tunnel_copy_turn(struct tunnel *t, struct instant now);

/* The event callbacks of the host's socket and of the wait for bandwidth. */
void tunnel_on_host(evutil_socket_t fd, short what, void *userdata);
void tunnel_on_refill(evutil_socket_t fd, short what, void *userdata);

/* Ends a tunnel that nobody uses, or whose end takes nothing. */
void tunnel_sweep_open(struct tunnel *t, struct instant now);
