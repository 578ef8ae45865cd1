/* SPDX-License-Identifier: Apache-2.0 */
#include "client_hello.h"

#include <check.h>
#include <stdint.h>

/* A slice of a literal, for tables. */
#define S(lit)                                                                                 \
	{                                                                                      \
		(lit), sizeof(lit) - 1                                                         \
	}

/* Bytes that are being written. */
struct out {
	char p[4 * LIMIT_HELLO];
	size_t n;
};

/* Not ck_assert(), which writes down its place each time that it holds: these are called
 * millions of times. */
#define HOLDS(condition, ...)                                                                  \
	do {                                                                                   \
		if (!(condition))                                                              \
			ck_abort_msg(__VA_ARGS__);                                             \
	} while (0)

static void put(struct out *out, struct slice s)
{
	HOLDS(out->n + s.n <= sizeof(out->p), "no room");
	if (s.n)
		memcpy(out->p + out->n, s.p, s.n);
	out->n += s.n;
}

static void put_number(struct out *out, size_t number, unsigned width)
{
	for (unsigned i = width; i-- > 0;) {
		char byte = (char)(number >> (8 * i));

		put(out, (struct slice){&byte, 1});
	}
}

static void put_vector(struct out *out, struct slice s, unsigned width)
{
	put_number(out, s.n, width);
	put(out, s);
}

/* What a hello differs in from a plain one; zero means the plain one's. */
struct spec {
	unsigned type, version;
	struct slice session, ciphers, compression;
	struct slice name;       /* makes a server_name of it, in front of the others */
	struct slice extensions; /* after it */
	struct slice tail;       /* after the extensions, inside the message */
	bool no_extensions;
};

static void put_server_name(struct out *out, struct slice name)
{
	put_number(out, 0, 2);
	put_number(out, name.n + 5, 2);
	put_number(out, name.n + 3, 2);
	put_number(out, 0, 1);
	put_vector(out, name, 2);
}

static void put_message(struct out *out, const struct spec *spec)
{
	static const struct slice ciphers = S("\x13\x01\xc0\x2f");
	static struct out body, extensions;

	body.n = extensions.n = 0;
	put_number(&body, spec->version ?: 0x0303, 2);
	for (unsigned i = 0; i < 32; i++)
		put_number(&body, i, 1);
	put_vector(&body, spec->session, 1);
	put_vector(&body, spec->ciphers.p ? spec->ciphers : ciphers, 2);
	put_vector(&body, spec->compression.p ? spec->compression : (struct slice){"\0", 1}, 1);
	if (spec->name.p)
		put_server_name(&extensions, spec->name);
	put(&extensions, spec->extensions);
	if (!spec->no_extensions)
		put_vector(&body, (struct slice){extensions.p, extensions.n}, 2);
	put(&body, spec->tail);

	put_number(out, spec->type ?: 1, 1);
	put_number(out, body.n, 3);
	put(out, (struct slice){body.p, body.n});
}

/* `version` of the record; 0 is the usual one. */
static void put_record(struct out *out, struct slice payload, unsigned version)
{
	put_number(out, 22, 1);
	put_number(out, version ?: 0x0301, 2);
	put_vector(out, payload, 2);
}

/* The message in records of `size` bytes. */
static void put_records(struct out *out, struct slice message, size_t size)
{
	while (message.n > 0) {
		struct slice piece = {message.p, MIN(message.n, size)};

		put_record(out, piece, 0);
		message.p += piece.n;
		message.n -= piece.n;
	}
}

static struct client_hello hello;
static struct client_hello_fault fault;

/* Reads a copy that ends where its allocation ends: sanitizers and valgrind see an overread. */
static enum client_hello_result read_copy(struct slice bytes)
{
	static char *arena;
	enum client_hello_result r;
	char *copy;

	if (!arena)
		arena = malloc(sizeof(struct out));
	HOLDS(arena, "no memory");
	copy = arena + sizeof(struct out) - bytes.n;
	memcpy(copy, bytes.p, bytes.n);
	hello = (struct client_hello){"untouched"};
	fault = (struct client_hello_fault){0, NULL};
	r = client_hello_read((struct slice){copy, bytes.n}, &hello, &fault);
	HOLDS(r == CLIENT_HELLO_DONE || strcmp(hello.server_name, "untouched") == 0,
	      "touched: %s", hello.server_name);
	HOLDS((r == CLIENT_HELLO_BAD) == (fault.text != NULL), "fault %s", fault.text);
	return r;
}

