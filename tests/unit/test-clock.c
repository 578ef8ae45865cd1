/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <check.h>
#include <time.h>

START_TEST(formats)
{
	static const struct {
		usec_t wall; /* in seconds */
		const char *http, *amz;
	} rows[] = {
		{0, "Thu, 01 Jan 1970 00:00:00 GMT", "19700101T000000Z"},
		{951827696, "Tue, 29 Feb 2000 12:34:56 GMT", "20000229T123456Z"},
		{1440938160, "Sun, 30 Aug 2015 12:36:00 GMT", "20150830T123600Z"},
		{1798761599, "Thu, 31 Dec 2026 23:59:59 GMT", "20261231T235959Z"},
		{4107542400, "Mon, 01 Mar 2100 00:00:00 GMT", "21000301T000000Z"},
		{253402300799, "Fri, 31 Dec 9999 23:59:59 GMT", "99991231T235959Z"},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		usec_t wall = rows[i].wall * USEC_PER_SEC + 999999, back = -1;
		char http[CLOCK_HTTP_DATE_SIZE], amz[CLOCK_AMZ_DATE_SIZE];

		ck_assert_str_eq(clock_format_http_date(wall, http), rows[i].http);
		ck_assert_str_eq(clock_format_amz_date(wall, amz), rows[i].amz);
		ck_assert(clock_parse_http_date(slice_from(http), &back));
		ck_assert_int_eq(back, rows[i].wall * USEC_PER_SEC);
	}
}
END_TEST

/* Beside the C library's calendar, every day of the years in which this may run, then further
 * apart to the last year that can be written. */
START_TEST(every_day)
{
	const usec_t day = 86400, until = 253402300799;

	for (usec_t at = 0; at <= until;
	     at += at < 200 * 365 * day ? day + 1 : 53 * day + 3599) {
		char http[CLOCK_HTTP_DATE_SIZE], rfc3339[40];
		time_t t = (time_t)at;
		usec_t back = -1;
		struct tm tm;

		clock_format_http_date(at * USEC_PER_SEC, http);
		ck_assert(clock_parse_http_date(slice_from(http), &back));
		ck_assert_int_eq(back, at * USEC_PER_SEC);
		ck_assert_ptr_nonnull(gmtime_r(&t, &tm));
		strftime(rfc3339, sizeof(rfc3339), "%Y-%m-%dT%H:%M:%SZ", &tm);
		back = -1;
		ck_assert(clock_parse_rfc3339(slice_from(rfc3339), &back));
		ck_assert_int_eq(back, at * USEC_PER_SEC);
	}
}
END_TEST

/* A date with another weekday is none, on whatever day. */
START_TEST(every_weekday)
{
	static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

	for (usec_t at = 0; at < 800; at++) {
		char http[CLOCK_HTTP_DATE_SIZE];
		unsigned right = 0;

		clock_format_http_date((951782400 + at * 86400) * USEC_PER_SEC, http);
		for (size_t i = 0; i < ELEMENTSOF(days); i++) {
			memcpy(http, days[i], 3);
			right += clock_parse_http_date(slice_from(http), &(usec_t){0});
		}
		ck_assert_uint_eq(right, 1);
	}
}
END_TEST

/* Every byte in every place of a date: what is taken is what would be written. */
START_TEST(every_byte)
{
	static const char date[] = "Tue, 29 Feb 2000 12:34:56 GMT";
	unsigned taken = 0;

	for (size_t i = 0; i < sizeof(date) - 1; i++)
		for (int c = 0; c < 256; c++) {
			char other[sizeof(date)], again[CLOCK_HTTP_DATE_SIZE];
			usec_t wall = 77;

			memcpy(other, date, sizeof(date));
			other[i] = (char)c;
			if (clock_parse_http_date((struct slice){other, sizeof(date) - 1},
						  &wall)) {
				clock_format_http_date(wall, again);
				ck_assert_mem_eq(again, other, sizeof(date));
				taken++;
			} else {
				ck_assert_int_eq(wall, 77);
			}
		}
	/* As it is, 29 times; the 22nd, a Tuesday too; five years like this one, since the
	 * calendar repeats after 400; hours, minutes, seconds. */
	ck_assert_uint_eq(taken, 29 + 1 + 5 + (2 + 9) + (5 + 9) + (5 + 9));
}
END_TEST

