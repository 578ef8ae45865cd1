/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The strict reader of an upstream's replies (RFC 9112): HTTP/1.1 status line, Content-Length or
 * chunked (both, or neither with a status that has a body, is a fault: the end of the stream never
 * ends a message), caps of limits.h. It takes the bytes as they come and puts the de-chunked body
 * into a buffer; the head's bytes it needs are copied into a small table of the headers that may be
 * relayed. */

#include "buf.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum reply_result {
	REPLY_BAD = 0, /* `fault` says why; the connection must be closed */
	REPLY_NEED_MORE,
	REPLY_DONE,
};

/* The headers of a reply that are relayed, in the order they are written; nothing else is. */
enum reply_header {
	REPLY_CONTENT_TYPE,
	REPLY_REQUEST_ID,  /* x-amzn-RequestId */
	REPLY_DATE,
	REPLY_CACHE_CONTROL,
	REPLY_PRAGMA,
	REPLY_EXPIRES,
	REPLY_RETRY_AFTER,
	REPLY_AMZ_RETRY_AFTER, /* x-amz-retry-after */
	REPLY_ERROR_TYPE,      /* x-amzn-ErrorType */
	_REPLY_HEADER_MAX,
};

struct http_reply {
	/* owned by the caller through http_reply_init and http_reply_done */
	struct buf head; /* raw head while it is read; the slices below point into it */
	struct buf body; /* without chunk framing */
	/* set with REPLY_DONE */
	int status;
	struct slice headers[_REPLY_HEADER_MAX]; /* .p NULL where absent; printable ASCII only */
	bool keep_alive; /* false: `Connection: close` or HTTP/1.0 */
	bool has_age;    /* an Age header: the Date is a cache's and says nothing of the clock */
	/* set with REPLY_BAD */
	const char *fault; /* static text */
	/* the reader's own place */
	struct {
		int state;
		unsigned interim; /* 1xx replies so far */
		unsigned chunks;
		bool chunked;
		uint64_t left; /* body or chunk bytes that are still to come */
		size_t scanned;
		size_t line;
	} place;
};

/* `body_max`: at most LIMIT_REPLY_BODY. */
void http_reply_init(struct http_reply *reply, size_t body_max);
void http_reply_done(struct http_reply *reply); /* wipes; may be called twice */

/* Reads on with the next bytes of the stream; *ret_used says how many belong to this reply: fewer
 * than given only with REPLY_DONE (or REPLY_BAD), and then the rest is a fault of the upstream's.
 * 1xx replies are skipped, up to LIMIT_REPLY_INTERIM; 101 is a fault. REPLY_BAD also when memory
 * ran out ("out of memory"). */
_must_check_ enum reply_result http_reply_read(struct http_reply *reply, struct slice bytes,
					       size_t *ret_used);

/* The name that reply_header has on the wire when we relay it. */
const char *http_reply_header_name(enum reply_header header);
