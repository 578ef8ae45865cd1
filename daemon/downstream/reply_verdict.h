/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an answer of the endpoint is: one that may be relayed, one that may not, or one that
 * blames us. Pure: of the answer's bytes, the rule, and what was signed. */

#include "clock.h"
#include "http_reply.h"
#include "json.h"
#include "kms_error.h"
#include "limit.h"
#include "refusal.h"
#include "skew.h"
#include "slice.h"

#include <stdbool.h>

/* What the answer is an answer to. */
struct kms_action;

struct reply_case {
	const struct kms_action *action;
	bool checked;            /* the rule demands that no secret comes back in clear */
	struct slice token;      /* the session token that was signed with; .p NULL: none */
	const struct skew *skew; /* which has learned from this answer already */
	usec_t correction;       /* of the clock, when it was signed */
};

enum reply_is {
	REPLY_IS_REFUSED = 0, /* not to be relayed */
	REPLY_IS_RELAYED,
	REPLY_IS_WRONG_CLOCK, /* the clock was wrong, and is known now */
	REPLY_BLAMES_US,      /* it doesn't take what we signed */
};

struct reply_verdict {
	enum reply_is is;
	bool accepted;              /* the endpoint took the credentials */
	enum refusal refusal;       /* to answer with, unless it is relayed */
	size_t body_n;              /* canonical length of a body that is relayed */
	enum kms_blame blame;       /* where it blames us */
	const char *type;           /* and the error type that does; static text */
	char error[LIMIT_NAME + 1]; /* the type of KMS's error, or "unknown"; "": it is none */
	char detail[LIMIT_LOG_VALUE + 1]; /* for the record; "": nothing to add */
};

/* Judges a whole answer, whose body is rewritten in place; `doc` is the scratch for reading. */
void reply_judge(const struct reply_case *about, struct http_reply *reply, struct json_doc *doc,
		 struct reply_verdict *ret_verdict);
