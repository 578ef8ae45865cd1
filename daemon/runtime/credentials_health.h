/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether AWS KMS takes the credentials that we sign with: one object an endpoint, since one
 * may reject what the others take (a region that the account hasn't enabled). They live outside
 * the configuration, keyed by the endpoint's name, and survive a reload. Workers tell what they
 * are answered; the control thread alone changes the state, and records it: once when
 * credentials are first rejected, once at the first success. Credentials that replace the
 * rejected ones begin anew. */

#include "clock.h"
#include "credentials.h"
#include "macro.h"
#include "named_table.h"
#include "rate_limit.h"

#include <stdbool.h>
#include <stdint.h>

struct mailbox;
struct message;

struct credentials_health {
	struct named named;        /* the endpoint's */
	_Atomic uint64_t rejected; /* serial of the credentials it rejects; 0: it takes them */
	_Atomic uint64_t waited;   /* serial of the last for whose successor requests waited */
	_Atomic usec_t wait_end;   /* of that wait, monotonic */
	/* the control thread's own */
	const char *why; /* the error type; static text */
	struct rate_limit changes;
};

/* All that this process has known, the control thread's; none is freed before the table. */
struct credentials_health_table;

_must_check_ int credentials_health_table_new(struct credentials_health_table **ret_table);
struct credentials_health_table *
credentials_health_table_free(struct credentials_health_table *table);
DEFINE_CLEANUP(struct credentials_health_table *, credentials_health_table_free)

/* That of the endpoint of this name; made if it isn't there. NULL when memory ran out. */
struct credentials_health *credentials_health_get(struct credentials_health_table *table,
						  const char *endpoint);

/* ---- for the workers, with the credentials that signed what was answered ---- */

/* An answer came that doesn't blame them. Costs a look at one word while nothing is wrong. */
void credentials_health_success(struct credentials_health *health,
				const struct credentials *credentials, struct mailbox *control);

/* An error came whose type `why` (static text) blames them; `refresh`: others may be better, so
 * that the source is asked. False: no memory to tell. */
_must_check_ bool credentials_health_rejection(struct credentials_health *health,
					       const struct credentials *credentials,
					       const char *why, bool refresh,
					       struct mailbox *control);

/* They were rejected: until when requests may wait for others, monotonic. It is `end` for the
 * first that asks, and that same moment for every later one, on whatever thread: soon it has
 * passed, and they need not wait. Of two that ask at once either may be the first. */
usec_t credentials_health_wait_end(struct credentials_health *health,
				   const struct credentials *credentials, usec_t end);

/* ---- for the control thread ---- */

/* Takes what a worker told (MESSAGE_REJECTED, MESSAGE_RECOVERED). What it says of others than
 * `current` (those in use, NULL if there are none) is history, and changes nothing but that a
 * success of newer ones than the rejected ends the rejection. Where KMS can't make up its mind
 * (its machines learn of a change one after the other), a rejection counts only now and then: 4
 * times, and then once in 30 s. */
void credentials_health_take(const struct message *message, const struct credentials *current,
			     usec_t now);

/* Whether it rejects the current ones. */
bool credentials_health_is_bad(const struct credentials_health *health,
			       const struct credentials *current);
