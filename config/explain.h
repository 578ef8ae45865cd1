/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "clock.h"
#include "config.h"
#include "slice.h"

#define EXPLAIN_KEYS 2
#define EXPLAIN_CONTEXTS 16

struct explain_question {
	const char *enclave, *action;
	const char *host; /* NULL: the default endpoint */
	usec_t now;       /* wall clock, for the age of an attestation document */

	/* The body, which is rewritten in place; or NULL, and it is made of what follows. */
	char *body;
	size_t n;

	const char *keys[EXPLAIN_KEYS]; /* KEY or MEMBER=KEY */
	size_t n_keys;
	const char *contexts[EXPLAIN_CONTEXTS]; /* NAME=VALUE */
	size_t n_contexts;
	struct slice document; /* of the Recipient; .p NULL: none */
};

/* --explain: runs the real reader and policy on a body and prints the verdict with the rule and
 * the line that gave it. Returns 0 when allowed, 1 when refused, -EINVAL with `error` when
 * enclave or action is unknown, or the action has no member for a key or context. */
_must_check_ int config_explain(const struct config *config,
				const struct explain_question *question, FILE *f,
				struct error *error);
