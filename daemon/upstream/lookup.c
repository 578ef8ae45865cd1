/* SPDX-License-Identifier: Apache-2.0 */
#include "lookup.h"

#include "resolver.h"

int lookup_start(struct lookup *l, struct context *context, const char *host, lookup_cb done)
{
	struct lookups *all = context->lookups;
	int r;

	if (l->id)
		return 0;
	r = resolver_lookup(context->resolver, host, context->mailbox, ++all->last_id);
	if (r < 0)
		return r;
	l->id = all->last_id;
	l->done = done;
	LIST_INSERT_HEAD(&all->list, l, link);
	return 0;
}

void lookup_cancel(struct lookup *l)
{
	if (l->id)
		LIST_REMOVE(l, link);
	l->id = 0;
}

void lookups_take(struct lookups *all, uint64_t id, const char *addresses, int code,
		  struct instant now)
{
	struct lookup *l;

	LIST_FOREACH (l, &all->list, link) {
		if (l->id != id)
			continue;
		lookup_cancel(l);
		l->done(l, addresses, code, now);
		return;
	}
}
