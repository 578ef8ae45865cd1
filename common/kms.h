/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What we know of AWS KMS: the table of its 56 actions (API version 2014-11-01, target prefix
 * TrentService), and reading a request body with it. A new action is a new row (and
 * KMS_ACTIONS). The table is common/kms_table.c, the reading common/kms.c. */

#include "error.h"
#include "json.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

/* One bit an action fits a uint64_t: see struct rule. Row i of the table, which is in
 * alphabetical order, has bit i. */
#define KMS_ACTIONS 56

enum kms_flag {
	KMS_RECIPIENT = 1 << 0,    /* takes a Recipient: exactly five do */
	KMS_SECRET_REPLY = 1 << 1, /* its reply can hold a secret in clear */
	KMS_REPEATABLE = 1 << 2,  /* safe to send once more when the connection died: it changes
				   * nothing, so that a second time is as good as one */
	KMS_DESTRUCTIVE = 1 << 3, /* a rule that allows it earns a warning */
	KMS_PRIVILEGE = 1 << 4,   /* changes who may do what: a warning too */
	KMS_DELEGATION = 1 << 5,  /* hands authority over a key to others, beyond what a rule
				   * can limit: a rule must say `delegation: allow` */
	KMS_LABEL = 1 << 6,  /* changes aliases or tags, which policies may go by: a warning */
	KMS_REWRAP = 1 << 7, /* puts a secret under another key: with `keys: any` a warning */
	KMS_KEY_IMPLIED = 1 << 8, /* without the first of `keys` KMS takes any key that the
				   * ciphertext is under: a rule may have it added */
	KMS_EXTRA = 1 << 9,       /* no row of the table: `extra_actions` of a rule */
};

/* The lists end in NULL. At most two keys and two contexts. CreateGrant's Constraints aren't a
 * context: they limit what the grant is for, and the call itself uses none. */
struct kms_action {
	const char *name;            /* "Decrypt" */
	const char *const *members;  /* every top-level member */
	const char *const *keys;     /* the members that name a key or an alias */
	const char *const *contexts; /* the members that are an encryption context */
	const char *const *secrets;  /* the members of its reply that hold a secret in clear */
	unsigned flags;              /* enum kms_flag */
	/* A member that names a grant without its key, so that it may be of any; NULL: none.
	 * Not GrantTokens: they are of use for the request's own key only. */
	const char *token;
	/* What an action with KMS_DELEGATION hands authority to, for the journal: the member
	 * that names a principal, in one of two ways, or the one that is a policy; NULL: none.
	 */
	const char *grantees[2];
	const char *policy;
};

/* Row `index` of the table; `index` < KMS_ACTIONS. */
const struct kms_action *kms_action(unsigned index);

/* The index of the action of exactly this name, or -1. Binary search. */
int kms_action_index(struct slice name);

/* Its row, or NULL. */
const struct kms_action *kms_action_named(struct slice name);

/* The bit of a row of the table; of any other 0. */
uint64_t kms_action_bit(const struct kms_action *action);

/* The row of an action that the table lacks: KeyId is its only member, and whatever could be a
 * reason to refuse is supposed of it. `name` is borrowed. */
struct kms_action kms_extra_action(const char *name);

/* Whether requests of this action have this member. */
bool kms_has_member(const struct kms_action *action, struct slice name);

/* Whether a member of this name names a key, or a grant of any key, in some action. */
bool kms_names_key(struct slice name);

/* The parts of `arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE` that somebody asks for. They point
 * into the text. */
struct kms_arn {
	struct slice region;
	struct slice account;
	struct slice resource; /* "key/ID" or "alias/NAME" */
	struct slice id;       /* of a key; .p NULL in the ARN of an alias */
};

/* False, with *ret_arn untouched, on anything else. */
_must_check_ bool kms_read_arn(struct slice text, struct kms_arn *ret_arn);

enum kms_recipient {
	KMS_RECIPIENT_NONE,    /* no Recipient member */
	KMS_RECIPIENT_BAD,     /* there, but not as below */
	KMS_RECIPIENT_PRESENT, /* AttestationDocument is base64 (RFC 4648 4, padded, no spare
				* bits) of 1 to LIMIT_ATTESTATION bytes, KeyEncryptionAlgorithm
				* is RSAES_OAEP_SHA_256 */
};

/* A body that was read. All slices point into the body. */
struct kms_request {
	const struct kms_action *action;
	struct slice keys[2]; /* values of the row's `keys`, canonical; .p NULL where absent */
	int contexts[2];      /* nodes of the row's `contexts`, -1 where absent */
	enum kms_recipient recipient;
	bool has_token;             /* the row's `token` is there, with whatever value */
	bool has_policy;            /* the row's `policy`, likewise */
	bool has_extra;             /* members that the row doesn't have */
	struct slice grantees[2];   /* values of the row's `grantees`; .p NULL where absent */
	const struct json_doc *doc; /* borrowed: valid until the worker reads the next body */
};

/* How much longer kms_add_key() makes a body, at most. */
size_t kms_added_size(const struct kms_action *action, struct slice key);

/* Writes the first of the row's `keys` as the last member of body[0..n), which is canonical,
 * has room for kms_added_size() more, and lacks that member. `key` is canonical too. Returns
 * the new length. */
size_t kms_add_key(const struct kms_action *action, struct slice key, char *body, size_t n);

enum kms_result { KMS_BAD = 0, KMS_OK };

/* Understands a body that json_read() accepted: it is an object; every top-level member is in
 * the action's row, or in `extra`, a list that ends in NULL (NULL: none); members that name a
 * key or a grantee are non-empty strings; contexts are objects of strings; Recipient is an
 * object of AttestationDocument and KeyEncryptionAlgorithm (either may be missing), both
 * strings. So no null stands where policy looks. `error` (may be NULL) names the member and
 * what was expected. Pure, allocates nothing. */
_must_check_ enum kms_result kms_read(const struct kms_action *action, const char *const *extra,
				      const struct json_doc *doc,
				      struct kms_request *ret_request, struct error *error);

/* What a reply of KMS says, for the check of step 10. Of an error only KMS_REPLY_LEAKS means
 * anything: the others are verdicts on a success. */
enum kms_reply {
	KMS_REPLY_UNREADABLE = 0, /* not unambiguous JSON, or not an object */
	KMS_REPLY_LEAKS,          /* a secret member is present, not null and not empty */
	KMS_REPLY_NO_CIPHERTEXT,  /* no CiphertextForRecipient, or an empty one */
	KMS_REPLY_SAFE,
};

/* Judges the body of a reply, a success or an error, under `plaintext: refuse`. The secret
 * members of all actions are looked for, not only its own. Only one to an action with
 * KMS_SECRET_REPLY must have a ciphertext; one to any other may also be empty. `doc` is the
 * scratch for reading; `body` is rewritten in place, and unless it is unreadable *ret_n is its
 * canonical length. */
_must_check_ enum kms_reply kms_check_reply(const struct kms_action *action, char *body,
					    size_t n, struct json_doc *doc, size_t *ret_n);
