/* SPDX-License-Identifier: Apache-2.0 */
#include "document.h"

#include "layout.h"

#include <errno.h>
#include <string.h>

static struct place mark_place(yaml_mark_t mark)
{
	return (struct place){(unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

/* libyaml tells the place of bytes it can't read as an offset only. */
static struct place offset_place(struct slice text, size_t offset)
{
	struct place at = {1, 1};

	for (size_t i = 0; i < offset && i < text.n; i++) {
		at.column++;
		if (text.p[i] == '\n')
			at = (struct place){at.line + 1, 1};
	}
	return at;
}

static int parser_init(yaml_parser_t *parser, struct slice text)
{
	if (!yaml_parser_initialize(parser))
		return -ENOMEM;
	yaml_parser_set_encoding(parser,
				 YAML_UTF8_ENCODING); /* else a BOM could choose UTF-16 */
	yaml_parser_set_input_string(parser, (const unsigned char *)(text.p ?: ""), text.n);
	return 0;
}

/* As an editor on Windows saves it. */
static bool is_utf16(struct slice text)
{
	return slice_starts(text, SLICE("\xff\xfe")) || slice_starts(text, SLICE("\xfe\xff"));
}

/* Tells what libyaml stumbled over. */
static int parser_failed(const yaml_parser_t *parser, struct slice text,
			 struct findings *findings)
{
	struct place at = parser->error == YAML_READER_ERROR
				  ? offset_place(text, parser->problem_offset)
				  : mark_place(parser->problem_mark);

	char sentence[LAYOUT_SENTENCE];

	/* The loader forgets to set the error in some places where it runs out of memory. */
	if (parser->error == YAML_MEMORY_ERROR || !parser->problem)
		return -ENOMEM;
	if (is_utf16(text))
		findings_add(findings, false, (struct place){1, 1, 0},
			     "the file is in UTF-16; save it as UTF-8");
	else if (parser->error != YAML_READER_ERROR && layout_explain(text, at, &at, sentence))
		findings_add(findings, false, at, "%s", sentence);
	else if (parser->context)
		findings_add(findings, false, at, "not YAML: %s, %s from line %zu on",
			     parser->problem, parser->context, parser->context_mark.line + 1);
	else
		findings_add(findings, false, at, "not YAML: %s", parser->problem);
	return -EINVAL;
}

/* The first pass, over the events: what the tree no longer shows, or what could make it huge.
 */
struct scan {
	struct findings *findings;
	unsigned documents;
	unsigned depth, nodes;
	unsigned items[DOCUMENT_DEPTH + 1]; /* of the collections that are open */
	bool is_map[DOCUMENT_DEPTH + 1];
	bool unreadable; /* no tree can be made that means what the file says */
	bool stopped;    /* and going on would lead nowhere */
};

static void refuse(struct scan *s, const yaml_event_t *event, const char *what)
{
	findings_add(s->findings, false, mark_place(event->start_mark), "%s", what);
}

static void refuse_tree(struct scan *s, const yaml_event_t *event, const char *what)
{
	refuse(s, event, what);
	s->unreadable = true;
}

static void stop(struct scan *s, const yaml_event_t *event, const char *what)
{
	refuse_tree(s, event, what);
	s->stopped = true;
}

static void scan_node(struct scan *s, const yaml_event_t *event, const yaml_char_t *anchor,
		      const yaml_char_t *tag)
{
	if (anchor)
		refuse_tree(s, event,
			    "YAML anchors are not supported; write the value where it is used");
	if (tag)
		refuse(s, event, "YAML tags are not supported; write the bare value");
	if (++s->nodes == DOCUMENT_NODES + 1)
		stop(s, event, "more than 131072 names, values, lists and mappings");
	if (++s->items[s->depth] == DOCUMENT_ITEMS * (s->is_map[s->depth] ? 2 : 1) + 1)
		refuse_tree(s, event, "a list or mapping has more than 1024 entries");
}

static void scan_open(struct scan *s, const yaml_event_t *event, bool is_map)
{
	if (s->depth == DOCUMENT_DEPTH) {
		stop(s, event, "lists and mappings are more than 16 levels deep");
		return;
	}
	s->depth++;
	s->items[s->depth] = 0;
	s->is_map[s->depth] = is_map;
}

static void scan_event(struct scan *s, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (++s->documents > 1)
			stop(s, event, "a second YAML document; the file must hold one");
		break;
	case YAML_ALIAS_EVENT:
		refuse_tree(s, event, "YAML aliases are not supported; write the value out");
		break;
	case YAML_SCALAR_EVENT:
		scan_node(s, event, event->data.scalar.anchor, event->data.scalar.tag);
		break;
	case YAML_SEQUENCE_START_EVENT:
		scan_node(s, event, event->data.sequence_start.anchor,
			  event->data.sequence_start.tag);
		scan_open(s, event, false);
		break;
	case YAML_MAPPING_START_EVENT:
		scan_node(s, event, event->data.mapping_start.anchor,
			  event->data.mapping_start.tag);
		scan_open(s, event, true);
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		s->depth--;
		break;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		break;
	}
}

static int scan_text(struct slice text, struct findings *findings)
{
	_cleanup_(yaml_parser_delete) yaml_parser_t parser = {0};
	struct scan scan = {.findings = findings};
	int r = parser_init(&parser, text);
	bool end = false;

	while (r == 0 && !end && !scan.stopped) {
		yaml_event_t event;

		if (!yaml_parser_parse(&parser, &event))
			return parser_failed(&parser, text, findings);
		scan_event(&scan, &event);
		end = event.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	}
	return r ?: scan.unreadable ? -EINVAL : 0;
}

/* The second pass, over the tree. */
static void check_key(const struct document *d, const yaml_node_t *map,
		      const yaml_node_pair_t *pair, struct findings *findings)
{
	const yaml_node_t *key = document_node(d, pair->key);

	if (key->type != YAML_SCALAR_NODE) {
		findings_add(findings, false, node_place(key), "a name is text, not %s",
			     node_kind(key));
		return;
	}
	if (node_is_plain(key) && slice_eq_str(node_text(key), "<<"))
		findings_add(findings, false, node_place(key),
			     "YAML merges are not supported; write the values out");
	FOREACH_PAIR (other, map) {
		const yaml_node_t *first = document_node(d, other->key);

		if (other == pair)
			return;
		if (first->type != YAML_SCALAR_NODE ||
		    !slice_eq(node_text(first), node_text(key)))
			continue;
		findings_add(findings, false, node_place(key),
			     "\"%s\" is given twice; the first is on line %u",
			     CLIPPED(node_text(key)), node_place(first).line);
		return;
	}
}

static void check_tree(const struct document *d, struct findings *findings)
{
	for (const yaml_node_t *node = d->yaml.nodes.start; node < d->yaml.nodes.top; node++)
		if (node->type == YAML_MAPPING_NODE)
			FOREACH_PAIR (pair, node)
				check_key(d, node, pair, findings);
}

/* A mark has the offset of its byte, which nobody asks for: it becomes the number of the file,
 * so that each node knows its own. */
static void set_file(struct document *d, unsigned file)
{
	for (yaml_node_t *node = d->yaml.nodes.start; node < d->yaml.nodes.top; node++)
		node->start_mark.index = file;
}

int document_init(struct document *d, struct slice text, struct findings *findings)
{
	_cleanup_(yaml_parser_delete) yaml_parser_t parser = {0};
	int r;

	if (text.n > DOCUMENT_BYTES) {
		findings_add(findings, false, (struct place){0},
			     "the file is larger than %zuMiB", DOCUMENT_BYTES / MIB);
		return -EINVAL;
	}
	if (slice_starts(
		    text,
		    SLICE("\xef\xbb\xbf"))) /* a BOM: libyaml takes it only if it may guess */
		text = (struct slice){text.p + 3, text.n - 3};
	r = scan_text(text, findings);
	if (r < 0)
		return r;
	r = parser_init(&parser, text);
	if (r < 0)
		return r;
	if (!yaml_parser_load(&parser, &d->yaml))
		return parser_failed(&parser, text, findings);
	set_file(d, findings->file);
	check_tree(d, findings);
	return 0;
}

void document_done(struct document *d)
{
	yaml_document_delete(&d->yaml);
}

/* libyaml's getters take no const, but change nothing. */
static yaml_document_t *yaml_of(const struct document *d)
{
	return (yaml_document_t *)&d->yaml;
}

const yaml_node_t *document_root(const struct document *d)
{
	return yaml_document_get_root_node(yaml_of(d));
}

const yaml_node_t *document_node(const struct document *d, int index)
{
	return yaml_document_get_node(yaml_of(d), index);
}

const yaml_node_t *document_member(const struct document *d, const yaml_node_t *map,
				   const char *name)
{
	if (!map || map->type != YAML_MAPPING_NODE)
		return NULL;
	FOREACH_PAIR (pair, map)
		if (slice_eq_str(node_text(document_node(d, pair->key)), name))
			return document_node(d, pair->value);
	return NULL;
}

const yaml_node_t *document_item(const struct document *d, const yaml_node_t *list, size_t i)
{
	if (!list || list->type != YAML_SEQUENCE_NODE || i >= node_count(list))
		return NULL;
	return document_node(d, list->data.sequence.items.start[i]);
}

struct place node_place(const yaml_node_t *node)
{
	struct place at = mark_place(node->start_mark);

	at.file = (unsigned)node->start_mark.index;
	return at;
}

struct slice node_text(const yaml_node_t *node)
{
	if (node->type != YAML_SCALAR_NODE)
		return (struct slice){"", 0};
	return (struct slice){(const char *)node->data.scalar.value, node->data.scalar.length};
}

bool node_is_plain(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE &&
	       node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

bool node_is_null(const yaml_node_t *node)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

	for (size_t i = 0; i < ELEMENTSOF(nulls); i++)
		if (node_is_plain(node) && slice_eq_str(node_text(node), nulls[i]))
			return true;
	return false;
}

const char *node_kind(const yaml_node_t *node)
{
	if (node->type == YAML_SEQUENCE_NODE)
		return "a list";
	if (node->type == YAML_MAPPING_NODE)
		return "a mapping";
	return node_is_null(node) ? "nothing" : "text";
}

size_t node_count(const yaml_node_t *node)
{
	if (node->type == YAML_SEQUENCE_NODE)
		return (size_t)(node->data.sequence.items.top -
				node->data.sequence.items.start);
	if (node->type == YAML_MAPPING_NODE)
		return (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
	return 0;
}
