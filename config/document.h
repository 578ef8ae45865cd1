/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One YAML document as a tree, with the place of every node. libyaml reads it; this refuses
 * what would make the file mean something other than it says (anchors, aliases, tags, merges, a
 * second document, a name given twice), and bounds its size. */

#include "findings.h"
#include "limit.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <yaml.h>

#define DOCUMENT_BYTES (4 * MIB) /* 40,000 ARNs */
#define DOCUMENT_DEPTH 16        /* lists and mappings within each other: a valid file has 7 */
#define DOCUMENT_ITEMS 1024      /* of one list or mapping */
/* Names, values, lists and mappings. The tree takes some 250 bytes of memory for each, whatever
 * it holds: a daemon that is full, the tree of its reload and that of a check beside it must
 * fit into the unit's MemoryMax=. */
#define DOCUMENT_NODES (128 * 1024)

struct document {
	yaml_document_t yaml;
};

/* Borrows `text` during the call only; it is the file that `findings` is at. 0, also with
 * errors in `findings` that leave the tree readable; -EINVAL when they don't; -ENOMEM. Ends in
 * document_done() only after a 0. */
_must_check_ int document_init(struct document *d, struct slice text,
			       struct findings *findings);
void document_done(struct document *d);

/* NULL when the document is empty. */
const yaml_node_t *document_root(const struct document *d);

const yaml_node_t *document_node(const struct document *d, int index);

/* The value of that name in a mapping, or NULL; also when `map` is NULL or no mapping. */
const yaml_node_t *document_member(const struct document *d, const yaml_node_t *map,
				   const char *name);

/* The i-th item of a list, or NULL; also when `list` is NULL or no list. */
const yaml_node_t *document_item(const struct document *d, const yaml_node_t *list, size_t i);

struct place node_place(const yaml_node_t *node);

/* A scalar's text; empty for a list or a mapping. */
struct slice node_text(const yaml_node_t *node);
bool node_is_plain(const yaml_node_t *node); /* a scalar without quotes */
bool node_is_null(const yaml_node_t *node);  /* left out, ~ or null, without quotes */

/* "a list", "a mapping", "nothing" or "text", for messages. */
const char *node_kind(const yaml_node_t *node);

/* Items or pairs; 0 for a scalar. */
size_t node_count(const yaml_node_t *node);

#define FOREACH_PAIR(pair, map)                                                                \
	for (const yaml_node_pair_t *pair = (map)->data.mapping.pairs.start;                   \
	     pair < (map)->data.mapping.pairs.top; pair++)

#define FOREACH_ITEM(item, list)                                                               \
	for (const yaml_node_item_t *item = (list)->data.sequence.items.start;                 \
	     item < (list)->data.sequence.items.top; item++)
