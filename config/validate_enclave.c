/* SPDX-License-Identifier: Apache-2.0 */
#include "cover.h"
#include "endpoint.h"
#include "reader.h"
#include "syntax.h"

#include <string.h>

static const struct {
	unsigned flag;
	const char *what;
} warnings[] = {
	{KMS_DESTRUCTIVE, "can destroy or disable keys or access to them"},
	{KMS_PRIVILEGE, "changes who may use keys, or which"},
	{KMS_LABEL, "changes aliases or tags, by which policies can decide who may use a key"},
};

static void check_action(struct reader *r, const yaml_node_t *node, const struct rule *rule)
{
	int i = kms_action_index(node_text(node));
	const struct kms_action *action = i < 0 ? NULL : kms_action((unsigned)i);

	if (!action)
		return;
	if (rule->n_keys > 0 && !action->keys[0])
		reader_error(r, node,
			     "actions: %s names no key, so a rule with a list of keys can't "
			     "allow it; "
			     "make a rule of its own with keys: any",
			     action->name);
	else if (rule->n_contexts > 0 && !action->contexts[0])
		reader_error(r, node,
			     "actions: %s has no encryption context, and the rule asks for one",
			     action->name);
	if ((action->flags & (KMS_SECRET_REPLY | KMS_RECIPIENT)) == KMS_SECRET_REPLY &&
	    !rule->plaintext_allow)
		reader_error(
			r, node,
			"actions: %s takes no Recipient and returns a secret in clear, which "
			"plaintext: refuse forbids",
			action->name);
	if ((action->flags & KMS_DELEGATION) && !rule->delegation_allow)
		reader_error(r, node,
			     "actions: %s hands authority over a key to others, whom no rule "
			     "limits; if that is meant, add the line \"delegation: allow\" to "
			     "rule \"%s\"",
			     action->name, rule->name ?: "");
	for (size_t k = 0; k < ELEMENTSOF(warnings); k++)
		if (action->flags & warnings[k].flag)
			reader_warning(r, node, "actions: %s %s", action->name,
				       warnings[k].what);
}

/* Who can read the secret then depends on the other key, which may be anybody's. */
static void check_rewrap(struct reader *r, const yaml_node_t *node, const struct rule *rule)
{
	int i = kms_action_index(node_text(node));

	if (i >= 0 && (kms_action((unsigned)i)->flags & KMS_REWRAP) && rule->any_key)
		reader_warning(r, node,
			       "actions: %s with keys: any can put any secret under a key of "
			       "somebody else, also of another account; list the keys",
			       kms_action((unsigned)i)->name);
}

/* What can't be known of such an action is supposed of it. */
static void check_extra_action(struct reader *r, const yaml_node_t *node,
			       const struct rule *rule)
{
	struct slice name = node_text(node);
	const char *of = rule->name ?: "";

	if (!syntax_kms_name(name))
		return; /* said already */
	if (kms_action_named(name)) {
		reader_error(
			r, node,
			"extra_actions: \"%s\" is known to this release; move it to actions",
			CLIPPED(name));
		return;
	}
	if (rule->n_contexts > 0)
		reader_error(r, node,
			     "extra_actions: the encryption context of %s isn't known, and the "
			     "rule asks for one",
			     CLIPPED(name));
	if (!rule->plaintext_allow)
		reader_error(r, node,
			     "extra_actions: %s may answer a secret in clear; if that is "
			     "meant, add the "
			     "line \"plaintext: allow\" to rule \"%s\"",
			     CLIPPED(name), of);
	if (!rule->delegation_allow)
		reader_error(
			r, node,
			"extra_actions: %s may hand authority over a key to others; if that is "
			"meant, add the line \"delegation: allow\" to rule \"%s\"",
			CLIPPED(name), of);
	reader_warning(r, node,
		       "extra_actions: this release doesn't know %s; only its KeyId and the "
		       "names of its members are checked",
		       CLIPPED(name));
}

static bool all_have(const struct rule *rule, struct slice member)
{
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		if ((rule->actions >> i & 1) && !kms_has_member(kms_action(i), member))
			return false;
	return rule->actions && rule->n_extra_actions == 0;
}

