/* SPDX-License-Identifier: Apache-2.0 */
#include "refusal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The types and statuses are chosen for what SDKs do with them: they retry ThrottlingException,
 * RequestTimeoutException and the statuses 500, 502, 503 and 504, and nothing else here. */
static const struct refusal_info table[_REFUSAL_MAX] = {
	[REFUSAL_FRAMING] = {400, "SerializationException", REASON_FRAMING,
			     "The request is not the HTTP that this proxy accepts.", true,
			     false},
	[REFUSAL_HEAD_TOO_LARGE] = {431, "SerializationException", REASON_HEAD_TOO_LARGE,
				    "The request's head is too large.", true, false},
	[REFUSAL_BODY_TOO_LARGE] = {413, "RequestEntityTooLargeException",
				    REASON_BODY_TOO_LARGE,
				    "The request's body is larger than this enclave may send.",
				    true, false},
	[REFUSAL_EXPECTATION] = {417, "SerializationException", REASON_EXPECTATION,
				 "Only the expectation 100-continue can be met.", true, false},
	[REFUSAL_TOO_SLOW] = {408, "RequestTimeoutException", REASON_TOO_SLOW,
			      "The request did not arrive in time.", true, false},
	[REFUSAL_RATE] = {400, "ThrottlingException", REASON_RATE,
			  "The request rate of this enclave is exceeded.", false, false},
	[REFUSAL_IN_FLIGHT] = {400, "ThrottlingException", REASON_IN_FLIGHT,
			       "This enclave has too many requests in flight.", false, false,
			       100},
	[REFUSAL_MEMORY] = {400, "ThrottlingException", REASON_MEMORY,
			    "The memory for this enclave's requests is in use.", false, false,
			    100},
	[REFUSAL_CONNECTIONS] = {400, "ThrottlingException", REASON_CONNECTIONS,
				 "This enclave has too many connections.", true, false, 100},
	[REFUSAL_JSON] = {400, "SerializationException", REASON_JSON,
			  "The request's body is not the JSON that this action takes.", false,
			  false},
	[REFUSAL_UNKNOWN_ACTION] = {400, "UnknownOperationException", REASON_UNKNOWN_ACTION,
				    "X-Amz-Target names no action of AWS KMS.", false, false},
	[REFUSAL_HOST] = {400, "AccessDeniedException", REASON_HOST,
			  "Host names no endpoint of this enclave.", false, false},
	[REFUSAL_POLICY] = {400, "AccessDeniedException", REASON_POLICY,
			    "No rule of this enclave allows the request.", false, false},
	[REFUSAL_NO_CREDENTIALS] = {503, "ServiceUnavailableException", REASON_NO_CREDENTIALS,
				    "The proxy has no credentials yet.", false, false},
	[REFUSAL_BAD_CREDENTIALS] = {503, "ServiceUnavailableException", REASON_BAD_CREDENTIALS,
				     "AWS KMS does not accept the proxy's credentials.", false,
				     false},
	[REFUSAL_NO_UPSTREAM] = {503, "ServiceUnavailableException", REASON_NO_UPSTREAM,
				 "The endpoint can't be reached.", false, false},
	[REFUSAL_NO_PROXY] = {503, "ServiceUnavailableException", REASON_NO_PROXY,
			      "The endpoint can't be reached.", false, false},
	[REFUSAL_PROXY_REFUSED] = {503, "ServiceUnavailableException", REASON_PROXY_REFUSED,
				   "The endpoint can't be reached.", false, false},
	[REFUSAL_PROXY_BROKEN] = {503, "ServiceUnavailableException", REASON_PROXY_BROKEN,
				  "The endpoint can't be reached.", false, false},
	[REFUSAL_QUEUE_TIMEOUT] = {503, "ServiceUnavailableException", REASON_QUEUE_TIMEOUT,
				   "No connection to the endpoint became free in time.", false,
				   false},
	[REFUSAL_UPSTREAM_LOST] =
		{503, "ServiceUnavailableException", REASON_UPSTREAM_LOST,
		 "The connection to the endpoint ended before its answer did.", false, false},
	[REFUSAL_UPSTREAM_TIMEOUT] = {504, "DependencyTimeoutException",
				      REASON_UPSTREAM_TIMEOUT,
				      "The endpoint did not answer in time.", false, false},
	[REFUSAL_UPSTREAM_MALFORMED] =
		{502, "KMSInternalException", REASON_UPSTREAM_MALFORMED,
		 "The endpoint's answer is not HTTP that can be relayed.", false, false},
	[REFUSAL_REPLY_LEAKS] = {502, "KMSInternalException", REASON_REPLY_LEAKS,
				 "The answer holds a secret in clear and was not relayed.",
				 false, true},
	[REFUSAL_REPLY_UNREADABLE] =
		{502, "KMSInternalException", REASON_REPLY_UNREADABLE,
		 "The answer can't be checked for secrets in clear and was "
		 "not relayed.",
		 false, true},
	[REFUSAL_REPLY_NO_CIPHERTEXT] = {502, "KMSInternalException",
					 REASON_REPLY_NO_CIPHERTEXT,
					 "The answer lacks CiphertextForRecipient and was not "
					 "relayed.",
					 false, true},
	[REFUSAL_RELOADED] = {503, "ServiceUnavailableException", REASON_RELOADED,
			      "A reload changed this enclave's configuration while the request "
			      "waited.",
			      false, false},
	[REFUSAL_SHUTTING_DOWN] = {503, "ServiceUnavailableException", REASON_SHUTTING_DOWN,
				   "The proxy is shutting down.", true, false},
	[REFUSAL_INTERNAL] = {500, "KMSInternalException", REASON_INTERNAL,
			      "The proxy failed to handle the request.", false, false},
};

