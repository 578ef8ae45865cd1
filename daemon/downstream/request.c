/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include "connection.h"
#include "log.h"
#include "reply.h"
#include "sigv4.h"
#include "skew.h"
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define CONTENT_TYPE "application/x-amz-json-1.1"
#define TARGET_PREFIX "TrentService."
#define USER_AGENT "kms-vsock-proxy/" PROJECT_VERSION

#define HEAD_ROOM KIB           /* of an outgoing head without its host and session token */
#define REPLY_RESERVE (4 * KIB) /* of an answer, taken from the share of memory beforehand */

static const struct upstream_call_ops call_ops;

static struct enclave_config *config_of(const struct request *r)
{
	return &r->generation->config->enclaves[r->enclave_index];
}

const struct endpoint_config *request_endpoint(const struct request *r)
{
	return &r->generation->config->endpoints[r->endpoint];
}

struct skew *request_skew(const struct request *r)
{
	return &r->generation->skews[r->endpoint];
}

/* ---- step 4: limit ---- */

static struct request *request_alloc(struct connection *c, usec_t now)
{
	struct request *r = malloc(sizeof(*r));

	if (!r)
		return NULL;
	memset(r, 0, offsetof(struct request, host));
	r->host[0] = '\0';
	r->connection = c;
	r->worker = c->worker;
	r->generation = generation_ref(c->generation);
	r->enclave = c->identity.enclave;
	r->enclave_index = c->enclave;
	r->endpoint = -1;
	r->action = -1;
	r->started = now;
	r->call.ops = &call_ops;
	r->call.enclave = c->enclave;
	r->answer = BUF_INIT(LIMIT_REPLY_HEAD + 4 * KIB);

	audit_record_init(&r->record, EVENT_REFUSED);
	audit_copy(r->record.enclave, sizeof(r->record.enclave), slice_from(r->enclave->name));
	r->record.has_cid = c->identity.has_cid;
	r->record.cid = c->identity.cid;
	request_id_make(&r->worker->request_ids, r->record.request_id);
	enclave_count(r->enclave, COUNTER_REQUESTS, 1);
	return r;
}

static enum refusal take_rate(struct request *r, usec_t now)
{
	usec_t wait = 0;

	if (rate_limit_take(&r->enclave->requests, config_of(r)->limits.requests, now, &wait))
		return REFUSAL_NONE;
	snprintf(r->record.detail, sizeof(r->record.detail),
		 "limits.requests of enclave %s is used up; the next request may come in %lld "
		 "ms",
		 r->enclave->name, (long long)(wait / USEC_PER_MSEC + 1));
	return REFUSAL_RATE;
}

static enum refusal take_in_flight(struct request *r)
{
	unsigned max = config_of(r)->limits.in_flight;

	r->in_flight = gauge_take(&r->enclave->in_flight, 1, max);
	if (r->in_flight)
		return REFUSAL_NONE;
	snprintf(r->record.detail, sizeof(r->record.detail),
		 "limits.in_flight (%u) of enclave %s is reached", max, r->enclave->name);
	return REFUSAL_IN_FLIGHT;
}

void request_leave(struct request *r)
{
	if (r->in_flight)
		gauge_return(&r->enclave->in_flight, 1);
	r->in_flight = false;
}

/* Charges `n` bytes more to the enclave's share. */
static bool charge(struct request *r, size_t n)
{
	if (!gauge_take(&r->enclave->memory, n, r->generation->memory_share))
		return false;
	r->charged += n;
	return true;
}

/* Room for an outgoing head. */
static size_t head_room(const struct request *r, const struct credentials *credentials)
{
	size_t n = HEAD_ROOM;

	if (r->endpoint >= 0)
		n += strlen(request_endpoint(r)->host_header);
	if (credentials && credentials->session_token)
		n += strlen(credentials->session_token);
	return n;
}

static enum refusal take_memory(struct request *r)
{
	size_t n;

