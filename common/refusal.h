/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Every answer the proxy makes itself, as one table: the KMS JSON error shape, so that each AWS
 * SDK parses it and retries exactly what it should (facts: AWS SDK retry lists). */

#include "buf.h"
#include "clock.h"
#include "macro.h"
#include "reason.h"
#include "slice.h"

#include <stdbool.h>

enum refusal {
	REFUSAL_NONE = 0,
	/* of the head */
	REFUSAL_FRAMING,        /* 400 SerializationException, close */
	REFUSAL_HEAD_TOO_LARGE, /* 431, close */
	REFUSAL_BODY_TOO_LARGE, /* 413, close */
	REFUSAL_EXPECTATION,    /* 417, close */
	REFUSAL_TOO_SLOW,       /* 408, close */
	/* of the limits */
	REFUSAL_RATE,        /* 400 ThrottlingException */
	REFUSAL_IN_FLIGHT,   /* 400 ThrottlingException */
	REFUSAL_MEMORY,      /* 400 ThrottlingException */
	REFUSAL_CONNECTIONS, /* 400 ThrottlingException, close */
	/* of the body */
	REFUSAL_JSON,           /* 400 SerializationException */
	REFUSAL_UNKNOWN_ACTION, /* 400 UnknownOperationException */
	/* of the policy */
	REFUSAL_HOST,   /* 400 AccessDeniedException: Host names no endpoint of the enclave */
	REFUSAL_POLICY, /* 400 AccessDeniedException */
	/* of the way out */
	REFUSAL_NO_CREDENTIALS,     /* 503 ServiceUnavailableException */
	REFUSAL_BAD_CREDENTIALS,    /* 503: KMS rejected the proxy's credentials or signature */
	REFUSAL_NO_UPSTREAM,        /* 503: no connection to the endpoint */
	REFUSAL_NO_PROXY,           /* 503: no connection to the outbound proxy */
	REFUSAL_PROXY_REFUSED,      /* 503: it won't lead there */
	REFUSAL_PROXY_BROKEN,       /* 503: it does not answer as it must */
	REFUSAL_QUEUE_TIMEOUT,      /* 503: waited too long for a connection */
	REFUSAL_UPSTREAM_LOST,      /* 503: the connection died before the whole answer */
	REFUSAL_UPSTREAM_TIMEOUT,   /* 504 */
	REFUSAL_UPSTREAM_MALFORMED, /* 502: the reply is not strict HTTP, or passes a cap */
	REFUSAL_REPLY_LEAKS,        /* 502, critical record: a secret in clear */
	REFUSAL_REPLY_UNREADABLE,   /* 502, critical record: can't be checked */
	REFUSAL_REPLY_NO_CIPHERTEXT, /* 502, critical record: no CiphertextForRecipient */
	REFUSAL_RELOADED,            /* 503: the rules changed while it waited */
	REFUSAL_SHUTTING_DOWN,       /* 503, close: the drain's time is over */
	REFUSAL_INTERNAL,            /* 500 KMSInternalException: memory or a machine failure */
	_REFUSAL_MAX,
};

struct refusal_info {
	int status;
	const char *type;    /* __type */
	enum reason reason;  /* of the record */
	const char *message; /* what it means, when the caller knows nothing better */
	bool close;          /* the connection ends with this answer */
	bool critical;       /* the journal record has priority crit */
	unsigned retry_msec; /* a throttled client is told to wait about so long; 0: it isn't,
			      * or the caller knows better */
};

/* The row of a refusal; REFUSAL_NONE has none (asserted). */
const struct refusal_info *refusal_info(enum refusal refusal);

/* The standard reason phrase of a status we send; "Unknown" for others. */
const char *http_reason_phrase(int status);

/* One such answer. */
struct refusal_answer {
	enum refusal refusal;
	const char *message; /* plain ASCII, escaped for JSON (another byte becomes a question
			      * mark); NULL: the row's */
	const char *request_id; /* a random UUID; it goes into the head as it is */
	usec_t wall;            /* its Date */
	usec_t retry_after;     /* x-amz-retry-after, which SDKs wait for; 0: the row's, if any,
				 * and up to as much again, so that they don't all come at once */
	bool close;             /* `Connection: close`; it is said too where the row says so */
};

/* Appends it to `out`: the head, and the body {"__type":...,"message":...}. 0, or -ENOMEM or
 * -EMSGSIZE with `out` unchanged. */
_must_check_ int refusal_write(const struct refusal_answer *answer, struct buf *out);
