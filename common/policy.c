/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include "limit.h"
#include "policy_index.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void free_strings(char **strings, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(strings[i]);
	free(strings);
}

static void rule_done(struct rule *rule)
{
	free(rule->name);
	free_strings(rule->keys, rule->n_keys);
	for (size_t i = 0; i < rule->n_contexts; i++) {
		free(rule->contexts[i].name);
		free_strings(rule->contexts[i].values, rule->contexts[i].n_values);
	}
	free(rule->contexts);
	free_strings(rule->extra_actions, rule->n_extra_actions);
	free_strings(rule->extra_members, rule->n_extra_members);
}

void policy_done(struct policy *policy)
{
	policy_index_free(policy->index);
	free(policy->extra_actions);
	free(policy->extra_members);
	for (size_t i = 0; i < policy->n_rules; i++)
		rule_done(&policy->rules[i]);
	free(policy->rules);
	*policy = (struct policy){0};
}

int rule_foreign_key(const struct rule *rule)
{
	struct slice account = {0};
	struct kms_arn arn;

	for (size_t i = 0; i < rule->n_keys; i++) {
		if (!kms_read_arn(slice_from(rule->keys[i]), &arn))
			continue;
		if (account.p && !slice_eq(arn.account, account))
			return (int)i;
		account = arn.account;
	}
	return -1;
}

struct slice rule_key_region(const struct rule *rule)
{
	struct kms_arn arn;

	if (rule->any_key || rule->n_keys != 1 ||
	    !kms_read_arn(slice_from(rule->keys[0]), &arn) || !arn.id.p)
		return (struct slice){0};
	return arn.region;
}

static size_t rule_add_room(const struct rule *rule)
{
	size_t room = 0;

	for (unsigned i = 0; i < KMS_ACTIONS && rule->add_region.p; i++)
		if ((rule->actions >> i & 1) && (kms_action(i)->flags & KMS_KEY_IMPLIED))
			room = MAX(room,
				   kms_added_size(kms_action(i), slice_from(rule->keys[0])));
	return room;
}

static int prepare_extras(struct policy *policy)
{
	size_t n_actions = 0, n_members = 0;

	for (size_t i = 0; i < policy->n_rules; i++) {
		n_actions += policy->rules[i].n_extra_actions;
		n_members += policy->rules[i].n_extra_members;
	}
	free(policy->extra_actions);
	free(policy->extra_members);
	policy->n_extra_actions = 0;
	policy->extra_actions = n_actions ? calloc(n_actions, sizeof(struct kms_action)) : NULL;
	policy->extra_members = n_members ? calloc(n_members + 1, sizeof(char *)) : NULL;
	if ((n_actions && !policy->extra_actions) || (n_members && !policy->extra_members))
		return -ENOMEM;
	n_members = 0;
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct rule *rule = &policy->rules[i];

		for (size_t k = 0; k < rule->n_extra_actions; k++)
			policy->extra_actions[policy->n_extra_actions++] =
				kms_extra_action(rule->extra_actions[k]);
		for (size_t k = 0; k < rule->n_extra_members; k++)
			policy->extra_members[n_members++] = rule->extra_members[k];
	}
	return 0;
}

const struct kms_action *policy_action(const struct policy *policy, struct slice name)
{
	const struct kms_action *action = kms_action_named(name);

	for (size_t i = 0; !action && i < policy->n_extra_actions; i++)
		if (slice_eq_str(name, policy->extra_actions[i].name))
			action = &policy->extra_actions[i];
	return action;
}

int policy_prepare(struct policy *policy)
{
	policy->add_room = 0;
	for (size_t i = 0; i < policy->n_rules; i++) {
		struct rule *rule = &policy->rules[i];

		rule->many_accounts = rule_foreign_key(rule) >= 0;
		rule->add_region =
			rule->missing_key_add ? rule_key_region(rule) : (struct slice){0};
		policy->add_room = MAX(policy->add_room, rule_add_room(rule));
	}
	policy->index = policy_index_free(policy->index);
	if (prepare_extras(policy) < 0)
		return -ENOMEM;
	return policy_index_new(policy->rules, policy->n_rules, &policy->index);
}

/* What is asked of each rule. */
struct question {
	const struct policy *policy;
	struct policy_endpoint endpoint;
	const struct kms_request *request;
	const struct kms_action *action;
	uint64_t action_bit;      /* 0: it is an extra one */
	struct key_range keys[2]; /* where request->keys[] are listed */
	bool lacks_key;           /* the first of them, which a rule may add */
};