START_TEST(http_dates_refused)
{
	static const char *const rows[] = {
		"",
		"Thu, 01 Jan 1970 00:00:00 GM",
		"Thu, 01 Jan 1970 00:00:00 GMT ",
		" Thu, 01 Jan 1970 00:00:00 GMT",
		"Thu, 01 Jan 1970 00:00:00 UTC",
		"Thu, 01 Jan 1970 00:00:00 gmt",
		"Thu; 01 Jan 1970 00:00:00 GMT",
		"Thu,001 Jan 1970 00:00:00 GMT",
		"Thu, 01-Jan-1970 00:00:00 GMT",
		"Thu, 01 Jan 1970 00.00.00 GMT",
		"Thu, 01 Jan 1970 00:00:00+GMT",
		"Fri, 01 Jan 1970 00:00:00 GMT", /* it was a Thursday */
		"Xyz, 01 Jan 1970 00:00:00 GMT",
		"thu, 01 Jan 1970 00:00:00 GMT",
		"Thu, 01 jan 1970 00:00:00 GMT",
		"Thu, 01 Foo 1970 00:00:00 GMT",
		"Thu,  1 Jan 1970 00:00:00 GMT",
		"Thu, +1 Jan 1970 00:00:00 GMT",
		"Wed, 31 Dec 1969 23:59:59 GMT",
		"Thu, 00 Jan 1970 00:00:00 GMT",
		"Sun, 32 Jan 2026 00:00:00 GMT",
		"Sun, 29 Feb 2026 00:00:00 GMT",
		"Sun, 01 Mar 2026 24:00:00 GMT",
		"Sun, 01 Mar 2026 00:60:00 GMT",
		"Sun, 01 Mar 2026 00:00:61 GMT",
		"Sat, 31 Dec 2016 23:59:60 GMT", /* a leap second, by neither day's name */
		"Sun, 31 Dec 2016 23:59:60 GMT",
		"Sunday, 06-Nov-94 08:49:37 GMT", /* the two obsolete forms */
		"Sun Nov  6 08:49:37 1994",
		"Sun Nov  6 08:49:37 1994     ",
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		usec_t wall = 77;

		ck_assert_msg(!clock_parse_http_date(slice_from(rows[i]), &wall), "%s",
			      rows[i]);
		ck_assert_int_eq(wall, 77);
	}
}
END_TEST

START_TEST(rfc3339_accepted)
{
	static const struct {
		const char *text;
		usec_t wall; /* in seconds */
	} rows[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"2000-02-29T12:34:56Z", 951827696},
		{"2026-12-31T23:59:59Z", 1798761599},
		{"2026-12-31T23:59:59.9Z", 1798761599},
		{"2026-12-31T23:59:59.123456789Z", 1798761599},
		{"2016-12-31T23:59:60Z", 1483228800}, /* a leap second */
		{"9999-12-31T23:59:59Z", 253402300799},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		usec_t wall = -1;

		ck_assert_msg(clock_parse_rfc3339(slice_from(rows[i].text), &wall), "%s",
			      rows[i].text);
		ck_assert_int_eq(wall, rows[i].wall * USEC_PER_SEC);
	}
}
END_TEST

START_TEST(rfc3339_refused)
{
	static const char *const rows[] = {
		"",
		"Z",
		"2026-12-31T23:59:5Z",
		"2026-12-31T23:59:59",
		"2026-12-31T23:59:59z",
		"2026-12-31t23:59:59Z",
		"2026-12-31 23:59:59Z",
		"2026/12/31T23:59:59Z",
		"2026-12-31T23.59.59Z",
		"2026-12-31T23:59:59.Z",
		"2026-12-31T23:59:59,5Z",
		"2026-12-31T23:59:59.1a2Z",
		"2026-12-31T23:59:59.1 Z",
		"2026-12-31T23:59:59+00:00",
		"2026-12-31T23:59:59+00:00Z",
		"2026-12-31T23:59:590Z",
		" 2026-12-31T23:59:59Z",
		"2026-12-31T23:59:59Z ",
		"1969-12-31T23:59:59Z",
		"-001-12-31T23:59:59Z",
		"2026-00-01T00:00:00Z",
		"2026-13-01T00:00:00Z",
		"2026-01-00T00:00:00Z",
		"2026-01-32T00:00:00Z",
		"2026-02-29T00:00:00Z",
		"2100-02-29T00:00:00Z",
		"2024-02-30T00:00:00Z",
		"2026-04-31T00:00:00Z",
		"2026-04-31T00:00:60Z", /* a leap second excuses no day */
		"2026-01-01T24:00:00Z",
		"2026-01-01T00:60:00Z",
		"2026-01-01T00:00:61Z",
		"2026-1 -01T00:00:00Z",
		"20a6-01-01T00:00:00Z",
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		usec_t wall = 77;

		ck_assert_msg(!clock_parse_rfc3339(slice_from(rows[i]), &wall), "%s", rows[i]);
		ck_assert_int_eq(wall, 77);
	}
	ck_assert(!clock_parse_rfc3339(SLICE("2026-12-31T23:59:5\0Z"), &(usec_t){0}));
}
END_TEST

START_TEST(clocks_run)
{
	usec_t monotonic = clock_monotonic(), wall = clock_wall();

	ck_assert_int_ge(clock_monotonic(), monotonic);
	ck_assert_int_gt(monotonic, 0);
	ck_assert_int_gt(wall, 1700000000 * USEC_PER_SEC); /* this was written later */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("clock");
	TCase *tc = tcase_create("clock");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_add_test(tc, formats);
	tcase_add_test(tc, every_day);
	tcase_add_test(tc, every_weekday);
	tcase_add_test(tc, every_byte);
	tcase_add_test(tc, http_dates_refused);
	tcase_add_test(tc, rfc3339_accepted);
	tcase_add_test(tc, rfc3339_refused);
	tcase_add_test(tc, clocks_run);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
