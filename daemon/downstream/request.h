/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One request of an enclave: what it holds, what it waits for, how it is answered and recorded.
 * Its way from step to step is request_step.c's. It knows neither its connection nor its
 * thread: it speaks to whoever brought it (its client) by a few functions, and borrows a
 * context. */

#include "audit.h"
#include "buf.h"
#include "context.h"
#include "generation.h"
#include "http_head.h"
#include "identity.h"
#include "kms.h"
#include "macro.h"
#include "place.h"
#include "policy.h"
#include "reason.h"
#include "refusal.h"
#include "upstream.h"

#include <sys/queue.h>

/* ---- who brought it ---- */

struct request_client;

struct request_client_ops {
	/* Whether its connection ends after this answer, whatever the answer is. */
	bool (*closing)(const struct request_client *client);
	/* Whether nobody is there any more to read an answer. */
	bool (*gone)(const struct request_client *client);
	/* It has waited before its body was read, and goes on: the body is to be read, or, if
	 * request->refusal is set, dropped. */
	void (*admitted)(struct request_client *client, struct instant now);
	/* Here is the answer; both slices stay valid until request_end(), which the client
	 * calls when they have left, perhaps at once. `close`: nothing may follow it. */
	void (*answer)(struct request_client *client, struct slice head, struct slice body,
		       bool close, struct instant now);
	/* There will be no answer: `why` says what cut it off. Ends the connection. */
	void (*lost)(struct request_client *client, enum reason why, struct instant now);
};

/* Embedded in the client's object. */
struct request_client {
	const struct request_client_ops *ops;
};

/* What a request takes over from its client; all is borrowed but what it takes a reference of.
 */
struct request_origin {
	struct context *context;
	struct request_client *client;
	const struct identity *identity;
	struct generation *generation;
	unsigned enclave_index;
};

/* ---- its way ---- */

/* The steps of docs/code.md that a request takes; the first three are its connection's.
 * request_step.c has the row of each. */
enum request_step {
	STEP_LIMIT, /* waits for a place in flight, its body unread */
	STEP_BODY,  /* its client reads it */
	STEP_UNDERSTAND,
	STEP_DECIDE,
#ifdef TEST_HOOKS
	STEP_TEST, /* one that may wait, see request_test_step */
#endif
	STEP_SIGN, /* waits for credentials to sign with */
	STEP_SEND, /* waits for the endpoint; signed at the moment of sending */
	STEP_ANSWER,
	STEP_RECORD, /* answered: what is left is to record it when the answer has left */
	STEP_ENDED,  /* in the bin */
	_STEP_MAX,
};

/* What a request waits for, in the list of its thread, until requests_wake(). */
enum request_wait {
	WAIT_NOTHING,
	WAIT_PLACE, /* in the enclave's line too: see requests_admit() */
	WAIT_CREDENTIALS,
#ifdef TEST_HOOKS
	WAIT_TEST,
#endif
};

LIST_HEAD(request_list, request);

/* The requests of one thread that no connection leads to. Zeroed memory is none. */
struct requests {
	struct request_list waiting;
	struct request_list orphans; /* KMS has them, their clients are gone */
};

