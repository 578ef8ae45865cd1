/* SPDX-License-Identifier: Apache-2.0 */
#include "http_reply.h"

#include "http_line.h"
#include "limit.h"

#include <assert.h>

#define CHUNK_DIGITS 8 /* more than any size below the cap of a body has */

enum state {
	STATUS_LINE,
	FIELDS,
	BODY,       /* of Content-Length */
	CHUNK_SIZE, /* hexadecimal digits, then CR */
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_CR,
	CHUNK_LF,
	LAST_CR, /* after the chunk of no bytes */
	LAST_LF,
	DONE,
	BAD,
};

/* The only function that changes the state. */
static void go(struct http_reply *reply, enum state state)
{
	reply->place.state = (int)state;
}

static bool bad(struct http_reply *reply, const char *fault)
{
	reply->fault = fault;
	go(reply, BAD);
	return false;
}

static bool read_content_length(struct http_reply *reply, struct slice value)
{
	unsigned long long length;

	if (!slice_to_u64(value, UINT64_MAX, &length))
		return bad(reply, "Content-Length is not a number");
	if (length > reply->body.max)
		return bad(reply, "body above the limit");
	reply->place.left = length;
	return true;
}

static bool read_transfer_encoding(struct http_reply *reply, struct slice value)
{
	if (!slice_eq_nocase(value, SLICE("chunked")))
		return bad(reply, "Transfer-Encoding is not chunked");
	reply->place.chunked = true;
	return true;
}

static bool read_content_encoding(struct http_reply *reply, struct slice value)
{
	/* Nothing else was asked for, and the check for secrets couldn't look into it. */
	if (!slice_eq_nocase(value, SLICE("identity")))
		return bad(reply, "Content-Encoding is not identity");
	return true;
}

static bool read_connection(struct http_reply *reply, struct slice value)
{
	struct slice option;

	while (http_list_next(&value, &option))
		if (slice_eq_nocase(option, SLICE("close")))
			reply->keep_alive = false;
	return true;
}

static bool read_age(struct http_reply *reply, struct slice value)
{
	(void)value;
	reply->has_age = true;
	return true;
}

/* The rows of the headers that are relayed, then of those that we act on. */
enum {
	CONTENT_LENGTH = _REPLY_HEADER_MAX,
	TRANSFER_ENCODING,
	CONTENT_ENCODING,
	CONNECTION,
	AGE
};

static const struct field {
	struct slice name;
	bool (*read)(struct http_reply *reply, struct slice value); /* NULL: relayed */
	const char *twice; /* the fault of a second one; NULL: it may come */
} fields[] = {
	[REPLY_CONTENT_TYPE] = {SLICE("Content-Type"), NULL, "two Content-Type fields"},
	[REPLY_REQUEST_ID] = {SLICE("x-amzn-RequestId"), NULL, "two x-amzn-RequestId fields"},
	[REPLY_DATE] = {SLICE("Date"), NULL, "two Date fields"},
	[REPLY_CACHE_CONTROL] = {SLICE("Cache-Control"), NULL, NULL},
	[REPLY_PRAGMA] = {SLICE("Pragma"), NULL, NULL},
	[REPLY_EXPIRES] = {SLICE("Expires"), NULL, "two Expires fields"},
	[REPLY_RETRY_AFTER] = {SLICE("Retry-After"), NULL, "two Retry-After fields"},
	[REPLY_AMZ_RETRY_AFTER] = {SLICE("x-amz-retry-after"), NULL,
				   "two x-amz-retry-after fields"},
	[REPLY_ERROR_TYPE] = {SLICE("x-amzn-ErrorType"), NULL, "two x-amzn-ErrorType fields"},
	[CONTENT_LENGTH] = {SLICE("Content-Length"), read_content_length,
			    "two Content-Length fields"},
	[TRANSFER_ENCODING] = {SLICE("Transfer-Encoding"), read_transfer_encoding,
			       "two Transfer-Encoding fields"},
	[CONTENT_ENCODING] = {SLICE("Content-Encoding"), read_content_encoding, NULL},
	[CONNECTION] = {SLICE("Connection"), read_connection, NULL},
	[AGE] = {SLICE("Age"), read_age, NULL},
};

#define BIT(index) (1u << (index))

const char *http_reply_header_name(enum reply_header header)
{
	assert(header < _REPLY_HEADER_MAX);
	return fields[header].name.p;
}

static const struct field *find_field(struct slice name)
{
	for (size_t i = 0; i < ELEMENTSOF(fields); i++)
		if (fields[i].name.n == name.n && slice_eq_nocase(fields[i].name, name))
			return &fields[i];
	return NULL;
}

static bool relay(struct http_reply *reply, size_t index, struct slice value)
{
	reply->headers[index].n = value.n;
	reply->place.header[index] = (size_t)(value.p - reply->head.p);
	return true;
}

