/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Messages of the daemon itself (start, reload, credentials, upstreams); requests have audit
 * records, daemon/journal/audit.h. To the journal where $JOURNAL_STREAM names our stderr, else
 * as text on stderr. May be called from any thread. */

#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

/* The ending of a noun that is counted. */
static inline const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

/* One kind of journal entry: MESSAGE_ID and its default priority. Every row has an entry in
 * systemd/kms-vsock-proxy.catalog, and the other way round (a lint test). */
enum event_kind {
	EVENT_START,            /* READY: version, listeners, enclaves */
	EVENT_STOP,             /* the drain begins or ends */
	EVENT_CONFIG_LOADED,    /* a reload took effect */
	EVENT_CONFIG_REFUSED,   /* a reload failed; the old configuration stays */
	EVENT_CONFIG_WARNING,   /* dangerous but allowed */
	EVENT_REGION,           /* which one this instance is in */
	EVENT_REGION_FAIL,      /* it isn't known, and the daemon waits for it */
	EVENT_CREDENTIALS,      /* new credentials */
	EVENT_CREDENTIALS_FAIL, /* refresh failed */
	EVENT_CREDENTIALS_BAD,  /* KMS rejects them */
	EVENT_CREDENTIALS_OK,   /* and accepts them again */
	EVENT_ENDPOINT_DOWN,    /* connecting fails: DNS, connect or TLS */
	EVENT_ENDPOINT_UP,      /* and works again */
	EVENT_SANDBOX,          /* there is no filter of the daemon's own */
	EVENT_ACCEPT_FAIL,      /* out of descriptors or the like */
	EVENT_MACHINE,          /* memory, threads: something of the machine failed */
	EVENT_REQUEST,          /* audit: a request was allowed and answered */
	EVENT_REFUSED,          /* audit: a request was refused, or failed before KMS had it */
	EVENT_UNANSWERED,       /* audit: sent to KMS, whose answer did not reach the enclave */
	EVENT_LEAK,             /* audit, critical: a reply would have leaked */
	EVENT_CONNECTION,       /* audit: a connection was refused or ended without a request */
	EVENT_TUNNEL_OPEN,      /* audit */
	EVENT_TUNNEL_REFUSED,   /* audit: it was never open */
	EVENT_TUNNEL_END,       /* audit */
	EVENT_COUNTERS,         /* the counters of one enclave */
	EVENT_SUPPRESSED,       /* so many records of an enclave were left out */
	EVENT_LOST,             /* so many records could not be written */
	_EVENT_MAX,
};

struct event_info {
	const char *message_id; /* 32 lower-case hex digits */
	int priority;           /* LOG_INFO, ... */
};

const struct event_info *event_info(enum event_kind event);

/* Chooses the target once, before any thread is made: the journal if $JOURNAL_STREAM is
 * stderr's device and inode, else stderr. */
void log_open(void);

/* The journal at a socket other than journald's own, or (NULL) stderr: for tests. On -errno the
 * target is what it was. */
_must_check_ int log_open_journal(const char *path);

bool log_to_journal(void);

/* One event with its sentence. `fields` is NULL or a NULL-terminated list of at most 32
 * "NAME=value" strings that go along (in text: ` NAME=value` after the sentence). Never blocks;
 * what the target doesn't take is counted, and the audit writer records the count. */
_printf_(3, 4) void log_event(enum event_kind event, const char *const *fields,
			      const char *format, ...);

/* Events that were lost since the last call. */
_must_check_ uint64_t log_take_lost(void);

/* One entry ready made, PRIORITY and SYSLOG_IDENTIFIER are added: writes it to the target and
 * tells what became of it. Never blocks. `fields` as above, the sentence is among them as
 * "MESSAGE=". 0; -EAGAIN: the journal's socket (or the reader of stderr) can't take it now;
 * -EMSGSIZE: too large, it won't go later either; -ENOENT, -ECONNREFUSED and others: there is
 * no journal. */
_must_check_ int log_write(int priority, const char *const *fields, size_t n_fields);

#define LOG_BATCH 16

/* Entries that go to the journal with one system call, in the order they were added. */
struct log_batch;

_must_check_ int log_batch_new(struct log_batch **ret_batch);
struct log_batch *log_batch_free(struct log_batch *batch); /* accepts and returns NULL */
DEFINE_CLEANUP(struct log_batch *, log_batch_free)

/* Entries added and not yet written: at most LOG_BATCH. */
size_t log_batch_waiting(const struct log_batch *batch);

/* Adds one, as for log_write(), where there is room: nothing of the batch was written, or all.
 * Its fields stand one after the other in `text`, each with its NUL: that is what they are in
 * an audit record, and soonest copied. -EMSGSIZE: too large, it was not added. */
_must_check_ int log_batch_add(struct log_batch *batch, int priority, struct slice text,
			       const char *const *fields, size_t n_fields);

/* Writes what waits. 0, or the error of log_write() for the first that waits still: those
 * before it were written. Never blocks. */
_must_check_ int log_batch_write(struct log_batch *batch);

/* Takes the first that waits out of the batch. */
void log_batch_drop(struct log_batch *batch);