/* The bytes give this name, or this fault when `name` is NULL. Whatever is there of them gives
 * either that already or asks for more, and what comes after changes nothing. */
static void assert_answer(struct out *out, const char *name, const char *text,
			  enum tls_alert alert, const char *what)
{
	size_t whole = out->n, step = whole > 1000 ? 97 : 1;
	bool final = false;

	put(out, (struct slice){"\x16\x03\x03\0\x01Z", 6}); /* what might follow */
	for (size_t n = 0; n <= out->n; n = n < whole && n + step > whole ? whole : n + step) {
		enum client_hello_result r = read_copy((struct slice){out->p, n});

		if (r == CLIENT_HELLO_NEED_MORE) {
			HOLDS(!final && n < whole, "%s: more, at %zu", what, n);
			continue;
		}
		final = true;
		HOLDS(r == (name ? CLIENT_HELLO_DONE : CLIENT_HELLO_BAD), "%s: %d at %zu (%s)",
		      what, r, n, fault.text);
		if (name) {
			HOLDS(strcmp(hello.server_name, name) == 0, "%s: %s at %zu", what,
			      hello.server_name, n);
			HOLDS(n >= whole, "%s: done at %zu", what, n);
		} else {
			HOLDS(strcmp(fault.text, text) == 0, "%s: %s at %zu", what, fault.text,
			      n);
			HOLDS(fault.alert == alert, "%s: alert %d", what, fault.alert);
		}
	}
	out->n = whole;
}

static struct out message, stream;

/* As one record, as two split at every place, and as records of few bytes. */
static void assert_message(const struct spec *spec, const char *name, const char *text,
			   enum tls_alert alert, const char *what)
{
	static const size_t sizes[] = {SIZE_MAX, 1, 2, 3, 5, 64};

	message.n = 0;
	put_message(&message, spec);
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		stream.n = 0;
		put_records(&stream, (struct slice){message.p, message.n}, sizes[i]);
		assert_answer(&stream, name, text, alert, what);
	}
	for (size_t at = 1; at < message.n; at++) {
		stream.n = 0;
		put_record(&stream, (struct slice){message.p, at}, 0x0303);
		put_record(&stream, (struct slice){message.p + at, message.n - at}, 0);
		HOLDS(read_copy((struct slice){stream.p, stream.n}) ==
			      (name ? CLIENT_HELLO_DONE : CLIENT_HELLO_BAD),
		      "%s split at %zu", what, at);
		if (name)
			HOLDS(strcmp(hello.server_name, name) == 0, "%s split at %zu: %s", what,
			      at, hello.server_name);
		else
			HOLDS(strcmp(fault.text, text) == 0, "%s split at %zu: %s", what, at,
			      fault.text);
	}
}

#define LABEL63 "abcdefghijklmnopqrstuvwxyz0123456789-_abcdefghijklmnopqrstuvwxyz"
#define LABEL62 "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxy"
#define NAME253 LABEL62 "." LABEL62 "." LABEL62 "." LABEL62 ".b"

/* An ECH extension with another name inside, as it would look to a careless search. */
#define ECH                                                                                    \
	"\xfe\x0d\0\x0e"                                                                       \
	"\0\0\0\x0a\0\x08\0\0\x05inner"

static const struct {
	const char *what;
	struct spec spec;
	const char *name;
} accepted[] = {
	{"a name",
	 {.name = S("kms.eu-central-1.amazonaws.com")},
	 "kms.eu-central-1.amazonaws.com"},
	{"lower-cased",
	 {.name = S("KMS.Eu-Central-1.amazonAWS.COM")},
	 "kms.eu-central-1.amazonaws.com"},
	{"one label", {.name = S("localhost")}, "localhost"},
	{"one letter", {.name = S("a")}, "a"},
	{"other characters", {.name = S("0-_.z9.A")}, "0-_.z9.a"},
	{"a label of 63",
	 {.name = S("abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz.b")},
	 "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz.b"},
	{"253 bytes", {.name = S(NAME253)}, NAME253},
	{"no extensions, TLS 1.2", {.no_extensions = true}, ""},
	{"no extension", {.extensions = S("")}, ""},
	{"others only", {.extensions = S("\0\x17\0\0\xff\x01\0\x01\0")}, ""},
	{"others around it",
	 {.name = S("a.b"), .extensions = S("\0\x17\0\0\xff\x01\0\x01\0")},
	 "a.b"},
	{"after others",
	 {.extensions = S("\0\x2b\0\x03\x02\x03\x04"
			  "\0\0\0\x08\0\x06\0\0\x03"
			  "a.b")},
	 "a.b"},
	{"others twice", {.name = S("a.b"), .extensions = S("\0\x17\0\0\0\x17\0\0")}, "a.b"},
	{"an unknown extension",
	 {.name = S("a.b"), .extensions = S("\xfa\xfa\0\x01\0")},
	 "a.b"},
	{"the outer name of ECH", {.name = S("outer"), .extensions = S(ECH)}, "outer"},
	{"session id of 32",
	 {.name = S("a.b"), .session = S("0123456789abcdef0123456789abcdef")},
	 "a.b"},
	{"one cipher suite", {.name = S("a.b"), .ciphers = S("\x13\x01")}, "a.b"},
	{"compression with null", {.name = S("a.b"), .compression = S("\x01\0")}, "a.b"},
};

