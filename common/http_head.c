/* SPDX-License-Identifier: Apache-2.0 */
#include "http_head.h"

#include "authority.h"
#include "http2.h"
#include "http_line.h"
#include "limit.h"

#include <assert.h>

#define HTTP_PORT 80 /* where a scheme of http names none */

/* What one call of http_head_read() works with. Its steps return HEAD_DONE when they are
 * through, not when the head is. */
struct reading {
	struct http_head *head;
	struct slice bytes; /* never more than LIMIT_HEAD of them */
	const struct http_head_options *options;
};

static enum head_result refuse(struct reading *r, enum refusal refusal, const char *fault)
{
	r->head->refusal = refusal;
	r->head->fault = fault;
	return HEAD_REFUSED;
}

static enum head_result bad(struct reading *r, const char *fault)
{
	return refuse(r, REFUSAL_FRAMING, fault);
}

/* RFC 9112 3.2: Host is what a target with an authority says. Its port may be left out: by
 * CONNECT any, else the scheme's. By 3.2.2 the target counts; none is taken that differs. */
static enum head_result check_host(struct reading *r, const struct authority *a)
{
	struct http_head *head = r->head;
	struct slice host = {r->bytes.p + head->place.host, head->host.n};
	bool connect = head->kind == HEAD_CONNECT;
	unsigned left_out = connect ? head->place.port : HTTP_PORT;

	if (slice_eq_nocase(host, a->host) && (a->port ?: left_out) == head->place.port)
		return HEAD_DONE;
	return bad(r, connect ? "Host differs from the target of CONNECT"
			      : "Host differs from the request target");
}

static void set_host(struct reading *r, const struct authority *a)
{
	r->head->place.host = (size_t)(a->host.p - r->bytes.p);
	r->head->host.n = a->host.n;
	r->head->host_is_address = a->is_address;
}

static enum head_result read_host(struct reading *r, struct slice value)
{
	struct authority a;
	const char *fault = authority_parse(value, &a);

	if (fault)
		return bad(r, fault);
	if (r->head->place.port)
		return check_host(r, &a);
	set_host(r, &a);
	return HEAD_DONE;
}

static enum head_result read_content_length(struct reading *r, struct slice value)
{
	unsigned long long length;

	/* The syntax first: a number that no integer can hold is still a number, and too large.
	 */
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] < '0' || value.p[i] > '9')
			return bad(r, "Content-Length is not a number");
	if (value.n == 0 || (value.n > 1 && value.p[0] == '0'))
		return bad(r, "Content-Length is not a number");

	if (!slice_to_u64(value, r->options->body_max, &length))
		return refuse(r, REFUSAL_BODY_TOO_LARGE, "Content-Length is above the limit");
	r->head->content_length = length;
	return HEAD_DONE;
}

static struct slice skip_blanks(struct slice s)
{
	while (s.n && s.p[0] == ' ') /* a tab was refused before */
		s = (struct slice){s.p + 1, s.n - 1};
	return s;
}

/* RFC 9110 8.3.1: blanks may stand around the semicolon, none around the equals sign. */
static bool is_utf8_parameter(struct slice s)
{
	s = skip_blanks(s);
	if (s.n == 0 || s.p[0] != ';')
		return false;
	s = skip_blanks((struct slice){s.p + 1, s.n - 1});
	return slice_eq_nocase(s, SLICE("charset=utf-8")) ||
	       slice_eq_nocase(s, SLICE("charset=\"utf-8\""));
}

/* JSON is UTF-8 whether it is said or not; no SDK sends another parameter, and the outgoing
 * field has none. */
static enum head_result read_content_type(struct reading *r, struct slice value)
{
	struct slice type = SLICE("application/x-amz-json-1.1");
	struct slice start = {value.p, MIN(value.n, type.n)};
	struct slice rest = {value.p + start.n, value.n - start.n};

	if (!slice_eq_nocase(start, type) || (rest.n && !is_utf8_parameter(rest)))
		return bad(r, "Content-Type is not application/x-amz-json-1.1");
	return HEAD_DONE;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_service_byte(char c)
{
	return is_letter(c) || is_digit(c) || c == '_';
}

/* SERVICE.Action, where AWS KMS is TrentService; case counts. */
static enum head_result read_target(struct reading *r, struct slice value)
{
	static const char fault[] = "X-Amz-Target is not SERVICE.Action";
	size_t dot = 0, end;

	while (dot < value.n && is_service_byte(value.p[dot]))
		dot++;
	if (dot == 0 || dot > LIMIT_NAME || dot == value.n || value.p[dot] != '.')
		return bad(r, fault);
	end = dot + 1;
	while (end < value.n &&
	       (is_letter(value.p[end]) || (end > dot + 1 && is_digit(value.p[end]))))
		end++;
	if (end < value.n || end == dot + 1 || end - dot - 1 > LIMIT_NAME)
		return bad(r, fault);

