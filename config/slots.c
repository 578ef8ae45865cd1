/* SPDX-License-Identifier: Apache-2.0 */

/* The CIDs of an enclave, and the slots that follow from these and from the listeners. */

#include "hint.h"
#include "reader.h"

#include <stdio.h>

/* 16, or 17-19, whose quotes say nothing: to YAML it is a text either way. */
static bool split_range(const yaml_node_t *node, unsigned long long *ret_first,
			unsigned long long *ret_last)
{
	struct slice text = node_text(node), first = {text.p, 0}, last;

	while (first.n < text.n && text.p[first.n] != '-')
		first.n++;
	if (first.n == text.n) {
		if (!node_is_plain(node) || !slice_to_u64(text, UINT64_MAX, ret_first))
			return false;
		*ret_last = *ret_first;
		return true;
	}
	last = (struct slice){text.p + first.n + 1, text.n - first.n - 1};
	return slice_to_u64(first, UINT64_MAX, ret_first) &&
	       slice_to_u64(last, UINT64_MAX, ret_last);
}

#define ITEM "whole numbers, and ranges such as 17-19"

static void read_range(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		       struct cid_range *range)
{
	unsigned long long first, last;

	if (node->type != YAML_SCALAR_NODE || node_is_null(node)) {
		reader_error(r, node, "%s: found %s; expected " ITEM, o->name, node_kind(node));
		return;
	}
	if (!split_range(node, &first, &last)) {
		reader_error(r, node, "%s: found \"%s\"%s; expected " ITEM, o->name,
			     CLIPPED(node_text(node)), node_is_plain(node) ? "" : " in quotes");
		return;
	}
	if (first < o->min || last < o->min || first > o->max || last > o->max)
		reader_error(r, node, "%s: %s is out of range; expected CIDs from %u to %u%s",
			     o->name, CLIPPED(node_text(node)), (unsigned)o->min,
			     (unsigned)o->max, hint_scalar(o, node_text(node), HINT_ROOM));
	else if (first > last)
		reader_error(r, node, "%s: the range %llu-%llu is reversed; expected %llu-%llu",
			     o->name, first, last, last, first);
	else
		*range = (struct cid_range){(unsigned)first, (unsigned)last,
					    node_place(node).line};
}

/* Item by item: one that can't be read stays zeroed. */
void read_cids(struct reader *r, const struct config_option *o, const yaml_node_t *node,
	       void *target)
{
	struct enclave_config *enclave = target;

	if (node->type == YAML_SCALAR_NODE && !node_is_null(node)) {
		reader_error(r, node,
			     "%s: found \"%s\"; expected a list, as in cids: [16, 17-19]",
			     o->name, CLIPPED(node_text(node)));
		return;
	}
	if (!reader_is_list(r, o->name, node))
		return;
	enclave->cids = reader_alloc(r, node_count(node), sizeof(*enclave->cids));
	if (!enclave->cids)
		return;
	FOREACH_ITEM (item, node)
		read_range(r, o, document_node(&r->document, *item),
			   &enclave->cids[enclave->n_cids++]);
}

/* The slot that has one of these CIDs, or NULL. */
static const struct slot_config *find_overlap(const struct config *c,
					      const struct cid_range *range)
{
	for (size_t i = 0; i < c->n_slots; i++)
		if (c->slots[i].cid >= range->first && c->slots[i].cid <= range->last)
			return &c->slots[i];
	return NULL;
}

/* So many more, one for each of the CIDs from `first`; of 0 there is one. False when the file
 * has too many: the caller asks no more. */
static bool add_slots(struct reader *r, const yaml_node_t *at, size_t enclave,
		      const struct cid_range *range)
{
	struct config *c = r->config;
	uint64_t n = c->n_slots + ((uint64_t)range->last - range->first + 1);

	if (n > LIMIT_SLOTS) {
		reader_error(r, at,
			     "enclaves: with \"%s\" there are %llu slots, one for each CID and "
			     "one for each enclave that a listener names; expected at most %d",
			     c->enclaves[enclave].name, (unsigned long long)n, LIMIT_SLOTS);
		r->slots_full = true;
		return false;
	}
	if (!c->slots)
		c->slots = reader_alloc(r, LIMIT_SLOTS, sizeof(*c->slots));
	for (uint64_t cid = range->first; cid <= range->last && c->slots; cid++)
		c->slots[c->n_slots++] =
			(struct slot_config){(unsigned)enclave, (unsigned)cid, range->line};
	return c->slots;
}

