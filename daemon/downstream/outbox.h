/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What is left to send of an answer: its head and its body, whose bytes are another's. */

#include "limit.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct outbox {
	struct slice left[2];
	size_t whole; /* bytes of both, when nothing had left */
};

void outbox_fill(struct outbox *box, struct slice head, struct slice body);

static inline bool outbox_is_empty(const struct outbox *box)
{
	return box->left[0].n == 0 && box->left[1].n == 0;
}

/* Bytes that have left. */
size_t outbox_sent(const struct outbox *box);

/* Sends what the socket has room for. 0, -EAGAIN where there is more, or another negative
 * errno. `scratch` has OUTBOX_SCRATCH bytes, and is wiped after use. */
#define OUTBOX_SCRATCH (4 * KIB)
_must_check_ int outbox_send(struct outbox *box, int fd, char *scratch);