	if (slice_starts(value, SLICE("TrentService.")))
		value = (struct slice){value.p + dot + 1, value.n - dot - 1};
	r->head->place.action = (size_t)(value.p - r->bytes.p);
	r->head->action.n = value.n;
	return HEAD_DONE;
}

static enum head_result read_expect(struct reading *r, struct slice value)
{
	if (!slice_eq_nocase(value, SLICE("100-continue")))
		return refuse(r, REFUSAL_EXPECTATION, "Expect is not 100-continue");
	r->head->expect_continue = true;
	return HEAD_DONE;
}

/* The fields of offers that are declined by ignoring them: an upgrade (RFC 9110 7.8) and
 * transfer codings of the answer (10.1.4). */
static bool is_offer(struct slice option)
{
	return slice_eq_nocase(option, SLICE("upgrade")) ||
	       slice_eq_nocase(option, SLICE("http2-settings")) ||
	       slice_eq_nocase(option, SLICE("te"));
}

/* Any other option than these names a field, and asks that it be treated as one of this hop. */
static enum head_result read_connection(struct reading *r, struct slice value)
{
	bool may_offer = r->head->kind != HEAD_CONNECT;
	struct slice option;

	while (http_list_next(&value, &option)) {
		if (slice_eq_nocase(option, SLICE("close")))
			r->head->close = true;
		else if (!slice_eq_nocase(option, SLICE("keep-alive")) &&
			 !(may_offer && is_offer(option)))
			return bad(r, "Connection is neither close nor keep-alive");
	}
	return HEAD_DONE;
}

/* The fields that mean something to us. Every other one is checked for its syntax and ignored:
 * no received field is ever sent on. */
enum { HOST, CONTENT_LENGTH, CONTENT_TYPE, TARGET, EXPECT, CONNECTION, BANNED };

static const struct field {
	struct slice name;
	enum head_result (*read)(struct reading *r, struct slice value); /* NULL: banned */
	const char *fault;   /* of a second one; of a banned one */
	const char *missing; /* the fault when a KMS request lacks it; NULL: it may */
	bool kms_only;       /* not in a CONNECT */
	bool connect_only;   /* outside of a CONNECT it means nothing to us */
} fields[] = {
	[HOST] = {SLICE("Host"), read_host, "two Host fields", "no Host field", false},
	[CONTENT_LENGTH] = {SLICE("Content-Length"), read_content_length,
			    "two Content-Length fields", "no Content-Length field", true},
	[CONTENT_TYPE] = {SLICE("Content-Type"), read_content_type, "two Content-Type fields",
			  "no Content-Type field", true},
	[TARGET] = {SLICE("X-Amz-Target"), read_target, "two X-Amz-Target fields",
		    "no X-Amz-Target field", true},
	[EXPECT] = {SLICE("Expect"), read_expect, "two Expect fields", NULL, true},
	[CONNECTION] = {SLICE("Connection"), read_connection, "two Connection fields", NULL,
			false},
	[BANNED] = {SLICE("Transfer-Encoding"), NULL, "Transfer-Encoding is not accepted"},
	{SLICE("Content-Encoding"), NULL, "Content-Encoding is not accepted"},
	{SLICE("Trailer"), NULL, "Trailer is not accepted"},
	{SLICE("Upgrade"), NULL, "Upgrade is not accepted", .connect_only = true},
	{SLICE("TE"), NULL, "TE is not accepted", .connect_only = true},
};

#define BIT(index) (1u << (index))

static const struct field *find_field(struct slice name)
{
	for (size_t i = 0; i < ELEMENTSOF(fields); i++)
		if (fields[i].name.n == name.n && slice_eq_nocase(fields[i].name, name))
			return &fields[i];
	return NULL;
}

static enum head_result read_field(struct reading *r, struct slice line)
{
	struct http_field got;
	const struct field *field;
	const char *fault = http_field_split(line, &got);
	unsigned bit;

	if (fault)
		return bad(r, fault);
	/* CGI and what came of it read _ as -: to them this would be another name. */
	if (memchr(got.name.p, '_', got.name.n))
		return bad(r, "underscore in a field name");

