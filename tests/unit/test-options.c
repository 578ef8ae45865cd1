/* SPDX-License-Identifier: Apache-2.0 */

/* The option table: every row is whole, its limits hold, and the man page and the shipped file
 * know it. */

#include "options.h"

#include "clock.h"
#include "config.h"
#include "value.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Room for the field of any scalar. */
union any {
	unsigned number;
	size_t size;
	usec_t time;
	uint64_t bandwidth;
	struct rate rate;
	mode_t mode;
	bool is;
	char *text;
};

#define FOREACH_OPTION(section, o)                                                             \
	for (const struct config_option *o = section_get(section)->options;                    \
	     o < section_get(section)->options + section_get(section)->n_options; o++)

static enum value_result read_text(const struct config_option *o, const char *text,
				   union any *value)
{
	return value_read(o, slice_from(text), true, value);
}

static char *printed(const struct config_option *o, const union any *value)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	value_print(o, value, f);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

static void check_row(const struct section *s, const struct config_option *o)
{
	ck_assert_msg(o->help && *o->help, "%s.%s has no help", s->name, o->name);
	ck_assert_ptr_eq(section_find(s, slice_from(o->name)), o); /* unique */
	ck_assert_msg(!o->required || !o->fallback, "%s.%s", s->name, o->name);
	ck_assert_msg(o->type != OPTION_TEXT || (o->syntax && o->expected), "%s.%s", s->name,
		      o->name);
	ck_assert_msg(o->type != OPTION_WORD || o->words, "%s.%s", s->name, o->name);
	ck_assert_msg(o->fallback == NULL || value_is_scalar(o), "%s.%s", s->name, o->name);
}

START_TEST(rows_are_whole)
{
	ck_assert_ptr_nonnull(section_get(_i)->name);
	FOREACH_OPTION (_i, o)
		check_row(section_get(_i), o);
}
END_TEST

/* A default is read from its text, and printed as it is written. */
START_TEST(defaults_are_values)
{
	FOREACH_OPTION (_i, o) {
		_cleanup_(freep) char *text = NULL;
		union any value = {0};

		if (!o->fallback)
			continue;
		ck_assert_msg(read_text(o, o->fallback, &value) == VALUE_OK, "%s", o->name);
		text = printed(o, &value);
		if (o->type == OPTION_TEXT) {
			ck_assert_ptr_nonnull(strstr(text, o->fallback));
			free(value.text);
		} else {
			ck_assert_str_eq(text, o->fallback);
		}
	}
}
END_TEST

/* The least and the largest value are taken, what is beyond is not. */
static void check_limit(const struct config_option *o, uint64_t factor, const char *unit)
{
	static const struct {
		int64_t beyond;
		bool high;
		enum value_result result;
	} rows[] = {
		{0, false, VALUE_OK},
		{-1, false, VALUE_OUT_OF_RANGE},
		{0, true, VALUE_OK},
		{1, true, VALUE_OUT_OF_RANGE},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		uint64_t limit = (rows[i].high ? o->max : o->min) / factor;
		union any value = {0};
		char text[40];

		snprintf(text, sizeof(text), "%" PRIu64 "%s", limit + (uint64_t)rows[i].beyond,
			 unit);
		ck_assert_msg(read_text(o, text, &value) == rows[i].result, "%s: %s", o->name,
			      text);
	}
}

START_TEST(limits_hold)
{
	FOREACH_OPTION (_i, o) {
		if (o->type == OPTION_NUMBER)
			check_limit(o, 1, "");
		else if (o->type == OPTION_SIZE)
			check_limit(o, 1, "B");
		else if (o->type == OPTION_TIME)
			check_limit(o, USEC_PER_MSEC, "ms");
		else if (o->type == OPTION_BANDWIDTH)
			check_limit(o, 1, "B/s");
	}
}
END_TEST

static const struct config_option *find(enum section_id id, const char *name)
{
	const struct config_option *o = section_find(section_get(id), slice_from(name));

	ck_assert_ptr_nonnull(o);
	return o;
}

