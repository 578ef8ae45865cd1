/* SPDX-License-Identifier: Apache-2.0 */
#include "hint.h"
#include "layout.h"
#include "merge.h"
#include "reader.h"
#include "similar.h"
#include "syntax.h"
#include "texts.h"
#include "value.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static void read_section(struct reader *r, enum section_id id, const yaml_node_t *at,
			 const yaml_node_t *node, void *target);

static void *field(void *target, size_t offset)
{
	return (char *)target + offset;
}

static void refuse_scalar(struct reader *r, const struct config_option *o,
			  const yaml_node_t *node, bool out_of_range)
{
	char expected[200], hint[HINT_SIZE];
	struct similar similar;

	value_expected(o, expected, sizeof(expected));
	if (node->type != YAML_SCALAR_NODE || node_is_null(node)) {
		reader_error(r, node, "%s: found %s; expected %s", o->name, node_kind(node),
			     expected);
		return;
	}
	if (o->veiled && memchr(node_text(node).p, ':', node_text(node).n)) {
		reader_error(r, node, "%s: found a user and password, not shown; expected %s",
			     o->name, expected);
		return;
	}
	hint_scalar(o, node_text(node), hint);
	similar_init(&similar, node_text(node));
	for (const char *const *word = o->words; word && *word; word++)
		similar_offer(&similar, *word);
	if (out_of_range)
		reader_error(r, node, "%s: %s is out of range; expected %s%s", o->name,
			     CLIPPED(node_text(node)), expected, hint);
	else
		reader_error(r, node, "%s: found \"%s\"%s; expected %s%s", o->name,
			     CLIPPED(node_text(node)),
			     value_is_bare(o) && !node_is_plain(node) ? " in quotes" : "",
			     expected, *hint ? hint : SIMILAR_PHRASE(&similar));
}

static void read_scalar(struct reader *r, const struct config_option *o,
			const yaml_node_t *node, void *target)
{
	enum value_result result = VALUE_BAD;

	if (node->type == YAML_SCALAR_NODE && !node_is_null(node))
		result = value_read(o, node_text(node), node_is_plain(node),
				    field(target, o->offset));
	if (result == VALUE_NO_MEMORY)
		r->no_memory = true;
	else if (result != VALUE_OK)
		refuse_scalar(r, o, node, result == VALUE_OUT_OF_RANGE);
}

static void read_address(struct reader *r, const struct config_option *o,
			 const yaml_node_t *node, void *target)
{
	unsigned *port = field(target, o->second);
	char **host = field(target, o->offset);
	struct slice text;

	if (!reader_is_text(r, o->name, node))
		return;
	if (syntax_host_port(node_text(node), &text, port))
		*host = reader_text(r, text);
	else
		reader_error(
			r, node,
			"%s: found \"%s\"; expected ADDRESS:PORT, [IPV6]:PORT or NAME:PORT%s",
			o->name, CLIPPED(node_text(node)),
			hint_host_port(node_text(node), HINT_ROOM));
}

/* A value that may hold a password is not shown. */
static void read_proxy(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		       void *target)
{
	unsigned *port = field(target, o->second);
	char **host = field(target, o->offset);
	struct slice text, value = node_text(node);

	if (!reader_is_text(r, o->name, node))
		return;
	if (syntax_proxy(value, &text, port))
		*host = reader_text(r, text);
	else if (memchr(value.p, '@', value.n))
		reader_error(r, node,
			     "%s: found a user or password, which must not stand in this file; "
			     "name a file that holds them in proxy_credentials_file, and write "
			     "http://HOST:PORT here",
			     o->name);
	else if (syntax_may_hold_password(value))
		reader_error(r, node,
			     "%s: found what may hold a password, not shown; expected "
			     "http://HOST:PORT or http://[IPV6]:PORT, without a path",
			     o->name);
	else
		reader_error(r, node,
			     "%s: found \"%s\"; expected http://HOST:PORT, without a path",
			     o->name, CLIPPED(value));
}

/* The endpoints of an enclave, by name. */
static void read_endpoint_name(struct reader *r, const yaml_node_t *node,
			       struct enclave_config *enclave)
{
	const struct config *c = r->config;
	struct slice name = node_text(node);
	struct similar similar;
	unsigned i = 0;

