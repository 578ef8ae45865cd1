/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Messages of the daemon itself (start, reload, credentials, upstreams); requests have audit
 * records, daemon/audit.h. To the journal where $JOURNAL_STREAM names our stderr, else as text on
 * stderr. May be called from any thread. */

#include "macro.h"

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>

/* One kind of journal entry: MESSAGE_ID and its default priority. Every row has an entry in
 * systemd/kms-vsock-proxy.catalog, and the other way round (a lint test). */
enum event {
	EVENT_START,            /* READY: version, listeners, enclaves */
	EVENT_STOP,             /* the drain begins or ends */
	EVENT_CONFIG_LOADED,    /* a reload was taken over */
	EVENT_CONFIG_REFUSED,   /* a reload failed; the old configuration stays */
	EVENT_CONFIG_WARNING,   /* dangerous but allowed */
	EVENT_CREDENTIALS,      /* new credentials */
	EVENT_CREDENTIALS_FAIL, /* refresh failed */
	EVENT_ENDPOINT_DOWN,    /* connecting fails: DNS, connect or TLS */
	EVENT_ENDPOINT_UP,      /* and works again */
	EVENT_ACCEPT_FAIL,      /* out of descriptors or the like */
	EVENT_MACHINE,          /* memory, threads: something of the machine failed */
	EVENT_REQUEST,          /* audit: a request was allowed and answered */
	EVENT_REFUSED,          /* audit: a request was refused */
	EVENT_LEAK,             /* audit, critical: a reply would have leaked */
	EVENT_CONNECTION,       /* audit: a connection was refused or ended without a request */
	EVENT_TUNNEL_OPEN,      /* audit */
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

const struct event_info *event_info(enum event event);

/* Chooses the target once at start: the journal if $JOURNAL_STREAM is stderr's device and inode. */
void log_open(void);
bool log_to_journal(void);

/* One event with its sentence. `fields` is NULL or a NULL-terminated list of "NAME=value" strings
 * that go along (in text: ` name=value` behind the sentence). */
_printf_(3, 4) void log_event(enum event event, const char *const *fields, const char *format,
			      ...);

/* One entry ready made: writes to the target and tells what became of it: 0, or negative errno when
 * the journal's socket can't take it now (-EAGAIN) or is not there. Never blocks. Used by the audit
 * writer, which counts what is lost. `fields` as above; the sentence is fields' "MESSAGE=". */
_must_check_ int log_write(int priority, const char *const *fields, size_t n_fields);