static void check_extra_member(struct reader *r, const yaml_node_t *node,
			       const struct rule *rule)
{
	struct slice name = node_text(node);

	if (!syntax_kms_name(name))
		return; /* said already */
	if (!rule->any_key && kms_names_key(name))
		reader_error(r, node,
			     "extra_members: %s names a key or a grant in other actions; that "
			     "needs keys: any",
			     CLIPPED(name));
	if (all_have(rule, name))
		reader_warning(r, node,
			       "extra_members: %s is known to this release for each action of "
			       "the rule; remove it",
			       CLIPPED(name));
	else
		reader_warning(r, node, "extra_members: what %s holds isn't checked",
			       CLIPPED(name));
}

static void check_extras(struct reader *r, const yaml_node_t *node, const struct rule *rule)
{
	const yaml_node_t *actions = reader_member(r, node, "extra_actions"), *item;
	const yaml_node_t *members = reader_member(r, node, "extra_members");

	for (size_t i = 0; (item = document_item(&r->document, actions, i)); i++)
		check_extra_action(r, item, rule);
	for (size_t i = 0; (item = document_item(&r->document, members, i)); i++)
		check_extra_member(r, item, rule);
	if (rule->n_extra_members > 0 && rule->n_keys > 0 && !rule->extra_members_hold_no_key)
		reader_error(r, members,
			     "extra_members: one may name a key, and the rule is limited to "
			     "keys; if none does, add the line \"extra_members_hold_no_key: "
			     "true\" to rule \"%s\"",
			     rule->name ?: "");
	if (rule->extra_members_hold_no_key && !members)
		reader_error(r, reader_member(r, node, "extra_members_hold_no_key"),
			     "extra_members_hold_no_key: has no effect without extra_members; "
			     "remove the line");
}

static bool lists_flag(const struct rule *rule, enum kms_flag flag)
{
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		if ((rule->actions >> i & 1) && (kms_action(i)->flags & flag))
			return true;
	return false;
}

/* Whether each of its actions could be read, so that something can be said of all of them. */
static bool actions_are_read(const struct reader *r, const yaml_node_t *node,
			     const struct rule *rule)
{
	const yaml_node_t *actions = reader_member(r, node, "actions");

	if (!actions)
		return rule->n_extra_actions > 0;
	return actions->type == YAML_SEQUENCE_NODE &&
	       node_count(actions) == (size_t)__builtin_popcountll(rule->actions);
}

/* Consent to nothing would be there already, unnoticed, when such an action is added. */
static void check_delegation(struct reader *r, const yaml_node_t *node, const struct rule *rule)
{
	if (rule->delegation_allow && rule->n_extra_actions == 0 &&
	    actions_are_read(r, node, rule) && !lists_flag(rule, KMS_DELEGATION))
		reader_error(r, reader_member(r, node, "delegation"),
			     "delegation: allow has no effect, since no action of the rule "
			     "hands authority over a key to others; remove the line");
}

static bool is_region_of(const struct reader *r, const struct rule *rule, struct slice region)
{
	for (size_t i = 0; i < r->config->n_endpoints; i++)
		if ((rule->endpoints >> i & 1) && r->config->endpoints[i].region &&
		    slice_eq_str(region, r->config->endpoints[i].region))
			return true;
	return false;
}

/* Where one of the rule's endpoints is in the instance's region, whichever that is, the file
 * may list keys of all regions of a fleet. */
static bool is_for_instance(const struct reader *r, const struct rule *rule)
{
	for (size_t i = 0; i < r->config->n_endpoints; i++)
		if ((rule->endpoints >> i & 1) &&
		    endpoint_is_instance(&r->config->endpoints[i]))
			return true;
	return false;
}

/* Of these keys some should be here all the same. */
static void check_keys_here(struct reader *r, const yaml_node_t *keys, const struct rule *rule)
{
	const char *here = r->facts->instance_region;
	struct kms_arn arn;

	if (!here || rule->n_keys == 0 || !is_for_instance(r, rule))
		return;
	for (size_t i = 0; i < rule->n_keys; i++)
		if (!kms_read_arn(slice_from(rule->keys[i]), &arn) ||
		    is_region_of(r, rule, arn.region))
			return;
	reader_warning(
		r, keys,
		"keys: none is in %s, the region of this instance, so rule \"%s\" allows "
		"nothing here",
		here, rule->name ?: "");
}

