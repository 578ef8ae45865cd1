/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where objects that have ended lie until the loop's turn is over. Ending takes effect at once:
 * the descriptor is closed, events are deleted, gauges given back, the record written. The
 * memory stays until no call into the object can be on the stack, so that a function in the
 * middle of it finds it ended, never gone. One thread's own. */

#include <stddef.h>
#include <sys/queue.h>

/* The first member of such an object. */
struct bin_entry {
	SLIST_ENTRY(bin_entry) link;
	size_t size;
};

SLIST_HEAD(bin, bin_entry);

/* Takes an object over, from malloc() or calloc(), that begins with `entry` and is `size` bytes
 * long. Its first `open` bytes say that it has ended, and can be read on; to touch what follows
 * them is an error, which a build with AddressSanitizer reports. */
void bin_put(struct bin *bin, struct bin_entry *entry, size_t open, size_t size);

/* The turn is over: frees all. */
void bin_empty(struct bin *bin);
