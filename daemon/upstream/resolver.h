/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Name lookups that block nobody: getaddrinfo() on at most LIMIT_LOOKUPS threads for the whole
 * process, one lookup a name at a time, the answer to the mailboxes of all who asked. libcurl's
 * own resolver has no such bound: its abandoned lookups go on, a thread each. */

#include "macro.h"
#include "mailbox.h"

struct resolver;

_must_check_ int resolver_new(struct resolver **ret_resolver);

/* Answers still under way are dropped. Doesn't wait for a hung lookup. Returns NULL. */
struct resolver *resolver_free(struct resolver *r);
DEFINE_CLEANUP(struct resolver *, resolver_free)

/* Any thread. While lookups of a name fail, its last good addresses serve. A MESSAGE_ADDRESSES
 * with `id` comes to `mailbox`: addresses as "192.0.2.1,[2001:db8::1]" in the resolver's order,
 * or NULL and the EAI_ code in `number`. -ENOMEM, -EAGAIN (no thread). */
_must_check_ int resolver_lookup(struct resolver *r, const char *host, struct mailbox *mailbox,
				 uint64_t id);

/* Any thread. The last good addresses of a name, for who can't wait for a lookup; the caller
 * frees them. NULL: there are none. */
char *resolver_known(struct resolver *r, const char *host);
