/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which rules of a policy name a key: made once when the configuration is loaded, so that a
 * request finds its few rules among thousands. Only policy.c knows it. Borrows the rules. */

#include "macro.h"
#include "policy.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct policy_index;

/* 0 or -ENOMEM. What policy_prepare() sets in the rules is there. */
_must_check_ int policy_index_new(const struct rule *rules, size_t n_rules,
				  struct policy_index **ret_index);

/* Returns NULL. */
struct policy_index *policy_index_free(struct policy_index *index);

/* The places of one key in the index, by ascending rule: as it is listed, and as the id of a
 * listed ARN. */
struct key_range {
	const struct key_entry *begin, *end;
	const size_t
		*others; /* others[i]: the first rule at or after i that is found without */
};

/* An absent key (.p NULL) has none. */
struct key_range policy_index_find(const struct policy_index *index, struct slice key);

/* For a request that lacks a key which may be added: in no place, but policy_index_next() finds
 * the rules that may add theirs as well. */
struct key_range policy_index_find_adders(const struct policy_index *index);

/* Does rule `rule` list the key, for an endpoint of this region? */
bool key_range_holds(struct key_range range, const char *region, size_t rule);

/* The first rule at or after `from` that lists the key, has `keys: any`, or may add its key;
 * the number of rules when there is none. Moves range->begin there: call with rising `from`. */
size_t policy_index_next(struct key_range *range, const char *region, size_t from);
