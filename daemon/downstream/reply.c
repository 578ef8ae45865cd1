/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"

#include "credentials_health.h"
#include "log.h"
#include "reply_verdict.h"

#include <stdio.h>

/* For others than rejected credentials: IMDS answers within 2 s or not. */
#define OTHERS_TIME (3 * USEC_PER_SEC)

/* ---- relaying ---- */

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

/* Its status, the allowed headers, its body. */
static void relay(struct request *r, const struct reply_verdict *v, struct instant now)
{
	const struct http_reply *reply = &r->call.reply;
	bool close = request_closes(r);

	if (r->client) {
		if (write_head(reply, close, v->body_n, &r->answer) < 0) {
			r->answer.n = 0;
			request_refuse(r, REFUSAL_INTERNAL, NULL, now);
			return;
		}
		r->record.status = reply->status;
		if (!r->record.reason)
			r->record.reason = REASON_ALLOWED;
		r->record.event = EVENT_REQUEST;
	}
	request_answer(r, (struct slice){reply->body.p, v->body_n}, close, now);
}

/* ---- what blames us ---- */

static struct credentials_health *health_of(const struct request *r)
{
	return r->generation->health[r->endpoint];
}

/* Of a secret that came back the enclave is told the row's sentence only. */
static void refuse(struct request *r, const struct reply_verdict *v, struct instant now)
{
	bool tell = v->detail[0] && v->refusal != REFUSAL_REPLY_LEAKS;

	if (v->detail[0])
		snprintf(r->record.detail, sizeof(r->record.detail), "%s", v->detail);
	request_refuse(r, v->refusal, tell ? v->detail : NULL, now);
}

static bool may_sign_again(const struct request *r)
{
	return !r->signed_again && !r->call.final;
}

static void sign_again(struct request *r)
{
	r->signed_again = true;
	request_go(r, STEP_SIGN);
}

/* Our clock was wrong, which is known now. It says nothing of the credentials. */
static void take_wrong_clock(struct request *r, const struct reply_verdict *v,
			     struct instant now)
{
	if (may_sign_again(r))
		sign_again(r);
	else
		refuse(r, v, now);
}

/* Whether others than the rejected credentials are here, or may come in time. Only the first
 * rejection of some credentials makes wait, and what is rejected until that is over waits
 * along; later requests are told at once. */
static bool may_get_others(struct request *r, bool told, struct instant now)
{
	if (r->context->credentials != r->credentials)
		return true;
	r->others_due = credentials_health_wait_end(health_of(r), r->credentials,
						    now.monotonic + OTHERS_TIME);
	return now.monotonic < r->others_due && told;
}

static void take_blame(struct request *r, const struct reply_verdict *v, struct instant now)
{
	bool others = v->blame == KMS_BLAME_CREDENTIALS;
	bool told = r->context->credentials == r->credentials &&
		    credentials_health_rejection(health_of(r), r->credentials, v->type, others,
						 r->context->control);

	if (!others || !may_sign_again(r) || !may_get_others(r, told, now)) {
		refuse(r, v, now);
		return;
	}
	r->rejected = r->credentials->serial;
	sign_again(r);
}

/* ---- judging ---- */

/* The journal is no place for the session token either, which an error may echo. */
static void note_request_id(struct request *r, struct slice token)
{
	const struct http_reply *reply = &r->call.reply;
	struct slice id = reply->headers[REPLY_REQUEST_ID];

	if (!id.p || (reply->status >= 300 && kms_error_tells(id, token)))
		return;
	audit_copy(r->record.aws_request_id, sizeof(r->record.aws_request_id), id);
}

static void learn(struct request *r, struct instant now)
{
	const struct http_reply *reply = &r->call.reply;
	const struct skew_sample sample = {
		.sent = r->sent_wall,
		.received = now.wall,
		.date = reply->headers[REPLY_DATE],
		.has_age = reply->has_age,
	};

	skew_learn(request_skew(r), &sample);
	r->record.kms_status = reply->status;
}

/* What a member does that isn't in the table may be to ask for a secret. */
static bool must_check(const struct request *r)
{
	const struct rule *rule = r->verdict.rule;

	return !rule->plaintext_allow &&
	       ((r->action->flags & KMS_SECRET_REPLY) || rule->n_extra_members > 0);
}

/* That credentials are rejected is said once, by an error of its own: what KMS rejects for that
 * reason afterwards is no news. */
static void note_error(struct request *r, const struct reply_verdict *v)
{
	bool known = v->is == REPLY_BLAMES_US &&
		     atomic_load_explicit(&health_of(r)->rejected, memory_order_relaxed) ==
			     r->credentials->serial;

	if (!v->error[0])
		return;
	snprintf(r->record.kms_error, sizeof(r->record.kms_error), "%s", v->error);
	r->record.priority = known ? LOG_INFO : LOG_WARNING;
}

static void take_whole(struct request *r, struct instant now)
{
	const struct credentials *credentials = r->credentials;
	const struct reply_case about = {
		.action = r->action,
		.checked = must_check(r),
		.token = credentials->session_token ? slice_from(credentials->session_token)
						    : (struct slice){0},
		.skew = request_skew(r),
		.correction = r->correction,
	};
	_uninitialized_ struct reply_verdict v;

	learn(r, now);
	note_request_id(r, about.token);
	reply_judge(&about, &r->call.reply, &r->context->doc, &v);
	note_error(r, &v);
	if (v.accepted)
		credentials_health_success(health_of(r), credentials, r->context->control);
	switch (v.is) {
	case REPLY_IS_RELAYED:
		relay(r, &v, now);
		return;
	case REPLY_IS_WRONG_CLOCK:
		take_wrong_clock(r, &v, now);
		return;
	case REPLY_BLAMES_US:
		take_blame(r, &v, now);
		return;
	case REPLY_IS_REFUSED:
		refuse(r, &v, now);
		return;
	}
}

void reply_take(struct request *r, struct instant now)
{
	static const enum refusal refusals[] = {
		[UPSTREAM_NO_CONNECTION] = REFUSAL_NO_UPSTREAM,
		[UPSTREAM_NO_PROXY] = REFUSAL_NO_PROXY,
		[UPSTREAM_PROXY_REFUSED] = REFUSAL_PROXY_REFUSED,
		[UPSTREAM_PROXY_BROKEN] = REFUSAL_PROXY_BROKEN,
		[UPSTREAM_QUEUE_TIMEOUT] = REFUSAL_QUEUE_TIMEOUT,
		[UPSTREAM_NOT_SENT] = REFUSAL_INTERNAL,
		[UPSTREAM_LOST] = REFUSAL_UPSTREAM_LOST,
		[UPSTREAM_TIMEOUT] = REFUSAL_UPSTREAM_TIMEOUT,
		[UPSTREAM_MALFORMED] = REFUSAL_UPSTREAM_MALFORMED,
		[UPSTREAM_NO_MEMORY] = REFUSAL_MEMORY,
	};

	if (r->result == UPSTREAM_REPLY)
		take_whole(r, now);
	else if (r->result == UPSTREAM_NOT_SENT && r->gone)
		r->client->ops->lost(r->client, r->gone, now);
	else /* The enclave is told what happened, but nothing of the parent's network. */
		request_refuse(r, r->refusal ?: refusals[r->result], NULL, now);
}