	similar_init(&similar, name);
	for (; i < c->n_endpoints && !slice_eq_str(name, c->endpoints[i].name); i++)
		similar_offer(&similar, c->endpoints[i].name);
	if (i == c->n_endpoints) {
		reader_error(r, node, "endpoints: there is no endpoint \"%s\"%s", CLIPPED(name),
			     SIMILAR_PHRASE(&similar));
		return;
	}
	for (size_t k = 0; k < enclave->n_endpoints; k++)
		if (enclave->endpoints[k] == i) {
			reader_error(r, node, "endpoints: \"%s\" is listed twice",
				     CLIPPED(name));
			return;
		}
	enclave->endpoints[enclave->n_endpoints++] = i;
}

static void read_endpoints(struct reader *r, const struct config_option *o,
			   const yaml_node_t *node, void *target)
{
	struct enclave_config *enclave = target;

	if (!reader_is_list(r, o->name, node))
		return;
	enclave->endpoints = reader_alloc(r, node_count(node), sizeof(*enclave->endpoints));
	if (!enclave->endpoints)
		return;
	FOREACH_ITEM (item, node) {
		const yaml_node_t *name = document_node(&r->document, *item);

		if (reader_is_text(r, o->name, name))
			read_endpoint_name(r, name, enclave);
	}
}

/* Defaults are read from their text, so that the table alone says what they are. */
static void set_defaults(struct reader *r, enum section_id id, void *target)
{
	const struct section *s = section_get(id);

	for (size_t i = 0; i < s->n_options; i++) {
		const struct config_option *o = &s->options[i];
		enum value_result result;

		if (o->type == OPTION_SECTION)
			set_defaults(r, o->section, field(target, o->offset));
		if (!o->fallback)
			continue;
		result = value_read(o, slice_from(o->fallback), true, field(target, o->offset));
		assert(result == VALUE_OK || result == VALUE_NO_MEMORY);
		if (result == VALUE_NO_MEMORY)
			r->no_memory = true;
	}
}

/* The next item of the array, which has room. */
static void *item_new(struct reader *r, const struct config_option *o, const yaml_node_t *at,
		      void *target)
{
	const struct section *s = section_get(o->section);
	char *array = *(char **)field(target, o->offset);
	size_t *n = field(target, o->second);
	void *item = array + (*n)++ * s->size;
	struct place place = node_place(at);

	*(unsigned *)field(item, s->line) = place.line;
	if (s->file)
		*(const char **)field(item, s->file) = r->config->files[place.file];
	set_defaults(r, o->section, item);
	if (o->section == SECTION_LISTENER)
		((struct listener_config *)item)->enclave_index = -1;
	if (o->section == SECTION_ENCLAVE) {
		r->enclave = item;
		r->enclave->limits = r->config->limits;
	}
	if (o->section == SECTION_RULE)
		for (size_t i = 0; i < r->enclave->n_endpoints; i++)
			((struct rule *)item)->endpoints |= UINT64_C(1)
							    << r->enclave->endpoints[i];
	return item;
}

/* False when there is nothing to read. */
static bool items_new(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		      void *target)
{
	void **array = field(target, o->offset);

	*array = reader_alloc(r, node_count(node), section_get(o->section)->size);
	return *array;
}

static void read_list(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		      void *target)
{
	if (!reader_is_list(r, o->name, node) || !items_new(r, o, node, target))
		return;
	FOREACH_ITEM (i, node) {
		const yaml_node_t *item = document_node(&r->document, *i);

		read_section(r, o->section, item, item, item_new(r, o, item, target));
	}
}

static void read_map_item(struct reader *r, const struct config_option *o,
			  const yaml_node_pair_t *pair, void *target)
{
	const yaml_node_t *key = document_node(&r->document, pair->key);
	void *item = item_new(r, o, key, target);
	char **name = field(item, section_get(o->section)->item);
	struct slice text = node_text(key);
	char escaped[CLIP];

	if (!syntax_name(text)) {
		reader_error(
			r, key,
			"%s: \"%s\" is not a name; expected 1 to 64 letters, digits, dots, "
			"dashes and underscores",
			o->name, CLIPPED(text));
		/* Other messages will quote it as well. */
		text = slice_from(slice_escape(text, escaped, sizeof(escaped)));
	}
	*name = reader_text(r, text);
	read_section(r, o->section, key, document_node(&r->document, pair->value), item);
}