/* Not when an endpoint was refused: the key may be of that one, and the person knows already.
 */
static bool knows_regions(const struct reader *r, const struct rule *rule)
{
	for (size_t i = 0; i < r->config->n_endpoints; i++)
		if ((rule->endpoints >> i & 1) &&
		    (!r->config->endpoints[i].region || !r->config->endpoints[i].host))
			return false;
	return true;
}

static void check_key(struct reader *r, const yaml_node_t *node, const struct rule *rule)
{
	struct slice partition = {0}, region = {0};
	enum key_form form = syntax_key(node_text(node), &partition, &region);
	const struct partition *known = endpoint_partition(region);

	if (form == KEY_BAD || rule->endpoints == 0)
		return;
	if (form != KEY_ARN && form != KEY_ALIAS_ARN) {
		if (__builtin_popcountll(rule->endpoints) > 1)
			reader_error(r, node,
				     "keys: \"%s\" would be another key at each of the rule's "
				     "endpoints; write its ARN",
				     CLIPPED(node_text(node)));
		return;
	}
	if (!is_region_of(r, rule, region) && !is_for_instance(r, rule) &&
	    !r->endpoints_unsure && knows_regions(r, rule))
		reader_error(
			r, node,
			"keys: \"%s\" is in region %s, and none of the rule's endpoints is",
			CLIPPED(node_text(node)), CLIPPED(region));
	if (known && !slice_eq_str(partition, known->name))
		reader_error(r, node, "keys: \"%s\" is in partition %s, but region %s is in %s",
			     CLIPPED(node_text(node)), CLIPPED(partition), CLIPPED(region),
			     known->name);
}

/* KMS looks a bare id up in one account; which of these that is neither the file nor the
 * request says. */
static void check_accounts(struct reader *r, const yaml_node_t *node, const struct rule *rule)
{
	int foreign = rule_foreign_key(rule);
	struct slice first = {0};
	struct kms_arn arn;
	bool has_id = false;

	for (size_t i = 0; i < rule->n_keys && foreign >= 0; i++)
		if (kms_read_arn(slice_from(rule->keys[i]), &arn)) {
			first = first.p ? first : arn.account;
			has_id = has_id || arn.id.p;
		}
	if (!has_id || !kms_read_arn(slice_from(rule->keys[foreign]), &arn))
		return;
	reader_warning(
		r, reader_member(r, node, "keys"),
		"keys: rule \"%s\" (line %u) has ARNs of accounts %s and %s, so a bare key "
		"id in a request matches none of its ARNs; the request must name the ARN",
		rule->name ?: "", rule->line, CLIPPED(first), CLIPPED(arn.account));
}

/* What a rule says it adds, it must be able to add. */
static void check_missing_key(struct reader *r, const yaml_node_t *node,
			      const struct rule *rule)
{
	const yaml_node_t *option = reader_member(r, node, "missing_key");

	if (!rule->missing_key_add)
		return;
	if (rule->any_key || (rule->n_keys > 0 && !rule_key_region(rule).p))
		reader_error(r, option,
			     "missing_key: add needs a rule whose keys are one ARN of a key "
			     "(arn:...:key/...), which is what it adds");
	if (actions_are_read(r, node, rule) && !lists_flag(rule, KMS_KEY_IMPLIED))
		reader_error(
			r, option,
			"missing_key: add has no effect, since no action of the rule takes "
			"its key from the ciphertext; remove the line");
}

static bool share_value(const struct rule_context *a, const struct rule_context *b)
{
	for (size_t i = 0; i < a->n_values; i++)
		for (size_t k = 0; k < b->n_values; k++)
			if (strcmp(a->values[i], b->values[k]) == 0)
				return true;
	return false;
}

/* Whether one encryption context can hold what both rules ask for. */
static bool contexts_meet(const struct rule *a, const struct rule *b)
{
	for (size_t i = 0; i < a->n_contexts; i++)
		for (size_t k = 0; k < b->n_contexts; k++)
			if (strcmp(a->contexts[i].name, b->contexts[k].name) == 0 &&
			    !share_value(&a->contexts[i], &b->contexts[k]))
				return false;
	return true;
}

