/* SPDX-License-Identifier: Apache-2.0 */
#include "flood.h"

#include "limit.h"

static const struct rate flood_rate = {
	.interval = USEC_PER_SEC / LIMIT_AUDIT_REFUSALS_PER_SEC,
	.burst = LIMIT_AUDIT_BURST,
};

bool flood_admit(struct flood *flood, usec_t now)
{
	if (rate_limit_take(&flood->limit, flood_rate, now, NULL))
		return true;
	atomic_fetch_add_explicit(&flood->suppressed, 1, memory_order_relaxed);
	return false;
}

uint64_t flood_take_suppressed(struct flood *flood)
{
	return atomic_exchange_explicit(&flood->suppressed, 0, memory_order_relaxed);
}