	r->body_at = head_room(r, r->worker->credentials);
	n = r->body_at + r->content_length;
	r->out = BUF_INIT(n);
	if (charge(r, n + REPLY_RESERVE) && buf_reserve_exact(&r->out, n) == 0) {
		r->out.n = r->body_at;
		return REFUSAL_NONE;
	}
	snprintf(r->record.detail, sizeof(r->record.detail),
		 "enclave %s has used its share of `memory` (%zu bytes)", r->enclave->name,
		 r->generation->memory_share);
	return REFUSAL_MEMORY;
}

struct request *request_new(struct connection *c, const struct http_head *head, usec_t now)
{
	struct request *r = request_alloc(c, now);

	if (!r)
		return NULL;
	r->content_length = head->content_length;
	r->record.bytes_in = (int64_t)(head->length + head->content_length);
	r->action = kms_action_index(head->action);
	audit_copy(r->record.action, sizeof(r->record.action), head->action);
	r->endpoint = config_pick_endpoint(r->generation->config, config_of(r), head->host);
	slice_escape(head->host, r->host, sizeof(r->host));
	r->refusal = take_rate(r, now) ?: take_in_flight(r) ?: take_memory(r);
	return r;
}

struct request *request_new_bad(struct connection *c, usec_t now)
{
	struct request *r = request_alloc(c, now);

	if (r)
		(void)!rate_limit_take(&r->enclave->requests, config_of(r)->limits.requests,
				       now, NULL);
	return r;
}

/* ---- step 5: the body ---- */

struct slice request_room(struct request *r)
{
	size_t left = r->content_length - r->body_n;

	if (r->refusal) /* dropped: over and over into the scratch */
		return (struct slice){r->worker->scratch,
				      MIN(left, sizeof(r->worker->scratch))};
	return (struct slice){r->out.p + r->body_at + r->body_n, left};
}

/* ---- step 6: understand ---- */

/* Two with a comma between; a grantee's second one is there by mistake only. */
static void note_names(char *field, size_t size, const struct slice *names)
{
	size_t n;

	if (names[0].p)
		audit_copy(field, size, names[0]);
	n = strlen(field);
	if (names[1].p && n + 16 < size) {
		if (n)
			field[n++] = ',';
		audit_copy(field + n, size - n, names[1]);
	}
}

static void note_keys(struct request *r, const struct kms_request *kms)
{
	note_names(r->record.key, sizeof(r->record.key), kms->keys);
	note_names(r->record.grantee, sizeof(r->record.grantee), kms->grantees);
	if (kms->has_policy)
		audit_copy(r->record.grantee, sizeof(r->record.grantee), SLICE("policy"));
}

static enum refusal understand(struct request *r, struct kms_request *ret_kms)
{
	struct error error = {0};
	size_t n;

	if (r->action < 0) {
		snprintf(r->record.detail, sizeof(r->record.detail),
			 "X-Amz-Target names no action of AWS KMS: %s", r->record.action);
		return REFUSAL_UNKNOWN_ACTION;
	}
	if (json_read(r->out.p + r->body_at, r->body_n, &r->worker->doc, &n, &error) ==
		    JSON_BAD ||
	    kms_read((unsigned)r->action, &r->worker->doc, ret_kms, &error) == KMS_BAD) {
		snprintf(r->record.detail, sizeof(r->record.detail), "%.*s", LIMIT_LOG_VALUE,
			 error.text);
		return REFUSAL_JSON;
	}
	r->body_n = n;
	note_keys(r, ret_kms);
	r->record.recipient = ret_kms->recipient == KMS_RECIPIENT_PRESENT ? "present" : "none";
	return REFUSAL_NONE;
}

/* ---- step 7: decide ---- */

static enum refusal refused_by_policy(struct request *r, const struct kms_request *kms)
{
	char why[512];

	r->record.reason = policy_stage_name(r->verdict.stage);
	snprintf(r->record.detail, sizeof(r->record.detail), "%.*s", LIMIT_LOG_VALUE,
		 verdict_explain(&r->verdict, kms, why, sizeof(why)));
	return REFUSAL_POLICY;
}

static enum refusal decide(struct request *r, const struct kms_request *kms)
{
	struct policy_endpoint endpoint;

