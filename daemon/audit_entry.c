/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_entry.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* All values are clipped by the record's fields, so that they fit. */
_printf_(2, 3) static void add(struct audit_entry *e, const char *format, ...)
{
	size_t room = sizeof(e->text) - e->used;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(e->text + e->used, room, format, args);
	va_end(args);
	assert(n >= 0 && (size_t)n < room && e->n < ELEMENTSOF(e->fields));
	e->fields[e->n++] = e->text + e->used;
	e->used += (size_t)n + 1;
}

/* The same from its parts: of a request that passes, printf() would be half of the writer's
 * work. */
static void add_parts(struct audit_entry *e, const struct slice *parts, size_t n)
{
	assert(e->n < ELEMENTSOF(e->fields));
	e->fields[e->n++] = e->text + e->used;
	for (size_t i = 0; i < n; i++) {
		assert(parts[i].n < sizeof(e->text) - e->used);
		if (parts[i].n)
			memcpy(e->text + e->used, parts[i].p, parts[i].n);
		e->used += parts[i].n;
	}
	e->text[e->used++] = '\0';
}

/* Fields that are not known are left out. */
static void add_slice(struct audit_entry *e, const char *name_equals, struct slice value)
{
	const struct slice parts[] = {slice_from(name_equals), value};

	if (value.n)
		add_parts(e, parts, ELEMENTSOF(parts));
}

static void add_text(struct audit_entry *e, const char *name_equals, const char *value)
{
	add_slice(e, name_equals, slice_from(value));
}

static void add_number(struct audit_entry *e, const char *name_equals, int64_t value)
{
	char room[SLICE_NUMBER_SIZE];

	if (value >= 0)
		add_slice(e, name_equals, slice_from_number((uint64_t)value, room));
}

/* "payments", "CID 99" */
static const char *peer_text(const struct audit_record *r, char *out, size_t size)
{
	if (r->enclave[0])
		return r->enclave;
	if (r->has_cid)
		snprintf(out, size, "CID %" PRIu32, r->cid);
	else
		snprintf(out, size, "unknown peer");
	return out;
}

static const char *action_text(const struct audit_record *r)
{
	return r->action[0] ? r->action : "request";
}

static const char *duration_text(const struct audit_record *r, char *out, size_t size)
{
	bool is_long = r->duration >= USEC_PER_SEC;
	usec_t tenth = (is_long ? USEC_PER_SEC : USEC_PER_MSEC) / 10;
	usec_t tenths = r->duration / tenth + (r->duration % tenth >= tenth / 2);

	if (r->duration < 0)
		snprintf(out, size, "unknown time");
	else
		snprintf(out, size, "%" PRId64 ".%d %s", tenths / 10, (int)(tenths % 10),
			 is_long ? "s" : "ms");
	return out;
}

/* " (reason): detail", as much of it as there is. */
static const char *why_text(const struct audit_record *r, char *out, size_t size)
{
	snprintf(out, size, "%s%s%s%s%s", r->reason ? " (" : "", r->reason ?: "",
		 r->reason ? ")" : "", r->detail[0] ? ": " : "", r->detail);
	return out;
}

/* `detail` is the error code with which KMS itself refused. */
static void say_request(struct audit_entry *e, const struct audit_record *r, const char *peer)
{
	char took[32], status[SLICE_NUMBER_SIZE];
	const struct slice parts[] = {
		SLICE("MESSAGE="),
		slice_from(peer),
		SLICE(": "),
		slice_from(action_text(r)),
		SLICE(" allowed by rule \""),
		slice_from(r->rule),
		SLICE("\": "),
		slice_from_number((unsigned)r->status, status),
		slice_from(r->detail[0] ? " " : ""),
		slice_from(r->detail),
		SLICE(" in "),
		slice_from(duration_text(r, took, sizeof(took))),
	};

	add_parts(e, parts, ELEMENTSOF(parts));
}

static void say_refused(struct audit_entry *e, const struct audit_record *r, const char *peer)
{
	char why[512];

	why_text(r, why, sizeof(why));
	if (r->allowed)
		add(e, "MESSAGE=%s: %s allowed by rule \"%s\" but failed%s", peer,
		    action_text(r), r->rule, why);
	else
		add(e, "MESSAGE=%s: %s refused%s", peer, action_text(r), why);
}

