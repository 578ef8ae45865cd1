/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Audit records: one journal entry a request, tunnel or refused connection. A record is a plain
 * value of fixed size, copied into a bounded lock-free queue; its own thread writes it out, so
 * that a slow journal never holds a worker. What the queue or the journal can't take is counted
 * and recorded as soon as it can. The fields are listed in kms-vsock-proxyd(8): they are an
 * interface. */

#include "clock.h"
#include "limit.h"
#include "log.h"
#include "macro.h"
#include "reason.h"
#include "request_id.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

struct audit_record {
	enum event_kind
		event; /* EVENT_REQUEST, EVENT_REFUSED, ... gives MESSAGE_ID, priority */
	char enclave[LIMIT_NAME + 1]; /* "" where no enclave has the CID */
	bool has_cid;
	uint32_t cid;
	bool allowed; /* VERDICT */
	char request_id[REQUEST_ID_SIZE];
	char action[LIMIT_NAME + 1];
	char key[LIMIT_LOG_VALUE + 1];      /* escaped and clipped; two keys with a comma */
	bool key_added;                     /* the proxy named the first of them */
	char grantee[LIMIT_LOG_VALUE + 1];  /* of a delegation: the principal, or "policy" */
	char endpoint[LIMIT_LOG_VALUE + 1]; /* of a tunnel: host:port */
	bool cleartext;                     /* a tunnel that isn't held to TLS: TLS=no */
	char rule[LIMIT_NAME + 1];
	enum reason reason;
	char detail[LIMIT_LOG_VALUE + 1]; /* explains the reason, in MESSAGE */
	int status;                       /* HTTP_STATUS; 0: none was sent */
	int priority;                     /* as syslog(3) has it; -1: that of the event */
	int kms_status;                 /* KMS_STATUS of what was sent to KMS; 0: nothing was */
	char kms_error[LIMIT_NAME + 1]; /* the type of KMS's error */
	char aws_request_id[LIMIT_NAME + 1];
	const char *recipient;       /* "none", "present"; NULL: not known */
	usec_t duration, upstream;   /* -1: not measured */
	usec_t wait;                 /* for a place in flight; -1: it didn't have to */
	int64_t bytes_in, bytes_out; /* -1: not counted */
};

/* Sent to KMS, whose answer did not come, or not as a whole: it may have acted. */
#define KMS_STATUS_UNKNOWN (-1)

/* Everything absent: no text, numbers not known, refused. */
void audit_record_init(struct audit_record *record, enum event_kind event);

/* Copies a value from a wire, escaped and clipped to the field. */
void audit_copy(char *field, size_t size, struct slice value);

struct audit;

/* Starts the writer thread; log_open() comes before. It takes no signals. */
_must_check_ int audit_new(struct audit **ret_audit);

/* Writes what is queued (for at most a second; the rest is lost), stops the thread. Nothing may
 * be submitted any more. Returns NULL. */
struct audit *audit_free(struct audit *audit);
DEFINE_CLEANUP(struct audit *, audit_free)

/* Any thread; never blocks, takes no lock. A full queue counts a loss instead. A journal that
 * can't take a record is tried again until it can: a stop loses what the queue has no room for.
 */
void audit_submit(struct audit *audit, const struct audit_record *record);

/* Records lost so far, in the queue and at the journal's socket. */
uint64_t audit_lost(const struct audit *audit);