/* Whether both list an action in which a missing key is the only thing that tells them apart: a
 * second key that must be named does so too. */
static bool share_implied_action(const struct rule *a, const struct rule *b)
{
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		if ((a->actions & b->actions) >> i & 1 &&
		    (kms_action(i)->flags & KMS_KEY_IMPLIED) && !kms_action(i)->keys[1])
			return true;
	return false;
}

static bool adds_where(const struct reader *r, const struct rule *a, const struct rule *b)
{
	struct slice region = rule_key_region(a);
	struct rule both = {.endpoints = a->endpoints & b->endpoints};

	if (!region.p || !slice_eq(region, rule_key_region(b)))
		return false;
	return is_region_of(r, &both, region) ||
	       (is_for_instance(r, &both) && !r->facts->instance_region);
}

/* A request without its key gets that of the first rule, also where the ciphertext is under the
 * other's: KMS then refuses it. */
static void check_added_keys(struct reader *r, const yaml_node_t *node,
			     const struct policy *policy, size_t i)
{
	const struct rule *rule = &policy->rules[i];

	for (size_t k = 0; k < i && rule->missing_key_add; k++) {
		const struct rule *first = &policy->rules[k];

		if (!first->missing_key_add || !adds_where(r, first, rule) ||
		    strcmp(first->keys[0], rule->keys[0]) == 0 ||
		    !share_implied_action(first, rule) || !contexts_meet(first, rule))
			continue;
		reader_warning(
			r, reader_member(r, node, "missing_key"),
			"missing_key: a request without its key can match rule \"%s\" on "
			"line %u too, and gets the key of that one",
			first->name ?: "", first->line);
		return;
	}
}

static void check_rule(struct reader *r, const yaml_node_t *node, const struct rule *rule)
{
	const yaml_node_t *item, *actions = reader_member(r, node, "actions");
	const yaml_node_t *keys = reader_member(r, node, "keys");

	for (size_t i = 0; (item = document_item(&r->document, actions, i)); i++) {
		check_action(r, item, rule);
		check_rewrap(r, item, rule);
	}
	for (size_t i = 0; (item = document_item(&r->document, keys, i)); i++)
		check_key(r, item, rule);
	check_keys_here(r, keys, rule);
	check_accounts(r, node, rule);
	check_missing_key(r, node, rule);
	check_extras(r, node, rule);
	check_delegation(r, node, rule);
}

/* A rule that says nothing new: what it was meant to limit is allowed before it is asked. */
static void check_reached(struct reader *r, const yaml_node_t *node,
			  const struct policy *policy, size_t i)
{
	const struct rule *rule = &policy->rules[i];

	if (r->findings->n_errors > 0)
		return; /* what was refused of a rule is missing in it */
	for (size_t k = 0; k < i; k++) {
		r->compared += rule_weight(&policy->rules[k]) * rule_weight(rule);
		if (r->compared > COVER_WORK)
			return;
		if (rule_covers(&policy->rules[k], rule)) {
			reader_warning(r, reader_member(r, node, "name") ?: node,
				       "rule \"%s\" has no effect: the rule on line %u allows "
				       "all of it already",
				       rule->name ?: "", policy->rules[k].line);
			return;
		}
	}
}

/* Some of those that stand in the file were refused. */
static bool lost_endpoints(const struct reader *r, const yaml_node_t *map, size_t n)
{
	const yaml_node_t *endpoints = reader_member(r, map, "endpoints");

	return endpoints && node_count(endpoints) != n;
}

static size_t n_endpoints(const struct rule *rule)
{
	return (size_t)__builtin_popcountll(rule->endpoints);
}

static void check_rules(struct reader *r, const yaml_node_t *map,
			const struct enclave_config *enclave)
{
	const struct policy *policy = &enclave->policy;
	const yaml_node_t *list = reader_member(r, map, "allow");

	for (size_t i = 0; i < policy->n_rules; i++) {
		const yaml_node_t *node = document_item(&r->document, list, i);
		const struct rule *rule = &policy->rules[i];

		r->endpoints_unsure = lost_endpoints(r, map, enclave->n_endpoints) ||
				      lost_endpoints(r, node, n_endpoints(rule));
		check_rule(r, node, rule);
		check_added_keys(r, node, policy, i);
		check_reached(r, node, policy, i);
		for (size_t k = 0; k < i && policy->rules[i].name; k++)
			if (policy->rules[k].name &&
			    strcmp(policy->rules[i].name, policy->rules[k].name) == 0) {
				reader_error(
					r, reader_member(r, node, "name"),
					"name: the rule on line %u is called \"%s\" as well",
					policy->rules[k].line, policy->rules[k].name);
				break;
			}
	}
}

