/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The strict reader of a TLS 1.2 or 1.3 ClientHello (RFC 8446 4.1.2, 5.1; RFC 6066 3): what the
 * tunnel must know before it connects anywhere. It looks for the server name and checks only
 * what that rests on: that every length is consistent, so that no other reader finds another
 * name. An encrypted name (ECH) isn't seen: the outer one counts. */

#include "limit.h"
#include "macro.h"
#include "slice.h"

#include <stddef.h>

#define SERVER_NAME_SIZE 254 /* RFC 1035 3.1 in text: 253 and the NUL */

enum client_hello_result {
	CLIENT_HELLO_BAD = 0,
	CLIENT_HELLO_NEED_MORE,
	CLIENT_HELLO_DONE,
};

enum tls_alert {
	TLS_ALERT_DECODE_ERROR = 50,
	TLS_ALERT_PROTOCOL_VERSION = 70,
	TLS_ALERT_INTERNAL_ERROR = 80,
	TLS_ALERT_UNRECOGNIZED_NAME = 112,
};

struct client_hello {
	/* Lower-case, NUL-terminated; "" when the hello names none. Letters, digits, '-' and
	 * '_' in labels of 1 to 63 bytes with dots between them. */
	char server_name[SERVER_NAME_SIZE];
};

struct client_hello_fault {
	enum tls_alert alert; /* what to answer */
	const char *text;     /* static, without anything from the wire */
};

/* Reads all that a connection has sent so far, from its first byte. The hello may lie in
 * several records; with their headers they take at most LIMIT_HELLO bytes. What follows them
 * isn't looked at, and however the bytes arrive, the final answer is the same. NEED_MORE: call
 * again with more. DONE sets *ret_hello, BAD sets *ret_fault; else both are untouched. Pure. */
_must_check_ enum client_hello_result client_hello_read(struct slice bytes,
							struct client_hello *ret_hello,
							struct client_hello_fault *ret_fault);

#define TLS_ALERT_SIZE 7

/* Writes the record of a fatal alert (RFC 8446 6). Returns its bytes, in `out`. */
struct slice tls_alert_write(enum tls_alert alert, char out[TLS_ALERT_SIZE]);