START_TEST(accept)
{
	assert_message(&accepted[_i].spec, accepted[_i].name, NULL, 0, accepted[_i].what);
}
END_TEST

#define TWICE "server_name is there twice"
#define MALFORMED "server_name is malformed"
#define NOT_ONE "server_name doesn't hold exactly one host name"
#define NO_HOST "server_name is not a host name"
#define EXTENSION "an extension is malformed"

static const struct {
	const char *what;
	struct spec spec;
	const char *text;
} refused[] = {
	{"type 0", {.type = 0x100}, "not a ClientHello"},
	{"a ServerHello", {.type = 2}, "not a ClientHello"},
	{"SSL 3.0", {.version = 0x0300}, "neither TLS 1.2 nor 1.3"},
	{"TLS 1.0", {.version = 0x0301}, "neither TLS 1.2 nor 1.3"},
	{"TLS 1.1", {.version = 0x0302}, "neither TLS 1.2 nor 1.3"},
	{"TLS 1.3 in the wrong place", {.version = 0x0304}, "neither TLS 1.2 nor 1.3"},
	{"DTLS", {.version = 0xfefd}, "neither TLS 1.2 nor 1.3"},
	{"session id of 33",
	 {.session = S("0123456789abcdef0123456789abcdef!")},
	 "the session id is malformed"},
	{"no cipher suite", {.ciphers = S("")}, "the cipher suites are malformed"},
	{"one byte of a cipher suite",
	 {.ciphers = S("\x13")},
	 "the cipher suites are malformed"},
	{"cipher suites and a half",
	 {.ciphers = S("\x13\x01\x13")},
	 "the cipher suites are malformed"},
	{"no compression method",
	 {.compression = S("")},
	 "the compression methods are malformed"},
	{"no null compression",
	 {.compression = S("\x01\x02")},
	 "the compression methods are malformed"},
	{"a byte after the extensions",
	 {.name = S("a.b"), .tail = S("\0")},
	 "the extensions are malformed"},
	{"a byte instead of extensions",
	 {.no_extensions = true, .tail = S("\0")},
	 "the extensions are malformed"},
	{"extensions cut short",
	 {.no_extensions = true, .tail = S("\0\x05\0\x17\0\0")},
	 "the extensions are malformed"},
	{"extensions longer than said",
	 {.no_extensions = true, .tail = S("\0\x04\0\x17\0\0\0")},
	 "the extensions are malformed"},
	{"an extension of one byte", {.extensions = S("\0")}, EXTENSION},
	{"of three", {.extensions = S("\0\x17\0")}, EXTENSION},
	{"longer than the rest", {.extensions = S("\0\x17\0\x01")}, EXTENSION},
	{"after a name", {.name = S("a.b"), .extensions = S("\0\x17\0\x02\0")}, EXTENSION},
	{"two names",
	 {.name = S("a.b"),
	  .extensions = S("\0\0\0\x08\0\x06\0\0\x03"
			  "a.b")},
	 TWICE},
	{"two names, the second empty", {.name = S("a.b"), .extensions = S("\0\0\0\0")}, TWICE},
	{"two names, far apart",
	 {.name = S("a.b"),
	  .extensions = S("\0\x17\0\0\0\0\0\x08\0\x06\0\0\x03"
			  "a.c")},
	 TWICE},
	{"empty extension", {.extensions = S("\0\0\0\0")}, MALFORMED},
	{"one byte", {.extensions = S("\0\0\0\x01\0")}, MALFORMED},
	{"list longer than the extension",
	 {.extensions = S("\0\0\0\x08\0\x07\0\0\x03"
			  "a.b")},
	 MALFORMED},
	{"list shorter than the extension",
	 {.extensions = S("\0\0\0\x08\0\x05\0\0\x02"
			  "a.b")},
	 MALFORMED},
	{"empty list", {.extensions = S("\0\0\0\x02\0\0")}, NOT_ONE},
	{"a type only", {.extensions = S("\0\0\0\x03\0\x01\0")}, NOT_ONE},
	{"half a length", {.extensions = S("\0\0\0\x04\0\x02\0\0")}, NOT_ONE},
	{"another type of name",
	 {.extensions = S("\0\0\0\x08\0\x06\x01\0\x03"
			  "a.b")},
	 NOT_ONE},
	{"name longer than the list",
	 {.extensions = S("\0\0\0\x08\0\x06\0\0\x04"
			  "a.b")},
	 NOT_ONE},
	{"name shorter than the list",
	 {.extensions = S("\0\0\0\x08\0\x06\0\0\x02"
			  "a.b")},
	 NOT_ONE},
	{"two in one list",
	 {.extensions = S("\0\0\0\x0e\0\x0c\0\0\x03"
			  "a.b"
			  "\0\0\x03"
			  "a.c")},
	 NOT_ONE},
	{"another type after it",
	 {.extensions = S("\0\0\0\x0e\0\x0c\0\0\x03"
			  "a.b"
			  "\x01\0\x03"
			  "a.c")},
	 NOT_ONE},
	{"empty name", {.name = S("")}, NO_HOST},
	{"a dot", {.name = S(".")}, NO_HOST},
	{"dot at the end", {.name = S("a.b.")}, NO_HOST},
	{"dot in front", {.name = S(".a.b")}, NO_HOST},
	{"two dots", {.name = S("a..b")}, NO_HOST},
	{"a NUL", {.name = S("a.b\0")}, NO_HOST},
	{"a NUL inside", {.name = S("a.b\0.c")}, NO_HOST},
	{"a blank", {.name = S("a b")}, NO_HOST},
	{"a line", {.name = S("a.b\n")}, NO_HOST},
	{"a port", {.name = S("a.b:443")}, NO_HOST},
	{"a star", {.name = S("*.b")}, NO_HOST},
	{"a slash", {.name = S("a/b")}, NO_HOST},
	{"an IPv6 address", {.name = S("[::1]")}, NO_HOST},
	{"UTF-8", {.name = S("\xc3\xa9.b")}, NO_HOST},
	{"next to the letters", {.name = S("a@b")}, NO_HOST},
	{"after the letters", {.name = S("a[b")}, NO_HOST},
	{"DEL",
	 {.name = S("a\x7f"
		    "b")},
	 NO_HOST},
	{"high bytes that fold to letters", {.name = S("\xc1\xe1")}, NO_HOST},
	{"a label of 64", {.name = S(LABEL63)}, NO_HOST},
	{"254 bytes", {.name = S(NAME253 "c")}, NO_HOST},
};

