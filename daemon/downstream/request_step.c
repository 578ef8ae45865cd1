/* SPDX-License-Identifier: Apache-2.0 */
#include "request_step.h"

#include "credentials_health.h"
#include "outgoing_head.h"
#include "reply.h"
#include "skew.h"
#include "upstreams.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REPLY_RESERVE (4 * KIB) /* of an answer, taken from the share of memory beforehand */

static const struct upstream_call_ops call_ops;

/* ---- from step to step ---- */

static void request_advance(struct request *r, struct instant now)
{
	enum request_step step = r->step;

	if (r->advancing)
		return; /* within a step, whose caller sees where it led */
	r->advancing = true;
	while (request_step_info(step)->run) {
		request_step_info(step)->run(r, now);
		if (r->step == step)
			break; /* it waits */
		step = r->step;
	}
	if (step != STEP_ENDED)
		r->advancing = false;
}

/* ---- limit ---- */

static enum refusal take_rate(struct request *r, struct instant now)
{
	struct enclave *e = r->identity.enclave;
	usec_t wait = 0;

	if (enclave_take_token(e, request_config(r), now.monotonic, &wait))
		return REFUSAL_NONE;
	r->retry_after = wait;
	snprintf(r->record.detail, sizeof(r->record.detail),
		 "limits.requests of enclave %s is used up; the next request may come in %lld "
		 "ms",
		 e->named.name, (long long)(wait / USEC_PER_MSEC + 1));
	return REFUSAL_RATE;
}

/* False: it waits in line, or has done so for as long as it may. */
static bool take_place(struct request *r, struct instant now)
{
	unsigned max = request_config(r)->limits.in_flight;

	r->in_flight =
		r->in_flight || place_take(r->context, r->identity.enclave, &r->waiter, max);
	if (r->in_flight || r->waits_since)
		return r->in_flight;
	r->waits_since = now.monotonic;
	enclave_count(r->identity.enclave, COUNTER_WAITED, 1);
	return false;
}

static enum refusal refuse_place(struct request *r)
{
	place_leave(r->context, r->identity.enclave, &r->waiter);
	snprintf(r->record.detail, sizeof(r->record.detail),
		 "limits.in_flight (%u) of enclave %s was reached for %lld s",
		 request_config(r)->limits.in_flight, r->identity.enclave->named.name,
		 (long long)(LIMIT_PLACE_TIME / USEC_PER_SEC));
	return REFUSAL_IN_FLIGHT;
}

/* Room for the outgoing head with these credentials. */
static size_t head_room(const struct request *r, const struct credentials *credentials)
{
	const char *host = r->endpoint < 0 ? "" : request_endpoint(r)->host_header;

	return outgoing_head_room(host, credentials);
}

/* Of a key that a rule may add to this body. */
static size_t added_room(const struct request *r)
{
	bool may_lack = r->action && (r->action->flags & KMS_KEY_IMPLIED);

	return may_lack ? request_config(r)->policy.add_room : 0;
}

static enum refusal take_memory(struct request *r)
{
	size_t n;

	r->body_at = head_room(r, r->context->credentials);
	n = r->body_at + r->content_length + added_room(r);
	r->out = BUF_INIT(n);
	if (request_charge(r, n + REPLY_RESERVE) && buf_reserve_exact(&r->out, n) == 0) {
		r->out.n = r->body_at;
		return REFUSAL_NONE;
	}
	snprintf(r->record.detail, sizeof(r->record.detail),
		 "enclave %s has used its share of `memory` (%zu bytes)",
		 r->identity.enclave->named.name, r->generation->memory_share);
	return REFUSAL_MEMORY;
}

/* The token comes first: what the rate doesn't let pass is told so at once, and takes no place
 * in the line from what it does. */
static void limit(struct request *r, struct instant now)
{
	usec_t deadline = r->started + LIMIT_PLACE_TIME;
	bool has_waited = r->waits_since != 0;

	r->refusal = has_waited ? REFUSAL_NONE : take_rate(r, now);
	if (!r->refusal && !take_place(r, now)) {
		if (now.monotonic < deadline) {
			request_wait(r, WAIT_PLACE, deadline);
			return;
		}
		r->refusal = refuse_place(r);
	}
	r->refusal = r->refusal ?: take_memory(r);
	request_go(r, STEP_BODY);
	if (!has_waited)
		return;
	request_note_wait(r, now);
	r->client->ops->admitted(r->client, now);
}

struct request *request_new(const struct request_origin *origin, const struct http_head *head,
			    struct instant now)
{
	struct request *r = request_alloc(origin, now);

