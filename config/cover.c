/* SPDX-License-Identifier: Apache-2.0 */
#include "cover.h"

#include <string.h>

static bool has_text(char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

static bool all_in(char *const *list, size_t n, char *const *wide, size_t n_wide)
{
	for (size_t i = 0; i < n; i++)
		if (!has_text(wide, n_wide, list[i]))
			return false;
	return true;
}

/* With ARNs of several accounts a bare id in a request matches none of them. */
static bool covers_keys(const struct rule *wide, const struct rule *narrow)
{
	if (wide->any_key)
		return true;
	if (narrow->any_key || (narrow->missing_key_add && !wide->missing_key_add))
		return false;
	return all_in(narrow->keys, narrow->n_keys, wide->keys, wide->n_keys) &&
	       (rule_foreign_key(wide) < 0 || rule_foreign_key(narrow) >= 0);
}

static bool covers_extras(const struct rule *wide, const struct rule *narrow)
{
	return all_in(narrow->extra_actions, narrow->n_extra_actions, wide->extra_actions,
		      wide->n_extra_actions) &&
	       all_in(narrow->extra_members, narrow->n_extra_members, wide->extra_members,
		      wide->n_extra_members);
}

/* Whoever has what `narrow` asks for has this pair. */
static bool is_implied(const struct rule_context *pair, const struct rule *narrow)
{
	for (size_t i = 0; i < narrow->n_contexts; i++) {
		const struct rule_context *other = &narrow->contexts[i];

		if (strcmp(pair->name, other->name) == 0 &&
		    all_in(other->values, other->n_values, pair->values, pair->n_values))
			return true;
	}
	return false;
}

static bool covers_contexts(const struct rule *wide, const struct rule *narrow)
{
	for (size_t i = 0; i < wide->n_contexts; i++)
		if (!is_implied(&wide->contexts[i], narrow))
			return false;
	return true;
}

size_t rule_weight(const struct rule *rule)
{
	size_t n = 1 + rule->n_keys + rule->n_extra_actions + rule->n_extra_members;

	for (size_t i = 0; i < rule->n_contexts; i++)
		n += 1 + rule->contexts[i].n_values;
	return n;
}

bool rule_covers(const struct rule *wide, const struct rule *narrow)
{
	return (narrow->actions || narrow->n_extra_actions > 0) && narrow->endpoints &&
	       (narrow->any_key || narrow->n_keys > 0) && !(narrow->actions & ~wide->actions) &&
	       !(narrow->endpoints & ~wide->endpoints) &&
	       (wide->plaintext_allow || !narrow->plaintext_allow) &&
	       (wide->delegation_allow || !narrow->delegation_allow) &&
	       covers_keys(wide, narrow) && covers_contexts(wide, narrow) &&
	       covers_extras(wide, narrow);
}
