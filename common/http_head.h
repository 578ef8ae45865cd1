/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The strict reader of request heads (RFC 9112, far narrower; tests/data/bad-requests.txt is
 * the table of what is refused). It accepts one shape: POST / HTTP/1.1 with exactly one each of
 * Host, Content-Length, X-Amz-Target and `Content-Type: application/x-amz-json-1.1`; and, where
 * the caller allows it, `CONNECT host:port` with HTTP/1.0 or 1.1 and no body. The target may be
 * http://HOST/ as well. Offers of an upgrade or of transfer codings are ignored, but not in a
 * CONNECT. The preface of HTTP/2 is known, so that it can be answered.
 *
 * Works on one contiguous buffer, allocates nothing, and gives the same answer however the
 * bytes were split: it reads in the order of the bytes and stops at the first fault. A byte
 * that can't stand where it is is refused when it is seen, a field when its line has ended. */

#include "macro.h"
#include "refusal.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum head_result {
	HEAD_REFUSED = 0, /* `refusal` and `fault` say why */
	HEAD_NEED_MORE,
	HEAD_DONE,
};

enum head_kind {
	HEAD_KMS,     /* POST / */
	HEAD_CONNECT, /* CONNECT authority */
	HEAD_HTTP2,   /* the client preface of HTTP/2: nothing but its length is set */
};

struct http_head {
	/* set on HEAD_DONE; slices point into the buffer given to the last call */
	enum head_kind kind;
	size_t length;        /* bytes of the head, CRLF CRLF included */
	struct slice host;    /* of the target, else of Host; no port, no brackets */
	bool host_is_address; /* an IPv4 or IPv6 address, not a name */
	unsigned port;        /* of a CONNECT authority */
	/* X-Amz-Target after "TrentService.": [A-Za-z][A-Za-z0-9]{0,63}. Of another service the
	 * whole value, which is no action since it holds a dot: UnknownOperationException
	 * answers it.
	 */
	struct slice action;
	uint64_t content_length; /* of a CONNECT: 0 */
	bool expect_continue;
	bool close; /* `Connection: close`, or HTTP/1.0 */
	/* set on HEAD_REFUSED */
	enum refusal refusal; /* FRAMING, HEAD_TOO_LARGE, BODY_TOO_LARGE or EXPECTATION */
	const char *fault;    /* static text: "bare LF", "two Host fields", ... */
	/* the reader's own place, in offsets, since the buffer may move */
	struct {
		size_t line;    /* where the line being read begins */
		size_t scanned; /* bytes already looked at */
		unsigned fields;
		unsigned seen, required; /* bits of the fields we know */
		size_t host, action;
		unsigned port; /* of a target that has an authority; else 0 */
	} place;
};

struct http_head_options {
	uint64_t body_max;  /* the enclave's `body` limit: above it BODY_TOO_LARGE */
	bool allow_connect; /* the enclave has a tunnel */
};

/* Begins a new head; also needed after HEAD_DONE and HEAD_REFUSED. */
void http_head_init(struct http_head *head);

/* Reads on. `bytes` begins with the first byte of the head and may hold more than the head; it
 * may have moved since the last call, but its earlier bytes are unchanged. A head that passes
 * LIMIT_HEAD is refused. */
_must_check_ enum head_result http_head_read(struct http_head *head, struct slice bytes,
					     const struct http_head_options *options);
