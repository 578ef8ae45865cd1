/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A row of the tables of policy.c: rules and a request, and what is decided. */

#include "policy_spec.h"

#define KEY(k) "\"KeyId\":\"" k "\""
#define RECIPIENT                                                                              \
	"\"Recipient\":{\"AttestationDocument\":\"QUJD\","                                     \
	"\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}"

/* Endpoint 0 is in eu-central-1, endpoint 1 in us-east-1. */
extern const struct policy_endpoint row_endpoints[3];

struct row {
	const char *what;
	const char *action, *body;
	struct spec rules[4];
	enum policy_stage stage;
	int rule;                /* -1: none */
	const char *explanation; /* NULL: the one of POLICY_ALLOWED */
	unsigned endpoint;
	int member, key, context, pair; /* one more than in the verdict, so that 0 is its -1 */
	const char *added;
};

/* Decides and explains; fails the test of check where the row says otherwise. */
void decide_row(const struct row *row);
