/* SPDX-License-Identifier: Apache-2.0 */
#include "policy_index.h"

#include "kms.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A listed key; a key ARN has a second entry, for requests that name its bare id, but not where
 * the rule has ARNs of more than one account. An ARN counts at endpoints of its region only: no
 * other has its key. */
struct key_entry {
	struct slice key;
	struct slice region; /* of an ARN and of its id; else .p NULL */
	size_t rule;
};

struct policy_index {
	struct key_entry *entries; /* by key, then by rule */
	size_t n_entries;
	size_t n_rules;
	/* any[i]: the first rule at or after i that has `keys: any`, or n_rules. Behind it, in
	 * the same way, those that have it or may add their key. */
	size_t any[];
};

static const size_t *adders(const struct policy_index *index)
{
	return index->any + index->n_rules + 1;
}

static int compare_keys(struct slice a, struct slice b)
{
	int r = memcmp(a.p, b.p, MIN(a.n, b.n));

	return r ? r : (a.n > b.n) - (a.n < b.n);
}

static int compare_entries(const void *left, const void *right)
{
	const struct key_entry *a = left, *b = right;
	int r = compare_keys(a->key, b->key);

	return r ? r : (a->rule > b->rule) - (a->rule < b->rule);
}

/* Of an ARN, also of an alias whose name has colons; else .p NULL. */
static struct slice region_of(struct slice key)
{
	struct slice fields[4] = {0}; /* arn, partition, service, region */
	const char *end = key.p + key.n, *at = key.p;

	for (size_t i = 0; i < ELEMENTSOF(fields) && at < end; i++) {
		const char *colon = memchr(at, ':', (size_t)(end - at)) ?: end;

		fields[i] = (struct slice){at, (size_t)(colon - at)};
		at = MIN(colon + 1, end);
	}
	if (!slice_eq_str(fields[0], "arn") || fields[1].n == 0 ||
	    !slice_eq_str(fields[2], "kms") || fields[3].n == 0)
		return (struct slice){0};
	return fields[3];
}

static void add_key(struct policy_index *index, const char *text, bool with_id, size_t rule)
{
	struct slice key = slice_from(text);
	struct kms_arn arn;

	index->entries[index->n_entries++] =
		(struct key_entry){.key = key, .region = region_of(key), .rule = rule};
	if (with_id && kms_read_arn(key, &arn) && arn.id.p)
		index->entries[index->n_entries++] =
			(struct key_entry){.key = arn.id, .region = arn.region, .rule = rule};
}

static void fill_others(struct policy_index *index, const struct rule *rules)
{
	size_t *any = index->any, *more = any + index->n_rules + 1;

	any[index->n_rules] = more[index->n_rules] = index->n_rules;
	for (size_t i = index->n_rules; i-- > 0;) {
		any[i] = rules[i].any_key ? i : any[i + 1];
		more[i] = rules[i].any_key || rules[i].add_region.p ? i : more[i + 1];
	}
}

int policy_index_new(const struct rule *rules, size_t n_rules, struct policy_index **ret_index)
{
	struct policy_index *index;
	size_t n_keys = 0;

	for (size_t i = 0; i < n_rules; i++)
		n_keys += rules[i].n_keys;
	index = calloc(1, sizeof(*index) + 2 * (n_rules + 1) * sizeof(index->any[0]));
	if (!index)
		return -ENOMEM;
	index->entries = calloc(2 * n_keys + 1, sizeof(*index->entries));
	if (!index->entries) {
		free(index);
		return -ENOMEM;
	}

	index->n_rules = n_rules;
	fill_others(index, rules);
	for (size_t i = 0; i < n_rules; i++)
		for (size_t k = 0; k < rules[i].n_keys; k++)
			add_key(index, rules[i].keys[k], !rules[i].many_accounts, i);
	qsort(index->entries, index->n_entries, sizeof(*index->entries), compare_entries);
	*ret_index = index;
	return 0;
}

struct policy_index *policy_index_free(struct policy_index *index)
{
	if (index)
		free(index->entries);
	free(index);
	return NULL;
}

/* The first entry whose key is at or after `key`; with `after` only after it. */
static const struct key_entry *bound(const struct policy_index *index, struct slice key,
				     bool after)
{
	const struct key_entry *first = index->entries;
	size_t n = index->n_entries;

	while (n > 0) {
		int r = compare_keys(first[n / 2].key, key);

		if (r < 0 || (after && r == 0)) {
			first += n / 2 + 1;
			n -= n / 2 + 1;
		} else {
			n /= 2;
		}
	}
	return first;
}

struct key_range policy_index_find(const struct policy_index *index, struct slice key)
{
	if (!key.p)
		return (struct key_range){index->entries, index->entries, index->any};
	return (struct key_range){bound(index, key, false), bound(index, key, true),
				  index->any};
}

struct key_range policy_index_find_adders(const struct policy_index *index)
{
	return (struct key_range){index->entries, index->entries, adders(index)};
}

static bool is_here(const struct key_entry *entry, const char *region)
{
	return !entry->region.p || slice_eq_str(entry->region, region);
}

bool key_range_holds(struct key_range range, const char *region, size_t rule)
{
	const struct key_entry *first = range.begin;
	size_t n = (size_t)(range.end - range.begin);

	while (n > 0) {
		if (first[n / 2].rule < rule) {
			first += n / 2 + 1;
			n -= n / 2 + 1;
		} else {
			n /= 2;
		}
	}
	for (; first < range.end && first->rule == rule; first++)
		if (is_here(first, region))
			return true;
	return false;
}

size_t policy_index_next(struct key_range *range, const char *region, size_t from)
{
	while (range->begin < range->end &&
	       (range->begin->rule < from || !is_here(range->begin, region)))
		range->begin++;
	if (range->begin == range->end)
		return range->others[from];
	return MIN(range->begin->rule, range->others[from]);
}
