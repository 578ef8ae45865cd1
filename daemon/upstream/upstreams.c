/* SPDX-License-Identifier: Apache-2.0 */
#include "upstreams.h"

#include "generation.h"

/* Those of one configuration. */
struct upstream_set {
	LIST_ENTRY(upstream_set) link;
	struct generation *generation;
	struct upstream **upstreams; /* by endpoint; NULL until first needed */
};

static struct upstream_set *set_free(struct upstream_set *set)
{
	for (size_t i = 0; set->upstreams && i < set->generation->config->n_endpoints; i++)
		upstream_free(set->upstreams[i]);
	free(set->upstreams);
	generation_unref(set->generation);
	free(set);
	return NULL;
}

static unsigned set_calls(const struct upstream_set *set)
{
	unsigned n = 0;

	for (size_t i = 0; i < set->generation->config->n_endpoints; i++)
		if (set->upstreams[i])
			n += upstream_calls(set->upstreams[i]);
	return n;
}

static struct upstream_set *set_of(struct upstreams *all, struct generation *generation)
{
	struct upstream_set *set;

	LIST_FOREACH (set, &all->sets, link)
		if (set->generation == generation)
			return set;

	set = calloc(1, sizeof(*set));
	if (!set)
		return NULL;
	set->generation = generation_ref(generation);
	set->upstreams = calloc(generation->config->n_endpoints + 1, sizeof(*set->upstreams));
	if (!set->upstreams)
		return set_free(set);
	LIST_INSERT_HEAD(&all->sets, set, link);
	return set;
}

struct upstream *upstreams_get(struct context *context, struct generation *generation,
			       unsigned endpoint)
{
	struct upstream_set *set = set_of(context->upstreams, generation);

	if (!set)
		return NULL;
	if (!set->upstreams[endpoint] &&
	    upstream_new(context, generation, endpoint, &set->upstreams[endpoint]) < 0)
		return NULL;
	return set->upstreams[endpoint];
}

void upstreams_sweep(struct context *context, struct instant now)
{
	struct upstream_set *set, *next;

	for (set = LIST_FIRST(&context->upstreams->sets); set; set = next) {
		for (size_t i = 0; i < set->generation->config->n_endpoints; i++)
			if (set->upstreams[i])
				upstream_sweep(set->upstreams[i], now);
		next = LIST_NEXT(set, link);
		if (set->generation == context->generation || set_calls(set) > 0)
			continue;
		LIST_REMOVE(set, link);
		set_free(set);
	}
}

void upstreams_done(struct upstreams *all)
{
	struct upstream_set *set;

	while ((set = LIST_FIRST(&all->sets))) {
		LIST_REMOVE(set, link);
		set_free(set);
	}
}