START_TEST(refuse)
{
	enum tls_alert alert = TLS_ALERT_DECODE_ERROR;

	if (refused[_i].spec.version)
		alert = TLS_ALERT_PROTOCOL_VERSION;
	if (strcmp(refused[_i].text, NO_HOST) == 0)
		alert = TLS_ALERT_UNRECOGNIZED_NAME;
	assert_message(&refused[_i].spec, NULL, refused[_i].text, alert, refused[_i].what);
}
END_TEST

static const struct spec plain = {.name = S("a.b")};

/* The length in the header says less than a whole hello. */
START_TEST(every_truncation)
{
	size_t without_extensions = 4 + 2 + 32 + 1 + 2 + 4 + 2;

	message.n = 0;
	put_message(&message, &plain);
	for (size_t n = 4; n < message.n; n++) {
		enum client_hello_result r;

		message.p[3] = (char)(n - 4);
		stream.n = 0;
		put_record(&stream, (struct slice){message.p, n}, 0);
		r = read_copy((struct slice){stream.p, stream.n});
		ck_assert_msg(
			r == (n == without_extensions ? CLIENT_HELLO_DONE : CLIENT_HELLO_BAD),
			"%zu of %zu: %d", n, message.n, r);
	}
}
END_TEST

static const struct {
	const char *what;
	struct slice bytes;
	const char *text;
} raw[] = {
	{"SSL 2.0", S("\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10"), "not a TLS handshake record"},
	{"HTTP", S("POST / HTTP/1.1\r\n"), "not a TLS handshake record"},
	{"an alert", S("\x15\x03\x01\0\x02\x02\x50"), "not a TLS handshake record"},
	{"a change of cipher", S("\x14\x03\x01\0\x01\x01"), "not a TLS handshake record"},
	{"data", S("\x17\x03\x03\0\x01Z"), "not a TLS handshake record"},
	{"SSL 3.0", S("\x16\x03\0\0\x04\x01\0\0\x80"), "a record of an unknown version"},
	{"a record of TLS 1.3", S("\x16\x03\x04\0\x04\x01\0\0\x80"),
	 "a record of an unknown version"},
	{"DTLS", S("\x16\xfe\xfd\0\0\0"), "a record of an unknown version"},
	{"TLS 4", S("\x16\x04\x01\0\x04\x01\0\0\x80"), "a record of an unknown version"},
	{"an empty record", S("\x16\x03\x01\0\0"), "an empty record"},
	{"an empty record in between", S("\x16\x03\x01\0\x01\x01\x16\x03\x01\0\0"),
	 "an empty record"},
	{"an alert in between", S("\x16\x03\x01\0\x01\x01\x15\x03\x01\0\x02\x02\x50"),
	 "not a TLS handshake record"},
	{"another version in between", S("\x16\x03\x01\0\x01\x01\x16\x03\x04\0\x01"),
	 "a record of an unknown version"},
	{"no hello", S("\x16\x03\x01\0\x04\x02\0\0\x80"), "not a ClientHello"},
	{"an empty hello", S("\x16\x03\x01\0\x04\x01\0\0\0"), "the hello is cut short"},
	{"half a version", S("\x16\x03\x01\0\x05\x01\0\0\x01\x03"), "the hello is cut short"},
	{"a version only", S("\x16\x03\x01\0\x06\x01\0\0\x02\x03\x03"),
	 "the hello is cut short"},
	{"a byte after the hello", S("\x16\x03\x01\0\x07\x01\0\0\x02\x03\x03\0"),
	 "bytes after the hello in its record"},
	{"in the second record",
	 S("\x16\x03\x01\0\x04\x01\0\0\x02\x16\x03\x01\0\x03\x03\x03\0"),
	 "bytes after the hello in its record"},
	{"a second message", S("\x16\x03\x01\0\x0c\x01\0\0\x02\x03\x03\x01\0\0\x02\x03\x03"),
	 "bytes after the hello in its record"},
	{"a hello of 16 MiB", S("\x16\x03\x01\0\x05\x01\xff\xff\xff\x03"),
	 "longer than 16 KiB"},
	{"a hello of 16 MiB, header in two",
	 S("\x16\x03\x01\0\x01\x01\x16\x03\x01\0\x03\xff\xff\xff"), "longer than 16 KiB"},
	{"a record of 64 KiB", S("\x16\x03\x01\xff\xff\x01\0\0\x80"), "longer than 16 KiB"},
	{"a second record of 64 KiB", S("\x16\x03\x01\0\x01\x01\x16\x03\x01\xff\xff"),
	 "longer than 16 KiB"},
};

