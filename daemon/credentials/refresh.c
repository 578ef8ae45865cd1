/* SPDX-License-Identifier: Apache-2.0 */
#include "refresh.h"

#define MINUTE (60 * USEC_PER_SEC)

#define MANDATORY MINUTE /* this near to their end new ones are overdue */
#define INSIDE_WINDOW (30 * USEC_PER_SEC)
#define INSIDE_MANDATORY (5 * USEC_PER_SEC)

#define BACKOFF_FIRST USEC_PER_SEC
#define BACKOFF_MAX MINUTE
#define EXPIRED_MIN (5 * MINUTE)
#define EXPIRED_MAX (10 * MINUTE)

#define EARLY_AGAIN (30 * USEC_PER_SEC)

/* A value from 0 up to, but not including, `range`. */
static usec_t part(usec_t range, uint64_t random)
{
	return (usec_t)(random % (uint64_t)range);
}

static usec_t window(usec_t lifetime)
{
	static const struct {
		usec_t below, window;
	} rows[] = {
		{20 * MINUTE + 1, 5 * MINUTE},
		{90 * MINUTE, 15 * MINUTE},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++)
		if (lifetime < rows[i].below)
			return rows[i].window;
	return 60 * MINUTE;
}

/* IMDS has new credentials at least 5 minutes before the old ones end, but not always as early
 * as we ask: getting the same ones again, we come here with less left and a narrower window. */
static usec_t after_success(usec_t left, uint64_t random)
{
	usec_t ahead = window(left);

	if (left > ahead)
		return MAX(left - ahead + part(ahead / 4, random), INSIDE_WINDOW);
	return left > MANDATORY ? INSIDE_WINDOW : INSIDE_MANDATORY;
}

static usec_t backoff(unsigned failures, uint64_t random)
{
	usec_t delay = BACKOFF_FIRST;

	while (--failures && delay < BACKOFF_MAX)
		delay *= 2;
	delay = MIN(delay, BACKOFF_MAX);
	return delay - part(delay / 2, random);
}

usec_t refresh_delay(const struct refresh *refresh, uint64_t random)
{
	bool expired = refresh->have && !refresh->never_expire && refresh->left <= 0;

	if (expired)
		return EXPIRED_MIN + part(EXPIRED_MAX - EXPIRED_MIN, random);
	if (refresh->failures)
		return backoff(refresh->failures, random);
	if (refresh->never_expire)
		return -1;
	return after_success(refresh->left, random);
}

bool refresh_early(usec_t since_last)
{
	return since_last >= EARLY_AGAIN;
}
