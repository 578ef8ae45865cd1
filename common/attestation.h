/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An attestation document of a Nitro enclave, or of an instance with NitroTPM: a COSE_Sign1
 * (RFC 9052 4.2) signed with ES384, whose payload is a map of named members (the NSM API's
 * docs/attestation_process.md). It is read, NOT verified: whoever can write bytes can write one
 * that says anything. What a verification needs is here as it stands in the text. */

#include "error.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

#define ATTESTATION_PCRS 32
#define ATTESTATION_BUNDLE 8 /* certificates of issuers; 4 are usual */

/* All slices point into the document. .p is NULL where a member is null or left out. */
struct attestation {
	struct slice protected; /* the header that is signed: ES384 and nothing else */
	struct slice payload;
	struct slice signature; /* r and s, 48 bytes each */

	struct slice module_id;             /* printable */
	uint64_t timestamp;                 /* ms since 1970 */
	bool is_tpm;                        /* the registers are those of a NitroTPM */
	struct slice pcr[ATTESTATION_PCRS]; /* 32, 48 or 64 bytes each */
	struct slice certificate;
	struct slice bundle[ATTESTATION_BUNDLE]; /* the root first */
	size_t n_bundle;
	struct slice public_key;
	struct slice user_data;
	struct slice nonce;
};

enum attestation_result { ATTESTATION_BAD = 0, ATTESTATION_OK };

/* BAD leaves *ret_document untouched and sets `error`, which may be NULL, to what is wrong and
 * at which byte. Pure, allocates nothing. */
_must_check_ enum attestation_result
attestation_read(struct slice bytes, struct attestation *ret_document, struct error *error);

/* Whether the register is there and all of it is zero. Of PCR0, the measure of the image, that
 * is debug mode: nobody can ask for such an image in a key policy. */
bool attestation_pcr_is_zero(const struct attestation *document, unsigned pcr);

#define ATTESTATION_KEY_SIZE 64

/* What the public key is, such as "RSA, 2048 bits" or "none", in `out`, which has
 * ATTESTATION_KEY_SIZE bytes. KMS seals to an RSA key. Returns out. */
const char *attestation_key_kind(const struct attestation *document, char *out);
