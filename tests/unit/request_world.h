/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All that a request meets, for tests: a context with a configuration, a client that keeps what
 * it is told, and an endpoint whose answers the test writes. That endpoint takes the place of
 * upstream.h and upstreams.h, with the same contract (the linker takes these functions before
 * those of the library), so that each moment is the test's: no socket, no clock. Records end up
 * in a list: the test needs the link argument -Wl,--wrap=audit_submit. Any failure of the
 * world's own fails the test. */

#include "mailbox.h"
#include "request_step.h"

/* The world's moment. Its wall clock is `Thu, 01 Jan 2026 00:00:00 GMT`. */
#define WORLD_START ((struct instant){1000 * USEC_PER_SEC, 1767225600 * USEC_PER_SEC})
#define WORLD_DATE "Thu, 01 Jan 2026 00:00:00 GMT"
#define WORLD_AMZ_DATE "20260101T000000Z"

/* Of the configuration that world_begin() takes: enclave `app` (CID 16) may Encrypt,
 * DescribeKey and CreateGrant with the key, and Decrypt with a context and a Recipient; all at
 * endpoint `kms`. Endpoint `other` is its own too, `foreign` isn't. Enclave `bare` (CID 17) has
 * no rules.
 */
#define WORLD_KEY                                                                              \
	"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define WORLD_HOST "kms.eu-central-1.amazonaws.com"
#define WORLD_OTHER_HOST "kms.us-east-1.amazonaws.com"
#define WORLD_FOREIGN_HOST "kms.eu-west-1.amazonaws.com"
#define WORLD_BODY "{\"KeyId\":\"" WORLD_KEY "\",\"Plaintext\":\"AAAA\"}" /* of Encrypt */
#define WORLD_SEALED "{\"CiphertextBlob\":\"BBBB\"}"                      /* its answer */
#define WORLD_REPLY_HEAD                                                                       \
	"Content-Type: application/x-amz-json-1.1\r\nDate: " WORLD_DATE "\r\n"                 \
	"x-amzn-RequestId: aws-1\r\n"
#define WORLD_RATE_BURST 8
#define WORLD_IN_FLIGHT 4

/* What a client does with its answer. */
enum world_manner {
	CLIENT_WAITS,    /* nothing yet: see world_written() */
	CLIENT_ENDS,     /* it has left at once: ends the request from within answer() */
	CLIENT_VANISHES, /* the same, and is no more: nothing of it may be touched */
	CLIENT_BREAKS,   /* its socket breaks over it: loses the request from within answer() */
};

struct world_client {
	struct request_client client;
	struct identity identity;
	struct request_origin origin;
	struct http_head head;
	struct request *request;
	enum world_manner manner;
	/* what it says */
	bool closing, gone;
	struct world_client *takes_along; /* its connection breaks when this one is told */
	/* what it was told */
	unsigned answers, losses, admissions;
	unsigned order;    /* of its admission, among all */
	char answer[8192]; /* a string */
	size_t answer_n;
	bool close;
	enum reason why; /* of the loss */
	struct instant at;
	/* the request's, within answer() */
	enum request_step step;
	uint64_t in_flight, memory;
};

/* How much of a call's bytes TLS has taken. */
enum world_sent { SENT_NOTHING, SENT_PART, SENT_ALL };

struct world {
	struct context context;
	struct requests requests;
	struct enclave_table *enclaves;
	struct credentials_health_table *health;
	struct credentials *first, *second; /* ready for use, with tokens of one length */
	struct instant now;
	/* the endpoint's */
	bool is_idle;       /* a connection is: what is submitted leaves at once, as a whole */
	bool fails_at_once; /* what is submitted fails before upstream_submit() returns */
	bool is_missing;    /* upstreams_get() finds no memory */
	unsigned n_calls;   /* waiting or in flight */
	const struct upstream_call *submitted[64]; /* in their order */
	unsigned n_submitted, n_sent;
	char sent[32768]; /* the last, a string */
	/* what was recorded, and told the control thread */
	struct audit_record records[64];
	unsigned n_records;
	struct message told;
	unsigned n_told;
	unsigned n_pokes, n_admitted;
};

extern struct world world;

/* A fixture. world_end() also sees that nothing is held any more, by any enclave. */
void world_begin(void);
void world_end(void);

/* Has the configuration that world_begin() takes, with a text put in place of another, be in
 * force, as a thread's reload does; requests are not told. NULL, NULL: the same once more. */
void world_load(const char *old, const char *text);

/* Another certificate may vouch for all endpoints of what is in force. */
void world_load_trust(void);

struct enclave *world_enclave(const char *name);

/* Moves the world's moment. */
void world_pass(usec_t time);

/* The turn is over: what has ended is freed, and its client's `request` is NULL. */
void world_turn(void);

/* What the control thread was told is in `told`, the last of `n_told`. Who was poked admits.
 */
void world_read_mail(void);

/* These are in force, as when they come; NULL: none. */
void world_take_credentials(struct credentials *credentials);

/* ---- a request ---- */

/* A client that brings this, and hasn't begun yet: request_new(&c->origin, &c->head, ...) does.
 */
struct world_client *world_client_new(const char *enclave, const char *host, const char *action,
				      const char *body);

/* Begins one; none of the body was read. */
struct world_client *world_new(const char *enclave, const char *host, const char *action,
			       const char *body);

/* Reads its body and runs it. */
void world_run(struct world_client *c, const char *body);

/* Both. */
struct world_client *world_ask(const char *enclave, const char *host, const char *action,
			       const char *body);

/* A plain Encrypt that is allowed. */
struct world_client *world_encrypt(void);

/* The whole of its answer has left. */
void world_written(struct world_client *c);

/* ---- the endpoint ---- */

/* A connection is there for the request, and takes so much of it. */
void world_send(struct request *r, enum world_sent sent);

/* These bytes come back. */
void world_answer(struct request *r, const char *bytes);

/* The call ends otherwise. */
void world_fail(struct request *r, enum upstream_result result, const char *why);

/* An answer's bytes: its status line, other lines of the head, and the body. Good until the
 * next one. */
const char *world_reply(const char *status, const char *lines, const char *body);

/* ---- what came of it ---- */

/* The only record, or the last. */
const struct audit_record *world_record(void);

/* There is one, and it says this. */
void world_assert_record(enum event_kind event, enum reason reason, int kms_status,
			 const char *detail);

/* The client was answered once, with this refusal; `message`: NULL is the row's. */
void world_assert_refused(const struct world_client *c, enum refusal refusal,
			  const char *message, bool close);
