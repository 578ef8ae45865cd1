/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"
#include "options.h"
#include "quote.h"
#include "value.h"

#include <string.h>

struct printer {
	const struct config *config;
	FILE *f;
	unsigned indent;
	bool is_item; /* the next line opens an item of a list */
};

typedef void option_printer(struct printer *p, const struct config_option *option,
			    const void *target);

static void print_section(struct printer *p, enum section_id id, const void *target);

static const void *field(const void *target, size_t offset)
{
	return (const char *)target + offset;
}

/* Indents, and writes the dash of a list's item before its first line. */
static void begin_line(struct printer *p)
{
	fprintf(p->f, "%*s%s", (int)(p->indent - (p->is_item ? 2 : 0)), "",
		p->is_item ? "- " : "");
	p->is_item = false;
}

static void print_name(struct printer *p, const struct config_option *o)
{
	begin_line(p);
	fprintf(p->f, "%s:", o->name);
}

static void print_scalar(struct printer *p, const struct config_option *o, const void *target)
{
	if (!value_is_set(o, field(target, o->offset)))
		return;
	print_name(p, o);
	fputc(' ', p->f);
	value_print(o, field(target, o->offset), p->f);
	fputc('\n', p->f);
}

/* HOST:PORT in quotes, which `before` begins. */
static void print_host_port(struct printer *p, const struct config_option *o,
			    const void *target, const char *before)
{
	const char *host = *(char *const *)field(target, o->offset);
	unsigned port = *(const unsigned *)field(target, o->second);
	bool is_ip6 = host && strchr(host, ':');

	if (!host)
		return;
	print_name(p, o);
	fprintf(p->f, " \"%s%s%s%s:%u\"\n", before, is_ip6 ? "[" : "", host, is_ip6 ? "]" : "",
		port);
}

static void print_address(struct printer *p, const struct config_option *o, const void *target)
{
	print_host_port(p, o, target, "");
}

static void print_proxy(struct printer *p, const struct config_option *o, const void *target)
{
	print_host_port(p, o, target, "http://");
}

static void print_enclave(struct printer *p, const struct config_option *o, const void *target)
{
	const struct listener_config *listener = target;

	if (listener->enclave_index < 0)
		return;
	print_name(p, o);
	fputc(' ', p->f);
	quote_text(slice_from(p->config->enclaves[listener->enclave_index].name), p->f);
	fputc('\n', p->f);
}

/* A list of words in one line. The first call opens it, print_words_end() closes it. */
static void print_word(struct printer *p, const struct config_option *o, unsigned *n,
		       const char *word)
{
	if ((*n)++ == 0) {
		print_name(p, o);
		fputs(" [", p->f);
	} else {
		fputs(", ", p->f);
	}
	quote_text(slice_from(word), p->f);
}

static void print_words_end(struct printer *p, unsigned n)
{
	if (n > 0)
		fputs("]\n", p->f);
}

static void print_cids(struct printer *p, const struct config_option *o, const void *target)
{
	const struct enclave_config *enclave = target;

	if (enclave->n_cids == 0)
		return;
	print_name(p, o);
	for (size_t i = 0; i < enclave->n_cids; i++) {
		const struct cid_range *range = &enclave->cids[i];

		fprintf(p->f, i == 0 ? " [%u" : ", %u", range->first);
		if (range->first < range->last)
			fprintf(p->f, "-%u", range->last);
	}
	fputs("]\n", p->f);
}

static void print_endpoints(struct printer *p, const struct config_option *o,
			    const void *target)
{
	const struct enclave_config *enclave = target;
	unsigned n = 0;

	for (size_t i = 0; i < enclave->n_endpoints; i++)
		print_word(p, o, &n, p->config->endpoints[enclave->endpoints[i]].name);
	print_words_end(p, n);
}

static void print_subset(struct printer *p, const struct config_option *o, const void *target)
{
	const struct rule *rule = target;
	unsigned n = 0;

	for (size_t i = 0; i < p->config->n_endpoints; i++)
		if (rule->endpoints >> i & 1)
			print_word(p, o, &n, p->config->endpoints[i].name);
	print_words_end(p, n);
}

static void print_actions(struct printer *p, const struct config_option *o, const void *target)
{
	const struct rule *rule = target;
	unsigned n = 0;

	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		if (rule->actions >> i & 1)
			print_word(p, o, &n, kms_action(i)->name);
	print_words_end(p, n);
}

static void print_names(struct printer *p, const struct config_option *o, const void *target)
{
	char *const *names = *(char *const *const *)field(target, o->offset);
	unsigned n = 0;

	for (size_t i = 0; i < *(const size_t *)field(target, o->second); i++)
		print_word(p, o, &n, names[i]);
	print_words_end(p, n);
}

