/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The protocol of a connection over its enclave's limits.connections: it is told so when it
 * asks, by an answer that SDKs try again after, and closed when it could read it. It holds a
 * descriptor for two seconds at most, of a number that is fixed (LIMIT_SURPLUS). */

#include "clock.h"
#include "context.h"
#include "identity.h"

/* Takes over an accepted socket, as connection_new() does. */
void surplus_accept(struct context *context, int fd, const struct identity *identity,
		    struct instant now);
