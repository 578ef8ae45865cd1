/* SPDX-License-Identifier: Apache-2.0 */
#include "rate_limit.h"

#include "macro.h"

#include <assert.h>

/* The bucket fills up at one token an interval; a token taken moves the time at which it is
 * full one interval on, and a bucket whose full time is `burst` intervals away is empty.
 * Relaxed order is enough: the word guards nothing but itself. */

/* How far `now` of two threads may be apart. A full time that is further off than that comes
 * from before a reload: with it, the enclave would wait for as long as the old rate said. */
#define CLOCK_SPREAD USEC_PER_SEC

#define LONGEST (INT64_MAX / 4) /* so that no sum below overflows */

/* The time an empty bucket takes to fill. */
static usec_t capacity(usec_t interval, uint32_t burst)
{
	usec_t c;

	if (__builtin_mul_overflow(interval, (usec_t)burst, &c))
		return LONGEST;
	return MIN(c, LONGEST);
}

bool rate_limit_take(struct rate_limit *limit, struct rate rate, usec_t now, usec_t *ret_wait)
{
	usec_t interval = MIN(rate.interval, LONGEST);
	usec_t empty = now + capacity(interval, rate.burst);
	int64_t old = atomic_load_explicit(&limit->full_at, memory_order_relaxed);
	int64_t full_at, next;
	bool taken;

	assert(rate.interval >= 1 && rate.burst >= 1);
	do {
		full_at = old > empty + CLOCK_SPREAD ? empty : MAX(old, now);
		taken = full_at + interval <= empty;
		next = taken ? full_at + interval : full_at;
		if (next == old)
			break;
	} while (!atomic_compare_exchange_weak_explicit(
		&limit->full_at, &old, next, memory_order_relaxed, memory_order_relaxed));
	if (!taken && ret_wait)
		*ret_wait = full_at + interval - empty;
	return taken;
}

void rate_limit_spend(struct rate_limit *limit, struct rate rate, uint64_t n, usec_t now)
{
	usec_t cost =
		capacity(MIN(rate.interval, LONGEST), (uint32_t)MIN(n, (uint64_t)UINT32_MAX));
	usec_t empty = now + capacity(rate.interval, rate.burst);
	int64_t old = atomic_load_explicit(&limit->full_at, memory_order_relaxed);
	int64_t next;

	do {
		next = MAX(old, now) + cost;
		next = MIN(next, empty + LONGEST);
	} while (!atomic_compare_exchange_weak_explicit(
		&limit->full_at, &old, next, memory_order_relaxed, memory_order_relaxed));
}

usec_t rate_limit_wait(const struct rate_limit *limit, struct rate rate, usec_t now)
{
	usec_t empty = now + capacity(rate.interval, rate.burst);
	int64_t full_at = atomic_load_explicit(&limit->full_at, memory_order_relaxed);

	return full_at > empty ? full_at - empty : 0;
}

/* In the one order of all threads, since place.c looks at other words after these. */
bool gauge_take(struct gauge *gauge, uint64_t n, uint64_t max)
{
	uint64_t held = atomic_load(&gauge->held);

	do {
		if (n > max || held > max - n)
			return false;
	} while (!atomic_compare_exchange_weak(&gauge->held, &held, held + n));
	return true;
}

void gauge_return(struct gauge *gauge, uint64_t n)
{
	uint64_t held = atomic_fetch_sub(&gauge->held, n);

	assert(held >= n); /* else something was returned twice */
	(void)held;
}

uint64_t gauge_read(const struct gauge *gauge)
{
	return atomic_load(&gauge->held);
}
