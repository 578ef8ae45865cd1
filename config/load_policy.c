/* SPDX-License-Identifier: Apache-2.0 */
#include "reader.h"

#include "hint.h"
#include "json.h"
#include "kms.h"
#include "similar.h"
#include "syntax.h"

#include <string.h>

static bool has_wildcard(struct slice s)
{
	return s.n > 0 && (memchr(s.p, '*', s.n) || memchr(s.p, '?', s.n));
}

static void read_action(struct reader *r, const yaml_node_t *node, struct rule *rule)
{
	struct slice name = node_text(node);
	int i = kms_action_index(name);
	struct similar similar;

	if (i < 0 && has_wildcard(name)) {
		reader_error(r, node,
			     "actions: \"%s\": there are no wildcards; name each action",
			     CLIPPED(name));
	} else if (i < 0) {
		similar_init_action(&similar, name);
		reader_error(r, node, "actions: KMS has no action \"%s\"%s", CLIPPED(name),
			     similar.best || !syntax_kms_name(name)
				     ? SIMILAR_PHRASE(&similar)
				     : " that this release knows; if it is a new one, see "
				       "extra_actions");
	} else if (rule->actions >> i & 1) {
		reader_error(r, node, "actions: \"%s\" is listed twice", CLIPPED(name));
	} else {
		rule->actions |= UINT64_C(1) << i;
	}
}

void read_actions(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		  void *target)
{
	struct rule *rule = target;

	if (!reader_is_list(r, o->name, node))
		return;
	FOREACH_ITEM (item, node) {
		const yaml_node_t *action = document_node(&r->document, *item);

		if (reader_is_text(r, o->name, action))
			read_action(r, action, rule);
	}
}

/* The keys of one list so far. A file may have 100 lists of 1024: comparing each with each
 * would hold up the control thread for most of a second. */
struct key_set {
	const char *slots[2 * DOCUMENT_ITEMS]; /* by hash, then the next that is free */
};

/* Puts `key` there (it must live on), or returns false: it is there. */
static bool key_set_add(struct key_set *set, const char *key)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	size_t i;

	for (const char *p = key; *p; p++)
		hash = (hash ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	for (i = hash % ELEMENTSOF(set->slots); set->slots[i];
	     i = (i + 1) % ELEMENTSOF(set->slots))
		if (strcmp(set->slots[i], key) == 0)
			return false;
	set->slots[i] = key;
	return true;
}

static bool is_key(struct reader *r, const yaml_node_t *node)
{
	struct slice key = node_text(node), partition, region;
	const char *hint;

	if (has_wildcard(key)) {
		reader_error(r, node,
			     "keys: \"%s\": there are no wildcards; name each key, or write "
			     "keys: any",
			     CLIPPED(key));
		return false;
	}
	if (syntax_key(key, &partition, &region) == KEY_BAD) {
		hint = hint_key(key, HINT_ROOM);
		reader_error(r, node, "keys: found \"%s\"%s%s", CLIPPED(key),
			     *hint == ':' ? ""
					  : "; expected a key id, a key ARN, alias/NAME or an "
					    "alias ARN",
			     hint);
		return false;
	}
	return true;
}

static void add_key(struct reader *r, const yaml_node_t *node, struct key_set *set,
		    struct rule *rule)
{
	/* The syntax has no character that JSON escapes: the text is its canonical form. */
	char *text = reader_text(r, node_text(node));

	if (text && key_set_add(set, text)) {
		rule->keys[rule->n_keys++] = text;
		return;
	}
	if (text)
		reader_error(r, node, "keys: \"%s\" is listed twice", CLIPPED(node_text(node)));
	free(text);
}

void read_keys(struct reader *r, const struct config_option *o, const yaml_node_t *node,
	       void *target)
{
	struct rule *rule = target;
	struct key_set set = {0};

	if (slice_eq_str(node_text(node), "any")) {
		rule->any_key = true;
		return;
	}
	if (node->type == YAML_SCALAR_NODE) {
		reader_error(r, node, "%s: found \"%s\"; expected a list of keys, or any%s",
			     o->name, CLIPPED(node_text(node)),
			     hint_keys(node_text(node), HINT_ROOM));
		return;
	}
	if (!reader_is_list(r, o->name, node))
		return;
	rule->keys = reader_alloc(r, node_count(node), sizeof(*rule->keys));
	if (!rule->keys)
		return;
	FOREACH_ITEM (item, node) {
		const yaml_node_t *key = document_node(&r->document, *item);

		if (reader_is_text(r, o->name, key) && is_key(r, key))
			add_key(r, key, &set, rule);
	}
}

