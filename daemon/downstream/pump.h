/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Copies bytes both ways between two sockets, with half-close. Nothing is copied that the other
 * side has no room for: a way holds at most one read, and stops reading while it holds
 * something. An empty way has no buffer, so an idle pump costs its struct only. It does no
 * waiting: its owner watches the sockets edge-triggered and says what changed. */

#include "buf.h"
#include "clock.h"
#include "limit.h"
#include "macro.h"

#include <stdbool.h>
#include <stdint.h>

#define PUMP_READ (64 * KIB) /* one read, and the most a way can hold */

struct pump_end {
	int fd;        /* borrowed */
	bool readable; /* may have bytes: set by the owner, cleared when a read found none */
	bool writable; /* may have room: likewise */
};

/* From ends[i] to ends[1 - i]. */
struct pump_way {
	struct buf held;   /* read but not yet written */
	bool ended;        /* the source has nothing more */
	bool told;         /* the sink was told so (half-closed) */
	uint64_t bytes;    /* written to the sink so far */
	int alert;         /* the last bytes read were a fatal TLS alert in clear: its number
			    * (RFC 8446 6), + 1; else 0 */
	usec_t held_since; /* monotonic; since when no byte of `held` has moved; 0: holds
			      nothing */
};

struct pump {
	struct pump_end ends[2];
	struct pump_way ways[2];
};

enum pump_result {
	PUMP_BROKEN = 0, /* `end` failed; the pump is of no more use */
	PUMP_NO_MEMORY,
	PUMP_DONE,  /* both ways have ended and were told */
	PUMP_WAIT,  /* nothing to do until an end becomes readable or writable */
	PUMP_AGAIN, /* more to do, but `budget` is used up: let others have a turn */
};

/* ends[0] is the enclave's. */
void pump_init(struct pump *p, int enclave_fd, int host_fd);
void pump_done(struct pump *p); /* frees what is held; closes nothing */

/* Puts bytes before all others of a way (i: from ends[i]): the ClientHello that was read
 * already. -ENOMEM, -EMSGSIZE. */
_must_check_ int pump_prepend(struct pump *p, unsigned i, struct slice bytes);

/* Copies what can be copied now, at most *budget bytes, and lowers it. `scratch` has PUMP_READ
 * bytes. *ret_end: the end that broke, or is to be blamed, with PUMP_BROKEN. */
_must_check_ enum pump_result pump_run(struct pump *p, char *scratch, size_t *budget,
				       usec_t now, unsigned *ret_end);

/* Bytes held, both ways. */
size_t pump_held(const struct pump *p);
