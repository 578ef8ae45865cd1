/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* AWS Signature Version 4 for one shape of request: POST / with a JSON body, service kms by
 * default (facts: AWS General Reference, "Create a signed AWS API request"). */

#include "buf.h"
#include "clock.h"
#include "credentials.h"
#include "macro.h"
#include "slice.h"

#define SIGV4_AUTHORIZATION_MAX 640

/* A signer keeps the digests fetched once, and of one set of credentials the derived keys of
 * the last few (date, region, service) and hashes that depend on the session token
 * (canonical.h). One a worker; not shared by threads. */
struct signer;

_must_check_ int signer_new(struct signer **ret_signer);
struct signer *
signer_free(struct signer *s); /* wipes what it keeps; accepts and returns NULL */
DEFINE_CLEANUP(struct signer *, signer_free)

/* Wipes what is kept of the credentials, as when they rotate. */
void signer_forget(struct signer *s);

/* What is signed. The signed headers are content-type, host, x-amz-date, x-amz-security-token
 * (when the credentials have one), x-amz-target. The values are taken as they are: the caller
 * sends them byte for byte, and none has space at its ends, two spaces in a row, CR or LF. */
struct sigv4_request {
	struct slice host;         /* lower case, ":port" unless 443 */
	struct slice region;       /* at most 64 bytes, no slash */
	struct slice service;      /* "kms"; at most 32 bytes, no slash */
	struct slice content_type; /* "application/x-amz-json-1.1" */
	struct slice target; /* "TrentService.Decrypt"; empty: header not sent, not signed */
	struct slice body;
};

struct sigv4_signature {
	char amz_date[CLOCK_AMZ_DATE_SIZE];
	char authorization[SIGV4_AUTHORIZATION_MAX]; /* the header's value, NUL-terminated */
	size_t authorization_n;
};

/* Signs for the moment `wall` (already corrected for skew). Both dates come from this one
 * value. 0, -EINVAL or -EMSGSIZE when region or service is not as said above or a name is too
 * long for the header, -EINVAL when the credentials have no serial, -ENOMEM, -EIO when OpenSSL
 * fails (also when the secure heap is full). */
_must_check_ int sigv4_sign(struct signer *s, const struct credentials *credentials,
			    const struct sigv4_request *request, usec_t wall,
			    struct sigv4_signature *ret_signature);

/* The stages, for tests: append the canonical request and the string to sign to the buffers. */
_must_check_ int sigv4_canonical_request(struct signer *s,
					 const struct credentials *credentials,
					 const struct sigv4_request *request, usec_t wall,
					 struct buf *out);
_must_check_ int sigv4_string_to_sign(struct signer *s, const struct credentials *credentials,
				      const struct sigv4_request *request, usec_t wall,
				      struct buf *out);
