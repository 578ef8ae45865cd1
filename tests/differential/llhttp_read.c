/* SPDX-License-Identifier: Apache-2.0 */
#include "llhttp_read.h"

#include <llhttp.h>
#include <stdlib.h>

#define TEXT_MAX ((size_t)4 << 20)

static void append(struct buf *b, const char *at, size_t n)
{
	if (buf_append(b, (struct slice){at, n}) < 0)
		abort(); /* the inputs are far smaller */
}

static int on_message_begin(llhttp_t *parser)
{
	struct oracle *o = parser->data;

	o->open = true;
	o->n_fields = 0;
	o->fields[0] = (struct oracle_field){0};
	o->text.n = o->target.n = o->body.n = 0;
	return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t n)
{
	append(&((struct oracle *)parser->data)->target, at, n);
	return 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t n)
{
	struct oracle *o = parser->data;
	struct oracle_field *f = &o->fields[o->n_fields];

	if (o->n_fields == ORACLE_FIELDS_MAX)
		return -1;
	if (f->name_n == 0)
		f->name = o->text.n;
	append(&o->text, at, n);
	f->name_n += n;
	return 0;
}

static int on_header_field_complete(llhttp_t *parser)
{
	struct oracle *o = parser->data;

	o->fields[o->n_fields].value = o->text.n;
	return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t n)
{
	struct oracle *o = parser->data;

	append(&o->text, at, n);
	o->fields[o->n_fields].value_n += n;
	return 0;
}

static int on_header_value_complete(llhttp_t *parser)
{
	struct oracle *o = parser->data;

	if (++o->n_fields < ORACLE_FIELDS_MAX)
		o->fields[o->n_fields] = (struct oracle_field){0};
	return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
	struct oracle *o = parser->data;

	o->version = 10u * parser->http_major + parser->http_minor;
	o->method = llhttp_method_name((llhttp_method_t)parser->method);
	o->status = parser->status_code;
	o->keep_alive = llhttp_should_keep_alive(parser);
	return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t n)
{
	append(&((struct oracle *)parser->data)->body, at, n);
	return 0;
}

static int on_message_complete(llhttp_t *parser)
{
	struct oracle *o = parser->data;

	o->open = false;
	o->complete++;
	return 0;
}

/* A request that offers an upgrade is one like any other to a server that declines. */
static llhttp_errno_t execute(llhttp_t *parser, struct oracle *o, struct slice bytes)
{
	llhttp_errno_t error = llhttp_execute(parser, bytes.p, bytes.n);

	while (error == HPE_PAUSED_UPGRADE && parser->method != HTTP_CONNECT) {
		const char *at = llhttp_get_error_pos(parser);

		o->declined++;
		llhttp_resume_after_upgrade(parser);
		error = llhttp_execute(parser, at, (size_t)(bytes.p + bytes.n - at));
	}
	return error;
}

void oracle_read(struct oracle *oracle, bool request, struct slice bytes)
{
	static const llhttp_settings_t settings = {
		.on_message_begin = on_message_begin,
		.on_url = on_url,
		.on_header_field = on_header_field,
		.on_header_field_complete = on_header_field_complete,
		.on_header_value = on_header_value,
		.on_header_value_complete = on_header_value_complete,
		.on_headers_complete = on_headers_complete,
		.on_body = on_body,
		.on_message_complete = on_message_complete,
	};
	llhttp_errno_t error;
	llhttp_t parser;

	*oracle = (struct oracle){
		.target = BUF_INIT(TEXT_MAX),
		.body = BUF_INIT(TEXT_MAX),
		.text = BUF_INIT(TEXT_MAX),
	};
	llhttp_init(&parser, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
	parser.data = oracle;
	error = execute(&parser, oracle, bytes);
	oracle->preface = error == HPE_PAUSED_H2_UPGRADE;
	oracle->ok = error == HPE_OK || oracle->preface ||
		     (error == HPE_PAUSED_UPGRADE && parser.method == HTTP_CONNECT);
	if (!oracle->ok)
		oracle->error = parser.reason ? parser.reason : llhttp_errno_name(error);
}

void oracle_done(struct oracle *oracle)
{
	buf_done(&oracle->target);
	buf_done(&oracle->body);
	buf_done(&oracle->text);
}

size_t oracle_field(const struct oracle *oracle, const char *name, struct slice *ret_value)
{
	size_t found = 0;

	for (size_t i = 0; i < oracle->n_fields; i++) {
		const struct oracle_field *f = &oracle->fields[i];
		struct slice value = {oracle->text.p + f->value, f->value_n};

		if (!slice_eq_nocase((struct slice){oracle->text.p + f->name, f->name_n},
				     slice_from(name)))
			continue;
		while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
			value.n--;
		if (found++ == 0)
			*ret_value = value;
	}
	return found;
}
