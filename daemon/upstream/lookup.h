/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A name that an object of this thread has asked for (resolver.h), until the answer is there.
 */

#include "clock.h"
#include "context.h"
#include "macro.h"

#include <sys/queue.h>

struct lookup;

/* `addresses` as resolver_lookup() has them; NULL: it failed with the EAI_ `code`. Called once,
 * on the thread that asked; the lookup may be started again in it. */
typedef void (*lookup_cb)(struct lookup *lookup, const char *addresses, int code,
			  struct instant now);

/* Embedded in who asks; zeroed memory is one that isn't under way. */
struct lookup {
	LIST_ENTRY(lookup) link;
	uint64_t id; /* 0: not under way */
	lookup_cb done;
};

/* All that are under way on this thread; zeroed memory is none. */
struct lookups {
	LIST_HEAD(, lookup) list;
	uint64_t last_id;
};

/* 0, also where it is under way already; or what resolver_lookup() fails with. */
_must_check_ int lookup_start(struct lookup *lookup, struct context *context, const char *host,
			      lookup_cb done);

/* Forgets it, if it is under way. */
void lookup_cancel(struct lookup *lookup);

/* A MESSAGE_ADDRESSES came: tells who asked, if anybody still wants to know. */
void lookups_take(struct lookups *lookups, uint64_t id, const char *addresses, int code,
		  struct instant now);
