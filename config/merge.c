/* SPDX-License-Identifier: Apache-2.0 */
#include "merge.h"

#include <errno.h>

/* The nodes of a document are an array, and name each other by their index from 1: copied
 * behind those of another they are named by as much more. */

static yaml_node_t *node_at(struct document *d, int index)
{
	return &d->yaml.nodes.start[index - 1];
}

static int count_nodes(const struct document *d)
{
	return (int)(d->yaml.nodes.top - d->yaml.nodes.start);
}

static int copy_node(struct document *into, const yaml_node_t *node)
{
	struct slice text = node_text(node);
	int index;

	if (node->type == YAML_SCALAR_NODE)
		index = yaml_document_add_scalar(&into->yaml, node->tag,
						 (const yaml_char_t *)text.p, (int)text.n,
						 node->data.scalar.style);
	else if (node->type == YAML_SEQUENCE_NODE)
		index = yaml_document_add_sequence(&into->yaml, node->tag,
						   node->data.sequence.style);
	else
		index = yaml_document_add_mapping(&into->yaml, node->tag,
						  node->data.mapping.style);
	if (index == 0)
		return -ENOMEM;
	node_at(into, index)->start_mark = node->start_mark;
	node_at(into, index)->end_mark = node->end_mark;
	return 0;
}

static int copy_links(struct document *into, int base, int index, const yaml_node_t *node)
{
	if (node->type == YAML_SEQUENCE_NODE)
		FOREACH_ITEM (item, node)
			if (!yaml_document_append_sequence_item(&into->yaml, base + index,
								base + *item))
				return -ENOMEM;
	if (node->type == YAML_MAPPING_NODE)
		FOREACH_PAIR (pair, node)
			if (!yaml_document_append_mapping_pair(&into->yaml, base + index,
							       base + pair->key,
							       base + pair->value))
				return -ENOMEM;
	return 0;
}

/* *ret_base is what the copies' indices are larger by. */
static int copy_nodes(struct document *into, const struct document *from, int *ret_base)
{
	int base = count_nodes(into), n = count_nodes(from), r = 0;

	for (int i = 1; i <= n && r == 0; i++)
		r = copy_node(into, document_node(from, i));
	for (int i = 1; i <= n && r == 0; i++)
		r = copy_links(into, base, i, document_node(from, i));
	if (r == 0)
		*ret_base = base;
	return r;
}

static yaml_node_pair_t *find_enclaves(struct document *d)
{
	yaml_node_t *root = yaml_document_get_root_node(&d->yaml);

	for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
	     pair < root->data.mapping.pairs.top; pair++)
		if (slice_eq_str(node_text(document_node(d, pair->key)), "enclaves"))
			return pair;
	return NULL;
}

/* The main file may leave `enclaves` out, or empty. `like` is the first drop-in's. */
static int add_enclaves(struct document *d, const yaml_node_t *like)
{
	int map = yaml_document_add_mapping(&d->yaml, NULL, YAML_BLOCK_MAPPING_STYLE);
	yaml_node_pair_t *pair;
	int key;

	if (map == 0)
		return -ENOMEM;
	node_at(d, map)->start_mark = like->start_mark;
	pair = find_enclaves(d);
	if (pair) {
		pair->value = map;
		return map;
	}
	key = yaml_document_add_scalar(&d->yaml, NULL, (const yaml_char_t *)"enclaves", -1,
				       YAML_PLAIN_SCALAR_STYLE);
	if (key == 0 || !yaml_document_append_mapping_pair(&d->yaml, 1, key, map))
		return -ENOMEM;
	node_at(d, key)->start_mark = like->start_mark;
	return map;
}

/* The index of the main file's mapping of enclaves, which is made where there is none; 0 when
 * it has something else there, which its reader will tell. */
static int enclaves_of(struct document *d, const yaml_node_t *like)
{
	const yaml_node_pair_t *pair = find_enclaves(d);
	const yaml_node_t *node = pair ? document_node(d, pair->value) : NULL;

	if (!pair || node_is_null(node))
		return add_enclaves(d, like);
	return node->type == YAML_MAPPING_NODE ? pair->value : 0;
}