	field = find_field(got.name);
	if (!field || (field->connect_only && r->head->kind != HEAD_CONNECT))
		return HEAD_DONE;
	/* A tab is a blank by RFC 9110 5.6.3, but not to every parser. */
	if (memchr(line.p, '\t', line.n))
		return bad(r, "tab in a field that counts");
	bit = BIT(field - fields);
	if (!field->read || r->head->place.seen & bit)
		return bad(r, field->fault);
	if (field->kms_only && r->head->kind == HEAD_CONNECT)
		return bad(r, "a field of KMS requests in a CONNECT");
	r->head->place.seen |= bit;
	return field->read(r, got.value);
}

static const char post_line[] = "POST / HTTP/1.1\r\n";
static const char absolute_start[] = "POST http://", absolute_capitals[] = "POST HTTP://";
static const char connect_verb[] = "CONNECT ";

#define TARGET_AT (sizeof("POST ") - 1)

/* How many of the first bytes are those of `text` or `other`, which is as long. */
static size_t match_either(struct slice bytes, size_t from, const char *text, const char *other)
{
	size_t i = from;

	while (i < bytes.n && text[i] != '\0' &&
	       (bytes.p[i] == text[i] || bytes.p[i] == other[i]))
		i++;
	return i;
}

static size_t match(struct slice bytes, size_t from, const char *text)
{
	return match_either(bytes, from, text, text);
}

/* The fault of byte `c`, the first one that differs from post_line. */
static const char *post_line_fault(size_t at, char c)
{
	if (at == sizeof(post_line) - 2) /* the place of the LF */
		return "bare CR";
	if (c == '\r')
		return at == 0 ? "empty line before the request" : "request line ends early";
	if (http_byte_fault(c))
		return http_byte_fault(c);
	if (at < TARGET_AT)
		return "method is not POST";
	if (at < strlen("POST / "))
		return "request target is not /";
	return "version is not HTTP/1.1";
}

static const unsigned kms_required =
	BIT(HOST) | BIT(CONTENT_LENGTH) | BIT(CONTENT_TYPE) | BIT(TARGET);

static enum head_result read_post_line(struct reading *r)
{
	size_t n = match(r->bytes, r->head->place.scanned, post_line);

	r->head->place.scanned = n;
	if (n == sizeof(post_line) - 1) {
		r->head->place.line = n;
		r->head->place.required = kms_required;
		return HEAD_DONE;
	}
	if (n == r->bytes.n)
		return HEAD_NEED_MORE;
	return bad(r, post_line_fault(n, r->bytes.p[n]));
}

/* RFC 9113 3.4: what a client begins with that takes HTTP/2 for granted. */
static enum head_result read_http2_preface(struct reading *r)
{
	size_t n = match(r->bytes, r->head->place.scanned, HTTP2_PREFACE);

	r->head->place.scanned = n;
	if (n == sizeof(HTTP2_PREFACE) - 1) {
		r->head->kind = HEAD_HTTP2;
		r->head->length = n;
		return HEAD_DONE;
	}
	if (n == r->bytes.n)
		return HEAD_NEED_MORE;
	return bad(r, post_line_fault(MIN(n, (size_t)1), r->bytes.p[n]));
}

/* `line` is authority SP version: what follows the verb. */
static enum head_result read_connect_target(struct reading *r, struct slice line)
{
	const char *space = memchr(line.p, ' ', line.n), *fault;
	struct slice target, version;
	struct authority a;

	if (!space)
		return bad(r, "version is neither HTTP/1.1 nor HTTP/1.0");
	target = (struct slice){line.p, (size_t)(space - line.p)};
	version = (struct slice){space + 1, line.n - target.n - 1};
	if (slice_eq_str(version, "HTTP/1.1"))
		r->head->place.required = BIT(HOST);
	else if (slice_eq_str(version, "HTTP/1.0"))
		r->head->close = true;
	else
		return bad(r, "version is neither HTTP/1.1 nor HTTP/1.0");

	fault = authority_parse(target, &a);
	if (!fault && a.port == 0)
		fault = "target of CONNECT has no port";
	if (fault)
		return bad(r, fault);
	set_host(r, &a);
	r->head->port = r->head->place.port = a.port;
	return HEAD_DONE;
}

static enum head_result read_line(struct reading *r, struct slice *ret_line)
{
	struct http_head *head = r->head;
	size_t start = head->place.line;
	const char *fault;

	switch (http_line_scan(r->bytes, start, &head->place.scanned, &fault)) {
	case LINE_BAD:
		return bad(r, fault);
	case LINE_NEED_MORE:
		return HEAD_NEED_MORE;
	case LINE_DONE:
		break;
	}
	head->place.line = head->place.scanned;
	*ret_line = (struct slice){r->bytes.p + start, head->place.line - start - 2};
	return HEAD_DONE;
}

/* `line` is authority [/] SP version: RFC 9112 3.2.2, of the scheme http. An empty path is the
 * same as / (RFC 9110 4.2.3). */
static enum head_result read_absolute_target(struct reading *r, struct slice line)
{
	const char *space = memchr(line.p, ' ', line.n), *slash, *fault;
	struct slice target, version;
	struct authority a;