static bool adds_key(const struct question *q, const struct rule *rule)
{
	return q->lacks_key && rule->add_region.p &&
	       slice_eq_str(rule->add_region, q->endpoint.region);
}

static bool has_string(char *const *list, size_t n, struct slice s)
{
	for (size_t i = 0; i < n; i++)
		if (slice_eq_str(s, list[i]))
			return true;
	return false;
}

static bool lists_action(const struct question *q, const struct rule *rule)
{
	if (q->action_bit)
		return rule->actions & q->action_bit;
	return has_string(rule->extra_actions, rule->n_extra_actions,
			  slice_from(q->action->name));
}

/* Those that the action has are every rule's. */
static bool allows_members(const struct question *q, const struct rule *rule, int *ret_failed)
{
	const struct json_node *nodes = q->request->doc->nodes;

	for (unsigned i = 1; q->request->has_extra && i < nodes[0].end; i = nodes[i].end)
		if (!kms_has_member(q->action, nodes[i].name) &&
		    !has_string(rule->extra_members, rule->n_extra_members, nodes[i].name)) {
			*ret_failed = (int)i;
			return false;
		}
	return true;
}

/* A rule with `keys` never allows an action that names none, nor what names a grant but not the
 * key it is of: it would not limit them. */
static bool allows_keys(const struct question *q, size_t rule, int *ret_failed)
{
	int i;

	if (q->policy->rules[rule].any_key)
		return true;
	if (q->request->has_token)
		return false;
	for (i = 0; q->action->keys[i]; i++)
		if (!(i == 0 && adds_key(q, &q->policy->rules[rule])) &&
		    (!q->request->keys[i].p ||
		     !key_range_holds(q->keys[i], q->endpoint.region, rule))) {
			*ret_failed = i;
			return false;
		}
	return i > 0;
}

static bool has_pair(const struct json_doc *doc, int context, const struct rule_context *pair)
{
	int i = context < 0 ? -1 : json_member(doc, (unsigned)context, slice_from(pair->name));

	if (i < 0)
		return false;
	for (size_t k = 0; k < pair->n_values; k++)
		if (slice_eq_str(doc->nodes[i].value, pair->values[k]))
			return true;
	return false;
}

/* Sets v->context and v->pair to what is missing. */
static bool allows_contexts(const struct question *q, const struct rule *rule,
			    struct verdict *v)
{
	if (rule->n_contexts > 0 && !q->action->contexts[0])
		return false;
	for (int c = 0; q->action->contexts[c]; c++)
		for (size_t i = 0; i < rule->n_contexts; i++)
			if (!has_pair(q->request->doc, q->request->contexts[c],
				      &rule->contexts[i])) {
				v->context = c;
				v->pair = (int)i;
				return false;
			}
	return true;
}

static bool allows_recipient(const struct question *q, const struct rule *rule)
{
	if (rule->plaintext_allow || !(q->action->flags & KMS_SECRET_REPLY))
		return true;
	return (q->action->flags & KMS_RECIPIENT) &&
	       q->request->recipient == KMS_RECIPIENT_PRESENT;
}

static struct verdict judge(const struct question *q, size_t index)
{
	const struct rule *rule = &q->policy->rules[index];
	struct verdict v = {.rule = rule, .member = -1, .key = -1, .context = -1, .pair = -1};

	v.stage = POLICY_ENDPOINT;
	if (!(rule->endpoints & (UINT64_C(1) << q->endpoint.index)))
		return v;
	v.stage = POLICY_ACTION;
	if (!lists_action(q, rule))
		return v;
	v.stage = POLICY_MEMBER;
	if (!allows_members(q, rule, &v.member))
		return v;
	v.stage = POLICY_KEY;
	if (!allows_keys(q, index, &v.key))
		return v;
	v.stage = POLICY_CONTEXT;
	if (!allows_contexts(q, rule, &v))
		return v;
	v.stage = POLICY_RECIPIENT;
	if (!allows_recipient(q, rule))
		return v;
	v.stage = POLICY_ALLOWED;
	if (adds_key(q, rule))
		v.added = rule->keys[0];
	return v;
}

/* Judges in file order the rules that the index finds for the first key: no other can pass the
 * check of keys. An action that names no key finds the rules with `keys: any`; a request that
 * lacks one that may be added, also those that may add one. */
static struct verdict judge_candidates(const struct question *q, struct verdict best)
{
	const char *region = q->endpoint.region;
	struct key_range range = q->keys[0];
	size_t i = policy_index_next(&range, region, 0);