static const struct {
	const char *text;
	enum value_result result;
	usec_t interval;
	uint32_t burst;
	const char *printed; /* NULL: as it was written */
} rates[] = {
	{"1/s", VALUE_OK, 1000000, 2, NULL},
	{"3/s", VALUE_OK, 333333, 6, NULL},
	{"200/s", VALUE_OK, 5000, 400, NULL},
	{"7000/s", VALUE_OK, 142, 14000, NULL},
	{"99999/s", VALUE_OK, 10, 199998, "100000/s"}, /* the interval is whole microseconds */
	{"100000/s", VALUE_OK, 10, 200000, NULL},
	{"50/m", VALUE_OK, 1200000, 100, NULL},
	{"60/m", VALUE_OK, 1000000, 120, "1/s"},
	{"10/h", VALUE_OK, 360000000, 20, NULL},
	{"1/h", VALUE_OK, (usec_t)3600 * 1000000, 2, NULL},
	{"0/s", VALUE_OUT_OF_RANGE, 0, 0, NULL},
	{"0/h", VALUE_OUT_OF_RANGE, 0, 0, NULL},
	{"100001/s", VALUE_OUT_OF_RANGE, 0, 0, NULL},
	{"18446744073709551615/s", VALUE_OUT_OF_RANGE, 0, 0, NULL},
	{"18446744073709551616/s", VALUE_BAD, 0, 0, NULL},
	{"200", VALUE_BAD, 0, 0, NULL},
	{"/s", VALUE_BAD, 0, 0, NULL},
	{"200/S", VALUE_BAD, 0, 0, NULL},
	{"200/sec", VALUE_BAD, 0, 0, NULL},
	{"200/ s", VALUE_BAD, 0, 0, NULL},
	{"-1/s", VALUE_BAD, 0, 0, NULL},
	{"01/s", VALUE_BAD, 0, 0, NULL},
};

START_TEST(rate)
{
	const struct config_option *o = find(SECTION_LIMITS, "requests");
	_cleanup_(freep) char *text = NULL;
	union any value = {.rate = {7, 7}};
	enum value_result result = read_text(o, rates[_i].text, &value);

	ck_assert_msg(result == rates[_i].result, "%s", rates[_i].text);
	ck_assert_int_eq(value.rate.interval, result == VALUE_OK ? rates[_i].interval : 7);
	ck_assert_uint_eq(value.rate.burst, result == VALUE_OK ? rates[_i].burst : 7);
	if (result != VALUE_OK)
		return;
	text = printed(o, &value);
	ck_assert_str_eq(text, rates[_i].printed ?: rates[_i].text);
}
END_TEST

/* Up to a thousand a second every rate is printed as it was written. */
START_TEST(rates_are_kept)
{
	const struct config_option *o = find(SECTION_LIMITS, "requests");

	for (unsigned i = 1; i <= 1000; i++) {
		_cleanup_(freep) char *text = NULL;
		union any value;
		char written[32];

		snprintf(written, sizeof(written), "%u/s", i);
		ck_assert_int_eq(read_text(o, written, &value), VALUE_OK);
		text = printed(o, &value);
		ck_assert_str_eq(text, written);
	}
}
END_TEST

START_TEST(what_is_expected)
{
	static const struct {
		enum section_id section;
		const char *name, *text;
	} rows[] = {
		{SECTION_ROOT, "workers", "a whole number from 1 to 64"},
		{SECTION_LIMITS, "body", "a size in B, KiB or MiB from 1KiB to 1MiB"},
		{SECTION_LIMITS, "requests",
		 "a rate such as 200/s, 50/m or 10/h from 1/h to 100000/s"},
		{SECTION_TUNNEL, "idle", "a time in ms, s, m or h from 10ms to 24h"},
		{SECTION_ROOT, "audit", "one of all, refusals"},
		{SECTION_RULE, "plaintext", "one of refuse, allow"},
		{SECTION_RULE, "delegation", "one of refuse, allow"},
		{SECTION_ENDPOINT, "fips", "one of false, true"},
		{SECTION_ENDPOINT, "ca_file", "an absolute path"},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		char text[200];

		ck_assert_str_eq(
			value_expected(find(rows[i].section, rows[i].name), text, sizeof(text)),
			rows[i].text);
	}
}
END_TEST

/* The longest explanation fits the 200 bytes that callers give it. */
START_TEST(expectations_fit)
{
	FOREACH_OPTION (_i, o) {
		char text[400];

		if (value_is_scalar(o))
			ck_assert_uint_lt(strlen(value_expected(o, text, sizeof(text))), 200);
	}
}
END_TEST

static char *read_file(const char *name)
{
	_cleanup_(freep) char *path = NULL;
	char *text = NULL;
	size_t size = 0;
	FILE *f;

	ck_assert(asprintf(&path, "%s/../../%s", getenv("TEST_DATA"), name) >= 0);
	f = fopen(path, "rbe");
	ck_assert_msg(f != NULL, "%s", path);
	ck_assert(getdelim(&text, &size, EOF, f) > 0);
	fclose(f);
	return text;
}