static void read_map(struct reader *r, const struct config_option *o, const yaml_node_t *node,
		     void *target)
{
	size_t *n = field(target, o->second);

	if (node->type != YAML_MAPPING_NODE || node_count(node) == 0) {
		reader_error(r, node, "%s: found %s; expected a mapping from names to options",
			     o->name,
			     node->type == YAML_MAPPING_NODE ? "nothing" : node_kind(node));
		return;
	}
	if (!items_new(r, o, node, target))
		return;
	FOREACH_PAIR (pair, node) {
		if (o->max > 0 && *n == o->max) { /* rules have one bit for each */
			reader_error(r, document_node(&r->document, pair->key),
				     "%s: more than %u", o->name, (unsigned)o->max);
			return;
		}
		read_map_item(r, o, pair, target);
	}
}

/* HOST:PORT, or a mapping. */
static void read_tunnel_host(struct reader *r, const yaml_node_t *node,
			     struct tunnel_host *host)
{
	struct slice name;

	if (node->type == YAML_MAPPING_NODE) {
		read_section(r, SECTION_TUNNEL_HOST, node, node, host);
		return;
	}
	if (!reader_is_text(r, "hosts", node))
		return;
	if (syntax_host_port(node_text(node), &name, &host->port) && syntax_host(name))
		host->host = reader_text(r, name);
	else
		reader_error(
			r, node,
			"hosts: found \"%s\"; expected NAME:PORT, with a DNS name in lower "
			"case, or a mapping%s",
			CLIPPED(node_text(node)), hint_host_port(node_text(node), HINT_ROOM));
}

static void read_tunnel_hosts(struct reader *r, const struct config_option *o,
			      const yaml_node_t *node, void *target)
{
	if (!reader_is_list(r, o->name, node) || !items_new(r, o, node, target))
		return;
	FOREACH_ITEM (i, node) {
		const yaml_node_t *item = document_node(&r->document, *i);

		read_tunnel_host(r, item, item_new(r, o, item, target));
	}
}

static void read_subsection(struct reader *r, const struct config_option *o,
			    const yaml_node_t *node, void *target)
{
	read_section(r, o->section, node, node, field(target, o->offset));
}

/* Resolved at the end: it may stand before the enclaves. */
static void read_enclave(struct reader *r, const struct config_option *o,
			 const yaml_node_t *node, void *target)
{
	struct listener_config *listener = target;

	listener->enclave_index = -1;
	(void)reader_is_text(r, o->name, node);
}

static option_reader *const readers[_OPTION_TYPE_MAX] = {
	[OPTION_NUMBER] = read_scalar,      [OPTION_SIZE] = read_scalar,
	[OPTION_TIME] = read_scalar,        [OPTION_BANDWIDTH] = read_scalar,
	[OPTION_RATE] = read_scalar,        [OPTION_MODE] = read_scalar,
	[OPTION_BOOL] = read_scalar,        [OPTION_WORD] = read_scalar,
	[OPTION_TEXT] = read_scalar,        [OPTION_ADDRESS] = read_address,
	[OPTION_ENCLAVE] = read_enclave,    [OPTION_ENDPOINTS] = read_endpoints,
	[OPTION_SUBSET] = read_subset,      [OPTION_ACTIONS] = read_actions,
	[OPTION_KEYS] = read_keys,          [OPTION_CONTEXT] = read_context,
	[OPTION_HOSTS] = read_tunnel_hosts, [OPTION_SECTION] = read_subsection,
	[OPTION_LIST] = read_list,          [OPTION_MAP] = read_map,
	[OPTION_PROXY] = read_proxy,        [OPTION_CIDS] = read_cids,
	[OPTION_NAMES] = read_names,
};

static size_t option_index(const struct section *s, const struct config_option *o)
{
	return (size_t)(o - s->options);
}

