/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A token bucket in one atomic word (GCRA: the time at which the bucket is full again), so that
 * workers share it without a lock, and a counter with a ceiling for what is held at once. */

#include "clock.h"
#include "macro.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct rate {
	usec_t interval; /* microseconds a token takes to come back; at least 1 */
	uint32_t burst;  /* tokens a full bucket holds; at least 1 */
};

struct rate_limit {
	_Atomic int64_t full_at; /* monotonic; 0 is a full bucket */
};

/* Takes a token if there is one. `rate` may differ from call to call (a reload): a debt under
 * the old one is at most an empty bucket and a second under the new. `now` of several threads
 * may differ, by less than a second. When false, *ret_wait (may be NULL) is the time until the
 * next token. */
_must_check_ bool rate_limit_take(struct rate_limit *limit, struct rate rate, usec_t now,
				  usec_t *ret_wait);

/* For what is only known after it was used (bytes): takes `n` tokens whether they are there or
 * not. Whoever asks rate_limit_wait() first goes into debt by one use at most. */
void rate_limit_spend(struct rate_limit *limit, struct rate rate, uint64_t n, usec_t now);

/* The time until a debt is paid back; 0: there is none. */
usec_t rate_limit_wait(const struct rate_limit *limit, struct rate rate, usec_t now);

struct gauge {
	_Atomic uint64_t held;
};

/* Adds `n` unless that would pass `max`; false then. */
_must_check_ bool gauge_take(struct gauge *gauge, uint64_t n, uint64_t max);

/* Gives back what was taken; more than that is a programming error (asserted). */
void gauge_return(struct gauge *gauge, uint64_t n);
uint64_t gauge_read(const struct gauge *gauge);