/* As the JSON reader writes it, since a request is compared byte for byte. */
static char *canonical(struct reader *r, struct slice text)
{
	size_t size = 6 * text.n;
	char *p = reader_alloc(r, 1, size + 1);
	int n = p ? json_canonical(text, p, size) : 0;

	if (n < 0) { /* not reached: libyaml gives valid UTF-8 */
		free(p);
		r->no_memory = true;
		return NULL;
	}
	return p; /* zeroed, so it has its end */
}

static void read_context_value(struct reader *r, const yaml_node_t *node,
			       struct rule_context *context)
{
	char *value;

	if (!reader_is_text(r, "encryption_context", node))
		return;
	value = canonical(r, node_text(node));
	if (!value)
		return;
	for (size_t i = 0; i < context->n_values; i++)
		if (strcmp(value, context->values[i]) == 0)
			reader_error(r, node, "encryption_context: \"%s\" is listed twice",
				     CLIPPED(node_text(node)));
	context->values[context->n_values++] = value;
}

static void read_context_values(struct reader *r, const yaml_node_t *node,
				struct rule_context *context)
{
	bool is_list = node->type == YAML_SEQUENCE_NODE;

	if (is_list && !reader_is_list(r, "encryption_context", node))
		return;
	context->values = reader_alloc(r, is_list ? node_count(node) : 1, sizeof(char *));
	if (!context->values)
		return;
	if (!is_list) {
		read_context_value(r, node, context);
		return;
	}
	FOREACH_ITEM (item, node)
		read_context_value(r, document_node(&r->document, *item), context);
}

void read_context(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		  void *target)
{
	struct rule *rule = target;

	if (node->type != YAML_MAPPING_NODE) {
		reader_error(r, node, "%s: found %s; expected a mapping", o->name,
			     node_kind(node));
		return;
	}
	if (node_count(node) == 0) {
		reader_error(r, node, "%s: the mapping is empty; leave it out", o->name);
		return;
	}
	rule->contexts = reader_alloc(r, node_count(node), sizeof(*rule->contexts));
	if (!rule->contexts)
		return;
	FOREACH_PAIR (pair, node) {
		struct rule_context *context = &rule->contexts[rule->n_contexts++];
		const yaml_node_t *name = document_node(&r->document, pair->key);

		context->name = canonical(r, node_text(name));
		read_context_values(r, document_node(&r->document, pair->value), context);
	}
}

static void read_name(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		      char **names, size_t *n)
{
	struct slice name = node_text(node);
	char *text;

	if (!o->syntax(name)) {
		reader_error(r, node, "%s: found \"%s\"; expected %s", o->name, CLIPPED(name),
			     o->expected);
		return;
	}
	for (size_t i = 0; i < *n; i++)
		if (slice_eq_str(name, names[i])) {
			reader_error(r, node, "%s: \"%s\" is listed twice", o->name,
				     CLIPPED(name));
			return;
		}
	text = reader_text(r, name);
	if (text)
		names[(*n)++] = text;
}

void read_names(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		void *target)
{
	char ***names = (char ***)((char *)target + o->offset);
	size_t *n = (size_t *)((char *)target + o->second);

	if (!reader_is_list(r, o->name, node))
		return;
	*names = reader_alloc(r, node_count(node), sizeof(**names));
	if (!*names)
		return;
	FOREACH_ITEM (item, node) {
		const yaml_node_t *name = document_node(&r->document, *item);

		if (reader_is_text(r, o->name, name))
			read_name(r, o, name, *names, n);
	}
}

static int find_endpoint(const struct reader *r, struct slice name)
{
	for (size_t i = 0; i < r->enclave->n_endpoints; i++) {
		unsigned endpoint = r->enclave->endpoints[i];

		if (slice_eq_str(name, r->config->endpoints[endpoint].name))
			return (int)endpoint;
	}
	return -1;
}

static void read_subset_item(struct reader *r, const yaml_node_t *node, struct rule *rule)
{
	struct slice name = node_text(node);
	int i = find_endpoint(r, name);
	struct similar similar;

	if (i >= 0) {
		if (rule->endpoints >> i & 1)
			reader_error(r, node, "endpoints: \"%s\" is listed twice",
				     CLIPPED(name));
		rule->endpoints |= UINT64_C(1) << i;
		return;
	}
	similar_init(&similar, name);
	for (size_t k = 0; k < r->enclave->n_endpoints; k++)
		similar_offer(&similar, r->config->endpoints[r->enclave->endpoints[k]].name);
	reader_error(r, node, "endpoints: \"%s\" is not one of the enclave's endpoints%s",
		     CLIPPED(name), SIMILAR_PHRASE(&similar));
}

void read_subset(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		 void *target)
{
	struct rule *rule = target;

	rule->endpoints = 0; /* all of the enclave's until now */
	if (!reader_is_list(r, o->name, node))
		return;
	FOREACH_ITEM (item, node) {
		const yaml_node_t *name = document_node(&r->document, *item);

		if (reader_is_text(r, o->name, name))
			read_subset_item(r, name, rule);
	}
}
