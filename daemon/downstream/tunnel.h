/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A connection whose enclave speaks TLS itself, or asks for CONNECT: passed through to one of
 * the hosts that the enclave's `tunnel` lists, by the server name or the authority. Nothing is
 * looked up, connected or copied before the host was allowed; then bytes are copied unaltered.
 * The connection stays the owner of the enclave's socket. */

#include "clock.h"
#include "generation.h"
#include "http_head.h"
#include "macro.h"
#include "slice.h"

struct connection;
struct tunnel;

/* The first byte was TLS's: `bytes` are what has come so far. Takes the connection over; it may
 * be gone when this returns. -ENOMEM: it was not taken over. */
_must_check_ int tunnel_new_tls(struct connection *c, struct slice bytes, usec_t now);

/* A whole CONNECT head came; `rest` is what came behind it. As above. */
_must_check_ int tunnel_new_connect(struct connection *c, const struct http_head *head,
				    struct slice rest, usec_t now);

/* Ends it and records it; returns NULL. The connection is its caller's again. */
struct tunnel *tunnel_free(struct tunnel *t, const char *why);

/* What the connection tells it: its socket changed (EV_READ, ... or 0 for a turn), time goes
 * by. The connection may be gone when these return. */
void tunnel_io(struct tunnel *t, short what, usec_t now);
void tunnel_sweep(struct tunnel *t, usec_t now);

/* A reload: lives on, its connection moved to the new generation, if its host is still allowed;
 * `enclave` is the connection's index there, or -1. Else the connection is gone. */
void tunnel_reload(struct tunnel *t, struct generation *generation, int enclave);

/* The worker got a MESSAGE_ADDRESSES; true if it was for this one. Doesn't take `addresses`. */
bool tunnel_addresses(struct tunnel *t, uint64_t id, const char *addresses, int code,
		      usec_t now);
