/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include "credentials.h"
#include "kms_error.h"
#include "log.h"
#include "skew.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static_assert(offsetof(struct request, host) > offsetof(struct request, started) &&
		      offsetof(struct request, record) > offsetof(struct request, host),
	      "request_alloc() zeroes what comes before `host`");

struct enclave_config *request_config(const struct request *r)
{
	return generation_enclave(r->generation, r->enclave_index);
}

const struct endpoint_config *request_endpoint(const struct request *r)
{
	return &r->generation->config->endpoints[r->endpoint];
}

struct skew *request_skew(const struct request *r)
{
	return &r->generation->skews[r->endpoint];
}

struct request *request_alloc(const struct request_origin *origin, struct instant now)
{
	struct request *r = malloc(sizeof(*r));

	if (!r)
		return NULL;
	memset(r, 0, offsetof(struct request, host));
	r->host[0] = '\0';
	r->context = origin->context;
	r->client = origin->client;
	r->identity = *origin->identity;
	r->generation = generation_ref(origin->generation);
	r->enclave_index = r->call.enclave_index = origin->enclave_index;
	r->endpoint = -1;
	r->started = now.monotonic;
	r->answer = BUF_INIT(LIMIT_REPLY_HEAD + 4 * KIB);

	identity_record(&r->identity, EVENT_REFUSED, &r->record);
	request_id_make(&r->context->request_ids, r->record.request_id);
	enclave_count(r->identity.enclave, COUNTER_REQUESTS, 1);
	return r;
}

void request_go(struct request *r, enum request_step step)
{
	assert(r->step != STEP_ENDED);
	r->step = step;
}

bool request_charge(struct request *r, size_t n)
{
	return enclave_charge(r->identity.enclave, r->generation->memory_share, &r->charged,
			      r->charged + n);
}

/* ---- waiting ---- */

static void stop_waiting(struct request *r)
{
	if (r->wait)
		LIST_REMOVE(r, link);
	r->wait = WAIT_NOTHING;
}

void request_wait(struct request *r, enum request_wait reason, usec_t deadline)
{
	stop_waiting(r);
	r->wait = reason;
	r->wait_deadline = deadline;
	LIST_INSERT_HEAD(&r->context->requests->waiting, r, link);
}

void request_note_wait(struct request *r, struct instant now)
{
	if (r->waits_since && r->record.wait < 0)
		r->record.wait = now.monotonic - r->waits_since;
}

void request_withdraw(struct request *r)
{
	upstream_cancel(&r->call);
	stop_waiting(r);
	place_leave(r->context, r->identity.enclave, &r->waiter);
}

/* ---- its answer ---- */

bool request_closes(const struct request *r)
{
	return r->client && r->client->ops->closing(r->client);
}

/* Its place among limits.in_flight is given back before the answer can be read: whoever has the
 * answer may ask another worker at once. */
static void leave_in_flight(struct request *r)
{
	if (r->in_flight)
		place_return(r->context, r->identity.enclave);
	r->in_flight = false;
}

void request_answer(struct request *r, struct slice body, bool close, struct instant now)
{
	request_go(r, STEP_RECORD);
	if (!r->client) {
		request_end(r, r->gone, 0, now);
		return;
	}
	leave_in_flight(r);
	r->client->ops->answer(r->client, buf_slice(&r->answer), body, close, now);
}

void request_refuse(struct request *r, enum refusal refusal, const char *message,
		    struct instant now)
{
	const struct refusal_info *info = refusal_info(refusal);
	const struct refusal_answer answer = {
		.refusal = refusal,
		.message = message,
		.request_id = r->record.request_id,
		.wall = now.wall + (r->endpoint < 0 ? 0 : skew_correction(request_skew(r))),
		.retry_after = refusal == REFUSAL_RATE ? r->retry_after : 0,
		.close = info->close || request_closes(r),
	};

	if (!r->record.reason)
		r->record.reason = info->reason;
	if (!r->record.detail[0])
		snprintf(r->record.detail, sizeof(r->record.detail), "%s",
			 message ?: info->message);
	request_note_wait(r, now);
	r->record.event = info->critical ? EVENT_LEAK : EVENT_REFUSED;
	r->refusal = refusal;
	if (r->client) {
		r->record.status = info->status;
		if (refusal_write(&answer, &r->answer) < 0) {
			r->client->ops->lost(r->client, REASON_MEMORY, now);
			return;
		}
	}
	request_answer(r, (struct slice){0}, answer.close, now);
}

/* ---- its record and its end ---- */

/* An error that KMS answered with, whatever became of it then. */
static void count_kms_error(struct request *r)
{
	const struct audit_record *record = &r->record;
	enum counter counter = COUNTER_KMS_FAILED;

	if (record->kms_status <= 0 || record->kms_status / 100 == 2)
		return;
	if (kms_error_throttles(slice_from(record->kms_error)))
		counter = COUNTER_KMS_THROTTLED;
	else if (record->kms_error[0] && record->kms_status < 500)
		counter = COUNTER_KMS_DENIED;
	enclave_count(r->identity.enclave, counter, 1);
}

