/* SPDX-License-Identifier: Apache-2.0 */
#include "client_hello.h"

#include <stdbool.h>
#include <string.h>

#define RECORD_HEADER 5
#define RECORD_ALERT 21
#define RECORD_HANDSHAKE 22
#define MESSAGE_HEADER 4
#define MESSAGE_CLIENT_HELLO 1
#define VERSION_TLS_1_0 0x0301
#define VERSION_TLS_1_2 0x0303
#define EXTENSION_SERVER_NAME 0
#define NAME_TYPE_HOST 0
#define LABEL_MAX 63

/* Returns false, which is CLIENT_HELLO_BAD too. */
static bool refuse(struct client_hello_fault *ret_fault, const char *text)
{
	*ret_fault = (struct client_hello_fault){TLS_ALERT_DECODE_ERROR, text};
	return false;
}

/* The takers cut a piece off the front of `s`; false when it is too short. */
static bool take(struct slice *s, size_t n, struct slice *ret_piece)
{
	if (s->n < n)
		return false;
	*ret_piece = (struct slice){s->p, n};
	s->p += n;
	s->n -= n;
	return true;
}

/* A number of `width` bytes, the highest first. */
static bool take_number(struct slice *s, size_t width, size_t *ret_number)
{
	struct slice piece;
	size_t number = 0;

	if (!take(s, width, &piece))
		return false;
	for (size_t i = 0; i < width; i++)
		number = number << 8 | (unsigned char)piece.p[i];
	*ret_number = number;
	return true;
}

/* Bytes that follow their length, which is a number of `width` bytes. */
static bool take_vector(struct slice *s, size_t width, struct slice *ret_vector)
{
	size_t n;

	return take_number(s, width, &n) && take(s, n, ret_vector);
}

/* The handshake message, put together from its records. */
struct message {
	size_t n;     /* bytes of it so far */
	size_t whole; /* its length, header included; 0 while that isn't known */
	char bytes[LIMIT_HELLO];
};

/* The checks below come in the order in which the bytes arrive, each as soon as it can be made:
 * so the fault is the same for every split. */
static enum client_hello_result read_record_header(struct slice rest, size_t *ret_length,
						   struct client_hello_fault *ret_fault)
{
	struct slice s = rest;
	size_t type, version, length;

	if (!take_number(&s, 1, &type))
		return CLIENT_HELLO_NEED_MORE;
	if (type != RECORD_HANDSHAKE)
		return refuse(ret_fault, "not a TLS handshake record");
	if (!take_number(&s, 2, &version))
		return CLIENT_HELLO_NEED_MORE;
	if (version < VERSION_TLS_1_0 || version > VERSION_TLS_1_2)
		return refuse(ret_fault, "a record of an unknown version");
	if (!take_number(&s, 2, &length))
		return CLIENT_HELLO_NEED_MORE;
	if (length == 0)
		return refuse(ret_fault, "an empty record");
	*ret_length = length;
	return CLIENT_HELLO_DONE;
}

/* Learns type and length of the message as soon as they are there. */
static bool read_message_header(struct message *m, struct client_hello_fault *ret_fault)
{
	struct slice s = {m->bytes, m->n};
	size_t type, length;

	if (!take_number(&s, 1, &type))
		return true;
	if (type != MESSAGE_CLIENT_HELLO)
		return refuse(ret_fault, "not a ClientHello");
	if (take_number(&s, 3, &length))
		m->whole = MESSAGE_HEADER + length;
	return true;
}

/* A record that holds message[from..from + length) and begins at byte `at` of the connection.
 * A hello ends its record (RFC 8446 5.1), so that no second message hides behind it. */
static bool fits(const struct message *m, size_t at, size_t from, size_t length,
		 struct client_hello_fault *ret_fault)
{
	size_t needed = m->whole ? m->whole - from : 0;

	if (at + RECORD_HEADER + MAX(needed, length) > LIMIT_HELLO)
		return refuse(ret_fault, "longer than 16 KiB");
	if (m->whole && from + length > m->whole)
		return refuse(ret_fault, "bytes after the hello in its record");
	return true;
}

static enum client_hello_result collect(struct slice bytes, struct message *m,
					struct client_hello_fault *ret_fault)
{
	struct slice rest = bytes, record;
	enum client_hello_result r;

	while (!m->whole || m->n < m->whole) {
		size_t at = bytes.n - rest.n, from = m->n, length, here;

		if (!fits(m, at, from, 1, ret_fault))
			return CLIENT_HELLO_BAD;
		r = read_record_header(rest, &length, ret_fault);
		if (r != CLIENT_HELLO_DONE)
			return r;
		if (!fits(m, at, from, length, ret_fault))
			return CLIENT_HELLO_BAD;

		here = MIN(length, rest.n - RECORD_HEADER);
		memcpy(m->bytes + from, rest.p + RECORD_HEADER, here);
		m->n += here;
		if (!read_message_header(m, ret_fault) || !fits(m, at, from, length, ret_fault))
			return CLIENT_HELLO_BAD;
		if (!take(&rest, RECORD_HEADER + length, &record))
			return CLIENT_HELLO_NEED_MORE;
	}
	return CLIENT_HELLO_DONE;
}