static void add_range(struct reader *r, const yaml_node_t *at, const char *option,
		      size_t enclave, const struct cid_range *range)
{
	const struct config *c = r->config;
	const struct slot_config *other = find_overlap(c, range);

	if (other) {
		reader_error(r, at, "%s: %u is the CID of enclave \"%s\" at %s:%u already",
			     option, other->cid, c->enclaves[other->enclave].name,
			     c->enclaves[other->enclave].file, other->line);
		return;
	}
	if (!r->slots_full && add_slots(r, at, enclave, range) && range->first < range->last)
		reader_warning(r, at,
			       "%s: every enclave that is given a CID from %u to %u has the "
			       "authority of enclave \"%s\"",
			       option, range->first, range->last, c->enclaves[enclave].name);
}

static bool is_named(const struct config *c, size_t enclave)
{
	for (size_t i = 0; i < c->n_listeners; i++)
		if (c->listeners[i].enclave_index == (int)enclave)
			return true;
	return false;
}

/* What `cid` can't be, and was refused for, may have meant `cids`. */
static void point_to_cids(struct reader *r, const yaml_node_t *cid)
{
	unsigned long long first, last;

	if (cid->type == YAML_SEQUENCE_NODE ||
	    (split_range(cid, &first, &last) && first < last))
		reader_error(r, cid,
			     "cid: several CIDs stand in cids, as in cids: [16, 17-19]");
}

void reader_make_slots(struct reader *r, const yaml_node_t *key, const yaml_node_t *node,
		       size_t i)
{
	const struct enclave_config *enclave = &r->config->enclaves[i];
	const yaml_node_t *cid = reader_member(r, node, "cid");
	const yaml_node_t *cids = reader_member(r, node, "cids");

	if (cid && cids)
		reader_error(r, cids,
			     "cids: the enclave has a cid on line %u; it can't have both",
			     node_place(cid).line);
	if (cid && !enclave->cid)
		point_to_cids(r, cid);
	if (enclave->cid)
		add_range(
			r, cid, "cid", i,
			&(struct cid_range){enclave->cid, enclave->cid, node_place(cid).line});
	for (size_t k = 0; k < enclave->n_cids; k++)
		if (enclave->cids[k].first)
			add_range(r, document_item(&r->document, cids, k), "cids", i,
				  &enclave->cids[k]);
	if (is_named(r->config, i) && !r->slots_full)
		(void)add_slots(r, key, i, &(struct cid_range){.line = enclave->line});
}

/* Those that enclaves can have the daemon hold at once: their connections, the other ends of
 * their tunnels, and connections to KMS. */
static uint64_t count_descriptors(const struct config *c)
{
	uint64_t n = LIMIT_SURPLUS;

	for (size_t i = 0; i < c->n_slots; i++) {
		const struct enclave_config *e = &c->enclaves[c->slots[i].enclave];

		n += e->limits.connections;
		n += e->tunnel.n_hosts > 0 ? e->tunnel.connections : 0;
	}
	for (unsigned i = 0; i < c->n_endpoints; i++)
		if (config_endpoint_users(c, i) > 0)
			n += (uint64_t)c->endpoints[i].connections * c->workers;
	return n;
}

/* Beside `memory`, where each has a connection that has sent a head: what they measure, rounded
 * up, and libraries, threads and a configuration that is loaded. */
#define CONNECTION_MEMORY ((uint64_t)4 * KIB)
#define OTHER_MEMORY ((uint64_t)128 * MIB)

static void check_unit_memory(struct reader *r, const yaml_node_t *root, uint64_t n)
{
	const yaml_node_t *memory = reader_member(r, root, "memory");
	uint64_t need = r->config->memory + n * CONNECTION_MEMORY + OTHER_MEMORY;

	if (need > LIMIT_UNIT_MEMORY && r->findings->n_errors == 0)
		reader_warning(
			r, memory ?: root,
			"memory: with up to %llu connections beside it the daemon may need "
			"%lluMiB; the unit has MemoryMax=%lluM, and over it the kernel ends "
			"the daemon: lower memory or connections, or raise MemoryMax in a "
			"drop-in",
			(unsigned long long)n, (unsigned long long)(need / MIB),
			(unsigned long long)(LIMIT_UNIT_MEMORY / MIB));
}

void reader_check_unit(struct reader *r, const yaml_node_t *root)
{
	const struct config *c = r->config;
	const yaml_node_t *limits = reader_member(r, root, "limits");
	uint64_t n = count_descriptors(c);

	check_unit_memory(r, root, n);
	if (n > LIMIT_DESCRIPTORS)
		reader_warning(
			r, limits ?: root,
			"limits: the connections of %zu %s, their tunnels and the "
			"connections to KMS may be %llu descriptors at once; the unit has "
			"LimitNOFILE=%d, and over it nobody is let in: lower connections, "
			"or raise LimitNOFILE in a drop-in",
			c->n_slots, config_slots_noun(c), (unsigned long long)n,
			LIMIT_DESCRIPTORS);
}
