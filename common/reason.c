/* SPDX-License-Identifier: Apache-2.0 */
#include "reason.h"

#include <assert.h>
#include <stddef.h>

static const struct reason_info table[_REASON_MAX] = {
	[REASON_ALLOWED] = {"allowed", COUNTER_ALLOWED, "it was allowed, and answered"},
	/* of a request, the words of refusal.h */
	[REASON_FRAMING] = {"framing", COUNTER_REFUSED,
			    "it is not the HTTP that the proxy accepts"},
	[REASON_HEAD_TOO_LARGE] = {"head-too-large", COUNTER_REFUSED, "its head is too large"},
	[REASON_BODY_TOO_LARGE] = {"body-too-large", COUNTER_REFUSED,
				   "its body is larger than limits.body allows"},
	[REASON_EXPECTATION] = {"expectation", COUNTER_REFUSED,
				"it expects something else than 100-continue"},
	[REASON_TOO_SLOW] = {"too-slow", COUNTER_REFUSED, "it did not arrive in time"},
	[REASON_RATE] = {"rate", COUNTER_THROTTLED,
			 "limits.requests of the enclave is used up"},
	[REASON_IN_FLIGHT] = {"in-flight", COUNTER_THROTTLED,
			      "limits.in_flight of the enclave is reached"},
	[REASON_MEMORY] = {"memory", COUNTER_THROTTLED,
			   "the enclave's share of memory is in use, or the machine has none "
			   "left"},
	[REASON_JSON] = {"json", COUNTER_REFUSED,
			 "its body is not the JSON that the action takes"},
	[REASON_UNKNOWN_ACTION] = {"unknown-action", COUNTER_REFUSED,
				   "it names no action of AWS KMS"},
	[REASON_HOST] = {"host", COUNTER_REFUSED, "its Host names no endpoint of the enclave"},
	[REASON_POLICY] = {"policy", COUNTER_REFUSED,
			   "no rule allows it: the record then has one of the words below "
			   "instead"},
	[REASON_NO_CREDENTIALS] = {"no-credentials", COUNTER_FAILED,
				   "there are no credentials yet"},
	[REASON_BAD_CREDENTIALS] =
		{"bad-credentials", COUNTER_FAILED,
		 "KMS does not accept the credentials, or what was signed with them"},
	[REASON_NO_UPSTREAM] = {"no-upstream", COUNTER_FAILED,
				"no connection to the endpoint or host can be made"},
	[REASON_NO_PROXY] = {"proxy-unreachable", COUNTER_FAILED,
			     "no connection to the outbound proxy can be made"},
	[REASON_PROXY_REFUSED] = {"proxy-refused", COUNTER_FAILED,
				  "the outbound proxy answered with a status that is no 2xx"},
	[REASON_PROXY_BROKEN] = {"proxy-broken", COUNTER_FAILED,
				 "the outbound proxy gave no answer, or one that it must not"},
	[REASON_QUEUE_TIMEOUT] = {"queue-timeout", COUNTER_FAILED,
				  "no connection to the endpoint became free in time"},
	[REASON_UPSTREAM_LOST] = {"upstream-lost", COUNTER_FAILED,
				  "the connection to the endpoint ended before its answer did"},
	[REASON_UPSTREAM_TIMEOUT] = {"upstream-timeout", COUNTER_FAILED,
				     "the endpoint or host did not answer in time"},
	[REASON_UPSTREAM_MALFORMED] = {"upstream-malformed", COUNTER_FAILED,
				       "the endpoint's answer can't be relayed"},
	[REASON_REPLY_LEAKS] = {"reply-leaks", COUNTER_FAILED,
				"the answer holds a secret in clear, or the session token"},
	[REASON_REPLY_UNREADABLE] = {"reply-unreadable", COUNTER_FAILED,
				     "the answer can't be checked for secrets in clear"},
	[REASON_REPLY_NO_CIPHERTEXT] = {"reply-no-ciphertext", COUNTER_FAILED,
					"the answer lacks CiphertextForRecipient"},
	[REASON_RELOADED] = {"reloaded", COUNTER_FAILED,
			     "a reload changed the enclave's rules while it waited"},
	[REASON_SHUTTING_DOWN] =
		{"shutting-down", COUNTER_FAILED,
		 "the daemon stops, and the time for what is in flight is over"},
	[REASON_INTERNAL] = {"internal", COUNTER_FAILED, "the proxy failed to handle it"},
	/* of a request that no rule allows, the words of policy.h */
	[REASON_NO_RULES] = {"no-rules", COUNTER_REFUSED, "the enclave has none"},
	[REASON_ENDPOINT] = {"endpoint", COUNTER_REFUSED, "the rule is for others"},
	[REASON_MEMBER] = {"member", COUNTER_REFUSED,
			   "it does not allow a member that only another rule allows"},
	[REASON_ACTION] = {"action", COUNTER_REFUSED, "it does not allow the action"},
	[REASON_KEY] = {"key", COUNTER_REFUSED,
			"it does not allow a key, or the request names none"},
	[REASON_ENCRYPTION_CONTEXT] = {"encryption-context", COUNTER_REFUSED,
				       "a pair is missing, or has another value"},
	[REASON_RECIPIENT] = {"recipient", COUNTER_REFUSED,
			      "no attestation document, or one that KMS would not use"},
	/* of a connection */
	[REASON_UNKNOWN_PEER] = {"unknown-peer", COUNTER_REFUSED,
				 "no enclave has this CID, or a reload has just removed it"},
	[REASON_CONNECTIONS] = {"connections", COUNTER_THROTTLED,
				"the enclave has as many as it may have"},
	[REASON_NO_REQUEST] = {"no-request", COUNTER_REFUSED, "it ended without a request"},
	[REASON_CUT_OFF] = {"cut-off", COUNTER_REFUSED, "it ended in the middle of one"},
	[REASON_TLS] = {"tls", COUNTER_REFUSED, "it speaks TLS, and the enclave has no tunnel"},
	[REASON_HTTP2] =
		{"http2", COUNTER_REFUSED,
		 "it speaks HTTP/2 from its first byte on; only HTTP/1.1 is spoken here"},
	[REASON_CLIENT_GONE] =
		{"client-gone", COUNTER_FAILED,
		 "the enclave closed it before it had its answer; where KMS had the "
		 "request, KMS_STATUS says what became of it; as long as nothing "
		 "comes from a peer, not even a reset, it counts as there until the "
		 "request's own time is over"},
	[REASON_CLIENT_TOO_SLOW] =
		{"client-too-slow", COUNTER_FAILED,
		 "the enclave did not take its answer, or what the host sent"},
	/* of a tunnel that was refused */
	[REASON_TUNNEL_HOST] = {"tunnel-host", COUNTER_REFUSED,
				"the host is not one of the enclave's tunnel.hosts"},
	[REASON_NO_SERVER_NAME] = {"no-server-name", COUNTER_REFUSED,
				   "the ClientHello has no server name, and no CONNECT "
				   "came before it"},
	[REASON_CLIENT_HELLO] = {"client-hello", COUNTER_REFUSED, "it is malformed"},
	[REASON_SERVER_NAME] = {"server-name", COUNTER_REFUSED,
				"it names another host than the CONNECT"},
	[REASON_TUNNEL_CONNECTIONS] = {"tunnel-connections", COUNTER_REFUSED,
				       "the enclave has as many tunnels as it may have"},
	/* of a tunnel that has ended */
	[REASON_CLOSED_BY_ENCLAVE] = {"closed-by-enclave", COUNTER_FAILED,
				      "the enclave closed it first"},
	[REASON_CLOSED_BY_HOST] = {"closed-by-host", COUNTER_FAILED,
				   "the host closed it first"},
	[REASON_RESET_BY_ENCLAVE] = {"reset-by-enclave", COUNTER_FAILED,
				     "the enclave broke it off"},
	[REASON_RESET_BY_HOST] = {"reset-by-host", COUNTER_FAILED, "the host broke it off"},
	[REASON_IDLE] = {"idle", COUNTER_FAILED, "no byte for as long as idle says"},
	[REASON_HOST_TOO_SLOW] = {"host-too-slow", COUNTER_FAILED,
				  "the host did not take what the enclave sent"},
	[REASON_NO_LONGER_ALLOWED] = {"no-longer-allowed", COUNTER_FAILED,
				      "a reload took its host or its enclave away"},
};

const struct reason_info *reason_info(enum reason reason)
{
	assert(reason > REASON_NONE && reason < _REASON_MAX);
	return &table[reason];
}

const char *reason_word(enum reason reason)
{
	return reason ? reason_info(reason)->word : NULL;
}
