/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Policies and requests from literals, for the tests of policy.c and policy_index.c and for
 * fuzzing. Whatever can't be made aborts the program. */

#include "kms.h"
#include "policy.h"

#include <stddef.h>

/* A rule as a literal. */
struct spec {
	const char *name;
	const char *actions; /* with spaces between them; "": none */
	const char *keys[5]; /* "any" is `keys: any` */
	struct {
		const char *name, *values[3];
	} contexts[2];
	bool plaintext_allow, missing_key_add;
	uint64_t endpoints; /* 0: all */
	const char *extra_actions[2], *extra_members[3];
};

struct rule make_rule(const struct spec *spec, unsigned line);

/* Rules stand in lines 10, 20, ...; the first without a name ends them. The caller calls
 * policy_done(). */
struct policy make_policy(const struct spec *specs, size_t n);

/* Reads a body; the request lives until the next call. */
struct kms_request make_request(const char *action, const char *body);

/* The same, with what the rules of this policy know beyond the table. */
struct kms_request make_request_to(const struct policy *policy, const char *action,
				   const char *body);
