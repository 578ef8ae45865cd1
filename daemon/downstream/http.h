/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The protocol that every connection begins with: reads heads and bodies, hands each request to
 * request_step.c, writes the answer. A connection whose first byte is TLS's, or that asks for
 * CONNECT, becomes a tunnel's. It decides nothing about a request. */

#include "clock.h"
#include "context.h"
#include "identity.h"

/* Takes over an accepted socket, as connection_new() does; what fails is recorded and closed.
 */
void http_accept(struct context *context, int fd, const struct identity *identity,
		 struct instant now);