	for (; i < q->policy->n_rules; i = policy_index_next(&range, region, i + 1)) {
		struct verdict v = judge(q, i);

		if (v.stage > best.stage)
			best = v;
		if (best.stage == POLICY_ALLOWED)
			break;
	}
	return best;
}

/* For the reason, when no rule allows the keys: none gets further than POLICY_KEY, so the first
 * that gets there gives it. */
static struct verdict judge_all(const struct question *q, struct verdict best)
{
	for (size_t i = 0; i < q->policy->n_rules && best.stage < POLICY_KEY; i++) {
		struct verdict v = judge(q, i);

		if (v.stage > best.stage)
			best = v;
	}
	return best;
}

struct verdict policy_decide(const struct policy *policy, struct policy_endpoint endpoint,
			     const struct kms_request *request)
{
	struct verdict none = {
		.stage = POLICY_NO_RULES, .member = -1, .key = -1, .context = -1, .pair = -1};
	struct question q = {.policy = policy,
			     .endpoint = endpoint,
			     .request = request,
			     .action = request->action,
			     .action_bit = kms_action_bit(request->action)};
	struct verdict best;

	assert(endpoint.index < POLICY_ENDPOINTS);
	if (!policy->index)
		return none;
	for (unsigned i = 0; i < ELEMENTSOF(q.keys); i++)
		q.keys[i] = policy_index_find(policy->index, request->keys[i]);
	q.lacks_key = (q.action->flags & KMS_KEY_IMPLIED) && !request->keys[0].p;
	if (q.lacks_key)
		q.keys[0] = policy_index_find_adders(policy->index);

	best = judge_candidates(&q, none);
	return best.stage > POLICY_KEY ? best : judge_all(&q, none);
}

enum reason policy_stage_reason(enum policy_stage stage)
{
	static const enum reason reasons[] = {
		[POLICY_NO_RULES] = REASON_NO_RULES,
		[POLICY_ENDPOINT] = REASON_ENDPOINT,
		[POLICY_ACTION] = REASON_ACTION,
		[POLICY_MEMBER] = REASON_MEMBER,
		[POLICY_KEY] = REASON_KEY,
		[POLICY_CONTEXT] = REASON_ENCRYPTION_CONTEXT,
		[POLICY_RECIPIENT] = REASON_RECIPIENT,
		[POLICY_ALLOWED] = REASON_ALLOWED,
	};

	return reasons[stage];
}

static void explain_member(const struct verdict *v, const struct kms_request *request,
			   const char *rule, char *out, size_t size)
{
	char name[LIMIT_LOG_VALUE];

	snprintf(out, size, "%s does not allow the member \"%s\" of %s", rule,
		 slice_escape(request->doc->nodes[v->member].name, name, sizeof(name)),
		 request->action->name);
}

static bool is_bare_id(struct slice key)
{
	return !memchr(key.p, ':', key.n) && !memchr(key.p, '/', key.n);
}

/* How a key is named. */
enum naming { NAMED_OTHERWISE = 0, NAMED_AS_KEY, NAMED_BY_ALIAS, NAMED_BY_ALIAS_ARN };

#define KEY_ID_SIZE 36 /* a UUID; mrk- and 32 digits */

static enum naming naming_of(struct slice key)
{
	struct kms_arn arn;

	if (slice_starts(key, SLICE("alias/")))
		return NAMED_BY_ALIAS;
	if (kms_read_arn(key, &arn))
		return arn.id.p ? NAMED_AS_KEY : NAMED_BY_ALIAS_ARN;
	return is_bare_id(key) && key.n == KEY_ID_SIZE ? NAMED_AS_KEY : NAMED_OTHERWISE;
}

/* That the rule names its keys in a way in which the request doesn't. */
static const char *explain_naming(const struct rule *rule, struct slice key)
{
	enum naming given = naming_of(key);

	for (size_t i = 0; given != NAMED_OTHERWISE && i < rule->n_keys; i++) {
		enum naming listed = naming_of(slice_from(rule->keys[i]));

		if (listed == given || listed == NAMED_OTHERWISE)
			continue;
		return given == NAMED_AS_KEY || listed == NAMED_AS_KEY
			       ? ": compared as written; an alias is not its key's ARN"
			       : ": compared as written; an alias is not its ARN";
	}
	return "";
}

/* What the two texts of a key don't show to whoever compares them. */
static const char *explain_mismatch(const struct rule *rule, struct slice key,
				    const char *member)
{
	if (rule->many_accounts && is_bare_id(key))
		return ": the rule has ARNs of more than one account, so the request must "
		       "name the ARN";
	return strcmp(member, "AliasName") == 0 ? "" : explain_naming(rule, key);
}

