/* SPDX-License-Identifier: Apache-2.0 */
#include "reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void report(struct reader *r, bool warning, const yaml_node_t *at, const char *format,
		   va_list args)
{
	char text[sizeof(((struct finding *)NULL)->text)];

	vsnprintf(text, sizeof(text), format, args);
	findings_add(r->findings, warning, node_place(at), "%s", text);
}

void reader_error(struct reader *r, const yaml_node_t *at, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(r, false, at, format, args);
	va_end(args);
}

void reader_warning(struct reader *r, const yaml_node_t *at, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(r, true, at, format, args);
	va_end(args);
}

const yaml_node_t *reader_member(const struct reader *r, const yaml_node_t *map,
				 const char *name)
{
	return document_member(&r->document, map, name);
}

const yaml_node_t *reader_pair_key(const struct reader *r, const yaml_node_t *map, size_t i)
{
	return document_node(&r->document, map->data.mapping.pairs.start[i].key);
}

const yaml_node_t *reader_pair_value(const struct reader *r, const yaml_node_t *map, size_t i)
{
	return document_node(&r->document, map->data.mapping.pairs.start[i].value);
}

void *reader_alloc(struct reader *r, size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		r->no_memory = true;
	return p;
}

char *reader_text(struct reader *r, struct slice text)
{
	char *p = strndup(text.p, text.n);

	if (!p)
		r->no_memory = true;
	return p;
}

bool reader_is_list(struct reader *r, const char *name, const yaml_node_t *node)
{
	if (node->type != YAML_SEQUENCE_NODE) {
		reader_error(r, node, "%s: found %s; expected a list", name, node_kind(node));
		return false;
	}
	if (node_count(node) == 0) {
		reader_error(r, node, "%s: the list is empty", name);
		return false;
	}
	return true;
}

bool reader_is_text(struct reader *r, const char *name, const yaml_node_t *node)
{
	if (node->type == YAML_SCALAR_NODE && !node_is_null(node))
		return true;
	reader_error(r, node, "%s: found %s; expected text", name, node_kind(node));
	return false;
}

bool reader_has_unknown(const struct reader *r, const yaml_node_t *map, enum section_id id)
{
	if (!map || map->type != YAML_MAPPING_NODE)
		return false;
	FOREACH_PAIR (pair, map)
		if (!section_find(section_get(id),
				  node_text(document_node(&r->document, pair->key))))
			return true;
	return false;
}
