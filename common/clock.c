/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <string.h>
#include <time.h>

static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
				     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static usec_t clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts); /* can't fail for these two clocks */
	return (usec_t)ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

usec_t clock_monotonic(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

usec_t clock_wall(void)
{
	return clock_read(CLOCK_REALTIME);
}

struct instant clock_now(void)
{
	return (struct instant){clock_monotonic(), clock_wall()};
}

static struct tm broken_down(usec_t wall)
{
	time_t t = (time_t)(wall / USEC_PER_SEC);
	struct tm tm = {0};

	gmtime_r(&t, &tm);
	return tm;
}

/* The last `n` digits, without a NUL: printf() would be the costliest part of a refusal. */
static void put_digits(char *out, int value, size_t n)
{
	while (n--) {
		out[n] = (char)('0' + value % 10);
		value /= 10;
	}
}

static void put_http_date(const struct tm *tm, char *out)
{
	memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", CLOCK_HTTP_DATE_SIZE);
	memcpy(out, days[tm->tm_wday], 3);
	put_digits(out + 5, tm->tm_mday, 2);
	memcpy(out + 8, months[tm->tm_mon], 3);
	put_digits(out + 12, tm->tm_year + 1900, 4);
	put_digits(out + 17, tm->tm_hour, 2);
	put_digits(out + 20, tm->tm_min, 2);
	put_digits(out + 23, tm->tm_sec, 2);
}

const char *clock_format_http_date(usec_t wall, char *out)
{
	struct tm tm = broken_down(wall);

	put_http_date(&tm, out);
	return out;
}

const char *clock_format_amz_date(usec_t wall, char *out)
{
	struct tm tm = broken_down(wall);

	memcpy(out, "19700101T000000Z", CLOCK_AMZ_DATE_SIZE);
	put_digits(out, tm.tm_year + 1900, 4);
	put_digits(out + 4, tm.tm_mon + 1, 2);
	put_digits(out + 6, tm.tm_mday, 2);
	put_digits(out + 9, tm.tm_hour, 2);
	put_digits(out + 11, tm.tm_min, 2);
	put_digits(out + 13, tm.tm_sec, 2);
	return out;
}

/* Exactly `n` digits at s.p[at]; -1 when one isn't. */
static int digits(struct slice s, size_t at, size_t n)
{
	int v = 0;

	for (size_t i = at; i < at + n; i++) {
		if (i >= s.n || s.p[i] < '0' || s.p[i] > '9')
			return -1;
		v = v * 10 + (s.p[i] - '0');
	}
	return v;
}

static bool is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
	static const unsigned char days_of[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days_of[month] + (month == 1 && is_leap(year));
}

static bool is_in_range(const struct tm *tm)
{
	int year = tm->tm_year + 1900;

	return year >= 1970 && tm->tm_mon >= 0 && tm->tm_mon < 12 && tm->tm_mday >= 1 &&
	       tm->tm_mday <= days_in_month(year, tm->tm_mon) && tm->tm_hour >= 0 &&
	       tm->tm_hour < 24 && tm->tm_min >= 0 && tm->tm_min < 60 && tm->tm_sec >= 0 &&
	       tm->tm_sec <= 60;
}

/* Since 1970-01-01, in the Gregorian calendar. timegm() takes a lock and looks at the time
 * zone, and every answer of KMS has a Date. */
static int days_since_epoch(const struct tm *tm)
{
	static const int before_month[] = {0,   31,  59,  90,  120, 151,
					   181, 212, 243, 273, 304, 334};
	int year = tm->tm_year + 1900, last = year - 1;
	int leap_days =
		last / 4 - last / 100 + last / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);

	return (year - 1970) * 365 + leap_days + before_month[tm->tm_mon] +
	       (tm->tm_mon > 1 && is_leap(year)) + tm->tm_mday - 1;
}

/* False when a field is out of its range or the day isn't in that month. A leap second (60)
 * counts as the second after it, as everywhere on this system. Sets the day of the week. */
static bool to_wall(struct tm *tm, usec_t *ret_wall)
{
	int day;

	if (!is_in_range(tm))
		return false;
	day = days_since_epoch(tm);
	tm->tm_wday = (4 + day) % 7; /* it began on a Thursday */
	*ret_wall = (((usec_t)day * 24 + tm->tm_hour) * 60 + tm->tm_min) * 60 * USEC_PER_SEC +
		    tm->tm_sec * USEC_PER_SEC;
	return true;
}

bool clock_parse_http_date(struct slice s, usec_t *ret_wall)
{
	char again[CLOCK_HTTP_DATE_SIZE];
	struct tm tm = {.tm_mon = -1};
	usec_t wall;

	/* Thu, 01 Jan 1970 00:00:00 GMT */
	if (s.n != CLOCK_HTTP_DATE_SIZE - 1)
		return false;
	tm.tm_mday = digits(s, 5, 2);
	for (size_t i = 0; i < ELEMENTSOF(months); i++)
		if (memcmp(s.p + 8, months[i], 3) == 0)
			tm.tm_mon = (int)i;
	tm.tm_year = digits(s, 12, 4) - 1900;
	tm.tm_hour = digits(s, 17, 2);
	tm.tm_min = digits(s, 20, 2);
	tm.tm_sec = digits(s, 23, 2);
	if (tm.tm_sec == 60 || !to_wall(&tm, &wall))
		return false;

	/* It must be just what we would write for it, the weekday and every separator too. */
	put_http_date(&tm, again);
	if (memcmp(s.p, again, s.n) != 0)
		return false;
	*ret_wall = wall;
	return true;
}

bool clock_parse_rfc3339(struct slice s, usec_t *ret_wall)
{
	struct tm tm = {0};
	size_t i = 19;

	if (s.n < 20 || s.p[4] != '-' || s.p[7] != '-' || s.p[10] != 'T' || s.p[13] != ':' ||
	    s.p[16] != ':' || s.p[s.n - 1] != 'Z')
		return false;
	if (s.p[i] == '.') {
		if (s.n == 21) /* a point without a fraction */
			return false;
		for (i++; i < s.n - 1; i++)
			if (s.p[i] < '0' || s.p[i] > '9')
				return false;
	}
	if (i != s.n - 1)
		return false;
	tm.tm_year = digits(s, 0, 4) - 1900;
	tm.tm_mon = digits(s, 5, 2) - 1;
	tm.tm_mday = digits(s, 8, 2);
	tm.tm_hour = digits(s, 11, 2);
	tm.tm_min = digits(s, 14, 2);
	tm.tm_sec = digits(s, 17, 2);
	return to_wall(&tm, ret_wall);
}