/* Whoever reads that an option is not known needn't read that it is missing elsewhere. */
static void mark_meant(struct reader *r, enum section_id id, const struct config_option *o)
{
	r->meant[id] |= UINT32_C(1) << option_index(section_get(id), o);
}

/* The section in which this is an option: one within `id` if there is, else any. */
static enum section_id find_section(enum section_id id, struct slice name, bool within)
{
	const struct section *s = section_get(id);

	for (size_t i = 0; within && i < s->n_options; i++) {
		enum section_id inner = s->options[i].section, found = _SECTION_MAX;

		if (inner == SECTION_ROOT)
			continue;
		if (section_find(section_get(inner), name))
			return inner;
		found = find_section(inner, name, true);
		if (found != _SECTION_MAX)
			return found;
	}
	for (unsigned i = 0; !within && i < _SECTION_MAX; i++)
		if (section_find(section_get(i), name))
			return i;
	return _SECTION_MAX;
}

/* An option of another section, which stands too far out or in. */
static bool refuse_misplaced(struct reader *r, enum section_id id, const yaml_node_t *key)
{
	struct slice name = node_text(key);
	enum section_id home = find_section(id, name, true);

	if (home == _SECTION_MAX)
		home = find_section(id, name, false);
	if (home == _SECTION_MAX)
		return false;
	mark_meant(r, home, section_find(section_get(home), name));
	reader_error(r, key, "%s has no option \"%s\"; %s has one", section_get(id)->name,
		     CLIPPED(name), section_get(home)->name);
	return true;
}

static void refuse_unknown(struct reader *r, enum section_id id, const yaml_node_t *key)
{
	const struct section *s = section_get(id);
	const struct config_option *o;
	struct similar similar;
	const char *glued;

	if (key->type != YAML_SCALAR_NODE || section_find(s, node_text(key)))
		return;
	glued = layout_glued_option(node_text(key));
	o = glued ? section_find(s, slice_from(glued)) : NULL;
	if (o && node_is_plain(key)) {
		mark_meant(r, id, o);
		reader_error(r, key, "put a space after \"%s:\"", o->name);
		return;
	}
	if (refuse_misplaced(r, id, key))
		return;
	similar_init(&similar, node_text(key));
	for (size_t i = 0; i < s->n_options; i++)
		similar_offer(&similar, s->options[i].name);
	if (similar.best)
		mark_meant(r, id, section_find(s, slice_from(similar.best)));
	reader_error(r, key, "%s has no option \"%s\"%s", s->name, CLIPPED(node_text(key)),
		     SIMILAR_PHRASE(&similar));
}

/* Text where a mapping is expected. */
static void refuse_section(struct reader *r, const struct section *s, const yaml_node_t *node)
{
	const char *glued = node_is_plain(node) ? layout_glued_option(node_text(node)) : NULL;

	if (glued && section_find(s, slice_from(glued)))
		reader_error(r, node, "put a space after \"%s:\"", glued);
	else
		reader_error(r, node, "%s: found %s; expected a mapping of options", s->name,
			     node_kind(node));
}

/* `at` is where a missing option is reported. The options are read in the order of the table,
 * not of the file, so that what is named is there before what names it. */
static void read_section(struct reader *r, enum section_id id, const yaml_node_t *at,
			 const yaml_node_t *node, void *target)
{
	const struct section *s = section_get(id);
	uint32_t meant[_SECTION_MAX];

	if (node->type != YAML_MAPPING_NODE) {
		refuse_section(r, s, node);
		return;
	}
	memcpy(meant, r->meant, sizeof(meant));
	FOREACH_PAIR (pair, node)
		refuse_unknown(r, id, document_node(&r->document, pair->key));
	for (size_t i = 0; i < s->n_options; i++) {
		const struct config_option *o = &s->options[i];
		const yaml_node_t *value = document_member(&r->document, node, o->name);

		if (value)
			readers[o->type](r, o, value, target);
		else if (o->required && !(r->meant[id] >> i & 1) &&
			 !(o->instead && document_member(&r->document, node, o->instead)))
			reader_error(r, at, "%s lacks \"%s\": %s", s->name, o->name, o->help);
	}
	memcpy(r->meant, meant, sizeof(meant));
}

