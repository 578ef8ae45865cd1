/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"

#include "connection.h"
#include "json.h"
#include "kms.h"
#include "log.h"
#include "request.h"
#include "skew.h"
#include "worker.h"

#include <stdio.h>

#define PARK_TIME (3 * USEC_PER_SEC) /* for new credentials: IMDS answers within 2 s or not */

/* What the endpoint's error codes say of us rather than of the request. */
enum blame { BLAME_REQUEST, BLAME_CREDENTIALS, BLAME_SIGNATURE };

static enum blame blame(struct slice code)
{
	static const struct {
		const char *code;
		enum blame blame;
	} codes[] = {
		{"ExpiredTokenException", BLAME_CREDENTIALS},
		{"ExpiredToken", BLAME_CREDENTIALS},
		{"UnrecognizedClientException", BLAME_CREDENTIALS},
		{"InvalidClientTokenId", BLAME_CREDENTIALS},
		{"InvalidClientTokenIdException", BLAME_CREDENTIALS},
		{"InvalidSignatureException", BLAME_SIGNATURE},
		{"SignatureDoesNotMatch", BLAME_SIGNATURE},
		{"IncompleteSignature", BLAME_SIGNATURE},
		{"IncompleteSignatureException", BLAME_SIGNATURE},
		{"MissingAuthenticationToken", BLAME_SIGNATURE},
		{"MissingAuthenticationTokenException", BLAME_SIGNATURE},
		{"RequestTimeTooSkewed", BLAME_SIGNATURE},
		{"RequestExpired", BLAME_SIGNATURE},
		{"RequestInTheFuture", BLAME_SIGNATURE},
		{"AuthFailure", BLAME_SIGNATURE},
	};

	for (size_t i = 0; i < ELEMENTSOF(codes); i++)
		if (slice_eq_str(code, codes[i].code))
			return codes[i].blame;
	return BLAME_REQUEST;
}

/* Waits for other credentials than those that were rejected, or goes on at once if they are
 * here already. */
static void wait_for_credentials(struct request *r, usec_t now)
{
	struct message m = {.kind = MESSAGE_REJECTED, .id = r->credentials->serial};
	bool asked = r->worker->credentials == r->credentials &&
		     mailbox_send(r->worker->env.control, &m) == 0;

	if (r->call.final) {
		request_refuse(r, REFUSAL_BAD_CREDENTIALS, NULL, now);
		return;
	}
	request_park(r, now + PARK_TIME);
	if (!asked)
		request_unpark(r, now);
}

static int add_header(struct buf *out, enum reply_header header, struct slice value)
{
	const struct slice parts[] = {slice_from(http_reply_header_name(header)), SLICE(": "),
				      value, SLICE("\r\n")};

	return buf_append_all(out, parts, ELEMENTSOF(parts));
}

static int write_head(const struct http_reply *reply, bool close, size_t body_n,
		      struct buf *out)
{
	char status[SLICE_NUMBER_SIZE], length[SLICE_NUMBER_SIZE];
	const struct slice first[] = {
		SLICE("HTTP/1.1 "), slice_from_number((unsigned)reply->status, status),
		SLICE(" "), slice_from(http_reason_phrase(reply->status)), SLICE("\r\n")};
	const struct slice last[] = {close ? SLICE("Connection: close\r\n") : (struct slice){0},
				     SLICE("Content-Length: "),
				     slice_from_number(body_n, length), SLICE("\r\n\r\n")};
	int r = buf_append_all(out, first, ELEMENTSOF(first));

	for (unsigned i = 0; r == 0 && i < _REPLY_HEADER_MAX; i++)
		if (reply->headers[i].p)
			r = add_header(out, i, reply->headers[i]);
	return r < 0 ? r : buf_append_all(out, last, ELEMENTSOF(last));
}

/* An answer that may be relayed: its status, the allowed headers, its body. */
static void relay(struct request *r, size_t body_n, usec_t now)
{
	const struct http_reply *reply = &r->call.reply;
	struct connection *c = r->connection;
	bool close;

	if (!c) {
		request_end(r, r->gone, 0, now);
		return;
	}
	close = c->close || c->retired || r->worker->draining;
	if (write_head(reply, close, body_n, &r->answer) < 0) {
		r->answer.n = 0;
		request_refuse(r, REFUSAL_INTERNAL, NULL, now);
		return;
	}
	r->record.status = reply->status;
	if (!r->record.reason)
		r->record.reason = "allowed";
	r->record.event = EVENT_REQUEST;
	connection_answer(c, buf_slice(&r->answer), (struct slice){reply->body.p, body_n},
			  close, now);
}

/* Whether the rule demands that no secret comes back in clear. */
static bool must_be_sealed(const struct request *r)
{
	return !r->verdict.rule->plaintext_allow &&
	       (kms_action((unsigned)r->action)->flags & KMS_SECRET_REPLY);
}

