/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The way of one request, steps 4 to 11 of the README's table, top to bottom in request.c:
 * limit, body, understand, decide, sign, send, (answer: reply.c), record. */

#include "audit.h"
#include "buf.h"
#include "generation.h"
#include "http_head.h"
#include "kms.h"
#include "macro.h"
#include "policy.h"
#include "refusal.h"
#include "upstream.h"

#include <sys/queue.h>

struct connection;
struct worker;

struct request {
	struct upstream_call call;
	LIST_ENTRY(request) parked;    /* of the worker, while is_parked */
	LIST_ENTRY(request) abandoned; /* of the worker, while `connection` is NULL */
	bool is_parked;
	struct connection *connection; /* NULL: the client went while KMS had the request */
	const char *gone; /* why it went ("client-gone"); NULL: not known to have */
	struct worker *worker;
	struct generation *generation;
	struct enclave *enclave;
	unsigned enclave_index;
	int endpoint; /* index; -1: Host names none of the enclave's */
	/* step 4 */
	size_t charged;       /* bytes of the enclave's share of memory */
	bool in_flight;       /* counted in the enclave's gauge */
	enum refusal refusal; /* to be answered once the body is dropped */
	/* step 5: the body stands behind room for the outgoing head, so that both go in one
	 * send */
	struct buf out;
	size_t body_at, body_n; /* where it begins; bytes so far, then its canonical length */
	size_t content_length;
	/* steps 6 and 7 */
	int action; /* row of the KMS table; -1: not known */
	struct verdict verdict;
	usec_t decided; /* when */
	/* step 8 */
	struct credentials *credentials; /* that signed it */
	usec_t correction;               /* of the clock, when it was signed */
	usec_t sent_wall;
	bool signed_again; /* the one retry after rejected credentials or a wrong clock */
	usec_t park_deadline;
	/* steps 10 and 11 */
	struct buf answer;
	usec_t started;
	/* These two are the last and most of it: see request_alloc(). */
	char host[LIMIT_LOG_VALUE]; /* the Host, escaped, for a refusal and for a reload */
	struct audit_record record;
};

/* Step 4, with a whole head. NULL when memory ran out. If request->refusal is set, the body
 * must be dropped unread before request_run(). */
struct request *request_new(struct connection *c, const struct http_head *head, usec_t now);

/* Where the next bytes of the body go, and how many; the caller adds to body_n what it read. */
struct slice request_room(struct request *r);

/* Steps 6 to 10: the body is there. The answer comes by connection_answer(), perhaps at once:
 * the last thing to do with a request or its connection. */
void request_run(struct request *r, usec_t now);

/* Steps 8 and 9, also for the one retry. Like request_run(), the last thing to do. */
void request_submit(struct request *r, usec_t now);

/* Answers with a refusal; before request_run() too: a bad head, a head or body that was too
 * slow. The message is the row's when NULL. */
void request_refuse(struct request *r, enum refusal refusal, const char *message, usec_t now);

/* A request for a head that could not be read: only to be refused. Takes a token. */
struct request *request_new_bad(struct connection *c, usec_t now);

/* The endpoint that the Host picked; only when `endpoint` is one. */
const struct endpoint_config *request_endpoint(const struct request *r);

/* How far that endpoint's clock is from ours. The same condition. */
struct skew *request_skew(const struct request *r);

/* Gives its place among limits.in_flight back, if it has one: its answer is made. */
void request_leave(struct request *r);

/* Step 11: records it, `written` bytes of the answer having left, and frees it. `why` is NULL,
 * or what cut it off ("client-gone"). Cancels what is in flight. */
void request_end(struct request *r, const char *why, size_t written, usec_t now);

/* Its connection ends. What KMS has already goes on without a client: the answer is read and
 * checked, never relayed, and recorded; the connection to KMS then serves others. All else is
 * request_end(). The last thing to do with a request. */
void request_lose_client(struct request *r, const char *why, size_t written, usec_t now);

/* A reload, while the body is read: the request takes the new rules, and keeps what it was
 * charged. What it must be refused with now, or REFUSAL_NONE. */
_must_check_ enum refusal request_renew(struct request *r, struct generation *generation);

/* A reload, while the request waits or is at KMS, also without its client. True: its enclave or
 * endpoint has changed, and the whole of it had not left for KMS: no more of it goes out, and
 * the caller refuses or ends it. False: it goes on; if there was a change it has left as a
 * whole, and is neither repeated nor signed again. */
_must_check_ bool request_revoke(struct request *r, const struct generation *generation);

/* Takes it from wherever it waits or is in flight, to be refused. */
void request_withdraw(struct request *r);

/* Waits for credentials, at most until `deadline`. */
void request_park(struct request *r, usec_t deadline);

/* New credentials came, or the wait for them is over: sends the request, or refuses it. */
void request_unpark(struct request *r, usec_t now);