static void print_keys(struct printer *p, const struct config_option *o, const void *target)
{
	const struct rule *rule = target;

	print_name(p, o);
	fputs(rule->any_key ? " any\n" : "\n", p->f);
	p->indent += 4;
	for (size_t i = 0; i < rule->n_keys; i++) {
		p->is_item = true;
		begin_line(p);
		quote_canonical(rule->keys[i], p->f);
		fputc('\n', p->f);
	}
	p->indent -= 4;
}

static void print_pair(struct printer *p, const struct rule_context *context)
{
	begin_line(p);
	quote_canonical(context->name, p->f);
	for (size_t i = 0; i < context->n_values; i++) {
		fputs(i == 0 ? ": [" : ", ", p->f);
		quote_canonical(context->values[i], p->f);
	}
	fputs("]\n", p->f);
}

static void print_context(struct printer *p, const struct config_option *o, const void *target)
{
	const struct rule *rule = target;

	if (rule->n_contexts == 0)
		return;
	print_name(p, o);
	fputc('\n', p->f);
	p->indent += 2;
	for (size_t i = 0; i < rule->n_contexts; i++)
		print_pair(p, &rule->contexts[i]);
	p->indent -= 2;
}

static const void *items(const struct config_option *o, const void *target, size_t *ret_n)
{
	*ret_n = *(const size_t *)field(target, o->second);
	return *(void *const *)field(target, o->offset);
}

static void print_list(struct printer *p, const struct config_option *o, const void *target)
{
	size_t n, size = section_get(o->section)->size;
	const char *array = items(o, target, &n);

	if (n == 0)
		return;
	print_name(p, o);
	fputc('\n', p->f);
	p->indent += 4;
	for (size_t i = 0; i < n; i++) {
		p->is_item = true;
		print_section(p, o->section, array + i * size);
	}
	p->indent -= 4;
}

static void print_map(struct printer *p, const struct config_option *o, const void *target)
{
	const struct section *s = section_get(o->section);
	size_t n;
	const char *array = items(o, target, &n);

	if (n == 0)
		return;
	print_name(p, o);
	fputc('\n', p->f);
	p->indent += 2;
	for (size_t i = 0; i < n; i++) {
		const void *item = array + i * s->size;

		begin_line(p);
		quote_text(slice_from(*(char *const *)field(item, s->item)), p->f);
		fputs(":\n", p->f);
		p->indent += 2;
		print_section(p, o->section, item);
		p->indent -= 2;
	}
	p->indent -= 2;
}

/* A section without what it requires was left out of the file. */
static bool is_given(enum section_id id, const void *target)
{
	const struct section *s = section_get(id);
	bool any = false;

	for (size_t i = 0; i < s->n_options; i++) {
		const struct config_option *o = &s->options[i];
		size_t n;

		if (o->type == OPTION_HOSTS)
			return items(o, target, &n) != NULL;
		any = any || o->type == OPTION_SECTION ||
		      value_is_set(o, field(target, o->offset));
	}
	return any;
}

static void print_subsection(struct printer *p, const struct config_option *o,
			     const void *target)
{
	if (!is_given(o->section, field(target, o->offset)))
		return;
	print_name(p, o);
	fputc('\n', p->f);
	p->indent += 2;
	print_section(p, o->section, field(target, o->offset));
	p->indent -= 2;
}

static option_printer *const printers[_OPTION_TYPE_MAX] = {
	[OPTION_NUMBER] = print_scalar,   [OPTION_SIZE] = print_scalar,
	[OPTION_TIME] = print_scalar,     [OPTION_BANDWIDTH] = print_scalar,
	[OPTION_RATE] = print_scalar,     [OPTION_MODE] = print_scalar,
	[OPTION_BOOL] = print_scalar,     [OPTION_WORD] = print_scalar,
	[OPTION_TEXT] = print_scalar,     [OPTION_ADDRESS] = print_address,
	[OPTION_ENCLAVE] = print_enclave, [OPTION_ENDPOINTS] = print_endpoints,
	[OPTION_SUBSET] = print_subset,   [OPTION_ACTIONS] = print_actions,
	[OPTION_KEYS] = print_keys,       [OPTION_CONTEXT] = print_context,
	[OPTION_HOSTS] = print_list,      [OPTION_SECTION] = print_subsection,
	[OPTION_LIST] = print_list,       [OPTION_MAP] = print_map,
	[OPTION_PROXY] = print_proxy,     [OPTION_CIDS] = print_cids,
	[OPTION_NAMES] = print_names,
};

static void print_section(struct printer *p, enum section_id id, const void *target)
{
	const struct section *s = section_get(id);

	for (size_t i = 0; i < s->n_options; i++)
		printers[s->options[i].type](p, &s->options[i], target);
}

void config_print(const struct config *config, FILE *f)
{
	struct printer p = {.config = config, .f = f};

	if (config->hash[0])
		fprintf(f, "# SHA-256 of the files: %s\n", config->hash);
	print_section(&p, SECTION_ROOT, config);
}