static void take_success(struct request *r, usec_t now)
{
	struct buf *body = &r->call.reply.body;
	size_t n = body->n;

	if (must_be_sealed(r)) {
		switch (kms_check_reply((unsigned)r->action, body->p, body->n, &r->worker->doc,
					&n)) {
		case KMS_REPLY_SAFE:
			break;
		case KMS_REPLY_LEAKS:
			request_refuse(r, REFUSAL_REPLY_LEAKS, NULL, now);
			return;
		case KMS_REPLY_NO_CIPHERTEXT:
			request_refuse(r, REFUSAL_REPLY_NO_CIPHERTEXT, NULL, now);
			return;
		case KMS_REPLY_UNREADABLE:
			request_refuse(r, REFUSAL_REPLY_UNREADABLE, NULL, now);
			return;
		}
	}
	relay(r, n, now);
}

/* A status that isn't 2xx. Its body must be a KMS error: what blames our credentials may hold
 * the session token (KMS echoes what was signed), and is never relayed. */
static void take_error(struct request *r, usec_t now)
{
	struct http_reply *reply = &r->call.reply;
	struct slice code;
	size_t n, ignored;

	if (reply->status < 400 ||
	    json_read(reply->body.p, reply->body.n, &r->worker->doc, &n, NULL) == JSON_BAD ||
	    r->worker->doc.nodes[0].type != JSON_OBJECT) {
		snprintf(r->record.detail, sizeof(r->record.detail),
			 "the endpoint answered %d without a KMS error", reply->status);
		request_refuse(r,
			       reply->status >= 500 ? REFUSAL_NO_UPSTREAM
						    : REFUSAL_UPSTREAM_MALFORMED,
			       r->record.detail, now);
		return;
	}
	if (must_be_sealed(r) &&
	    kms_check_reply((unsigned)r->action, reply->body.p, n, &r->worker->doc, &ignored) ==
		    KMS_REPLY_LEAKS) {
		request_refuse(r, REFUSAL_REPLY_LEAKS, NULL, now);
		return;
	}

	code = kms_error_code(reply->body.p, n, &r->worker->doc);
	if (!r->signed_again && !r->call.final &&
	    skew_explains(request_skew(r), r->correction, code)) {
		r->signed_again = true;
		request_submit(r, now);
		return;
	}
	switch (blame(code)) {
	case BLAME_REQUEST:
		audit_copy(r->record.detail, sizeof(r->record.detail), code);
		relay(r, n, now);
		return;
	case BLAME_CREDENTIALS:
		if (!r->signed_again) {
			r->signed_again = true;
			wait_for_credentials(r, now);
			return;
		}
		break;
	case BLAME_SIGNATURE:
		break;
	}
	snprintf(r->record.detail, sizeof(r->record.detail), "AWS KMS answered %.*s",
		 (int)code.n, code.p);
	request_refuse(r, REFUSAL_BAD_CREDENTIALS, r->record.detail, now);
}

static void take_reply(struct request *r, usec_t now)
{
	const struct http_reply *reply = &r->call.reply;
	struct skew_sample sample = {
		.sent = r->sent_wall,
		.received = clock_wall(),
		.date = reply->headers[REPLY_DATE],
		.has_age = reply->has_age,
	};

	skew_learn(request_skew(r), &sample);
	r->record.kms_status = reply->status;
	if (reply->headers[REPLY_REQUEST_ID].p)
		audit_copy(r->record.aws_request_id, sizeof(r->record.aws_request_id),
			   reply->headers[REPLY_REQUEST_ID]);
	if (reply->status >= 200 && reply->status < 300)
		take_success(r, now);
	else
		take_error(r, now);
}

void reply_take(struct upstream_call *call, enum upstream_result result, const char *why,
		usec_t now)
{
	static const enum refusal refusals[] = {
		[UPSTREAM_NO_CONNECTION] = REFUSAL_NO_UPSTREAM,
		[UPSTREAM_QUEUE_TIMEOUT] = REFUSAL_QUEUE_TIMEOUT,
		[UPSTREAM_NOT_SENT] = REFUSAL_INTERNAL,
		[UPSTREAM_LOST] = REFUSAL_UPSTREAM_LOST,
		[UPSTREAM_TIMEOUT] = REFUSAL_UPSTREAM_TIMEOUT,
		[UPSTREAM_MALFORMED] = REFUSAL_UPSTREAM_MALFORMED,
		[UPSTREAM_NO_MEMORY] = REFUSAL_MEMORY,
	};
	struct request *r = (struct request *)call;

	if (call->sent)
		r->record.upstream = (call->received ?: now) - call->sent;
	if (result == UPSTREAM_REPLY) {
		take_reply(r, now);
		return;
	}
	if (result == UPSTREAM_NOT_SENT && r->gone) {
		connection_close(r->connection, r->gone);
		return;
	}
	if (why)
		snprintf(r->record.detail, sizeof(r->record.detail), "endpoint %s: %s",
			 request_endpoint(r)->name, why);
	/* The enclave is told what happened, but nothing of the parent's network. */
	request_refuse(r, refusals[result], NULL, now);
}
