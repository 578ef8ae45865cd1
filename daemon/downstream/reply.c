/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"

#include "connection.h"
#include "credentials_health.h"
#include "json.h"
#include "kms.h"
#include "kms_error.h"
#include "log.h"
#include "request.h"
#include "skew.h"
#include "worker.h"

#include <stdio.h>

#define PARK_TIME (3 * USEC_PER_SEC) /* for new credentials: IMDS answers within 2 s or not */

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

static struct credentials_health *health_of(const struct request *r)
{
	return r->generation->health[r->endpoint];
}

/* A success that blames us is a contradiction; whatever it is, it isn't for the enclave. */
static bool blames_us(struct request *r)
{
	const struct http_reply *reply = &r->call.reply;
	const struct kms_error error = {.header = reply->headers[REPLY_ERROR_TYPE]};
	const char *type;

	if (!error.header.p || kms_error_blame(&error, &type) == KMS_BLAME_REQUEST)
		return false;
	snprintf(r->record.detail, sizeof(r->record.detail),
		 "the endpoint answered %d with the error type %s", reply->status, type);
	return true;
}

static void take_success(struct request *r, usec_t now)
{
	struct buf *body = &r->call.reply.body;
	size_t n = body->n;

	if (blames_us(r)) {
		request_refuse(r, REFUSAL_UPSTREAM_MALFORMED, r->record.detail, now);
		return;
	}
	credentials_health_success(health_of(r), r->credentials, r->worker->env.control);
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

static bool clock_explains(const struct request *r, const struct kms_error *error)
{
	struct kms_error_place at = {0};
	struct slice type;

	while (kms_error_next(error, &at, &type))
		if (skew_explains(request_skew(r), r->correction, type))
			return true;
	return false;
}

/* Whether the first `n` bytes of the body, or a header that would be relayed, hold the session
 * token. An error answer may echo what was signed, and no list of types can tell us for sure
 * which ones do. Only errors are looked through: in no other answer does KMS echo anything, and
 * they are the many. The access key id is no secret, and an enclave that knows it could have
 * itself refused by naming it. */
static bool tells_token(const struct request *r, size_t n)
{
	const struct http_reply *reply = &r->call.reply;
	struct slice token = {0};

	if (r->credentials->session_token)
		token = slice_from(r->credentials->session_token);
	for (unsigned i = 0; i < _REPLY_HEADER_MAX; i++)
		if (kms_error_tells(reply->headers[i], token))
			return true;
	return kms_error_tells((struct slice){reply->body.p, n}, token);
}

static void refuse_non_error(struct request *r, usec_t now)
{
	int status = r->call.reply.status;

	snprintf(r->record.detail, sizeof(r->record.detail),
		 "the endpoint answered %d without a KMS error", status);
	request_refuse(r, status >= 500 ? REFUSAL_NO_UPSTREAM : REFUSAL_UPSTREAM_MALFORMED,
		       r->record.detail, now);
}

static bool may_sign_again(const struct request *r)
{
	return !r->signed_again && !r->call.final;
}

/* The credentials are rejected: true if the request waits for others, or was sent with those
 * that are here by now. Only the first rejection of some credentials makes wait, and what is
 * rejected until that is over waits along; later requests are told at once. */
static bool try_others(struct request *r, bool told, usec_t now)
{
	usec_t end;

	if (!may_sign_again(r))
		return false;
	r->signed_again = true;
	if (r->worker->credentials != r->credentials) {
		request_submit(r, now);
		return true;
	}
	end = credentials_health_wait_end(health_of(r), r->credentials, now + PARK_TIME);
	if (!told || now >= end)
		return false;
	request_park(r, end);
	return true;
}

static void refuse_blamed(struct request *r, struct slice type, usec_t now)
{
	char text[128];

	snprintf(r->record.detail, sizeof(r->record.detail), "AWS KMS answered %s",
		 slice_escape(type, text, sizeof(text)));
	request_refuse(r, REFUSAL_BAD_CREDENTIALS, r->record.detail, now);
}

/* Our clock was wrong, which is known now. It says nothing of the credentials. */
static void take_wrong_clock(struct request *r, const struct kms_error *error, usec_t now)
{
	if (!may_sign_again(r)) {
		refuse_blamed(r, kms_error_type(error), now);
		return;
	}
	r->signed_again = true;
	request_submit(r, now);
}

/* KMS doesn't take what we signed. Its answer may hold the session token (KMS echoes what was
 * signed), and is never relayed. */
static void take_blame(struct request *r, enum kms_blame blame, const char *type, usec_t now)
{
	bool others = blame == KMS_BLAME_CREDENTIALS;
	bool told = r->worker->credentials == r->credentials &&
		    credentials_health_rejection(health_of(r), r->credentials, type, others,
						 r->worker->env.control);

	if (others && try_others(r, told, now))
		return;
	refuse_blamed(r, slice_from(type), now);
}

/* A status that isn't 2xx. Its body must be a KMS error. */
static void take_error(struct request *r, usec_t now)
{
	struct http_reply *reply = &r->call.reply;
	struct buf *body = &reply->body;
	struct kms_error error;
	const char *type = NULL;
	enum kms_blame blame;
	size_t n = 0, ignored;
	bool is_error = kms_error_read(body->p, body->n, reply->headers[REPLY_ERROR_TYPE],
				       &r->worker->doc, &error, &n);

	if (reply->status < 400) {
		refuse_non_error(r, now);
		return;
	}
	if (is_error && must_be_sealed(r) &&
	    kms_check_reply((unsigned)r->action, body->p, n, &r->worker->doc, &ignored) ==
		    KMS_REPLY_LEAKS) {
		request_refuse(r, REFUSAL_REPLY_LEAKS, NULL, now);
		return;
	}
	if (clock_explains(r, &error)) {
		take_wrong_clock(r, &error, now);
		return;
	}
	blame = kms_error_blame(&error, &type);
	if (blame != KMS_BLAME_REQUEST) {
		take_blame(r, blame, type, now);
	} else if (!is_error) {
		refuse_non_error(r, now);
	} else if (tells_token(r, n)) {
		audit_copy(r->record.detail, sizeof(r->record.detail),
			   SLICE("an error of the endpoint holds the proxy's session token"));
		request_refuse(r, REFUSAL_REPLY_LEAKS, NULL, now);
	} else {
		/* It looked at the request, so it took the signature; a 5xx may come from
		 * before.
		 */
		if (reply->status < 500)
			credentials_health_success(health_of(r), r->credentials,
						   r->worker->env.control);
		audit_copy(r->record.detail, sizeof(r->record.detail), kms_error_type(&error));
		relay(r, n, now);
	}
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
	request_refuse(r, r->refusal ?: refusals[result], NULL, now);
}