START_TEST(refuse_bytes)
{
	stream.n = 0;
	put(&stream, raw[_i].bytes);
	assert_answer(&stream, NULL, raw[_i].text, TLS_ALERT_DECODE_ERROR, raw[_i].what);
}
END_TEST

START_TEST(record_versions)
{
	message.n = 0;
	put_message(&message, &plain);
	for (unsigned version = 0x02fe; version < 0x0306; version++) {
		bool known = version >= 0x0301 && version <= 0x0303;

		stream.n = 0;
		put_record(&stream, (struct slice){message.p, message.n}, version);
		ck_assert_int_eq(read_copy((struct slice){stream.p, stream.n}),
				 known ? CLIENT_HELLO_DONE : CLIENT_HELLO_BAD);
	}
}
END_TEST

START_TEST(nothing_yet)
{
	ck_assert_int_eq(client_hello_read((struct slice){0}, &hello, &fault),
			 CLIENT_HELLO_NEED_MORE);
}
END_TEST

/* A hello padded so that with the headers of its records, of `size` bytes, it takes `total`. */
static void put_padded(size_t total, size_t size)
{
	static char zeros[LIMIT_HELLO];
	static struct out padding;
	size_t n_records = (total + size + 4) / (size + 5);
	struct spec spec = plain;

	message.n = padding.n = stream.n = 0;
	put_message(&message, &plain);
	put_number(&padding, 21, 2);
	put_vector(&padding, (struct slice){zeros, total - 5 * n_records - message.n - 4}, 2);
	spec.extensions = (struct slice){padding.p, padding.n};
	message.n = 0;
	put_message(&message, &spec);
	put_records(&stream, (struct slice){message.p, message.n}, size);
	ck_assert_uint_eq(stream.n, total);
}