/* The part of the man page about a section begins with this heading. */
static const char *const headings[_SECTION_MAX] = {
	[SECTION_ROOT] = ".Ss The file",
	[SECTION_LISTENER] = ".Ss listen",
	[SECTION_ENDPOINT] = ".Ss endpoints",
	[SECTION_CREDENTIALS] = ".Ss credentials",
	[SECTION_IMDS] = ".Ss credentials: imds",
	[SECTION_CONTAINER] = ".Ss credentials: container",
	[SECTION_LIMITS] = ".Ss limits",
	[SECTION_ENCLAVE] = ".Ss enclaves",
	[SECTION_RULE] = ".Ss enclaves: allow",
	[SECTION_TUNNEL] = ".Ss enclaves: tunnel",
	[SECTION_TUNNEL_HOST] = ".Ss enclaves: tunnel: hosts",
};

/* Behind the option's item the page gives its default and range as they are written. */
static void check_item(const char *item, const struct config_option *o)
{
	_cleanup_(freep) char *end = NULL, *text = NULL;
	const char *next = strstr(item + 1, "\n.It Ic ");
	char expected[200], *range;

	text = strndup(item, next ? (size_t)(next - item) : strlen(item));
	for (char *p = text; *p; p++)
		if (*p == '\n')
			*p = ' ';
	ck_assert_msg((strstr(text, "estart") != NULL) == o->restart, "%s: restart", o->name);
	if (o->fallback) {
		ck_assert(asprintf(&end, "Default: %s", o->fallback) >= 0);
		ck_assert_msg(strstr(text, end) != NULL, "%s: the man page lacks \"%s\"",
			      o->name, end);
	}
	if (!value_is_scalar(o) || o->max == 0 || o->type == OPTION_MODE)
		return;
	value_expected(o, expected, sizeof(expected));
	range = strstr(expected, "from ");
	ck_assert_msg(range && strstr(text, range) != NULL, "%s: the man page lacks \"%s\"",
		      o->name, range);
}

START_TEST(man_page)
{
	_cleanup_(freep) char *page = read_file("man/kms-vsock-proxy.yaml.5");
	_cleanup_(freep) char *heading = NULL;
	const char *begin, *end;

	ck_assert(asprintf(&heading, "\n%s\n", headings[_i]) >= 0);
	begin = strstr(page, heading);
	ck_assert_msg(begin != NULL, "no %s", headings[_i]);
	end = strstr(begin + 1, "\n.Ss ") ?: page + strlen(page);
	FOREACH_OPTION (_i, o) {
		char item[80];
		const char *at;

		snprintf(item, sizeof(item), "\n.It Ic %s :", o->name);
		at = strstr(begin, item);
		ck_assert_msg(at && at < end, "%s: no item for %s", headings[_i], o->name);
		check_item(at, o);
	}
}
END_TEST

/* An action as the table of the page has it: classes, then the members that name keys. */
static void format_action(const struct kms_action *action, char *out, size_t size)
{
	static const struct {
		unsigned flag;
		char letter;
	} classes[] = {{KMS_RECIPIENT, 'R'}, {KMS_SECRET_REPLY, 'S'}, {KMS_DESTRUCTIVE, 'D'},
		       {KMS_PRIVILEGE, 'P'}, {KMS_LABEL, 'L'},        {KMS_DELEGATION, 'A'},
		       {KMS_REWRAP, 'X'},    {KMS_KEY_IMPLIED, 'M'}};
	char letters[16] = "", keys[64] = "";
	size_t n = 0;

	if (action->contexts[0])
		n += (size_t)snprintf(letters, sizeof(letters), "C ");
	for (size_t i = 0; i < ELEMENTSOF(classes); i++)
		if (action->flags & classes[i].flag)
			n += (size_t)snprintf(letters + n, sizeof(letters) - n, "%c ",
					      classes[i].letter);
	for (unsigned i = 0; action->keys[i]; i++)
		snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), "%s%s",
			 i > 0 ? ", " : "", action->keys[i]);
	n = (size_t)snprintf(out, size, "\n%-36s%-7s%s", action->name, letters, keys);
	while (out[n - 1] == ' ')
		out[--n] = '\0';
	snprintf(out + n, size - n, "\n");
}

START_TEST(man_page_actions)
{
	_cleanup_(freep) char *page = read_file("man/kms-vsock-proxy.yaml.5");
	char line[128];

	format_action(kms_action((unsigned)_i), line, sizeof(line));
	ck_assert_msg(strstr(page, line) != NULL, "the man page lacks%s", line);
}
END_TEST