static bool is_given(const struct document *d, int map, const yaml_node_t *key,
		     const struct config_texts *texts, struct findings *findings)
{
	FOREACH_PAIR (pair, document_node(d, map)) {
		const yaml_node_t *first = document_node(d, pair->key);
		struct place at = node_place(first);

		if (first->type != YAML_SCALAR_NODE ||
		    !slice_eq(node_text(first), node_text(key)))
			continue;
		if (at.file != node_place(key).file) /* else it was told */
			findings_add(findings, false, node_place(key),
				     "\"%s\" is given twice; the first is at %s:%u",
				     CLIPPED(node_text(key)), texts->list[at.file].name,
				     at.line);
		return true;
	}
	return false;
}

static int append_enclaves(struct document *d, const struct document *from,
			   const yaml_node_t *enclaves, const struct config_texts *texts,
			   struct findings *findings)
{
	int map = enclaves_of(d, enclaves), base, r;

	if (map <= 0)
		return map;
	if (count_nodes(d) + count_nodes(from) > DOCUMENT_NODES) {
		findings_add(
			findings, false, node_place(enclaves),
			"the files together have more than 131072 names, values, lists and "
			"mappings");
		return -EINVAL;
	}
	r = copy_nodes(d, from, &base);
	if (r < 0)
		return r;
	FOREACH_PAIR (pair, enclaves) {
		const yaml_node_t *key = document_node(from, pair->key);

		if (is_given(d, map, key, texts, findings))
			continue;
		if (node_count(document_node(d, map)) == DOCUMENT_ITEMS) {
			findings_add(findings, false, node_place(key),
				     "the files together have more than 1024 enclaves");
			return -EINVAL;
		}
		if (!yaml_document_append_mapping_pair(&d->yaml, map, base + pair->key,
						       base + pair->value))
			return -ENOMEM;
	}
	return 0;
}

/* Only enclaves may stand in a drop-in; NULL, with findings, if there are none. */
static const yaml_node_t *find_only_enclaves(const struct document *from, const char *main_name,
					     struct findings *findings)
{
	const yaml_node_t *root = document_root(from), *enclaves;

	if (!root || node_is_null(root)) {
		findings_add(findings, false, (struct place){1, 1}, "the file is empty");
		return NULL;
	}
	if (root->type != YAML_MAPPING_NODE) {
		findings_add(findings, false, node_place(root),
			     "found %s; expected a mapping with enclaves", node_kind(root));
		return NULL;
	}
	FOREACH_PAIR (pair, root) {
		const yaml_node_t *key = document_node(from, pair->key);

		if (key->type == YAML_SCALAR_NODE && !slice_eq_str(node_text(key), "enclaves"))
			findings_add(findings, false, node_place(key),
				     "\"%s\" can't stand in a drop-in: only enclaves can; the "
				     "rest belongs into %s",
				     CLIPPED(node_text(key)), main_name);
	}
	enclaves = document_member(from, root, "enclaves");
	if (!enclaves && node_count(root) == 0)
		findings_add(findings, false, node_place(root),
			     "a drop-in lacks \"enclaves\": the enclaves, by name");
	if (!enclaves)
		return NULL;
	if (enclaves->type == YAML_MAPPING_NODE && node_count(enclaves) > 0)
		return enclaves;
	findings_add(findings, false, node_place(enclaves),
		     "enclaves: found %s; expected a mapping from names to options",
		     enclaves->type == YAML_MAPPING_NODE ? "nothing" : node_kind(enclaves));
	return NULL;
}

static bool has_mapping(const struct document *d)
{
	const yaml_node_t *root = document_root(d);

	return root && root->type == YAML_MAPPING_NODE;
}

static int merge_dropin(struct document *d, const struct config_texts *texts, size_t i,
			struct findings *findings)
{
	struct document from;
	const yaml_node_t *enclaves;
	int r;

	findings->file = (unsigned)i;
	r = document_init(&from, buf_slice(&texts->list[i].bytes), findings);
	if (r < 0)
		return r;
	enclaves = find_only_enclaves(&from, texts->list[0].name, findings);
	if (enclaves && has_mapping(d))
		r = append_enclaves(d, &from, enclaves, texts, findings);
	document_done(&from);
	return r;
}

int merge_dropins(struct document *d, const struct config_texts *texts,
		  struct findings *findings)
{
	int result = 0;

	for (size_t i = 1; i < texts->n && result != -ENOMEM; i++) {
		int r = merge_dropin(d, texts, i, findings);

		result = r < 0 ? r : result;
	}
	findings->file = 0;
	return result;
}
