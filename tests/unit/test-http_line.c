/* SPDX-License-Identifier: Apache-2.0 */
#include "http_line.h"

#include "page_end.h"

#include <check.h>

static bool tchar(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

START_TEST(every_byte_in_a_line)
{
	for (int c = 0; c < 256; c++) {
		char line[] = {'a', (char)c, 'b', '\r', '\n'};
		bool text = c == '\t' || (c >= 0x20 && c < 0x7f);
		size_t scanned = 0;
		const char *fault = NULL;

		ck_assert_int_eq(http_line_scan((struct slice){line, 5}, 0, &scanned, &fault),
				 text ? LINE_DONE : LINE_BAD);
		ck_assert_int_eq(!fault, text);
		ck_assert_int_eq(!http_byte_fault((char)c), text);
		ck_assert(!text || scanned == 5);
	}
	ck_assert_str_eq(http_byte_fault('\n'), "bare LF");
	ck_assert_str_eq(http_byte_fault('\r'), "bare CR");
	ck_assert_str_eq(http_byte_fault('\0'), "control byte");
	ck_assert_str_eq(http_byte_fault('\x7f'), "control byte");
	ck_assert_str_eq(http_byte_fault('\x80'), "byte outside ASCII");
}
END_TEST

START_TEST(every_byte_in_a_name)
{
	for (int c = 1; c < 256; c++) {
		char line[] = {(char)c, ':', 'v'};
		struct http_field f = {.value = SLICE("untouched")};
		const char *fault = http_field_split((struct slice){line, 3}, &f);

		ck_assert_msg(!fault == tchar(c), "%d", c);
		ck_assert(slice_eq_str(f.value, fault ? "untouched" : "v"));
	}
}
END_TEST

/* The end of a run of text is found by blocks: of lines that end where memory ends. */
START_TEST(every_byte_at_every_place_of_a_line)
{
	for (size_t n = 1; n <= 100; n++)
		for (size_t at = 0; at < n; at++)
			for (int c = 0; c < 256; c++) {
				struct slice s = page_end_text(n, at, (char)c);
				bool text = c == '\t' || (c >= 0x20 && c < 0x7f);
				bool blank = at == 0 && (c == '\t' || c == ' ');
				bool more = !blank && (text || (c == '\r' && at == n - 1));
				size_t scanned = 0, want = blank ? 0 : text ? n : at;
				const char *fault = NULL;

				if (http_line_scan(s, 0, &scanned, &fault) !=
					    (more ? LINE_NEED_MORE : LINE_BAD) ||
				    scanned != want || (!fault && !more))
					ck_abort_msg("byte %d at %zu of %zu", c, at, n);
			}
}
END_TEST

/* The name too. */
START_TEST(every_byte_at_every_place_of_a_name)
{
	for (size_t n = 1; n <= 100; n++)
		for (size_t at = 0; at < n; at++)
			for (int c = 0; c < 256; c++) {
				struct slice s = page_end_text(n, at, (char)c);
				struct http_field f;
				const char *fault = http_field_split(s, &f);
				const char *want = NULL;

				if (tchar(c))
					want = "field line without a colon";
				else if (c == ' ' || c == '\t')
					want = "blank in a field name";
				else if (c != ':')
					want = "bad byte in a field name";
				else if (at == 0)
					want = "empty field name";
				if (want ? !fault || strcmp(fault, want) != 0
					 : fault || f.name.p != s.p || f.name.n != at ||
						    f.value.n != n - at - 1)
					ck_abort_msg("byte %d at %zu of %zu: %s", c, at, n,
						     fault);
			}
}
END_TEST

START_TEST(lines_in_pieces)
{
	static const struct slice bytes = SLICE("first\r\n\r\nrest");
	size_t scanned = 0, n = 0;
	const char *fault;

	while (http_line_scan((struct slice){bytes.p, n}, 0, &scanned, &fault) ==
	       LINE_NEED_MORE)
		n++;
	ck_assert_uint_eq(n, 7);
	ck_assert_uint_eq(scanned, 7);
	while (http_line_scan((struct slice){bytes.p, n}, 7, &scanned, &fault) ==
	       LINE_NEED_MORE)
		n++;
	ck_assert_uint_eq(n, 9);
	ck_assert_uint_eq(scanned, 9);
	ck_assert_int_eq(http_line_scan(bytes, 9, &scanned, &fault), LINE_NEED_MORE);
	ck_assert_uint_eq(scanned, bytes.n);
}
END_TEST

START_TEST(fields)
{
	static const struct {
		struct slice line;
		const char *name, *value, *fault;
	} rows[] = {
		{SLICE("Host: a"), "Host", "a", NULL},
		{SLICE("Host:a"), "Host", "a", NULL},
		{SLICE("h: \t a \t b \t "), "h", "a \t b", NULL},
		{SLICE("h:"), "h", "", NULL},
		{SLICE("h: \t"), "h", "", NULL},
		{SLICE("h::"), "h", ":", NULL},
		{SLICE("h"), NULL, NULL, "field line without a colon"},
		{SLICE(":"), NULL, NULL, "empty field name"},
		{SLICE("h :"), NULL, NULL, "blank in a field name"},
		{SLICE("h\t:"), NULL, NULL, "blank in a field name"},
		{SLICE("h(:"), NULL, NULL, "bad byte in a field name"},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		struct http_field f;
		const char *fault = http_field_split(rows[i].line, &f);

		if (rows[i].fault) {
			ck_assert_pstr_eq(fault, rows[i].fault);
			continue;
		}
		ck_assert_ptr_null(fault);
		ck_assert(slice_eq_str(f.name, rows[i].name));
		ck_assert(slice_eq_str(f.value, rows[i].value));
		ck_assert_ptr_nonnull(f.value.p);
	}
}
END_TEST

START_TEST(lists)
{
	static const struct {
		struct slice list;
		const char *elements[5];
	} rows[] = {
		{SLICE("a"), {"a"}},
		{SLICE("a,b"), {"a", "b"}},
		{SLICE(" a\t, b ,c"), {"a", "b", "c"}},
		{SLICE(""), {""}},
		{SLICE(","), {"", ""}},
		{SLICE("a,,b,"), {"a", "", "b", ""}},
		{SLICE("a b"), {"a b"}},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		struct slice list = rows[i].list, element;
		size_t n = 0;

		while (http_list_next(&list, &element)) {
			ck_assert_ptr_nonnull(rows[i].elements[n]);
			ck_assert(slice_eq_str(element, rows[i].elements[n]));
			n++;
		}
		ck_assert_ptr_null(rows[i].elements[n]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_line");
	TCase *tc = tcase_create("http_line");
	SRunner *runner = srunner_create(s);

	suite_add_tcase(s, tc);
	tcase_add_test(tc, every_byte_in_a_line);
	tcase_add_test(tc, every_byte_in_a_name);
	tcase_add_test(tc, every_byte_at_every_place_of_a_line);
	tcase_add_test(tc, every_byte_at_every_place_of_a_name);
	tcase_add_test(tc, lines_in_pieces);
	tcase_add_test(tc, fields);
	tcase_add_test(tc, lists);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
