/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The counters of an enclave: monotonic, written to the journal every 5 minutes and on SIGUSR1.
 */

enum counter {
	COUNTER_CONNECTIONS,
	COUNTER_CONNECTIONS_REFUSED, /* or ended without a request */
	COUNTER_REQUESTS,
	COUNTER_ALLOWED,
	COUNTER_REFUSED,   /* by framing, JSON or policy */
	COUNTER_THROTTLED, /* by a limit */
	COUNTER_FAILED, /* no credentials, no upstream, an answer that may not pass or was not
			   taken */
	/* what AWS KMS answered with an error: one of these as well */
	COUNTER_KMS_DENIED,    /* because of the request, or of the credentials */
	COUNTER_KMS_THROTTLED, /* because of the account's rate */
	COUNTER_KMS_FAILED, /* for want of its own, or with nothing that is an error of KMS */
	COUNTER_BYTES_IN,
	COUNTER_BYTES_OUT,
	COUNTER_TUNNELS,
	COUNTER_WAITED, /* requests that had to wait for a place in flight */
	_COUNTER_MAX,
};

/* The journal field of a counter, e.g. "REQUESTS". */
const char *counter_name(enum counter counter);