static bool read_field(struct http_reply *reply, struct slice line)
{
	struct http_field got;
	const struct field *field;
	const char *fault = http_field_split(line, &got);
	size_t index;
	bool again;

	if (fault)
		return bad(reply, fault);
	if (++reply->place.fields > LIMIT_REPLY_FIELDS)
		return bad(reply, "too many fields");
	field = reply->place.connect ? NULL : find_field(got.name);
	if (!field)
		return true;
	/* A tab is a blank by RFC 9110 5.6.3, but not to every parser. */
	if (memchr(line.p, '\t', line.n))
		return bad(reply, "tab in a field that counts");

	index = (size_t)(field - fields);
	again = reply->place.seen & BIT(index);
	if (again && field->twice)
		return bad(reply, field->twice);
	reply->place.seen |= BIT(index);
	if (field->read)
		return field->read(reply, got.value);
	return again || relay(reply, index, got.value);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : -1;
}

/* HTTP/1.x SP three digits SP [reason] */
static bool read_status_line(struct http_reply *reply, struct slice line)
{
	bool connect = reply->place.connect;
	int status = 0;

	reply->place.old = slice_starts(line, SLICE("HTTP/1.0 "));
	if (!reply->place.old && !slice_starts(line, SLICE("HTTP/1.1 ")))
		return bad(reply, "version is neither HTTP/1.1 nor HTTP/1.0");
	if (line.n < strlen("HTTP/1.1 200 ") || line.p[12] != ' ')
		return bad(reply, "malformed status line");
	for (size_t i = 9; i < 12; i++) {
		if (digit(line.p[i]) < 0)
			return bad(reply, "malformed status line");
		status = status * 10 + digit(line.p[i]);
	}
	if (status < 100 || status > 599 || status == 101 ||
	    (!connect && (status == 204 || status == 304)))
		return bad(reply, connect ? "status is none of an answer to CONNECT"
					  : "status is none of a KMS answer");
	if (status < 200 && reply->place.interim++ == LIMIT_REPLY_INTERIM)
		return bad(reply, "too many interim replies");
	reply->status = status;
	reply->keep_alive = !reply->place.old;
	go(reply, FIELDS);
	return true;
}

/* Forgets an interim reply's head. */
static void next_head(struct http_reply *reply)
{
	unsigned interim = reply->place.interim;
	bool connect = reply->place.connect;

	reply->head.n = 0;
	memset(reply->headers, 0, sizeof(reply->headers));
	memset(&reply->place, 0, sizeof(reply->place));
	reply->place.interim = interim;
	reply->place.connect = connect;
	reply->has_age = false;
	go(reply, STATUS_LINE);
}

/* The head is whole: how its body is framed (RFC 9112 6.3, without the ways that guess). */
static bool begin_body(struct http_reply *reply)
{
	unsigned seen = reply->place.seen;
	bool sized = seen & BIT(CONTENT_LENGTH), chunked = seen & BIT(TRANSFER_ENCODING);

	if (reply->status < 200) {
		if (sized || chunked)
			return bad(reply, "interim reply with a body");
		if (!reply->keep_alive)
			return bad(reply, "interim reply that ends the connection");
		next_head(reply);
		return true;
	}
	if (reply->place.connect) {
		go(reply, DONE);
		return true;
	}
	if (sized == chunked)
		return bad(reply, sized ? "Content-Length and Transfer-Encoding"
					: "neither Content-Length nor Transfer-Encoding");
	if (chunked && reply->place.old)
		return bad(reply, "Transfer-Encoding in HTTP/1.0");

	for (size_t i = 0; i < _REPLY_HEADER_MAX; i++)
		if (seen & BIT(i))
			reply->headers[i].p = reply->head.p + reply->place.header[i];
	if (sized && buf_reserve_exact(&reply->body, reply->place.left) < 0)
		return bad(reply, "out of memory");
	go(reply, chunked ? CHUNK_SIZE : reply->place.left ? BODY : DONE);
	return true;
}

static bool read_head_line(struct http_reply *reply, struct slice line)
{
	if (reply->place.state == STATUS_LINE)
		return read_status_line(reply, line);
	return line.n ? read_field(reply, line) : begin_body(reply);
}

/* Takes at most one line, so that no byte of the body is copied with the head. Returns how many
 * bytes it took. */
static size_t take_head(struct http_reply *reply, struct slice bytes)
{
	const char *lf = memchr(bytes.p, '\n', bytes.n), *fault;
	size_t n =
		MIN(lf ? (size_t)(lf - bytes.p) + 1 : bytes.n, reply->head.max - reply->head.n);
	size_t start = reply->place.line;

	if (buf_append(&reply->head, (struct slice){bytes.p, n}) < 0) {
		bad(reply, "out of memory");
		return 0;
	}
	switch (http_line_scan(buf_slice(&reply->head), start, &reply->place.scanned, &fault)) {
	case LINE_BAD:
		bad(reply, fault);
		break;
	case LINE_NEED_MORE:
		if (reply->head.n == reply->head.max)
			bad(reply, "head above the limit");
		break;
	case LINE_DONE:
		reply->place.line = reply->place.scanned;
		read_head_line(reply, (struct slice){reply->head.p + start,
						     reply->place.line - start - 2});
		break;
	}
	return n;
}

