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

static struct tm broken_down(usec_t wall)
{
	time_t t = (time_t)(wall / USEC_PER_SEC);
	struct tm tm = {0};

	gmtime_r(&t, &tm);
	return tm;
}

/* The last `n` digits, without a NUL: printf() would be the dearest part of a refusal. */
static void put_digits(char *out, int value, size_t n)
{
	while (n--) {
		out[n] = (char)('0' + value % 10);
		value /= 10;
	}
}

const char *clock_format_http_date(usec_t wall, char *out)
{
	struct tm tm = broken_down(wall);

	memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", CLOCK_HTTP_DATE_SIZE);
	memcpy(out, days[tm.tm_wday], 3);
	put_digits(out + 5, tm.tm_mday, 2);
	memcpy(out + 8, months[tm.tm_mon], 3);
	put_digits(out + 12, tm.tm_year + 1900, 4);
	put_digits(out + 17, tm.tm_hour, 2);
	put_digits(out + 20, tm.tm_min, 2);
	put_digits(out + 23, tm.tm_sec, 2);
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

static int days_in_month(int year, int month)
{
	static const unsigned char days_of[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days_of[month - 1] + (month == 2 && leap);
}

/* False when a field is out of its range or the day isn't in that month. A leap second (60)
 * counts as the second after it, as everywhere on this system. */
static bool to_wall(int year, int month, int day, int hour, int minute, int second,
		    usec_t *ret_wall)
{
	struct tm tm = {.tm_year = year - 1900,
			.tm_mon = month - 1,
			.tm_mday = day,
			.tm_hour = hour,
			.tm_min = minute,
			.tm_sec = second};

	if (year < 1970 || month < 1 || month > 12 || day < 1 ||
	    day > days_in_month(year, month) || hour < 0 || hour > 23 || minute < 0 ||
	    minute > 59 || second < 0 || second > 60)
		return false;
	*ret_wall = (usec_t)timegm(&tm) * USEC_PER_SEC;
	return true;
}

bool clock_parse_http_date(struct slice s, usec_t *ret_wall)
{
	char again[CLOCK_HTTP_DATE_SIZE];
	int month = 0;
	usec_t wall;

	/* Thu, 01 Jan 1970 00:00:00 GMT */
	if (s.n != CLOCK_HTTP_DATE_SIZE - 1)
		return false;
	for (size_t i = 0; i < ELEMENTSOF(months); i++)
		if (memcmp(s.p + 8, months[i], 3) == 0)
			month = (int)i + 1;
	if (!to_wall(digits(s, 12, 4), month, digits(s, 5, 2), digits(s, 17, 2),
		     digits(s, 20, 2), digits(s, 23, 2), &wall))
		return false;

	/* What we would write for it is what it must be: the weekday and every separator too.
	 */
	if (memcmp(s.p, clock_format_http_date(wall, again), s.n) != 0)
		return false;
	*ret_wall = wall;
	return true;
}

bool clock_parse_rfc3339(struct slice s, usec_t *ret_wall)
{
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
	return to_wall(digits(s, 0, 4), digits(s, 5, 2), digits(s, 8, 2), digits(s, 11, 2),
		       digits(s, 14, 2), digits(s, 17, 2), ret_wall);
}
