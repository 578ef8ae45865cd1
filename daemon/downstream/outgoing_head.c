/* SPDX-License-Identifier: Apache-2.0 */
#include "outgoing_head.h"

#include "limit.h"

#include <assert.h>
#include <string.h>

#define TARGET_PREFIX "TrentService."
#define USER_AGENT "kms-vsock-proxy/" PROJECT_VERSION

#define FIXED_ROOM KIB /* of a head without its host and session token */

static_assert(sizeof(TARGET_PREFIX) + LIMIT_NAME <= OUTGOING_TARGET_SIZE,
	      "an action's name fits");

size_t outgoing_head_room(const char *host_header, const struct credentials *credentials)
{
	size_t n = FIXED_ROOM + strlen(host_header);

	if (credentials && credentials->session_token)
		n += strlen(credentials->session_token);
	return n;
}

struct sigv4_request outgoing_request(const char *host_header, const char *region,
				      const char *action, struct slice body,
				      char target[OUTGOING_TARGET_SIZE])
{
	size_t n = strlen(action);

	memcpy(target, TARGET_PREFIX, strlen(TARGET_PREFIX));
	memcpy(target + strlen(TARGET_PREFIX), action, n + 1);
	return (struct sigv4_request){
		.host = slice_from(host_header),
		.region = slice_from(region),
		.service = SLICE("kms"),
		.content_type = SLICE(OUTGOING_CONTENT_TYPE),
		.target = {target, strlen(TARGET_PREFIX) + n},
		.body = body,
	};
}

/* Puts `s` before `*at`. The head is written backwards, so that it ends where the body begins.
 */
static void prepend(char **at, struct slice s)
{
	*at -= s.n;
	if (s.n)
		memcpy(*at, s.p, s.n);
}

struct slice outgoing_head_write(const struct sigv4_request *request,
				 const struct sigv4_signature *signature,
				 const struct credentials *credentials)
{
	char *end = (char *)request->body.p, *at = end;
	char length[SLICE_NUMBER_SIZE];

	prepend(&at, SLICE("\r\n\r\n"));
	prepend(&at, slice_from_number(request->body.n, length));
	prepend(&at, SLICE("\r\nUser-Agent: " USER_AGENT "\r\nContent-Length: "));
	prepend(&at, (struct slice){signature->authorization, signature->authorization_n});
	prepend(&at, SLICE("\r\nAuthorization: "));
	if (credentials->session_token) {
		prepend(&at, slice_from(credentials->session_token));
		prepend(&at, SLICE("\r\nX-Amz-Security-Token: "));
	}
	prepend(&at, slice_from(signature->amz_date));
	prepend(&at, SLICE("\r\nX-Amz-Date: "));
	prepend(&at, request->target);
	prepend(&at, SLICE("\r\nContent-Type: " OUTGOING_CONTENT_TYPE "\r\nX-Amz-Target: "));
	prepend(&at, request->host);
	prepend(&at, SLICE("POST / HTTP/1.1\r\nHost: "));
	return (struct slice){at, (size_t)(end - at) + request->body.n};
}
