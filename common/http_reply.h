/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The strict reader of an upstream's replies (RFC 9112): HTTP/1.1 status line, Content-Length
 * or chunked (both, or neither, is a fault: the end of the stream never ends a message; so is a
 * status that has no body, 204 and 304, which KMS doesn't use), the caps of limit.h. No chunk
 * extensions, no trailers, no bytes outside ASCII. tests/data/bad-replies.txt is the table of
 * what is refused. It takes the bytes as they come and gives the same answer however they were
 * split; the head is copied, the body is put without its chunk framing into a buffer, which is
 * allocated at once where Content-Length tells its size. */

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

/* The headers of a reply that are relayed, in the order they are written; nothing else is. Each
 * may come once, but for Cache-Control and Pragma, of which the first counts. */
enum reply_header {
	REPLY_CONTENT_TYPE,
	REPLY_REQUEST_ID, /* x-amzn-RequestId */
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
	int status; /* 200 to 599 */
	struct slice
		headers[_REPLY_HEADER_MAX]; /* .p NULL where absent; printable ASCII only */
	bool keep_alive;                    /* false: `Connection: close` or HTTP/1.0 */
	bool has_age; /* an Age header: the Date is a cache's and says nothing of the clock */
	/* set with REPLY_BAD */
	const char *fault; /* static text */
	/* the reader's own place */
	struct {
		int state;
		unsigned interim; /* 1xx replies so far */
		unsigned fields;  /* of this head */
		unsigned seen;    /* bits of the fields we know */
		unsigned chunks;
		unsigned digits; /* of a chunk's size */
		bool old;        /* HTTP/1.0 */
		bool chunked;
		bool connect;  /* the answer to a CONNECT */
		uint64_t left; /* body or chunk bytes that are still to come */
		size_t scanned;
		size_t line;
		size_t header[_REPLY_HEADER_MAX]; /* offsets: the buffer of the head may move */
	} place;
};

/* `body_max`: at most LIMIT_REPLY_BODY. */
void http_reply_init(struct http_reply *reply, size_t body_max);

/* For the answer to a CONNECT: it is done at the end of its head, whatever that says of a body.
 * That of a 2xx is to be ignored (RFC 9110 9.3.6), that of another status isn't waited for. Any
 * status but 101; no header is set. */
void http_reply_init_connect(struct http_reply *reply);
void http_reply_done(struct http_reply *reply); /* wipes; may be called twice */

/* Reads on with the next bytes of the stream; *ret_used says how many belong to this reply:
 * fewer than given only with REPLY_DONE (or REPLY_BAD), and then the rest is a fault of the
 * upstream's. 1xx replies are skipped, up to LIMIT_REPLY_INTERIM; 101 is a fault. REPLY_BAD
 * also when memory ran out ("out of memory"). Not to be called again after REPLY_BAD or
 * REPLY_DONE. */
_must_check_ enum reply_result http_reply_read(struct http_reply *reply, struct slice bytes,
					       size_t *ret_used);

/* The name that reply_header has on the wire when we relay it. */
const char *http_reply_header_name(enum reply_header header);