	if (!r)
		return NULL;
	r->call.ops = &call_ops;
	r->content_length = head->content_length;
	r->record.bytes_in = (int64_t)(head->length + head->content_length);
	r->action = kms_action_named(head->action);
	audit_copy(r->record.action, sizeof(r->record.action), head->action);
	r->endpoint =
		config_pick_endpoint(r->generation->config, request_config(r), head->host);
	slice_escape(head->host, r->host, sizeof(r->host));
	request_advance(r, now);
	return r;
}

struct request *request_new_bad(const struct request_origin *origin, struct instant now)
{
	struct request *r = request_alloc(origin, now);

	if (r)
		(void)!enclave_take_token(r->identity.enclave, request_config(r), now.monotonic,
					  NULL);
	return r;
}

/* ---- body ---- */

struct slice request_room(struct request *r)
{
	size_t left = r->content_length - r->body_n;

	if (r->refusal) /* dropped: over and over into the scratch */
		return (struct slice){r->context->scratch, MIN(left, (size_t)CONTEXT_SCRATCH)};
	return (struct slice){r->out.p + r->body_at + r->body_n, left};
}

void request_run(struct request *r, struct instant now)
{
	r->decided = now.monotonic;
	request_go(r, STEP_UNDERSTAND);
	request_advance(r, now);
}

/* ---- understand ---- */

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

static void note_keys(struct request *r)
{
	note_names(r->record.key, sizeof(r->record.key), r->kms.keys);
	note_names(r->record.grantee, sizeof(r->record.grantee), r->kms.grantees);
	if (r->kms.has_policy)
		audit_copy(r->record.grantee, sizeof(r->record.grantee), SLICE("policy"));
}

static enum refusal read_body(struct request *r)
{
	struct json_doc *doc = &r->context->doc;
	const struct policy *policy = &request_config(r)->policy;
	struct error error = {0};
	size_t n;

	/* An extra one is looked for in the rules that decide. The record has it as it came:
	 * what was escaped or clipped has a byte that no action has. */
	if (!r->action)
		r->action = policy_action(policy, slice_from(r->record.action));
	if (!r->action) {
		snprintf(r->record.detail, sizeof(r->record.detail),
			 "X-Amz-Target names no action of AWS KMS: %s", r->record.action);
		return REFUSAL_UNKNOWN_ACTION;
	}
	if (json_read(r->out.p + r->body_at, r->body_n, doc, &n, &error) == JSON_BAD ||
	    kms_read(r->action, policy->extra_members, doc, &r->kms, &error) == KMS_BAD) {
		snprintf(r->record.detail, sizeof(r->record.detail), "%.*s", LIMIT_LOG_VALUE,
			 error.text);
		return REFUSAL_JSON;
	}
	r->body_n = n;
	note_keys(r);
	r->record.recipient = r->kms.recipient == KMS_RECIPIENT_PRESENT ? "present" : "none";
	return REFUSAL_NONE;
}

/* Refuses with what the record says of it. */
static void refuse(struct request *r, enum refusal refusal, struct instant now)
{
	request_refuse(r, refusal, r->record.detail[0] ? r->record.detail : NULL, now);
}

static void understand(struct request *r, struct instant now)
{
	enum refusal refusal;

	if (r->endpoint >= 0)
		audit_copy(r->record.endpoint, sizeof(r->record.endpoint),
			   slice_from(request_endpoint(r)->name));
	refusal = r->refusal ?: read_body(r);
	if (refusal)
		refuse(r, refusal, now);
	else
		request_go(r, STEP_DECIDE);
}

/* ---- decide ---- */

static void refuse_by_policy(struct request *r, struct instant now)
{
	char why[512];

	r->record.reason = policy_stage_reason(r->verdict.stage);
	snprintf(r->record.detail, sizeof(r->record.detail), "%.*s", LIMIT_LOG_VALUE,
		 verdict_explain(&r->verdict, &r->kms, why, sizeof(why)));
	refuse(r, REFUSAL_POLICY, now);
}

/* The body moves where the head needs more room before it (the token of new credentials), or it
 * needs more itself (a key that only the rules of a reload add). */
static int make_room(struct request *r, size_t head, size_t body)
{
	size_t had = r->out.cap - r->body_at;
	size_t more =
		(head > r->body_at ? head - r->body_at : 0) + (body > had ? body - had : 0);
	struct buf grown;

	if (more == 0)
		return 0;
	head = MAX(head, r->body_at);
	grown = BUF_INIT(head + body);
	if (!request_charge(r, more) || buf_reserve_exact(&grown, head + body) < 0)
		return -ENOMEM;
	memcpy(grown.p + head, r->out.p + r->body_at, r->body_n);
	buf_done(&r->out);
	r->out = grown;
	r->body_at = head;
	return 0;
}

/* Names the rule's key in the body, where the request leaves it to KMS. What was understood of
 * the body may point elsewhere afterwards. */