	if (r->endpoint < 0) {
		snprintf(r->record.detail, sizeof(r->record.detail),
			 "Host %.128s is no endpoint of enclave %s", r->host, r->enclave->name);
		return REFUSAL_HOST;
	}
	endpoint = (struct policy_endpoint){(unsigned)r->endpoint, request_endpoint(r)->region};
	r->verdict = policy_decide(&config_of(r)->policy, endpoint, kms);
	if (r->verdict.rule)
		audit_copy(r->record.rule, sizeof(r->record.rule),
			   slice_from(r->verdict.rule->name));
	if (r->verdict.stage != POLICY_ALLOWED)
		return refused_by_policy(r, kms);
	r->record.allowed = true;
	return REFUSAL_NONE;
}

void request_park(struct request *r, usec_t deadline)
{
	r->park_deadline = deadline;
	r->is_parked = true;
	LIST_INSERT_HEAD(&r->worker->parked, r, parked);
}

static void leave_parked(struct request *r)
{
	if (r->is_parked)
		LIST_REMOVE(r, parked);
	r->is_parked = false;
}

void request_unpark(struct request *r, usec_t now)
{
	leave_parked(r);
	if (!r->worker->credentials)
		request_refuse(r, REFUSAL_NO_CREDENTIALS, NULL, now);
	else if (r->worker->credentials == r->credentials)
		request_refuse(
			r, REFUSAL_BAD_CREDENTIALS,
			"AWS KMS rejected the proxy's credentials, and there are no new ones",
			now);
	else
		request_submit(r, now);
}

void request_submit(struct request *r, usec_t now)
{
	struct upstream *u;

	if (!r->worker->credentials) {
		/* The first ones are on their way when the daemon has just started. */
		request_park(r, r->worker->credentials_due);
		if (now >= r->worker->credentials_due)
			request_unpark(r, now);
		return;
	}
	u = worker_upstream(r->worker, r->generation, (unsigned)r->endpoint);
	if (!u) {
		request_refuse(r, REFUSAL_INTERNAL, NULL, now);
		return;
	}
	r->call.repeatable = kms_action((unsigned)r->action)->flags & KMS_REPEATABLE;
	upstream_submit(u, &r->call, now);
}

void request_run(struct request *r, usec_t now)
{
	struct kms_request kms;
	enum refusal refusal = r->refusal ?: understand(r, &kms) ?: decide(r, &kms);

	r->decided = now;
	if (r->endpoint >= 0)
		audit_copy(r->record.endpoint, sizeof(r->record.endpoint),
			   slice_from(request_endpoint(r)->name));
	if (refusal)
		request_refuse(r, refusal, r->record.detail[0] ? r->record.detail : NULL, now);
	else
		request_submit(r, now);
}

/* ---- step 8: sign ---- */

/* Puts `s` before `*at`. The head is written backwards, so that it ends where the body begins.
 */
static void prepend(char **at, struct slice s)
{
	*at -= s.n;
	if (s.n)
		memcpy(*at, s.p, s.n);
}

/* The body moves back to make room for a longer head (the token of new credentials). */
static int make_room(struct request *r, size_t room)
{
	struct buf grown = BUF_INIT(room + r->body_n);

	if (room <= r->body_at)
		return 0;
	if (!charge(r, room - r->body_at) || buf_reserve_exact(&grown, room + r->body_n) < 0)
		return -ENOMEM;
	memcpy(grown.p + room, r->out.p + r->body_at, r->body_n);
	buf_done(&r->out);
	r->out = grown;
	r->body_at = room;
	return 0;
}

/* Builds the outgoing head from scratch, right before the body; no received byte is in it. */
static struct slice write_head(struct request *r, const struct sigv4_signature *signature)
{
	const char *action = kms_action((unsigned)r->action)->name;
	char *end = r->out.p + r->body_at, *at = end;
	char length[SLICE_NUMBER_SIZE];

