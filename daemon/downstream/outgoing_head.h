/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The head of a request to KMS, built from scratch: no byte that an enclave sent is in it.
 * Pure. */

#include "credentials.h"
#include "sigv4.h"
#include "slice.h"

#define OUTGOING_CONTENT_TYPE "application/x-amz-json-1.1"

/* Bytes that the head to this host needs at most; `credentials` may be NULL, which stand for
 * some without a session token. `host_header` is "" where there is no host yet. */
size_t outgoing_head_room(const char *host_header, const struct credentials *credentials);

/* What SigV4 is to sign: this body for this host and action (its name in the KMS table). All is
 * borrowed, and the target's text stands in `target`. */
#define OUTGOING_TARGET_SIZE 96
struct sigv4_request outgoing_request(const char *host_header, const char *region,
				      const char *action, struct slice body,
				      char target[OUTGOING_TARGET_SIZE]);

/* Writes the head so that it ends right before `body`, after outgoing_head_room() bytes of
 * room. Returns head and body as one. */
struct slice outgoing_head_write(const struct sigv4_request *request,
				 const struct sigv4_signature *signature,
				 const struct credentials *credentials);