static void say_unanswered(struct audit_entry *e, const struct audit_record *r,
			   const char *peer)
{
	char why[512], outcome[32] = "sent to KMS, outcome unknown";

	if (r->kms_status > 0)
		snprintf(outcome, sizeof(outcome), "KMS answered %d", r->kms_status);
	add(e, "MESSAGE=%s: %s allowed by rule \"%s\" but not answered: %s%s", peer,
	    action_text(r), r->rule, outcome, why_text(r, why, sizeof(why)));
}

static void say_leak(struct audit_entry *e, const struct audit_record *r, const char *peer)
{
	char why[512];

	add(e, "MESSAGE=%s: reply to %s withheld%s", peer, action_text(r),
	    why_text(r, why, sizeof(why)));
}

static void say_connection(struct audit_entry *e, const struct audit_record *r,
			   const char *peer)
{
	char why[512];

	add(e, "MESSAGE=%s: connection closed%s", peer, why_text(r, why, sizeof(why)));
}

static void say_tunnel_open(struct audit_entry *e, const struct audit_record *r,
			    const char *peer)
{
	add(e, "MESSAGE=%s: tunnel to %s opened", peer, r->endpoint);
}

static void say_tunnel_refused(struct audit_entry *e, const struct audit_record *r,
			       const char *peer)
{
	char why[512];

	add(e, "MESSAGE=%s: tunnel%s%s refused%s", peer, r->endpoint[0] ? " to " : "",
	    r->endpoint, why_text(r, why, sizeof(why)));
}

static void say_tunnel_end(struct audit_entry *e, const struct audit_record *r,
			   const char *peer)
{
	char took[32], why[512];

	add(e, "MESSAGE=%s: tunnel to %s ended after %s%s", peer, r->endpoint,
	    duration_text(r, took, sizeof(took)), why_text(r, why, sizeof(why)));
}

typedef void (*say_fn)(struct audit_entry *e, const struct audit_record *r, const char *peer);

static const say_fn sentences[_EVENT_MAX] = {
	[EVENT_REQUEST] = say_request,
	[EVENT_REFUSED] = say_refused,
	[EVENT_UNANSWERED] = say_unanswered,
	[EVENT_LEAK] = say_leak,
	[EVENT_CONNECTION] = say_connection,
	[EVENT_TUNNEL_OPEN] = say_tunnel_open,
	[EVENT_TUNNEL_REFUSED] = say_tunnel_refused,
	[EVENT_TUNNEL_END] = say_tunnel_end,
};

void audit_entry_init(struct audit_entry *e, const struct audit_record *r)
{
	char peer[LIMIT_NAME + 1];

	assert(sentences[r->event]);
	e->used = e->n = 0;
	sentences[r->event](e, r, peer_text(r, peer, sizeof(peer)));
	add_text(e, "MESSAGE_ID=", event_info(r->event)->message_id);
	add_text(e, "ENCLAVE=", r->enclave);
	add_number(e, "ENCLAVE_CID=", r->has_cid ? (int64_t)r->cid : -1);
	add_text(e, "REQUEST_ID=", r->request_id);
	add_text(e, "KMS_ACTION=", r->action);
	add_text(e, "KMS_KEY=", r->key);
	add_text(e, "KMS_GRANTEE=", r->grantee);
	add_text(e, "ENDPOINT=", r->endpoint);
	add_text(e, "VERDICT=", r->allowed ? "allow" : "refuse");
	add_text(e, "RULE=", r->rule);
	add_text(e, "REASON=", r->reason);
	add_number(e, "HTTP_STATUS=", r->status ?: -1);
	if (r->kms_status == KMS_STATUS_UNKNOWN)
		add_text(e, "KMS_STATUS=", "unknown");
	else
		add_number(e, "KMS_STATUS=", r->kms_status ?: -1);
	add_text(e, "AWS_REQUEST_ID=", r->aws_request_id);
	add_text(e, "RECIPIENT=", r->recipient);
	add_number(e, "DURATION_USEC=", r->duration);
	add_number(e, "UPSTREAM_USEC=", r->upstream);
	add_number(e, "BYTES_IN=", r->bytes_in);
	add_number(e, "BYTES_OUT=", r->bytes_out);
}

void audit_entry_init_lost(struct audit_entry *e, uint64_t lost)
{
	e->used = e->n = 0;
	add(e, "MESSAGE=%" PRIu64 " records could not be written to the journal", lost);
	add_text(e, "MESSAGE_ID=", event_info(EVENT_LOST)->message_id);
	add(e, "LOST=%" PRIu64, lost);
}