static int add_key(struct request *r)
{
	struct slice key = slice_from(r->verdict.added);

	r->kms.keys[0] = key;
	note_names(r->record.key, sizeof(r->record.key), r->kms.keys);
	if (make_room(r, r->body_at, r->body_n + kms_added_size(r->action, key)) < 0)
		return -ENOMEM;
	r->body_n = kms_add_key(r->action, key, r->out.p + r->body_at, r->body_n);
	r->record.key_added = true;
	return 0;
}

/* Which names would have done, as many as fit; of the first it is likely that it was meant. */
static void note_host(struct request *r)
{
	const struct enclave_config *enclave = request_config(r);
	const struct config *config = r->generation->config;
	char *detail = r->record.detail;
	size_t size = sizeof(r->record.detail), n;

	snprintf(detail, size, "Host %.128s is no endpoint of enclave %s", r->host,
		 r->identity.enclave->named.name);
	for (size_t i = 0; i < enclave->n_endpoints; i++) {
		const char *host = config->endpoints[enclave->endpoints[i]].host;

		n = strlen(detail);
		if (n + strlen("; it has  and 64 more") + strlen(host) >= size) {
			if (i > 0)
				snprintf(detail + n, size - n, " and %zu more",
					 enclave->n_endpoints - i);
			return;
		}
		snprintf(detail + n, size - n, "%s%s", i ? ", " : "; it has ", host);
	}
	n = strlen(detail);
	if (enclave->n_endpoints == 0)
		snprintf(detail + n, size - n, ", which has none");
}

static void decide(struct request *r, struct instant now)
{
	struct policy_endpoint endpoint;

	if (r->endpoint < 0) {
		note_host(r);
		refuse(r, REFUSAL_HOST, now);
		return;
	}
	endpoint = (struct policy_endpoint){(unsigned)r->endpoint, request_endpoint(r)->region};
	r->verdict = policy_decide(&request_config(r)->policy, endpoint, &r->kms);
	if (r->verdict.rule)
		audit_copy(r->record.rule, sizeof(r->record.rule),
			   slice_from(r->verdict.rule->name));
	if (r->verdict.stage != POLICY_ALLOWED) {
		refuse_by_policy(r, now);
		return;
	}
	r->record.allowed = true;
	if (r->verdict.added && add_key(r) < 0) {
		request_refuse(r, REFUSAL_MEMORY, NULL, now);
		return;
	}
#ifdef TEST_HOOKS
	request_go(r, STEP_TEST);
#else
	request_go(r, STEP_SIGN);
#endif
}

#ifdef TEST_HOOKS
void (*request_test_step)(struct request *r, struct instant now);

static void test_step(struct request *r, struct instant now)
{
	if (request_test_step)
		request_test_step(r, now);
	else
		request_go(r, STEP_SIGN);
}
#endif

/* ---- sign ---- */

/* The first credentials are on their way when the daemon has just started; others than rejected
 * ones, when the source was asked. */
static void await_credentials(struct request *r, struct instant now)
{
	const struct credentials *have = r->context->credentials;
	usec_t deadline;

	if (have && have->serial != r->rejected) {
		r->record.priority = -1; /* what becomes of another try is news */
		request_go(r, STEP_SEND);
		return;
	}
	deadline = have ? r->others_due : r->context->credentials_due;
	if (now.monotonic < deadline)
		request_wait(r, WAIT_CREDENTIALS, deadline);
	else if (have)
		request_refuse(
			r, REFUSAL_BAD_CREDENTIALS,
			"AWS KMS rejected the proxy's credentials, and there are no new ones",
			now);
	else
		request_refuse(r, REFUSAL_NO_CREDENTIALS, NULL, now);
}

/* Signs at the moment of sending, with the credentials and the clock of that moment. */
static int on_prepare(struct upstream_call *call, struct instant now, struct slice *ret_bytes)
{
	struct request *r = CONTAINER_OF(call, struct request, call);
	const struct endpoint_config *endpoint = request_endpoint(r);
	char target[OUTGOING_TARGET_SIZE];
	struct sigv4_request request;
	_uninitialized_ struct sigv4_signature signature;
	int e;

	/* It has waited, perhaps for longer than its client. */
	if (now.monotonic > r->decided && r->client->ops->gone(r->client)) {
		r->gone = REASON_CLIENT_GONE;
		return -EPIPE;
	}
	credentials_unref(r->credentials);
	r->credentials = credentials_ref(r->context->credentials);
	e = make_room(r, head_room(r, r->credentials), r->body_n);
	if (e < 0) {
		r->refusal = REFUSAL_MEMORY;
		return e;
	}
	request = outgoing_request(endpoint->host_header, endpoint->region, r->action->name,
				   (struct slice){r->out.p + r->body_at, r->body_n}, target);
	r->correction = skew_correction(request_skew(r));
	r->sent_wall = now.wall;
	e = sigv4_sign(r->context->signer, r->credentials, &request,
		       r->sent_wall + r->correction, &signature);
	if (e < 0)
		return e;
	*ret_bytes = outgoing_head_write(&request, &signature, r->credentials);
	r->record.kms_status = 0; /* what was said of an earlier try */
	r->record.kms_error[0] = '\0';
	r->record.aws_request_id[0] = '\0';
	return 0;
}

