/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A connection whose enclave speaks TLS itself, or asks for CONNECT: passed through to one of
 * the hosts that the enclave's `tunnel` lists, by the server name or the authority; or, by the
 * authority only, whatever passes to one that is listed with `tls: false`. Nothing is
 * looked up, connected or copied before the host was allowed; then bytes are copied unaltered.
 * The connection stays the owner of the enclave's socket. */

#include "clock.h"
#include "connection.h"
#include "http_head.h"
#include "macro.h"
#include "slice.h"

/* The first byte was TLS's: `bytes` are what has come so far. The connection is its from now
 * on, if it isn't closed at once. -ENOMEM: it was not taken over. */
_must_check_ int tunnel_new_tls(struct connection *c, struct slice bytes, struct instant now);

/* A whole CONNECT head came; `rest` is what came after it. As above. */
_must_check_ int tunnel_new_connect(struct connection *c, const struct http_head *head,
				    struct slice rest, struct instant now);