	prepend(&at, SLICE("\r\n\r\n"));
	prepend(&at, slice_from_number(r->body_n, length));
	prepend(&at, SLICE("\r\nUser-Agent: " USER_AGENT "\r\nContent-Length: "));
	prepend(&at, (struct slice){signature->authorization, signature->authorization_n});
	prepend(&at, SLICE("\r\nAuthorization: "));
	if (r->credentials->session_token) {
		prepend(&at, slice_from(r->credentials->session_token));
		prepend(&at, SLICE("\r\nX-Amz-Security-Token: "));
	}
	prepend(&at, slice_from(signature->amz_date));
	prepend(&at, SLICE("\r\nX-Amz-Date: "));
	prepend(&at, slice_from(action));
	prepend(&at,
		SLICE("\r\nContent-Type: " CONTENT_TYPE "\r\nX-Amz-Target: " TARGET_PREFIX));
	prepend(&at, slice_from(request_endpoint(r)->host_header));
	prepend(&at, SLICE("POST / HTTP/1.1\r\nHost: "));
	return (struct slice){at, (size_t)(end - at) + r->body_n};
}

/* Signs at the moment of sending, with the credentials and the clock of that moment. */
static int on_prepare(struct upstream_call *call, usec_t now, struct slice *ret_bytes)
{
	struct request *r = (struct request *)call;
	const struct endpoint_config *endpoint = request_endpoint(r);
	char target[sizeof(TARGET_PREFIX) + LIMIT_NAME] = TARGET_PREFIX;
	struct slice action = slice_from(kms_action((unsigned)r->action)->name);
	struct sigv4_request request = {
		.host = slice_from(endpoint->host_header),
		.region = slice_from(endpoint->region),
		.service = SLICE("kms"),
		.content_type = SLICE(CONTENT_TYPE),
		.target = {target, strlen(TARGET_PREFIX) + action.n},
		.body = {r->out.p + r->body_at, r->body_n},
	};
	_uninitialized_ struct sigv4_signature signature;
	int e;

	/* It has waited, perhaps for longer than its client. */
	if (now > r->decided && connection_peer_is_gone(r->connection)) {
		r->gone = "client-gone";
		return -EPIPE;
	}
	memcpy(target + strlen(TARGET_PREFIX), action.p, action.n);
	credentials_unref(r->credentials);
	r->credentials = credentials_ref(r->worker->credentials);
	e = make_room(r, head_room(r, r->credentials));
	if (e < 0) {
		r->refusal = REFUSAL_MEMORY;
		return e;
	}
	request.body.p = r->out.p + r->body_at;

	r->correction = skew_correction(request_skew(r));
	r->sent_wall = clock_wall();
	e = sigv4_sign(r->worker->signer, r->credentials, &request,
		       r->sent_wall + r->correction, &signature);
	if (e < 0)
		return e;
	*ret_bytes = write_head(r, &signature);
	r->record.kms_status = 0; /* what was said of an earlier try */
	r->record.aws_request_id[0] = '\0';
	return 0;
}

/* ---- step 9: send ---- */

/* What is allocated counts, not what has come: a whole Content-Length is reserved at once. */
static bool on_grow(struct upstream_call *call)
{
	struct request *r = (struct request *)call;
	size_t held = call->reply.head.cap + call->reply.body.cap;
	size_t reserved = r->charged - r->out.max;

	return held <= reserved || charge(r, held - reserved);
}

static const struct upstream_call_ops call_ops = {on_prepare, on_grow, reply_take};

void request_refuse(struct request *r, enum refusal refusal, const char *message, usec_t now)
{
	const struct refusal_info *info = refusal_info(refusal);
	struct connection *c = r->connection;
	usec_t wall = clock_wall() + (r->endpoint < 0 ? 0 : skew_correction(request_skew(r)));
	bool close;

	if (!r->record.reason)
		r->record.reason = info->reason;
	if (!r->record.detail[0])
		snprintf(r->record.detail, sizeof(r->record.detail), "%s",
			 message ?: info->message);
	r->record.event = info->critical ? EVENT_LEAK : EVENT_REFUSED;
	r->refusal = refusal;
	if (!c) {
		request_end(r, info->critical ? NULL : r->gone, 0, now);
		return;
	}
	r->record.status = info->status;
	close = info->close || c->close || c->retired || r->worker->draining;
	if (refusal_write(refusal, message, r->record.request_id, wall, close, &r->answer) <
	    0) {
		connection_close(c, "no-memory");
		return;
	}
	connection_answer(c, buf_slice(&r->answer), (struct slice){0}, close, now);
}

