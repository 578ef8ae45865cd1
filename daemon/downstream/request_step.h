/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The way of one request, in the order of docs/code.md: limit, body, understand, decide,
 * sign, send, answer, record. A step is a function that moves the request on to another step,
 * answers it, or has it wait; what waits is woken by running its step again. */

#include "request.h"

struct request_step_info {
	const char *name;
	unsigned number; /* in docs/code.md; 0: not in it */
	/* NULL: somebody else's move. See request_go(), request_wait(), request_refuse(). */
	void (*run)(struct request *r, struct instant now);
};

const struct request_step_info *request_step_info(enum request_step step);

#ifdef TEST_HOOKS
/* What a unit test puts between deciding and signing; NULL: nothing. */
extern void (*request_test_step)(struct request *r, struct instant now);
#endif

/* With a whole head: limits. NULL when memory ran out. If request->refusal is set, the body
 * must be dropped unread before request_run(). If request->wait is, nothing of it may be read
 * before the client is told that it is admitted. */
struct request *request_new(const struct request_origin *origin, const struct http_head *head,
			    struct instant now);

/* A request for a head that could not be read: only to be refused. Takes a token. */
struct request *request_new_bad(const struct request_origin *origin, struct instant now);

/* Where the next bytes of the body go, and how many; the caller adds to body_n what it read. */
struct slice request_room(struct request *r);

/* The body is there. The answer comes to the client, perhaps at once. */
void request_run(struct request *r, struct instant now);

/* ---- for its thread ---- */

/* What they waited for has changed: each runs its step again. */
void requests_wake(struct requests *requests, enum request_wait reason, struct instant now);

/* Places in flight are free, or may be: those who wait for one get theirs, in their order. */
void requests_admit(struct context *context, struct instant now);

/* Wakes those whose time is over. */
void requests_sweep(struct requests *requests, struct instant now);