/* Checks and copies the name, in lower case. */
static bool read_name(struct slice name, char out[SERVER_NAME_SIZE])
{
	size_t label = 0;

	if (name.n >= SERVER_NAME_SIZE)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		out[i] = c;
		if (c == '.' && label > 0) {
			label = 0;
			continue;
		}
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
			return false;
		if (++label > LABEL_MAX)
			return false;
	}
	out[name.n] = '\0';
	return label > 0;
}

/* RFC 6066 3: a list of names of which at most one is a host name, the only type there is. */
static bool read_server_name(struct slice extension, struct client_hello *hello,
			     struct client_hello_fault *ret_fault)
{
	struct slice list, name;
	size_t type;

	if (!take_vector(&extension, 2, &list) || extension.n > 0)
		return refuse(ret_fault, "server_name is malformed");
	if (!take_number(&list, 1, &type) || type != NAME_TYPE_HOST ||
	    !take_vector(&list, 2, &name) || list.n > 0)
		return refuse(ret_fault, "server_name doesn't hold exactly one host name");
	if (!read_name(name, hello->server_name)) {
		refuse(ret_fault, "server_name is not a host name");
		ret_fault->alert = TLS_ALERT_UNRECOGNIZED_NAME;
		return false;
	}
	return true;
}

static bool read_extensions(struct slice extensions, struct client_hello *hello,
			    struct client_hello_fault *ret_fault)
{
	bool seen = false;

	while (extensions.n > 0) {
		struct slice extension;
		size_t type;

		if (!take_number(&extensions, 2, &type) ||
		    !take_vector(&extensions, 2, &extension))
			return refuse(ret_fault, "an extension is malformed");
		if (type != EXTENSION_SERVER_NAME)
			continue;
		if (seen)
			return refuse(ret_fault, "server_name is there twice");
		seen = true;
		if (!read_server_name(extension, hello, ret_fault))
			return false;
	}
	return true;
}

/* The message after its header, RFC 8446 4.1.2. */
static bool read_hello(struct slice s, struct client_hello *hello,
		       struct client_hello_fault *ret_fault)
{
	struct slice random, session, ciphers, compression, extensions = {0};
	size_t version;

	if (!take_number(&s, 2, &version))
		return refuse(ret_fault, "the hello is cut short");
	if (version != VERSION_TLS_1_2) { /* of TLS 1.3 too */
		refuse(ret_fault, "neither TLS 1.2 nor 1.3");
		ret_fault->alert = TLS_ALERT_PROTOCOL_VERSION;
		return false;
	}
	if (!take(&s, 32, &random))
		return refuse(ret_fault, "the hello is cut short");
	if (!take_vector(&s, 1, &session) || session.n > 32)
		return refuse(ret_fault, "the session id is malformed");
	if (!take_vector(&s, 2, &ciphers) || ciphers.n < 2 || ciphers.n % 2 != 0)
		return refuse(ret_fault, "the cipher suites are malformed");
	if (!take_vector(&s, 1, &compression) || compression.n == 0 ||
	    !memchr(compression.p, 0, compression.n))
		return refuse(ret_fault, "the compression methods are malformed");
	if (s.n > 0 &&
	    (!take_vector(&s, 2, &extensions) || s.n > 0)) /* TLS 1.2 may have none */
		return refuse(ret_fault, "the extensions are malformed");
	return read_extensions(extensions, hello, ret_fault);
}

enum client_hello_result client_hello_read(struct slice bytes, struct client_hello *ret_hello,
					   struct client_hello_fault *ret_fault)
{
	struct client_hello hello = {0};
	_uninitialized_ struct message m;
	enum client_hello_result r;

	m.n = m.whole = 0; /* not the bytes: they are written before they are read */
	r = collect(bytes, &m, ret_fault);
	if (r != CLIENT_HELLO_DONE)
		return r;
	if (!read_hello((struct slice){m.bytes + MESSAGE_HEADER, m.whole - MESSAGE_HEADER},
			&hello, ret_fault))
		return CLIENT_HELLO_BAD;
	*ret_hello = hello;
	return CLIENT_HELLO_DONE;
}

struct slice tls_alert_write(enum tls_alert alert, char out[TLS_ALERT_SIZE])
{
	/* Version 3.3 stands in all records of TLS 1.3 too; 2 bytes; level 2 is fatal. */
	const char record[TLS_ALERT_SIZE] = {RECORD_ALERT, 3, 3, 0, 2, 2, (char)alert};

	memcpy(out, record, sizeof(record));
	return (struct slice){out, sizeof(record)};
}