struct request {
	struct bin_entry bin;
	enum request_step step;
	/* not to be touched once it has ended */
	bool advancing; /* request_advance() is at it */
	enum request_wait wait;
	usec_t wait_deadline;
	LIST_ENTRY(request) link; /* of the thread's waiting ones, while it waits */
	LIST_ENTRY(request) orphan_link;
	struct context *context;
	struct request_client *client; /* NULL: it went while KMS had the request */
	enum reason gone;              /* why it went; REASON_NONE: not known to have */
	struct upstream_call call;
	struct identity identity;
	struct generation *generation;
	unsigned enclave_index;
	int endpoint; /* index; -1: Host names none of the enclave's */
	/* limit */
	size_t charged; /* bytes of the enclave's share of memory */
	bool in_flight; /* counted in the enclave's gauge */
	struct place_waiter waiter;
	usec_t waits_since;   /* for a place in flight; monotonic; 0: it didn't have to */
	enum refusal refusal; /* to be answered once the body is dropped */
	usec_t retry_after;   /* of REFUSAL_RATE: until its rate has the next one */
	/* body: stands after room for the outgoing head, so that both go in one send */
	struct buf out;
	size_t body_at, body_n; /* where it begins; bytes so far, then its canonical length */
	size_t content_length;
	/* understand and decide */
	const struct kms_action *action; /* NULL: not known, and until the body is there an
					  * extra one isn't either */
	struct verdict verdict;
	usec_t decided; /* when, monotonic */
	/* sign */
	struct credentials *credentials; /* that signed it */
	uint64_t rejected;               /* the serial of those that were rejected; 0: none */
	usec_t others_due;               /* until then it waits for others; monotonic */
	usec_t correction;               /* of the clock, when it was signed */
	usec_t sent_wall;
	bool signed_again; /* the one retry after rejected credentials or a wrong clock */
	/* answer and record */
	enum upstream_result result;
	struct buf answer;
	usec_t started; /* monotonic */
	/* These are the last and most of it: see request_alloc(). */
	char host[LIMIT_LOG_VALUE]; /* the Host, escaped, for a refusal and for a reload */
	struct kms_request kms;     /* into the body and context->doc: good until it waits */
	struct audit_record record;
};

/* A request of which nothing is known yet. NULL when memory ran out. */
struct request *request_alloc(const struct request_origin *origin, struct instant now);

/* The only function that changes its step. */
void request_go(struct request *r, enum request_step step);

struct enclave_config *request_config(const struct request *r);

/* The endpoint that the Host picked; only when `endpoint` is one. */
const struct endpoint_config *request_endpoint(const struct request *r);

/* How far that endpoint's clock is from ours. The same condition. */
struct skew *request_skew(const struct request *r);

/* Charges `n` bytes more to the enclave's share of memory. False: it is used up. */
_must_check_ bool request_charge(struct request *r, size_t n);

/* ---- waiting ---- */

/* The step it is at waits until requests_wake() for this reason, or until the deadline
 * (monotonic), and is then run again: it looks anew, and at the time. */
void request_wait(struct request *r, enum request_wait reason, usec_t deadline);

/* Its wait for a place, if there was one, is over: the record says how long it was. */
void request_note_wait(struct request *r, struct instant now);

/* Takes it from wherever it waits or is in flight, to be refused. */
void request_withdraw(struct request *r);

/* ---- its answer and its end ---- */

/* Answers with a refusal, from any step. The message is the row's when NULL; record.detail and
 * record.reason are kept where they say something already. */
void request_refuse(struct request *r, enum refusal refusal, const char *message,
		    struct instant now);

/* Answers with `r->answer` as the head and this body. */
void request_answer(struct request *r, struct slice body, bool close, struct instant now);

/* Whether its connection ends after this answer. */
bool request_closes(const struct request *r);

/* Records it, `written` bytes of the answer having left, and ends it. `why` is REASON_NONE, or
 * what cut it off, which becomes its reason unless it is recorded as a leak. Cancels what is in
 * flight. */
void request_end(struct request *r, enum reason why, size_t written, struct instant now);

/* Its connection ends. What KMS has already goes on without a client: the answer is read and
 * checked, never relayed, and recorded; the connection to KMS then serves others. All else is
 * request_end(). */
void request_lose_client(struct request *r, enum reason why, size_t written,
			 struct instant now);

/* ---- a reload ---- */

/* Before the body is there: the request takes the new rules, and keeps what it was charged.
 * What it must be refused with now, or REFUSAL_NONE. */
_must_check_ enum refusal request_renew(struct request *r, struct generation *generation);

/* While the request waits or is at KMS, also without its client. True: its enclave or endpoint
 * has changed, and the whole of it had not left for KMS: no more of it goes out, and the caller
 * refuses or ends it. False: it goes on; if there was a change it has left as a whole, and is
 * neither repeated nor signed again. */
_must_check_ bool request_revoke(struct request *r, const struct generation *generation);

/* ---- those without a client ---- */

/* context->generation is new: ends those that it withdraws. */
void requests_reload(struct requests *requests, const struct generation *generation,
		     struct instant now);

/* Ends all that have no client. */
void requests_end(struct requests *requests, struct instant now);