/* By us, or by KMS: what `audit: refusals` records. */
static bool is_refused(const struct request *r)
{
	return r->record.event != EVENT_REQUEST || r->record.kms_error[0];
}

static void record(struct request *r, struct instant now)
{
	struct enclave *e = r->identity.enclave;
	/* A refusal stays one where its client doesn't take the answer. */
	enum reason reason = r->refusal ? refusal_info(r->refusal)->reason : r->record.reason;

	enclave_count(e,
		      r->record.event == EVENT_REQUEST ? COUNTER_ALLOWED
						       : reason_info(reason)->counter,
		      1);
	if (r->record.bytes_in > 0)
		enclave_count(e, COUNTER_BYTES_IN, (uint64_t)r->record.bytes_in);
	enclave_count(e, COUNTER_BYTES_OUT, (uint64_t)r->record.bytes_out);

	count_kms_error(r);

	if (r->generation->config->audit == AUDIT_REFUSALS && !is_refused(r))
		return;
	if (r->record.event == EVENT_REFUSED && !flood_admit(&e->flood, now.monotonic))
		return;
	audit_submit(r->context->audit, &r->record);
}

/* What KMS may have acted upon is no mere refusal: its record can't be left out. */
static enum event_kind event_of(const struct request *r, bool cut_off)
{
	if (r->record.event == EVENT_LEAK || (r->record.event == EVENT_REQUEST && !cut_off))
		return r->record.event;
	return r->call.exposed ? EVENT_UNANSWERED : EVENT_REFUSED;
}

void request_end(struct request *r, enum reason why, size_t written, struct instant now)
{
	if (r->step == STEP_ENDED)
		return;
	request_withdraw(r);
	request_note_wait(r, now);
	if (!r->client)
		LIST_REMOVE(r, orphan_link);
	if (r->call.sent && r->record.upstream < 0)
		r->record.upstream = now.monotonic - r->call.sent;
	if (r->call.exposed && !r->record.kms_status)
		r->record.kms_status = KMS_STATUS_UNKNOWN;
	r->record.duration = now.monotonic - r->started;
	r->record.bytes_out = (int64_t)written;
	r->record.event = event_of(r, why != REASON_NONE);
	if (why && r->record.event != EVENT_LEAK) /* why that was withheld weighs more */
		r->record.reason = why;
	record(r, now);

	leave_in_flight(r);
	enclave_uncharge(r->identity.enclave, &r->charged);
	buf_done(&r->out);
	buf_done(&r->answer);
	http_reply_done(&r->call.reply);
	credentials_unref(r->credentials);
	generation_unref(r->generation);
	request_go(r, STEP_ENDED);
	bin_put(&r->context->bin, &r->bin, offsetof(struct request, advancing), sizeof(*r));
}

void request_lose_client(struct request *r, enum reason why, size_t written, struct instant now)
{
	if (!upstream_abandon(&r->call)) {
		request_end(r, why, written, now);
		return;
	}
	leave_in_flight(r);
	r->client = NULL;
	r->gone = why;
	LIST_INSERT_HEAD(&r->context->requests->orphans, r, orphan_link);
}

/* ---- a reload ---- */

enum refusal request_renew(struct request *r, struct generation *generation)
{
	int enclave_index = generation_find(generation, &r->identity);

	if (r->refusal)
		return REFUSAL_NONE; /* for that it needs no rules */
	if (enclave_index < 0)
		return REFUSAL_RELOADED;
	generation_swap(&r->generation, generation);
	r->enclave_index = r->call.enclave_index = (unsigned)enclave_index;
	r->endpoint = config_pick_endpoint(generation->config, request_config(r),
					   slice_from(r->host));
	return r->content_length > request_config(r)->limits.body ? REFUSAL_BODY_TOO_LARGE
								  : REFUSAL_NONE;
}

bool request_revoke(struct request *r, const struct generation *generation)
{
	if (generation_same_trust(r->generation, generation, &r->identity) ||
	    upstream_revoke(&r->call))
		return false;
	request_withdraw(r);
	return true;
}

/* ---- those without a client ---- */

void requests_reload(struct requests *requests, const struct generation *generation,
		     struct instant now)
{
	struct request *r, *next;

	for (r = LIST_FIRST(&requests->orphans); r; r = next) {
		next = LIST_NEXT(r, orphan_link);
		if (request_revoke(r, generation))
			request_end(r, r->gone, 0, now);
	}
}

void requests_end(struct requests *requests, struct instant now)
{
	struct request *r;

	while ((r = LIST_FIRST(&requests->orphans)))
		request_end(r, r->gone, 0, now);
}