	if (!space)
		return bad(r, "request line ends early");
	target = (struct slice){line.p, (size_t)(space - line.p)};
	version = (struct slice){space + 1, line.n - target.n - 1};
	if (!slice_eq_str(version, "HTTP/1.1"))
		return bad(r, "version is not HTTP/1.1");

	slash = memchr(target.p, '/', target.n);
	if (slash && slash + 1 < space)
		return bad(r, "path of the request target is not /");
	target.n -= slash != NULL;
	fault = authority_parse(target, &a);
	if (fault)
		return bad(r, fault);
	set_host(r, &a);
	r->head->place.port = a.port ?: HTTP_PORT;
	r->head->place.required = kms_required;
	return HEAD_DONE;
}

static const char *absolute_start_fault(size_t at, char c)
{
	if (at < TARGET_AT || c == '\r' || http_byte_fault(c))
		return post_line_fault(at, c);
	return "request target is neither / nor http://HOST/";
}

static enum head_result read_absolute_line(struct reading *r)
{
	size_t start = sizeof(absolute_start) - 1, *scanned = &r->head->place.scanned;
	enum head_result result;
	struct slice line;

	if (*scanned < start) {
		*scanned = match_either(r->bytes, *scanned, absolute_start, absolute_capitals);
		if (*scanned == r->bytes.n && *scanned < start)
			return HEAD_NEED_MORE;
		if (*scanned < start)
			return bad(r, absolute_start_fault(*scanned, r->bytes.p[*scanned]));
	}
	result = read_line(r, &line);
	if (result != HEAD_DONE)
		return result;
	return read_absolute_target(r, (struct slice){line.p + start, line.n - start});
}

static enum head_result read_connect_line(struct reading *r)
{
	size_t verb = sizeof(connect_verb) - 1;
	enum head_result result;
	struct slice line;

	if (r->head->place.scanned < verb) {
		size_t n = match(r->bytes, r->head->place.scanned, connect_verb);

		r->head->place.scanned = n;
		if (n < verb)
			return n == r->bytes.n ? HEAD_NEED_MORE
					       : bad(r, post_line_fault(1, r->bytes.p[n]));
		if (!r->options->allow_connect)
			return bad(r, "CONNECT, and this enclave has no tunnel");
	}
	r->head->kind = HEAD_CONNECT;
	result = read_line(r, &line);
	if (result != HEAD_DONE)
		return result;
	return read_connect_target(r, (struct slice){line.p + verb, line.n - verb});
}

static enum head_result finish(struct reading *r)
{
	struct http_head *head = r->head;
	unsigned lacking = head->place.required & ~head->place.seen;

	if (lacking)
		return bad(r, fields[__builtin_ctz(lacking)].missing);
	head->length = head->place.line;
	head->host.p = r->bytes.p + head->place.host;
	if (head->kind == HEAD_KMS)
		head->action.p = r->bytes.p + head->place.action;
	return HEAD_DONE;
}

static enum head_result read_fields(struct reading *r)
{
	enum head_result result;
	struct slice line;

	for (;;) {
		result = read_line(r, &line);
		if (result != HEAD_DONE)
			return result;
		if (line.n == 0)
			return finish(r);
		if (++r->head->place.fields > LIMIT_FIELDS)
			return refuse(r, REFUSAL_HEAD_TOO_LARGE, "too many fields");
		result = read_field(r, line);
		if (result != HEAD_DONE)
			return result;
	}
}

/* One byte tells which of them it can be, and stays where it is. */
static enum head_result read_request_line(struct reading *r)
{
	struct slice b = r->bytes;

	if (b.p[0] == connect_verb[0])
		return read_connect_line(r);
	if (b.n > 1 && b.p[1] == HTTP2_PREFACE[1])
		return read_http2_preface(r);
	if (b.n > TARGET_AT && (b.p[TARGET_AT] == 'h' || b.p[TARGET_AT] == 'H'))
		return read_absolute_line(r);
	return read_post_line(r);
}

void http_head_init(struct http_head *head)
{
	*head = (struct http_head){0};
}

enum head_result http_head_read(struct http_head *head, struct slice bytes,
				const struct http_head_options *options)
{
	struct reading r = {head, {bytes.p, MIN(bytes.n, LIMIT_HEAD)}, options};
	enum head_result result = HEAD_DONE;

	assert(bytes.n >= head->place.scanned);
	if (bytes.n == 0)
		return HEAD_NEED_MORE;
	if (head->place.line == 0)
		result = read_request_line(&r);
	if (result == HEAD_DONE && head->kind != HEAD_HTTP2)
		result = read_fields(&r);
	if (result == HEAD_NEED_MORE && r.bytes.n == LIMIT_HEAD)
		return refuse(&r, REFUSAL_HEAD_TOO_LARGE, "head above the limit");
	return result;
}
