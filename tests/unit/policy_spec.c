/* SPDX-License-Identifier: Apache-2.0 */
#include "policy_spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not check's: fuzz targets use this file too. */
static void must(bool condition, const char *what, const char *value)
{
	if (!condition) {
		fprintf(stderr, "policy_spec: %s: %s\n", what, value);
		abort();
	}
}

static char *copy(const char *s)
{
	char *p = strdup(s);

	must(p != NULL, "no memory", s);
	return p;
}

static void *array(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);

	must(p != NULL, "no memory", "");
	return p;
}

static uint64_t actions_of(const char *names)
{
	_cleanup_(freep) char *text = copy(names);
	char *rest = text;
	uint64_t bits = 0;

	for (char *name = strsep(&rest, " "); name && *name; name = strsep(&rest, " ")) {
		int i = kms_action_index(slice_from(name));

		must(i >= 0, "no such action", name);
		bits |= UINT64_C(1) << i;
	}
	return bits;
}

static void add_contexts(struct rule *rule, const struct spec *spec)
{
	rule->contexts = array(ELEMENTSOF(spec->contexts), sizeof(*rule->contexts));
	for (size_t i = 0; i < ELEMENTSOF(spec->contexts) && spec->contexts[i].name; i++) {
		struct rule_context *pair = &rule->contexts[rule->n_contexts++];

		pair->name = copy(spec->contexts[i].name);
		pair->values = array(ELEMENTSOF(spec->contexts[i].values), sizeof(char *));
		for (size_t v = 0; v < ELEMENTSOF(spec->contexts[i].values); v++)
			if (spec->contexts[i].values[v])
				pair->values[pair->n_values++] =
					copy(spec->contexts[i].values[v]);
	}
}

static char **strings(const char *const *list, size_t max, size_t *ret_n)
{
	char **copies = array(max, sizeof(char *));

	for (*ret_n = 0; *ret_n < max && list[*ret_n]; ++*ret_n)
		copies[*ret_n] = copy(list[*ret_n]);
	return copies;
}

struct rule make_rule(const struct spec *spec, unsigned line)
{
	struct rule rule = {.name = copy(spec->name),
			    .line = line,
			    .actions = actions_of(spec->actions),
			    .endpoints = spec->endpoints ?: UINT64_MAX,
			    .plaintext_allow = spec->plaintext_allow,
			    .missing_key_add = spec->missing_key_add};

	rule.keys = array(ELEMENTSOF(spec->keys), sizeof(char *));
	for (size_t i = 0; i < ELEMENTSOF(spec->keys) && spec->keys[i]; i++)
		if (strcmp(spec->keys[i], "any") == 0)
			rule.any_key = true;
		else
			rule.keys[rule.n_keys++] = copy(spec->keys[i]);
	add_contexts(&rule, spec);
	rule.extra_actions = strings(spec->extra_actions, ELEMENTSOF(spec->extra_actions),
				     &rule.n_extra_actions);
	rule.extra_members = strings(spec->extra_members, ELEMENTSOF(spec->extra_members),
				     &rule.n_extra_members);
	return rule;
}

struct policy make_policy(const struct spec *specs, size_t n)
{
	struct policy policy = {.rules = array(n, sizeof(struct rule))};

	for (; policy.n_rules < n && specs[policy.n_rules].name; policy.n_rules++)
		policy.rules[policy.n_rules] =
			make_rule(&specs[policy.n_rules], 10 * (unsigned)policy.n_rules + 10);
	must(policy_prepare(&policy) == 0, "no memory", "");
	return policy;
}

static struct json_doc doc;

struct kms_request make_request(const char *action, const char *body)
{
	return make_request_to(&(struct policy){0}, action, body);
}

struct kms_request make_request_to(const struct policy *policy, const char *action,
				   const char *body)
{
	const struct kms_action *row = policy_action(policy, slice_from(action));
	static char *text;
	struct kms_request request;
	struct error error = {0};
	size_t n = strlen(body);

	free(text);
	text = copy(body);
	must(json_read(text, n, &doc, &n, &error) == JSON_OK, body, error.text);
	must(row != NULL, "no such action", action);
	must(kms_read(row, policy->extra_members, &doc, &request, &error) == KMS_OK, body,
	     error.text);
	return request;
}