/* A request's Host must pick one endpoint. */
static void check_hosts(struct reader *r, const yaml_node_t *node,
			const struct enclave_config *enclave)
{
	for (size_t i = 0; i < enclave->n_endpoints; i++)
		for (size_t k = 0; k < i; k++) {
			const struct endpoint_config *a =
				&r->config->endpoints[enclave->endpoints[k]];
			const struct endpoint_config *b =
				&r->config->endpoints[enclave->endpoints[i]];

			if (a->host && b->host && strcmp(a->host, b->host) == 0)
				reader_error(r, reader_member(r, node, "endpoints"),
					     "endpoints: \"%s\" and \"%s\" have one host, so a "
					     "request's Host can't tell them apart",
					     a->name, b->name);
		}
}

/* Whether some listener takes peers by their CIDs. */
static bool takes_cids(const struct config *c)
{
	for (size_t i = 0; i < c->n_listeners; i++)
		if (c->listeners[i].kind != LISTENER_UNIX && c->listeners[i].enclave_index < 0)
			return true;
	return false;
}

static void check_reachable(struct reader *r, const yaml_node_t *key, const yaml_node_t *node,
			    const struct enclave_config *enclave)
{
	bool has_cid = reader_member(r, node, "cid") || reader_member(r, node, "cids");
	bool is_named = config_find_slot(r->config, enclave->name) >= 0 || r->slots_full;

	if (r->config->n_listeners == 0)
		return;
	if (!has_cid && !is_named)
		reader_error(r, key,
			     "enclave \"%s\" can't be reached: it has no cid, and no listener "
			     "names it",
			     enclave->name);
	else if (has_cid && !takes_cids(r->config))
		reader_warning(r, key,
			       "enclave \"%s\" can't be reached%s: no listener takes vsock "
			       "peers%s",
			       enclave->name, is_named ? " by its CID" : "",
			       is_named ? "" : ", and none names it");
}

/* What the enclave as a whole lacks. */
static void check_purpose(struct reader *r, const yaml_node_t *key, const yaml_node_t *node,
			  size_t i)
{
	const struct enclave_config *enclave = &r->config->enclaves[i];
	const yaml_node_t *endpoints = reader_member(r, node, "endpoints");
	const yaml_node_t *allow = reader_member(r, node, "allow");

	if (reader_has_unknown(r, node, SECTION_ENCLAVE) ||
	    reader_has_unknown(r, reader_member(r, node, "limits"), SECTION_LIMITS) ||
	    reader_has_unknown(r, reader_member(r, node, "tunnel"), SECTION_TUNNEL))
		return; /* it may be what seems to be missing */
	if (!allow && !reader_member(r, node, "tunnel"))
		reader_error(r, key, "enclave \"%s\" allows nothing; it needs allow or tunnel",
			     enclave->name);
	else if (allow && !endpoints)
		reader_error(r, key,
			     "enclave \"%s\" lacks \"endpoints\": where its requests may go",
			     enclave->name);
	else if (endpoints && !allow)
		reader_warning(r, endpoints, "endpoints: has no effect without allow");
	check_reachable(r, key, node, enclave);
}

void reader_validate_enclaves(struct reader *r, const yaml_node_t *map)
{
	for (size_t i = 0; i < r->config->n_enclaves; i++) {
		struct enclave_config *enclave = &r->config->enclaves[i];
		const yaml_node_t *node = reader_pair_value(r, map, i);

		if (node->type != YAML_MAPPING_NODE)
			continue;
		reader_make_slots(r, reader_pair_key(r, map, i), node, i);
		check_hosts(r, node, enclave);
		check_rules(r, node, enclave);
		reader_validate_tunnel(r, reader_member(r, node, "tunnel"), &enclave->tunnel);
		check_purpose(r, reader_pair_key(r, map, i), node, i);
	}
}
