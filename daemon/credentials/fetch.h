/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A small HTTP client for IMDS and container credentials, over libcurl and libevent: one
 * transfer at a time, a connection each, on the control thread. No proxies, no redirects,
 * HTTP/1.1; answers are bounded by LIMIT_CREDENTIALS_TEXT. What passes through is secret: the
 * program must have called curl_global_init_mem() with the allocators of secret.h, so that
 * libcurl's buffers are wiped; ours are. */

#include "buf.h"
#include "clock.h"
#include "error.h"
#include "macro.h"
#include "slice.h"

#include <event2/event.h>
#include <stdbool.h>

#define FETCH_HEADERS_MAX 4
#define FETCH_HEADER_SIZE 64

struct fetch_request {
	const char *url;
	bool put;                                   /* PUT with an empty body, else GET */
	bool allow_https;                           /* else http only */
	const char *headers[FETCH_HEADERS_MAX + 1]; /* "Name: value", NULL after the last */
	const char *reply_header; /* static: the header to report; NULL: none */
	usec_t timeout;           /* from the start to the last byte */
};

enum fetch_result {
	FETCH_FAILED = 0, /* `error` says why, in a phrase */
	FETCH_TIMEOUT,    /* the same, when the time was over */
	FETCH_DONE,       /* an answer came, whatever its status */
};

struct fetch_reply {
	enum fetch_result result;
	int status;
	int machine;     /* what connecting failed with, -errno; 0: not there, or not known */
	struct buf body; /* wiped after the callback; may be rewritten, or done with in it */
	char header[FETCH_HEADER_SIZE]; /* the value of reply_header; "": none, or longer */
	struct error error;
};

typedef void (*fetch_cb)(struct fetch_reply *reply, void *userdata);

struct fetch;

_must_check_ int fetch_new(struct event_base *base, struct fetch **ret_fetch);

/* Ends what is under way, without a callback; accepts NULL; returns NULL. */
struct fetch *fetch_free(struct fetch *f);
DEFINE_CLEANUP(struct fetch *, fetch_free)

/* Begins a transfer; none may be under way. `done` is called once, never before this returns;
 * in it the next transfer may be begun, or `f` be freed. The request is copied. */
_must_check_ int fetch_start(struct fetch *f, const struct fetch_request *request,
			     fetch_cb done, void *userdata);

/* Ends a transfer without a callback; nothing happens if none is under way. */
void fetch_cancel(struct fetch *f);