/* ---- send ---- */

static void send_it(struct request *r, struct instant now)
{
	struct upstream *u = upstreams_get(r->context, r->generation, (unsigned)r->endpoint);

	if (!u) {
		request_refuse(r, REFUSAL_INTERNAL, NULL, now);
		return;
	}
	r->call.repeatable = r->action->flags & KMS_REPEATABLE;
	upstream_submit(u, &r->call, now);
}

/* What is allocated counts, not what has come: a whole Content-Length is reserved at once. */
static bool on_grow(struct upstream_call *call)
{
	struct request *r = CONTAINER_OF(call, struct request, call);
	size_t held = call->reply.head.cap + call->reply.body.cap;
	size_t reserved = r->charged - r->out.max;

	return held <= reserved || request_charge(r, held - reserved);
}

static void on_done(struct upstream_call *call, enum upstream_result result, const char *why,
		    struct instant now)
{
	struct request *r = CONTAINER_OF(call, struct request, call);

	r->result = result;
	if (call->sent)
		r->record.upstream = (call->received ?: now.monotonic) - call->sent;
	if (why)
		snprintf(r->record.detail, sizeof(r->record.detail), "endpoint %s: %s",
			 request_endpoint(r)->name, why);
	request_go(r, STEP_ANSWER);
	request_advance(r, now);
}

static const struct upstream_call_ops call_ops = {on_prepare, on_grow, on_done};

/* ---- the table ---- */

static const struct request_step_info steps[_STEP_MAX] = {
	[STEP_LIMIT] = {"limit", 4, limit},
	[STEP_BODY] = {"read the body", 5, NULL},
	[STEP_UNDERSTAND] = {"understand", 6, understand},
	[STEP_DECIDE] = {"decide", 7, decide},
#ifdef TEST_HOOKS
	[STEP_TEST] = {"test", 0, test_step},
#endif
	[STEP_SIGN] = {"sign", 8, await_credentials},
	[STEP_SEND] = {"send", 9, send_it},
	[STEP_ANSWER] = {"answer", 10, reply_take},
	[STEP_RECORD] = {"record", 11, NULL},
	[STEP_ENDED] = {"ended", 0, NULL},
};

const struct request_step_info *request_step_info(enum request_step step)
{
	return &steps[step];
}

/* ---- waiting ---- */

/* A step that is run again may wait again, or end others that wait: the list is taken apart
 * first. */
static void run_again(struct request_list *due, struct instant now)
{
	struct request *r;

	while ((r = LIST_FIRST(due))) {
		LIST_REMOVE(r, link);
		r->wait = WAIT_NOTHING;
		request_advance(r, now);
	}
}

static void wake(struct requests *requests,
		 bool (*is_due)(const struct request *, const void *), const void *userdata,
		 struct instant now)
{
	struct request_list due = LIST_HEAD_INITIALIZER(due);
	struct request *r, *next;

	for (r = LIST_FIRST(&requests->waiting); r; r = next) {
		next = LIST_NEXT(r, link);
		if (!is_due(r, userdata))
			continue;
		LIST_REMOVE(r, link);
		LIST_INSERT_HEAD(&due, r, link);
	}
	run_again(&due, now);
}

static bool waits_for(const struct request *r, const void *reason)
{
	return r->wait == *(const enum request_wait *)reason;
}

static bool is_over(const struct request *r, const void *now)
{
	return r->wait_deadline <= *(const usec_t *)now;
}

void requests_wake(struct requests *requests, enum request_wait reason, struct instant now)
{
	wake(requests, waits_for, &reason, now);
}

void requests_admit(struct context *context, struct instant now)
{
	struct request_list due = LIST_HEAD_INITIALIZER(due);
	struct request *r, *last = NULL;
	struct place_waiter *waiter;

	while ((waiter = place_admit(context))) {
		r = CONTAINER_OF(waiter, struct request, waiter);
		r->in_flight = true;
		LIST_REMOVE(r, link);
		if (last)
			LIST_INSERT_AFTER(last, r, link);
		else
			LIST_INSERT_HEAD(&due, r, link);
		last = r;
	}
	run_again(&due, now);
}

void requests_sweep(struct requests *requests, struct instant now)
{
	wake(requests, is_over, &now.monotonic, now);
}
