/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Time. Microseconds everywhere; monotonic for limits and deadlines, wall clock (since the Unix
 * epoch, UTC) only for the signature, for expiry of credentials and for headers. Only the files
 * that do I/O read a clock; all others take `now` as a parameter. */

#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

typedef int64_t usec_t;

#define USEC_PER_MSEC ((usec_t)1000)
#define USEC_PER_SEC ((usec_t)1000000)

usec_t clock_monotonic(void);
usec_t clock_wall(void);

/* One moment by both clocks: what happens takes it as a parameter from where the event came in.
 */
struct instant {
	usec_t monotonic, wall;
};

struct instant clock_now(void);

#define CLOCK_HTTP_DATE_SIZE sizeof("Thu, 01 Jan 1970 00:00:00 GMT")
#define CLOCK_AMZ_DATE_SIZE sizeof("19700101T000000Z")

/* IMF-fixdate, RFC 9110 5.6.7. `out` has CLOCK_HTTP_DATE_SIZE bytes. Returns out. */
const char *clock_format_http_date(usec_t wall, char *out);

/* X-Amz-Date (YYYYMMDDTHHMMSSZ). `out` has CLOCK_AMZ_DATE_SIZE bytes. Returns out. */
const char *clock_format_amz_date(usec_t wall, char *out);

/* IMF-fixdate only. False, with *ret_wall untouched, on anything else. */
_must_check_ bool clock_parse_http_date(struct slice s, usec_t *ret_wall);

/* YYYY-MM-DDTHH:MM:SS[.fraction]Z, as credentials have their Expiration (RFC 3339, UTC). */
_must_check_ bool clock_parse_rfc3339(struct slice s, usec_t *ret_wall);