/* ---- step 11: record ---- */

static enum counter counter_of(const struct request *r)
{
	if (r->record.event == EVENT_REQUEST)
		return COUNTER_ALLOWED;
	if (r->refusal == REFUSAL_RATE || r->refusal == REFUSAL_IN_FLIGHT ||
	    r->refusal == REFUSAL_MEMORY)
		return COUNTER_THROTTLED;
	return r->record.allowed ? COUNTER_FAILED : COUNTER_REFUSED;
}

static void record(struct request *r, usec_t now)
{
	enclave_count(r->enclave, counter_of(r), 1);
	if (r->record.bytes_in > 0)
		enclave_count(r->enclave, COUNTER_BYTES_IN, (uint64_t)r->record.bytes_in);
	enclave_count(r->enclave, COUNTER_BYTES_OUT, (uint64_t)r->record.bytes_out);

	if (r->record.event == EVENT_REQUEST && r->generation->config->audit == AUDIT_REFUSALS)
		return;
	if (r->record.event == EVENT_REFUSED && !flood_admit(&r->enclave->flood, now))
		return;
	audit_submit(r->worker->env.audit, &r->record);
}

/* What KMS may have acted upon is no mere refusal: its record can't be left out. */
static enum event_kind event_of(const struct request *r, bool cut_off)
{
	if (r->record.event == EVENT_LEAK || (r->record.event == EVENT_REQUEST && !cut_off))
		return r->record.event;
	return r->call.exposed ? EVENT_UNANSWERED : EVENT_REFUSED;
}

void request_withdraw(struct request *r)
{
	upstream_cancel(&r->call);
	leave_parked(r);
}

void request_end(struct request *r, const char *why, size_t written, usec_t now)
{
	request_withdraw(r);
	if (!r->connection)
		LIST_REMOVE(r, abandoned);
	if (r->call.sent && r->record.upstream < 0)
		r->record.upstream = now - r->call.sent;
	if (r->call.exposed && !r->record.kms_status)
		r->record.kms_status = KMS_STATUS_UNKNOWN;
	r->record.duration = now - r->started;
	r->record.bytes_out = (int64_t)written;
	r->record.event = event_of(r, why != NULL);
	if (why)
		r->record.reason = why;
	record(r, now);

	request_leave(r);
	if (r->charged)
		gauge_return(&r->enclave->memory, r->charged);
	buf_done(&r->out);
	buf_done(&r->answer);
	http_reply_done(&r->call.reply);
	credentials_unref(r->credentials);
	generation_unref(r->generation);
	free(r);
}

void request_lose_client(struct request *r, const char *why, size_t written, usec_t now)
{
	if (!upstream_abandon(&r->call)) {
		request_end(r, why, written, now);
		return;
	}
	request_leave(r);
	r->connection = NULL;
	r->gone = why;
	LIST_INSERT_HEAD(&r->worker->abandoned, r, abandoned);
}

/* ---- a reload ---- */

/* Whose it is; its connection may be gone. */
static struct identity identity_of(const struct request *r)
{
	return (struct identity){r->record.has_cid, r->record.cid, r->enclave};
}

enum refusal request_renew(struct request *r, struct generation *generation)
{
	struct identity identity = identity_of(r);
	int enclave = generation_find(generation, &identity);

	if (r->refusal)
		return REFUSAL_NONE; /* for that it needs no rules */
	if (enclave < 0)
		return REFUSAL_RELOADED;
	generation_ref(generation);
	generation_unref(r->generation);
	r->generation = generation;
	r->enclave_index = r->call.enclave = (unsigned)enclave;
	r->endpoint =
		config_pick_endpoint(generation->config, config_of(r), slice_from(r->host));
	return r->content_length > config_of(r)->limits.body ? REFUSAL_BODY_TOO_LARGE
							     : REFUSAL_NONE;
}

bool request_revoke(struct request *r, const struct generation *generation)
{
	struct identity identity = identity_of(r);

	if (generation_same_trust(r->generation, generation, &identity) ||
	    upstream_revoke(&r->call))
		return false;
	request_withdraw(r);
	return true;
}
