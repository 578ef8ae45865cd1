/* SPDX-License-Identifier: Apache-2.0 */
#include "skew.h"

#include <stdatomic.h>

#define ROUND_TRIP_MAX (15 * 60 * USEC_PER_SEC) /* if longer, the two times say too little */

/* A clock that is a day off is for a person to mend; we don't sign for days far away, since
 * such a signature would still be good then. */
#define SKEW_MAX (24 * 60 * 60 * USEC_PER_SEC)

/* Date has whole seconds and the way takes a while, so every clock looks a little off. KMS
 * allows 5 minutes: up to here nothing is gained by correcting, and signatures keep the
 * machine's time. */
#define CORRECT_ABOVE (30 * USEC_PER_SEC)

/* A signature this far off may have been refused for it: the 5 minutes less what Date and the
 * way may hide. */
#define EXPLAINS_ABOVE (4 * 60 * USEC_PER_SEC)

static usec_t magnitude(usec_t usec)
{
	return usec < 0 ? -usec : usec;
}

void skew_learn(struct skew *skew, const struct skew_sample *sample)
{
	usec_t round_trip = sample->received - sample->sent, date, seen;

	/* Negative: the clock was set back meanwhile. */
	if (sample->has_age || round_trip < 0 || round_trip > ROUND_TRIP_MAX)
		return;
	if (!sample->date.p || !clock_parse_http_date(sample->date, &date))
		return;
	seen = date - (sample->sent + round_trip / 2);
	if (magnitude(seen) > SKEW_MAX)
		return;
	atomic_store_explicit(&skew->usec, seen, memory_order_relaxed);
}

usec_t skew_seen(const struct skew *skew)
{
	return atomic_load_explicit(&skew->usec, memory_order_relaxed);
}

usec_t skew_correction(const struct skew *skew)
{
	usec_t seen = skew_seen(skew);

	return magnitude(seen) > CORRECT_ABOVE ? seen : 0;
}

bool skew_explains(const struct skew *skew, usec_t correction, struct slice code)
{
	/* KMS answers the first; the others are what other services and front ends say, and the
	 * list of the SDKs has them. AccessDeniedException is in it: some front ends hide the
	 * reason. */
	static const char *const codes[] = {
		"InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure",
		"RequestTimeTooSkewed",      "AccessDeniedException", "RequestExpired",
		"RequestInTheFuture",
	};

	/* The SDKs ask whether the skew is large. We ask whether it is news: a request signed
	 * with the right time was not refused for its time. */
	if (magnitude(skew_seen(skew) - correction) <= EXPLAINS_ABOVE)
		return false;
	for (size_t i = 0; i < ELEMENTSOF(codes); i++)
		if (slice_eq_str(code, codes[i]))
			return true;
	return false;
}