static int read_document(struct reader *r)
{
	const yaml_node_t *root = document_root(&r->document);

	if (!root || node_is_null(root)) {
		findings_add(r->findings, false, (struct place){1, 1}, "the file is empty");
		return -EINVAL;
	}
	if (document_member(&r->document, root, "allowlist") &&
	    !document_member(&r->document, root, "enclaves")) {
		reader_error(
			r, root,
			"this is an allow-list of AWS's vsock-proxy; "
			"kms-vsock-proxyd --import-vsock-proxy makes a configuration of it");
		return -EINVAL;
	}
	set_defaults(r, SECTION_ROOT, r->config);
	read_section(r, SECTION_ROOT, root, root, r->config);
	if (r->no_memory)
		return -ENOMEM;
	reader_validate(r);
	return r->no_memory ? -ENOMEM : r->findings->n_errors > 0 ? -EINVAL : 0;
}

static int prepare(struct config *c)
{
	for (size_t i = 0; i < c->n_enclaves; i++) {
		int k = policy_prepare(&c->enclaves[i].policy);

		if (k < 0)
			return k;
	}
	return 0;
}

static int take_names(struct config *c, const struct config_texts *texts)
{
	c->files = calloc(texts->n, sizeof(*c->files));
	c->n_files = c->files ? texts->n : 0;
	for (size_t i = 0; i < c->n_files; i++)
		if (asprintf(&c->files[i], "%s", texts->list[i].name) < 0) {
			c->files[i] = NULL;
			return -ENOMEM;
		}
	return c->files ? 0 : -ENOMEM;
}

static int parse_texts(struct config *c, const struct config_texts *texts,
		       const struct config_facts *facts, struct findings *findings)
{
	struct reader r = {.config = c, .facts = facts, .findings = findings};
	int k = take_names(c, texts), merged;

	if (k < 0)
		return k;
	k = document_init(&r.document, buf_slice(&texts->list[0].bytes), findings);
	if (k < 0)
		return k;
	merged = merge_dropins(&r.document, texts, findings);
	k = merged < 0 ? merged : read_document(&r);
	document_done(&r.document);
	return k ?: prepare(c);
}

static int config_read(const struct config_texts *texts, const char *path,
		       const struct config_facts *facts, struct config **ret_config,
		       struct findings *findings)
{
	_cleanup_(config_unrefp) struct config *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->refs = 1;
	c->path = strdup(path);
	if (!c->path)
		return -ENOMEM;
	r = parse_texts(c, texts, facts, findings);
	if (r < 0)
		return r;
	*ret_config = TAKE_PTR(c);
	return 0;
}

int config_parse_with(const char *text, size_t n, const char *path,
		      const struct config_facts *facts, struct config **ret_config,
		      struct findings *findings)
{
	_cleanup_(texts_done) struct config_texts texts = {0};
	const char *name = CLIPPED(slice_from(config_base_name(path)));
	int r = texts_add(&texts, name, (struct slice){text, n});

	return r < 0 ? r : config_read(&texts, path, facts, ret_config, findings);
}

int config_parse(const char *text, size_t n, const char *path, struct config **ret_config,
		 struct findings *findings)
{
	static const struct config_facts none = {0};

	return config_parse_with(text, n, path, &none, ret_config, findings);
}

int config_load_texts(const struct config_texts *texts, const char *path,
		      const struct config_facts *facts, struct config **ret_config,
		      struct findings *findings)
{
	struct config *config;
	int r = config_read(texts, path, facts, &config, findings);

	if (r < 0)
		return r;
	r = texts_hash(texts, config->hash);
	if (r < 0) {
		config_unref(config);
		return r;
	}
	*ret_config = config;
	return 0;
}

int config_load(const char *path, const struct config_facts *facts, struct config **ret_config,
		struct findings *findings)
{
	_cleanup_(texts_done) struct config_texts texts = {0};
	int r = texts_read(path, &texts, findings);

	return r < 0 ? r : config_load_texts(&texts, path, facts, ret_config, findings);
}
