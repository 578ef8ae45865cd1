/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An enclave's policy: rules in file order, the first that matches decides, none means refuse.
 * Built by config/, immutable afterwards. */

#include "kms.h"
#include "macro.h"
#include "reason.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_ENDPOINTS 64 /* endpoints of one configuration: a bit each in a rule */

/* One pair that must be present in each encryption context of the action. Canonical JSON text.
 */
struct rule_context {
	char *name;
	char **values; /* one of them; at least one */
	size_t n_values;
};

struct rule {
	char *name;
	const char *file; /* of the configuration, for messages; NULL: not from one. Borrowed */
	unsigned line;    /* in it */
	uint64_t actions; /* bit i: row i of the KMS table */
	uint64_t endpoints; /* bit i: endpoint i of the configuration */
	bool any_key;       /* `keys: any` */
	char **keys;        /* canonical JSON text, as requests are; in any order */
	size_t n_keys;
	bool missing_key_add; /* `missing_key: add` */
	/* policy_prepare() sets these. */
	bool many_accounts;      /* rule_foreign_key() finds one */
	struct slice add_region; /* where keys[0] is given to a request that lacks its key; .p
				  * NULL: nowhere */
	struct rule_context *contexts;
	size_t n_contexts;
	bool plaintext_allow;  /* `plaintext: allow` */
	bool delegation_allow; /* `delegation: allow`: there if an action has KMS_DELEGATION,
				* and only then */
	/* What the table of KMS lacks. Names; of members that is their canonical JSON text. */
	char **extra_actions;
	size_t n_extra_actions;
	char **extra_members; /* of each action of the rule */
	size_t n_extra_members;
	bool extra_members_hold_no_key; /* the operator says so */
};

struct policy {
	struct rule *rules;
	size_t n_rules;
	/* policy_prepare() makes these. */
	struct policy_index *index;
	size_t add_room; /* of the longest member that a rule may add to a body */
	struct kms_action *extra_actions; /* those of all rules; one may be there twice */
	size_t n_extra_actions;
	const char **extra_members; /* the same; ends in NULL; NULL: there is none */
};

/* Which of the rule's keys is the first ARN of another account than the first ARN has, or -1. A
 * bare id means a key of one account, and of which one the request doesn't say: where there are
 * several, it equals no listed ARN's id. */
int rule_foreign_key(const struct rule *rule);

/* Whether the rule's keys are what `missing_key: add` needs, a single ARN of a key: then its
 * region, else .p is NULL. */
struct slice rule_key_region(const struct rule *rule);

/* The action of this name, of the table or an extra one of a rule; else NULL. Lives as long as
 * the policy. */
const struct kms_action *policy_action(const struct policy *policy, struct slice name);

/* Makes the index of keys, once the rules are filled in; nothing of them may change afterwards.
 * A policy that was not prepared refuses everything. 0 or -ENOMEM. */
_must_check_ int policy_prepare(struct policy *policy);

/* Frees the index and what the rules own; the policy is empty afterwards. */
void policy_done(struct policy *policy);

/* How far a rule got, in the order it is tried. The last value is a match. */
enum policy_stage {
	POLICY_NO_RULES, /* the enclave has none */
	POLICY_ENDPOINT, /* refused there */
	POLICY_ACTION,
	POLICY_MEMBER,
	POLICY_KEY,
	POLICY_CONTEXT,
	POLICY_RECIPIENT,
	POLICY_ALLOWED,
};

/* The endpoint a request goes to, as far as the policy needs it. */
struct policy_endpoint {
	unsigned index;     /* in the configuration: the bit of struct rule */
	const char *region; /* a bare key id equals the id of a listed ARN of this region,
			     * unless the rule has ARNs of more than one account */
};

struct verdict {
	enum policy_stage
		stage; /* POLICY_ALLOWED: allowed by `rule`; else refused at this stage */
	const struct rule *rule; /* the rule that matched, or the one that got furthest (ties:
				  * the first); NULL when there are no rules */
	int member;        /* the node of request->doc that failed at POLICY_MEMBER, else -1 */
	int key;           /* index of kms_request.keys[] that failed at POLICY_KEY, else -1;
			    * an absent key is failed too */
	int context;       /* index of kms_request.contexts[] that failed at POLICY_CONTEXT */
	int pair;          /* and of the rule's pair that it lacks; else -1 */
	const char *added; /* the rule's key, where it matched as if the request named it as the
			    * first of the action's keys: it must be added; else NULL */
};

/* Pure: decides by the rules alone. Never fails. */
struct verdict policy_decide(const struct policy *policy, struct policy_endpoint endpoint,
			     const struct kms_request *request);

/* Why a request that got no further than this stage is refused; POLICY_ALLOWED is
 * REASON_ALLOWED.
 */
enum reason policy_stage_reason(enum policy_stage stage);

/* Writes the sentence for the client and the journal, e.g.
 * `rule "unwrap-data-keys" (kms-vsock-proxy.yaml:31) does not allow key alias/x`. Values from
 * the request are escaped and clipped. `out` is at least 512 bytes. Returns out. */
const char *verdict_explain(const struct verdict *verdict, const struct kms_request *request,
			    char *out, size_t size);