static struct config *parse(const char *text, size_t n, const char *what)
{
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *config = NULL;
	int r = config_parse(text, n, "shipped", &config, &findings);

	ck_assert_msg(r == 0, "%s: %s", what, findings.n ? findings.list[0].text : "");
	return config;
}

static char *printed_config(const struct config *config)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	config_print(config, f);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

/* Whether the commented line shows what is in force without it: the default of its option, or
 * what other options make of one that has none. */
static bool shows_default(const char *line)
{
	static const char *const made[] = {"limits", "endpoints", "host"};
	struct slice name = {line, strcspn(line, ":")};

	for (unsigned s = 0; s < _SECTION_MAX; s++) {
		const struct config_option *o = section_find(section_get(s), name);

		if (o && o->fallback)
			return true;
	}
	for (size_t i = 0; i < ELEMENTSOF(made); i++)
		if (slice_eq_str(name, made[i]))
			return true;
	return false;
}

/* The examples of the man page are whole files. */
START_TEST(man_page_examples)
{
	_cleanup_(freep) char *page = read_file("man/kms-vsock-proxy.yaml.5");
	const char *begin = strstr(page, "\n.Sh EXAMPLES\n"),
		   *end = strstr(begin + 1, "\n.Sh ");
	unsigned n = 0;

	while ((begin = strstr(begin, "\n.Bd ")) && begin < end) {
		const char *text = strchr(begin + 1, '\n') + 1, *stop = strstr(text, "\n.Ed\n");

		config_unref(parse(text, (size_t)(stop - text), "man page"));
		begin = stop;
		n++;
	}
	ck_assert_uint_ge(n, 2);
}
END_TEST

/* The shipped file with the comment sign of one line removed. */
static void check_commented(const char *file, const char *sign, const char *before)
{
	_cleanup_(freep) char *text = strdup(file), *after = NULL;
	_cleanup_(config_unrefp) struct config *config = NULL;

	memmove(text + (sign - file), sign + 1, strlen(sign));
	config = parse(text, strlen(text), sign);
	after = printed_config(config);
	if (shows_default(sign + 1))
		ck_assert_str_eq(before, after);
	else
		ck_assert_str_ne(before, after);
}

/* Each option that the shipped file shows in a comment can be uncommented where it stands, and
 * a default it shows is the default. */
START_TEST(shipped_file_comments)
{
	_cleanup_(freep) char *file = read_file("config/kms-vsock-proxy.yaml");
	_cleanup_(config_unrefp) struct config *config = parse(file, strlen(file), "as it is");
	_cleanup_(freep) char *before = printed_config(config);
	unsigned n = 0;

	for (char *line = file; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		line += strspn(line, " ");
		if (line[0] != '#' || line[1] == ' ' || line[1] == '\n')
			continue;
		check_commented(file, line, before);
		n++;
	}
	ck_assert_uint_ge(n, 20);
}
END_TEST

START_TEST(shipped_file_is_complete)
{
	_cleanup_(freep) char *file = read_file("config/kms-vsock-proxy.yaml");

	FOREACH_OPTION (_i, o) {
		char name[80];

		snprintf(name, sizeof(name), "%s:", o->name);
		ck_assert_msg(strstr(file, name) != NULL, "the shipped file lacks %s", o->name);
	}
}
END_TEST

int main(void)
{
	TCase *table = tcase_create("table"), *values = tcase_create("values");
	TCase *documents = tcase_create("documents");
	Suite *suite = suite_create("options");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(table, rows_are_whole, 0, _SECTION_MAX);
	tcase_add_loop_test(table, defaults_are_values, 0, _SECTION_MAX);
	tcase_add_loop_test(table, limits_hold, 0, _SECTION_MAX);
	tcase_add_loop_test(table, expectations_fit, 0, _SECTION_MAX);
	tcase_add_loop_test(values, rate, 0, ELEMENTSOF(rates));
	tcase_add_test(values, rates_are_kept);
	tcase_add_test(values, what_is_expected);
	tcase_add_loop_test(documents, man_page, 0, _SECTION_MAX);
	tcase_add_loop_test(documents, man_page_actions, 0, KMS_ACTIONS);
	tcase_add_test(documents, man_page_examples);
	tcase_add_test(documents, shipped_file_comments);
	tcase_add_loop_test(documents, shipped_file_is_complete, 0, _SECTION_MAX);
	suite_add_tcase(suite, table);
	suite_add_tcase(suite, values);
	suite_add_tcase(suite, documents);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
