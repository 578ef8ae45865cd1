/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* When credentials are asked for again. Pure. The rules are those that the AWS SDKs agreed on
 * for their credential caches (2026), for a cache that asks ahead by itself instead of when a
 * request comes. */

#include "clock.h"
#include "macro.h"

#include <stdbool.h>
#include <stdint.h>

/* What became of the last attempt. */
struct refresh {
	usec_t left; /* how long the credentials we have last, by the wall clock; 0 or less:
		      * expired */
	bool have;   /* there are any */
	bool never_expire; /* and they have no expiration; `left` means nothing */
	unsigned failures; /* attempts that failed since the last that didn't; 0: it gave those
			    */
};

/* How long to wait until the next attempt; -1: for ever. `random` is any 64 bits.
 * - It worked: until a window before expiry, and a random part of the first quarter of the
 * window. The window is 60 minutes, 15 for credentials that last less than 90, and 5 for those
 * that last 20 or less. Credentials that are in their last 5 minutes when we get them: 30 s, in
 * their last minute 5 s.
 * - It failed, and what we have has not expired, or we have none: 1 s, doubled each time up to
 * 60 s, less a random part of up to a half.
 * - It failed, and what we have has expired (it is used all the same): 300 to 600 s. */
usec_t refresh_delay(const struct refresh *refresh, uint64_t random);

/* KMS has rejected the credentials we have: whether to ask at once, given how long ago a
 * rejection last made us ask. A request that is refused again and again must not make us ask as
 * often. */
bool refresh_early(usec_t since_last);
