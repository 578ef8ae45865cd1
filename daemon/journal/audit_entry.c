/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_entry.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DURATION_SIZE (SLICE_NUMBER_SIZE + sizeof(".0 ms"))

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

static void begin(struct audit_entry *e)
{
	assert(e->n < ELEMENTSOF(e->fields));
	e->fields[e->n++] = e->text + e->used;
}

static inline void put(struct audit_entry *e, struct slice part)
{
	assert(part.n < sizeof(e->text) - e->used);
	if (part.n)
		memcpy(e->text + e->used, part.p, part.n);
	e->used += part.n;
}

static void end(struct audit_entry *e)
{
	e->text[e->used++] = '\0';
}

/* As add(), from parts: of a request that passes, printf() would be half of the writer's work.
 */
static void add_parts(struct audit_entry *e, const struct slice *parts, size_t n)
{
	begin(e);
	for (size_t i = 0; i < n; i++)
		put(e, parts[i]);
	end(e);
}

/* Fields that are not known are left out. */
static inline void add_slice(struct audit_entry *e, struct slice name_equals,
			     struct slice value)
{
	if (value.n == 0)
		return;
	begin(e);
	put(e, name_equals);
	put(e, value);
	end(e);
}

static void add_text(struct audit_entry *e, struct slice name_equals, const char *value)
{
	if (value && *value)
		add_slice(e, name_equals, slice_from(value));
}

static void add_number(struct audit_entry *e, struct slice name_equals, int64_t value)
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

/* "4.1 ms", in room[DURATION_SIZE]. */
static struct slice duration_text(const struct audit_record *r, char *room)
{
	bool is_long = r->duration >= USEC_PER_SEC;
	usec_t tenth = (is_long ? USEC_PER_SEC : USEC_PER_MSEC) / 10;
	usec_t tenths = r->duration / tenth + (r->duration % tenth >= tenth / 2);
	const struct slice unit = is_long ? SLICE(".0 s") : SLICE(".0 ms");
	struct slice number;
	size_t whole;

	if (r->duration < 0)
		return SLICE("unknown time");
	number = slice_from_number((uint64_t)tenths / 10, room);
	whole = number.n;
	memmove(room, number.p, whole);
	memcpy(room + whole, unit.p, unit.n);
	room[whole + 1] = (char)('0' + tenths % 10);
	return (struct slice){room, whole + unit.n};
}

/* " (reason): detail", as much of it as there is. */
static const char *why_text(const struct audit_record *r, char *out, size_t size)
{
	const char *word = reason_word(r->reason);

	snprintf(out, size, "%s%s%s%s%s", word ? " (" : "", word ?: "", word ? ")" : "",
		 r->detail[0] ? ": " : "", r->detail);
	return out;
}

static void say_request(struct audit_entry *e, const struct audit_record *r, const char *peer)
{
	char took[DURATION_SIZE], status[SLICE_NUMBER_SIZE];
	const struct slice parts[] = {
		SLICE("MESSAGE="),
		slice_from(peer),
		SLICE(": "),
		slice_from(action_text(r)),
		SLICE(" allowed by rule \""),
		slice_from(r->rule),
		r->kms_error[0] ? SLICE("\" but AWS KMS refused it: ") : SLICE("\": "),
		slice_from_number((unsigned)r->status, status),
		slice_from(r->kms_error[0] ? " " : ""),
		slice_from(r->kms_error),
		SLICE(" in "),
		duration_text(r, took),
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
	add(e, "MESSAGE=%s: tunnel to %s opened%s", peer, r->endpoint,
	    r->cleartext ? " without TLS" : "");
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
	char took[DURATION_SIZE], why[512];
	struct slice duration = duration_text(r, took);

	add(e, "MESSAGE=%s: tunnel to %s ended after %.*s%s", peer, r->endpoint,
	    (int)duration.n, duration.p, why_text(r, why, sizeof(why)));
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
	add_text(e, SLICE("MESSAGE_ID="), event_info(r->event)->message_id);
	add_text(e, SLICE("ENCLAVE="), r->enclave);
	add_number(e, SLICE("ENCLAVE_CID="), r->has_cid ? (int64_t)r->cid : -1);
	add_text(e, SLICE("REQUEST_ID="), r->request_id);
	add_text(e, SLICE("KMS_ACTION="), r->action);
	add_text(e, SLICE("KMS_KEY="), r->key);
	add_number(e, SLICE("KMS_KEY_ADDED="), r->key_added ? 1 : -1);
	add_text(e, SLICE("KMS_GRANTEE="), r->grantee);
	add_text(e, SLICE("ENDPOINT="), r->endpoint);
	add_text(e, SLICE("TLS="), r->cleartext ? "no" : NULL);
	add_text(e, SLICE("VERDICT="), r->allowed ? "allow" : "refuse");
	add_text(e, SLICE("RULE="), r->rule);
	add_text(e, SLICE("REASON="), reason_word(r->reason));
	add_number(e, SLICE("HTTP_STATUS="), r->status ?: -1);
	if (r->kms_status == KMS_STATUS_UNKNOWN)
		add_text(e, SLICE("KMS_STATUS="), "unknown");
	else
		add_number(e, SLICE("KMS_STATUS="), r->kms_status ?: -1);
	add_text(e, SLICE("KMS_ERROR="), r->kms_error);
	add_text(e, SLICE("AWS_REQUEST_ID="), r->aws_request_id);
	add_text(e, SLICE("RECIPIENT="), r->recipient);
	add_number(e, SLICE("DURATION_USEC="), r->duration);
	add_number(e, SLICE("WAIT_USEC="), r->wait);
	add_number(e, SLICE("UPSTREAM_USEC="), r->upstream);
	add_number(e, SLICE("BYTES_IN="), r->bytes_in);
	add_number(e, SLICE("BYTES_OUT="), r->bytes_out);
}

void audit_entry_init_lost(struct audit_entry *e, uint64_t lost)
{
	e->used = e->n = 0;
	add(e, "MESSAGE=%" PRIu64 " records could not be written to the journal", lost);
	add_text(e, SLICE("MESSAGE_ID="), event_info(EVENT_LOST)->message_id);
	add(e, "LOST=%" PRIu64, lost);
}