const struct refusal_info *refusal_info(enum refusal refusal)
{
	assert(refusal > REFUSAL_NONE && refusal < _REFUSAL_MAX);
	return &table[refusal];
}

const char *http_reason_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{100, "Continue"},
		{200, "OK"},
		{400, "Bad Request"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{408, "Request Timeout"},
		{413, "Content Too Large"},
		{417, "Expectation Failed"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
	};

	for (size_t i = 0; i < ELEMENTSOF(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Unknown";
}

static bool is_plain(char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static int append_json_byte(struct buf *out, unsigned char c)
{
	if (c == '"' || c == '\\')
		return buf_printf(out, "\\%c", c);
	if (c < 0x80)
		return buf_printf(out, "\\u%04x", c);
	return buf_append(out, SLICE("?"));
}

/* Appends `text` as the inside of a JSON string. Messages are ASCII; a byte that isn't becomes
 * a question mark, so that the answer is valid UTF-8 whatever happens. */
static int append_json(struct buf *out, const char *text)
{
	const char *p = text;
	int r = 0;

	while (r >= 0 && *p) {
		size_t n = 0;

		while (is_plain(p[n]))
			n++;
		r = n ? buf_append(out, (struct slice){p, n})
		      : append_json_byte(out, (unsigned char)*p);
		p += MAX(n, (size_t)1);
	}
	return r;
}

static int append_body(struct buf *out, const struct refusal_info *info, const char *message)
{
	const struct slice parts[] = {SLICE("{\"__type\":\""), slice_from(info->type),
				      SLICE("\",\"message\":\"")};
	int r = buf_append_all(out, parts, ELEMENTSOF(parts));

	if (r >= 0)
		r = append_json(out, message ?: info->message);
	return r < 0 ? r : buf_append(out, SLICE("\"}"));
}

/* Milliseconds; 0: nothing is said. The id is random, and serves for spreading. */
static unsigned long retry_after(const struct refusal_answer *answer)
{
	unsigned msec = refusal_info(answer->refusal)->retry_msec;
	size_t n = strlen(answer->request_id);

	if (answer->retry_after)
		return (unsigned long)(answer->retry_after / USEC_PER_MSEC) + 1;
	if (!msec)
		return 0;
	return msec + strtoul(answer->request_id + (n > 4 ? n - 4 : 0), NULL, 16) % msec;
}

static int append_head(struct buf *out, const struct refusal_answer *answer, size_t length)
{
	const struct refusal_info *info = refusal_info(answer->refusal);
	unsigned long retry = retry_after(answer);
	char date[CLOCK_HTTP_DATE_SIZE], status[SLICE_NUMBER_SIZE], size[SLICE_NUMBER_SIZE];
	char msec[SLICE_NUMBER_SIZE];
	const struct slice parts[] = {
		SLICE("HTTP/1.1 "),
		slice_from_number((unsigned)info->status, status),
		SLICE(" "),
		slice_from(http_reason_phrase(info->status)),
		SLICE("\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: "),
		slice_from(answer->request_id),
		SLICE("\r\nDate: "),
		slice_from(clock_format_http_date(answer->wall, date)),
		retry ? SLICE("\r\nx-amz-retry-after: ") : (struct slice){0},
		retry ? slice_from_number(retry, msec) : (struct slice){0},
		SLICE("\r\nContent-Length: "),
		slice_from_number(length, size),
		answer->close || info->close ? SLICE("\r\nConnection: close\r\n\r\n")
					     : SLICE("\r\n\r\n"),
	};

	return buf_append_all(out, parts, ELEMENTSOF(parts));
}

int refusal_write(const struct refusal_answer *answer, struct buf *out)
{
	_cleanup_(buf_done) struct buf body = BUF_INIT(out->max);
	size_t before = out->n;
	int r;

	r = append_body(&body, refusal_info(answer->refusal), answer->message);
	if (r >= 0)
		r = append_head(out, answer, body.n);
	if (r >= 0)
		r = buf_append(out, buf_slice(&body));
	if (r < 0)
		out->n = before;
	return r;
}