static void explain_key(const struct verdict *v, const struct kms_request *request,
			const char *rule, char *out, size_t size)
{
	const struct kms_action *action = request->action;
	char key[LIMIT_LOG_VALUE];

	assert(v->rule);
	if (v->key < 0 && request->has_token)
		snprintf(out, size,
			 "%s is limited to keys and %s has %s, which may be of another key's "
			 "grant",
			 rule, action->name, action->token);
	else if (v->key < 0)
		snprintf(out, size, "%s is limited to keys and %s names none", rule,
			 action->name);
	else if (!request->keys[v->key].p)
		snprintf(out, size, "%s: %s must name %s%s", rule, action->name,
			 action->keys[v->key],
			 v->key == 0 && v->rule->add_region.p &&
					 (action->flags & KMS_KEY_IMPLIED)
				 ? "; the rule adds its key only where that is in the "
				   "endpoint's region"
				 : "");
	else
		snprintf(
			out, size, "%s does not allow key %s as %s%s", rule,
			slice_escape(request->keys[v->key], key, sizeof(key)),
			action->keys[v->key],
			explain_mismatch(v->rule, request->keys[v->key], action->keys[v->key]));
}

static void explain_context(const struct verdict *v, const struct kms_request *request,
			    const char *rule, char *out, size_t size)
{
	const struct kms_action *action = request->action;
	char name[LIMIT_LOG_VALUE];
	struct slice wanted;
	int given;

	assert(v->rule);
	if (v->context < 0) {
		snprintf(out, size, "%s requires an encryption context and %s has none", rule,
			 action->name);
		return;
	}
	wanted = slice_from(v->rule->contexts[v->pair].name);
	given = request->contexts[v->context];
	slice_escape(wanted, name, sizeof(name));
	if (given >= 0 && json_member(request->doc, (unsigned)given, wanted) >= 0)
		snprintf(out, size, "%s: \"%s\" in %s has another value than the rule lists",
			 rule, name, action->contexts[v->context]);
	else
		snprintf(out, size, "%s requires one of its values for \"%s\" in %s", rule,
			 name, action->contexts[v->context]);
}

static void explain_recipient(const struct kms_request *request, const char *rule, char *out,
			      size_t size)
{
	const struct kms_action *action = request->action;

	if (!(action->flags & KMS_RECIPIENT))
		snprintf(out, size,
			 "%s has plaintext: refuse; %s answers a secret in clear and takes no "
			 "Recipient",
			 rule, action->name);
	else if (request->recipient == KMS_RECIPIENT_NONE)
		snprintf(out, size, "%s has plaintext: refuse; %s must have a Recipient", rule,
			 action->name);
	else
		snprintf(out, size,
			 "%s has plaintext: refuse; the Recipient of %s must hold a base64 "
			 "AttestationDocument and RSAES_OAEP_SHA_256",
			 rule, action->name);
}

const char *verdict_explain(const struct verdict *v, const struct kms_request *request,
			    char *out, size_t size)
{
	const char *action = request->action->name;
	char name[2 * LIMIT_NAME], rule[2 * LIMIT_NAME + 256] = "";

	assert(size >= 512);
	if (v->rule)
		snprintf(rule, sizeof(rule), "rule \"%s\" (%s%s%u)",
			 slice_escape(slice_from(v->rule->name), name, sizeof(name)),
			 v->rule->file ?: "line", v->rule->file ? ":" : " ", v->rule->line);

	switch (v->stage) {
	case POLICY_NO_RULES:
		snprintf(out, size, "no rule allows action %s: the enclave has none", action);
		break;
	case POLICY_ENDPOINT:
		snprintf(out, size, "no rule allows this endpoint");
		break;
	case POLICY_ACTION:
		snprintf(out, size, "no rule allows action %s at this endpoint", action);
		break;
	case POLICY_MEMBER:
		explain_member(v, request, rule, out, size);
		break;
	case POLICY_KEY:
		explain_key(v, request, rule, out, size);
		break;
	case POLICY_CONTEXT:
		explain_context(v, request, rule, out, size);
		break;
	case POLICY_RECIPIENT:
		explain_recipient(request, rule, out, size);
		break;
	case POLICY_ALLOWED:
		if (v->added)
			snprintf(out, size, "%s allows %s and adds its key as %s", rule, action,
				 request->action->keys[0]);
		else
			snprintf(out, size, "%s allows %s", rule, action);
		break;
	}
	return out;
}
