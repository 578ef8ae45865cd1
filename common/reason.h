/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Every word that the journal's REASON can be, as one table. The words and what they mean are
 * an interface: kms-vsock-proxyd(8) lists them all. */

#include "counter.h"

enum reason {
	REASON_NONE = 0, /* nothing to say: no field */
	REASON_ALLOWED,
	/* of a request, the words of refusal.h */
	REASON_FRAMING,
	REASON_HEAD_TOO_LARGE,
	REASON_BODY_TOO_LARGE,
	REASON_EXPECTATION,
	REASON_TOO_SLOW,
	REASON_RATE,
	REASON_IN_FLIGHT,
	REASON_MEMORY,
	REASON_JSON,
	REASON_UNKNOWN_ACTION,
	REASON_HOST,
	REASON_POLICY,
	REASON_NO_CREDENTIALS,
	REASON_BAD_CREDENTIALS,
	REASON_NO_UPSTREAM,
	REASON_NO_PROXY,
	REASON_PROXY_REFUSED,
	REASON_PROXY_BROKEN,
	REASON_QUEUE_TIMEOUT,
	REASON_UPSTREAM_LOST,
	REASON_UPSTREAM_TIMEOUT,
	REASON_UPSTREAM_MALFORMED,
	REASON_REPLY_LEAKS,
	REASON_REPLY_UNREADABLE,
	REASON_REPLY_NO_CIPHERTEXT,
	REASON_RELOADED,
	REASON_SHUTTING_DOWN,
	REASON_INTERNAL,
	/* of a request that no rule allows, the words of policy.h */
	REASON_NO_RULES,
	REASON_ENDPOINT,
	REASON_ACTION,
	REASON_MEMBER,
	REASON_KEY,
	REASON_ENCRYPTION_CONTEXT,
	REASON_RECIPIENT,
	/* of a connection */
	REASON_UNKNOWN_PEER,
	REASON_CONNECTIONS,
	REASON_NO_REQUEST,
	REASON_CUT_OFF,
	REASON_TLS,
	REASON_HTTP2,
	REASON_CLIENT_GONE,
	REASON_CLIENT_TOO_SLOW,
	/* of a tunnel that was refused */
	REASON_TUNNEL_HOST,
	REASON_NO_SERVER_NAME,
	REASON_CLIENT_HELLO,
	REASON_SERVER_NAME,
	REASON_TUNNEL_CONNECTIONS,
	/* of a tunnel that has ended */
	REASON_CLOSED_BY_ENCLAVE,
	REASON_CLOSED_BY_HOST,
	REASON_RESET_BY_ENCLAVE,
	REASON_RESET_BY_HOST,
	REASON_IDLE,
	REASON_HOST_TOO_SLOW,
	REASON_NO_LONGER_ALLOWED,
	_REASON_MAX,
};

struct reason_info {
	const char *word;     /* lower case, with dashes */
	enum counter counter; /* of its enclave, for a request that ends so */
	const char *sentence; /* as the man page has it */
};

/* The row of a reason; REASON_NONE has none (asserted). */
const struct reason_info *reason_info(enum reason reason);

/* Its word; NULL for REASON_NONE. */
const char *reason_word(enum reason reason);