static size_t take_body(struct http_reply *reply, struct slice bytes)
{
	size_t n = MIN(bytes.n, (size_t)reply->place.left);

	if (buf_append(&reply->body, (struct slice){bytes.p, n}) < 0) {
		bad(reply, "out of memory");
		return 0;
	}
	reply->place.left -= n;
	if (reply->place.left == 0)
		go(reply, reply->place.state == BODY ? DONE : CHUNK_CR);
	return n;
}

static int hex_digit(char c)
{
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return digit(c);
}

static void take_chunk_size(struct http_reply *reply, char c)
{
	int value = hex_digit(c);

	if (value >= 0 && reply->place.digits++ < CHUNK_DIGITS)
		reply->place.left = reply->place.left * 16 + (unsigned)value;
	else if (value >= 0)
		bad(reply, "chunk size too long");
	else if (c == '\r' && reply->place.digits)
		go(reply, CHUNK_SIZE_LF);
	else
		bad(reply, c == ';' ? "chunk extension" : "malformed chunk size");
}

static void begin_chunk(struct http_reply *reply)
{
	size_t left = (size_t)reply->place.left;

	reply->place.digits = 0;
	if (left == 0)
		go(reply, LAST_CR);
	else if (reply->place.chunks++ == LIMIT_REPLY_CHUNKS)
		bad(reply, "too many chunks");
	else if (left > reply->body.max - reply->body.n)
		bad(reply, "body above the limit");
	else if (buf_reserve(&reply->body, left) < 0)
		bad(reply, "out of memory");
	else
		go(reply, CHUNK_DATA);
}

/* One byte between the chunks' data. */
static void take_framing(struct http_reply *reply, char c)
{
	static const struct {
		char want;
		const char *fault;
		enum state next;
	} steps[] = {
		[CHUNK_SIZE_LF] = {'\n', "bare CR", CHUNK_DATA},
		[CHUNK_CR] = {'\r', "chunk longer than its size", CHUNK_LF},
		[CHUNK_LF] = {'\n', "bare CR", CHUNK_SIZE},
		[LAST_CR] = {'\r', "trailer", LAST_LF},
		[LAST_LF] = {'\n', "bare CR", DONE},
	};
	enum state state = (enum state)reply->place.state;

	if (state == CHUNK_SIZE)
		take_chunk_size(reply, c);
	else if (c != steps[state].want)
		bad(reply, steps[state].fault);
	else if (state == CHUNK_SIZE_LF)
		begin_chunk(reply);
	else
		go(reply, steps[state].next);
}

/* Returns how many bytes were used: one or more, unless the reply is bad. */
static size_t take(struct http_reply *reply, struct slice bytes)
{
	switch ((enum state)reply->place.state) {
	case STATUS_LINE:
	case FIELDS:
		return take_head(reply, bytes);
	case BODY:
	case CHUNK_DATA:
		return take_body(reply, bytes);
	case CHUNK_SIZE:
	case CHUNK_SIZE_LF:
	case CHUNK_CR:
	case CHUNK_LF:
	case LAST_CR:
	case LAST_LF:
		take_framing(reply, bytes.p[0]);
		return 1;
	case DONE:
	case BAD:
		break;
	}
	return 0;
}

void http_reply_init(struct http_reply *reply, size_t body_max)
{
	assert(body_max <= LIMIT_REPLY_BODY);
	*reply = (struct http_reply){
		.head = BUF_INIT(LIMIT_REPLY_HEAD),
		.body = BUF_INIT(body_max),
	};
}

void http_reply_init_connect(struct http_reply *reply)
{
	http_reply_init(reply, 0);
	reply->place.connect = true;
}

void http_reply_done(struct http_reply *reply)
{
	buf_done(&reply->head);
	buf_done(&reply->body);
	memset(reply->headers, 0, sizeof(reply->headers));
}

enum reply_result http_reply_read(struct http_reply *reply, struct slice bytes,
				  size_t *ret_used)
{
	size_t used = 0;

	assert(reply->place.state != DONE && reply->place.state != BAD);
	while (used < bytes.n && reply->place.state < DONE)
		used += take(reply, (struct slice){bytes.p + used, bytes.n - used});

	*ret_used = used;
	if (reply->place.state == BAD)
		return REPLY_BAD;
	return reply->place.state == DONE ? REPLY_DONE : REPLY_NEED_MORE;
}