START_TEST(limit)
{
	static const size_t records[] = {LIMIT_HELLO, 4096, 512};

	put_padded(LIMIT_HELLO - 1, records[_i]);
	assert_answer(&stream, "a.b", NULL, 0, "below");
	put_padded(LIMIT_HELLO, records[_i]);
	assert_answer(&stream, "a.b", NULL, 0, "at");
	put_padded(LIMIT_HELLO + 1, records[_i]);
	assert_answer(&stream, NULL, "longer than 16 KiB", TLS_ALERT_DECODE_ERROR, "above");
}
END_TEST

/* Whatever byte is changed: the same answer for every way in which the bytes arrive. */
START_TEST(every_mutation)
{
	static const unsigned char changes[] = {0x01, 0x02, 0x20, 0x80, 0xff};
	static struct out original;
	size_t answers[3] = {0};

	original.n = message.n = 0;
	put_message(&message, &accepted[_i].spec);
	put_records(&original, (struct slice){message.p, message.n}, 40);
	for (size_t at = 0; at < original.n * ELEMENTSOF(changes); at++) {
		enum client_hello_result r, whole;
		struct client_hello_fault first;
		char name[SERVER_NAME_SIZE];
		char *flip;

		stream.n = 0;
		put(&stream, (struct slice){original.p, original.n});
		flip = &stream.p[at / ELEMENTSOF(changes)];
		*flip = (char)(*flip ^ changes[at % ELEMENTSOF(changes)]);
		whole = read_copy((struct slice){stream.p, stream.n});
		answers[whole]++;
		memcpy(name, hello.server_name, sizeof(name));
		first = fault;
		r = CLIENT_HELLO_NEED_MORE;
		for (size_t n = at % 7; n < stream.n && r == CLIENT_HELLO_NEED_MORE; n += 7)
			r = read_copy((struct slice){stream.p, n});
		if (r == CLIENT_HELLO_NEED_MORE)
			continue;
		HOLDS(r == whole && strcmp(hello.server_name, name) == 0 &&
			      fault.text == first.text,
		      "byte %zu: %s %s", at, hello.server_name, fault.text);
	}
	ck_assert_uint_gt(answers[CLIENT_HELLO_DONE], 30);
	ck_assert_uint_gt(answers[CLIENT_HELLO_BAD], 30);
}
END_TEST

START_TEST(alert)
{
	char out[TLS_ALERT_SIZE];

	ck_assert(slice_eq(tls_alert_write(TLS_ALERT_UNRECOGNIZED_NAME, out),
			   SLICE("\x15\x03\x03\0\x02\x02\x70")));
	ck_assert(slice_eq(tls_alert_write(TLS_ALERT_DECODE_ERROR, out),
			   SLICE("\x15\x03\x03\0\x02\x02\x32")));
	ck_assert(slice_eq(tls_alert_write(TLS_ALERT_PROTOCOL_VERSION, out),
			   SLICE("\x15\x03\x03\0\x02\x02\x46")));
}
END_TEST

int main(void)
{
	TCase *messages = tcase_create("messages"), *records = tcase_create("records");
	Suite *suite = suite_create("client_hello");
	SRunner *runner;
	int failed;

	tcase_set_timeout(messages, 60);
	tcase_set_timeout(records, 60);
	tcase_add_loop_test(messages, accept, 0, ELEMENTSOF(accepted));
	tcase_add_loop_test(messages, refuse, 0, ELEMENTSOF(refused));
	tcase_add_test(messages, every_truncation);
	tcase_add_loop_test(messages, every_mutation, 0, ELEMENTSOF(accepted));
	tcase_add_loop_test(records, refuse_bytes, 0, ELEMENTSOF(raw));
	tcase_add_test(records, record_versions);
	tcase_add_test(records, nothing_yet);
	tcase_add_loop_test(records, limit, 0, 3);
	tcase_add_test(records, alert);
	suite_add_tcase(suite, messages);
	suite_add_tcase(suite, records);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
