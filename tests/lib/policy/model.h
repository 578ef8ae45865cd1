/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A second policy_decide(), written from the words of the manual and as plainly as possible:
 * each rule in turn, each listed key in turn, no index. Tests compare the two. */

#include "policy.h"

#include <stdio.h>
#include <string.h>

/* Is `listed` an ARN arn:PARTITION:kms:REGION:ACCOUNT:key/ID with this region and id? */
static bool model_is_arn_of(const char *listed, const char *region, struct slice id)
{
	char partition[80], service[80], where[80], account[80], rest[200], end;

	if (sscanf(listed, "arn:%79[^:]:%79[^:]:%79[^:]:%79[^:]:key/%199[^:/]%c", partition,
		   service, where, account, rest, &end) != 5)
		return false;
	return strcmp(service, "kms") == 0 && strcmp(where, region) == 0 &&
	       strlen(rest) == id.n && memcmp(rest, id.p, id.n) == 0;
}

/* Are there ARNs of more than one account? */
static bool model_many_accounts(const struct rule *rule)
{
	char accounts[2][80];
	unsigned n = 0;

	for (size_t i = 0; i < rule->n_keys; i++) {
		if (sscanf(rule->keys[i], "arn:%*[^:]:kms:%*[^:]:%79[^:]:", accounts[n]) != 1)
			continue;
		if (n == 1 && strcmp(accounts[0], accounts[1]) != 0)
			return true;
		n = 1;
	}
	return false;
}

/* Is it an ARN of another region? It is no key of the endpoint's then. */
static bool model_is_elsewhere(const char *listed, const char *region)
{
	char where[80];

	return sscanf(listed, "arn:%*[^:]:kms:%79[^:]:", where) == 1 &&
	       strcmp(where, region) != 0;
}

static bool model_key(const struct rule *rule, const char *region, struct slice key)
{
	for (size_t i = 0; i < rule->n_keys; i++) {
		const char *listed = rule->keys[i];

		if (model_is_elsewhere(listed, region))
			continue;
		if (strlen(listed) == key.n && memcmp(listed, key.p, key.n) == 0)
			return true;
		if (!model_many_accounts(rule) && model_is_arn_of(listed, region, key))
			return true;
	}
	return false;
}

/* The key that `missing_key: add` gives to a request of Decrypt or ReEncrypt: the only one of
 * the rule, an ARN of a key of this region; or NULL. */
static const char *model_added(const struct rule *rule, const char *region,
			       const struct kms_request *request)
{
	const char *name = request->action->name, *id;

	if (!rule->missing_key_add || rule->any_key || rule->n_keys != 1 ||
	    request->keys[0].p ||
	    (strcmp(name, "Decrypt") != 0 && strcmp(name, "ReEncrypt") != 0))
		return NULL;
	id = strrchr(rule->keys[0], '/');
	if (!id || !model_is_arn_of(rule->keys[0], region, slice_from(id + 1)))
		return NULL;
	return rule->keys[0];
}

static bool model_pair(const struct rule_context *pair, const struct json_doc *doc, int context)
{
	for (unsigned i = (unsigned)context + 1; i < doc->nodes[context].end; i++) {
		const struct json_node *node = &doc->nodes[i];

		for (size_t v = 0; v < pair->n_values; v++)
			if (slice_eq_str(node->name, pair->name) &&
			    slice_eq_str(node->value, pair->values[v]))
				return true;
	}
	return false;
}

static bool model_listed(char *const *list, size_t n, const char *name, size_t length)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(list[i]) == length && memcmp(list[i], name, length) == 0)
			return true;
	return false;
}

static bool model_takes_recipient(const struct kms_action *action)
{
	for (unsigned k = 0; action->members[k]; k++)
		if (strcmp(action->members[k], "Recipient") == 0)
			return true;
	return false;
}

static bool model_is_extra(const struct kms_action *action)
{
	return kms_action_index(slice_from(action->name)) < 0;
}

static bool model_action(const struct rule *rule, const struct kms_action *action)
{
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		if ((rule->actions >> i & 1) && strcmp(kms_action(i)->name, action->name) == 0)
			return true;
	return model_listed(rule->extra_actions, rule->n_extra_actions, action->name,
			    strlen(action->name));
}

/* Is each member one that the action has, or an extra one of the rule? */
static bool model_members(const struct rule *rule, const struct kms_action *action,
			  const struct json_doc *doc)
{
	for (unsigned i = 1; i < doc->nodes[0].end; i = doc->nodes[i].end) {
		struct slice name = doc->nodes[i].name;
		unsigned k = 0;

		while (action->members[k] && !slice_eq_str(name, action->members[k]))
			k++;
		if (!action->members[k] &&
		    !model_listed(rule->extra_members, rule->n_extra_members, name.p, name.n))
			return false;
	}
	return true;
}

static enum policy_stage model_rule(const struct rule *rule, struct policy_endpoint endpoint,
				    const struct kms_request *request)
{
	const struct kms_action *action = request->action;
	unsigned n_keys = 0, n_contexts = 0;

	while (action->keys[n_keys])
		n_keys++;
	while (action->contexts[n_contexts])
		n_contexts++;

	if (!(rule->endpoints >> endpoint.index & 1))
		return POLICY_ENDPOINT;
	if (!model_action(rule, action))
		return POLICY_ACTION;
	if (!model_members(rule, action, request->doc))
		return POLICY_MEMBER;
	if (!rule->any_key && n_keys == 0)
		return POLICY_KEY;
	if (!rule->any_key && json_member(request->doc, 0, SLICE("GrantToken")) >= 0)
		return POLICY_KEY;
	for (unsigned k = 0; k < n_keys && !rule->any_key; k++)
		if (!(k == 0 && model_added(rule, endpoint.region, request)) &&
		    (!request->keys[k].p ||
		     !model_key(rule, endpoint.region, request->keys[k])))
			return POLICY_KEY;
	if (rule->n_contexts > 0 && n_contexts == 0)
		return POLICY_CONTEXT;
	for (unsigned c = 0; c < n_contexts; c++)
		for (size_t p = 0; p < rule->n_contexts; p++)
			if (request->contexts[c] < 0 ||
			    !model_pair(&rule->contexts[p], request->doc, request->contexts[c]))
				return POLICY_CONTEXT;
	if (!rule->plaintext_allow && (action->secrets[0] || model_is_extra(action)) &&
	    (request->recipient != KMS_RECIPIENT_PRESENT || !model_takes_recipient(action)))
		return POLICY_RECIPIENT;
	return POLICY_ALLOWED;
}

/* Only stage, rule and the key that is added. */
static struct verdict model_decide(const struct policy *policy, struct policy_endpoint endpoint,
				   const struct kms_request *request)
{
	struct verdict best = {.stage = POLICY_NO_RULES};

	for (size_t i = 0; i < policy->n_rules; i++) {
		enum policy_stage stage = model_rule(&policy->rules[i], endpoint, request);

		if (stage > best.stage)
			best = (struct verdict){.stage = stage, .rule = &policy->rules[i]};
		if (stage == POLICY_ALLOWED) {
			best.added = model_added(best.rule, endpoint.region, request);
			break;
		}
	}
	return best;
}
