/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a connection's protocol has read and not used yet: an unfinished head, or bytes after
 * one. It is charged to the enclave's share of memory while there is any. */

#include "buf.h"
#include "connection.h"
#include "slice.h"

struct intake {
	struct buf bytes; /* freed while empty */
	size_t charged;
	size_t peeked; /* of the last piece: it is still in the socket, too */
};

void intake_init(struct intake *intake);
void intake_drop(struct intake *intake, struct connection *c);

/* Keeps bytes for later. False: the enclave's share of memory is used up. */
_must_check_ bool intake_keep(struct intake *intake, struct connection *c, struct slice bytes);

/* The bytes up to `rest` are used; `rest` lies in the intake or in the scratch. False: the
 * same. */
_must_check_ bool intake_keep_rest(struct intake *intake, struct connection *c,
				   struct slice rest);

/* Reads the next piece of a head into the context's scratch, as connection_recv() does. `peek`:
 * it stays in the socket as well, until intake_settle(). */
_must_check_ ssize_t intake_recv(struct intake *intake, struct connection *c, bool peek);

/* Of a piece that was peeked the socket keeps the bytes of *rest, which ends it and is empty
 * then, and no others. No effect on a piece that wasn't. False: the connection is broken. */
_must_check_ bool intake_settle(struct intake *intake, struct connection *c,
				struct slice *rest);
