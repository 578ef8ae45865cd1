/* SPDX-License-Identifier: Apache-2.0 */
#include "value.h"

#include "clock.h"
#include "json.h"
#include "limits.h"
#include "rate_limit.h"

#include <inttypes.h>
#include <string.h>
#include <sys/types.h>

struct unit {
	const char *name;
	uint64_t factor;
};

#define HOUR ((uint64_t)3600 * USEC_PER_SEC)
#define MINUTE ((uint64_t)60 * USEC_PER_SEC)

/* Smallest first. */
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit sizes[] = {{"B", 1}, {"KiB", KIB}, {"MiB", MIB}, {NULL, 0}};
static const struct unit bandwidths[] = {{"B/s", 1}, {"KiB/s", KIB}, {"MiB/s", MIB}, {NULL, 0}};
static const struct unit times[] = {
	{"ms", USEC_PER_MSEC}, {"s", USEC_PER_SEC}, {"m", MINUTE}, {"h", HOUR}, {NULL, 0}};
static const struct unit rates[] = {
	{"/s", USEC_PER_SEC}, {"/m", MINUTE}, {"/h", HOUR}, {NULL, 0}};

static const char *const bools[] = {"false", "true", NULL};

/* How the scalar types are spelt. */
static const struct spelling {
	const struct unit *units; /* NULL: not a number */
	const char *title;
} spellings[_OPTION_TYPE_MAX] = {
	[OPTION_NUMBER] = {no_units, "a whole number"},
	[OPTION_SIZE] = {sizes, "a size in B, KiB or MiB"},
	[OPTION_TIME] = {times, "a time in ms, s, m or h"},
	[OPTION_BANDWIDTH] = {bandwidths, "none, or a bandwidth in B/s, KiB/s or MiB/s"},
	[OPTION_RATE] = {rates, "a rate such as 200/s, 50/m or 10/h"},
	[OPTION_MODE] = {NULL, "an octal mode from 0001 to 0777"},
	[OPTION_BOOL] = {NULL, "one of"},
	[OPTION_WORD] = {NULL, "one of"},
	[OPTION_TEXT] = {NULL, NULL},
};

bool value_is_scalar(const struct option *option)
{
	return spellings[option->type].title || option->type == OPTION_TEXT;
}

bool value_is_bare(const struct option *option)
{
	return option->type == OPTION_NUMBER || (option->type == OPTION_BOOL && !option->words);
}

static const char *const *words_of(const struct option *option)
{
	return option->words ?: bools;
}

/* Splits NUMBER UNIT. False when it is not that, or the number doesn't fit. */
static bool read_number(const struct unit *units, struct slice text, uint64_t *ret_number,
			uint64_t *ret_factor)
{
	struct slice digits = {text.p, 0}, unit;
	unsigned long long number;

	while (digits.n < text.n && text.p[digits.n] >= '0' && text.p[digits.n] <= '9')
		digits.n++;
	unit = (struct slice){text.p + digits.n, text.n - digits.n};
	if (!slice_to_u64(digits, UINT64_MAX, &number))
		return false;
	for (; units->name; units++)
		if (slice_eq_str(unit, units->name)) {
			*ret_number = number;
			*ret_factor = units->factor;
			return true;
		}
	return false;
}

static void store(const struct option *option, uint64_t value, void *field)
{
	if (option->type == OPTION_SIZE)
		*(size_t *)field = (size_t)value;
	else if (option->type == OPTION_TIME)
		*(usec_t *)field = (usec_t)value;
	else if (option->type == OPTION_BANDWIDTH)
		*(uint64_t *)field = value;
	else
		*(unsigned *)field = (unsigned)value;
}

static uint64_t fetch(const struct option *option, const void *field)
{
	if (option->type == OPTION_SIZE)
		return *(const size_t *)field;
	if (option->type == OPTION_TIME)
		return (uint64_t) * (const usec_t *)field;
	if (option->type == OPTION_BANDWIDTH)
		return *(const uint64_t *)field;
	return *(const unsigned *)field;
}

static enum value_result read_quantity(const struct option *option, struct slice text,
				       void *field)
{
	uint64_t number, factor, value;

	if (option->type == OPTION_BANDWIDTH && slice_eq_str(text, "none")) {
		store(option, 0, field);
		return VALUE_OK;
	}
	if (!read_number(spellings[option->type].units, text, &number, &factor))
		return VALUE_BAD;
	if (__builtin_mul_overflow(number, factor, &value) || value < option->min ||
	    value > option->max)
		return VALUE_OUT_OF_RANGE;
	store(option, value, field);
	return VALUE_OK;
}

static enum value_result read_rate(const struct option *option, struct slice text, void *field)
{
	uint64_t number, period, interval;

	if (!read_number(rates, text, &number, &period))
		return VALUE_BAD;
	interval = number ? period / number : 0;
	if (interval < option->min || interval > option->max)
		return VALUE_OUT_OF_RANGE;
	/* What comes in two units of time may come at once, unless `burst` says otherwise. */
	*(struct rate *)field =
		(struct rate){(usec_t)interval, (uint32_t)MIN(2 * number, 200000u)};
	return VALUE_OK;
}

static enum value_result read_mode(const struct option *option, struct slice text, void *field)
{
	mode_t mode = 0;

	if (text.n < 1 || text.n > 5)
		return VALUE_BAD;
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '7')
			return VALUE_BAD;
		mode = mode * 8 + (mode_t)(text.p[i] - '0');
	}
	if (mode < option->min || mode > option->max)
		return VALUE_OUT_OF_RANGE;
	*(mode_t *)field = mode;
	return VALUE_OK;
}

static enum value_result read_word(const struct option *option, struct slice text, void *field)
{
	const char *const *words = words_of(option);

	for (unsigned i = 0; words[i]; i++) {
		if (!slice_eq_str(text, words[i]))
			continue;
		if (option->type == OPTION_BOOL)
			*(bool *)field = i;
		else
			*(unsigned *)field = i;
		return VALUE_OK;
	}
	return VALUE_BAD;
}

static enum value_result read_text(const struct option *option, struct slice text, void *field)
{
	char *copy;

	if (!option->syntax(text))
		return VALUE_BAD;
	copy = strndup(text.p, text.n);
	if (!copy)
		return VALUE_NO_MEMORY;
	free(*(char **)field);
	*(char **)field = copy;
	return VALUE_OK;
}

enum value_result value_read(const struct option *option, struct slice text, bool plain,
			     void *field)
{
	if (value_is_bare(option) && !plain)
		return VALUE_BAD;
	if (option->type == OPTION_RATE)
		return read_rate(option, text, field);
	if (option->type == OPTION_MODE)
		return read_mode(option, text, field);
	if (option->type == OPTION_BOOL || option->type == OPTION_WORD)
		return read_word(option, text, field);
	if (option->type == OPTION_TEXT)
		return read_text(option, text, field);
	return read_quantity(option, text, field);
}

#define NUMBER_TEXT 32

/* In the largest unit that divides it. */
static const char *format_quantity(const struct unit *units, uint64_t value, char *out)
{
	const struct unit *best = units;

	for (; units->name; units++)
		if (value % units->factor == 0 && value >= units->factor)
			best = units;
	snprintf(out, NUMBER_TEXT, "%" PRIu64 "%s", value / best->factor, best->name);
	return out;
}

/* Of the numbers that give this interval the roundest, since that is what was written. */
static const char *format_rate(uint64_t interval, char *out)
{
	for (const struct unit *u = rates; u->name; u++) {
		uint64_t most = u->factor / interval, less = u->factor / (interval + 1);

		for (uint64_t step = 10000; step > 0; step /= 10) {
			uint64_t number = most / step * step;

			if (number <= less)
				continue;
			snprintf(out, NUMBER_TEXT, "%" PRIu64 "%s", number, u->name);
			return out;
		}
	}
	snprintf(out, NUMBER_TEXT,
		 "1/h"); /* not reached: every interval was read from a rate */
	return out;
}

static const char *format_value(const struct option *option, uint64_t value, char *out)
{
	if (option->type == OPTION_RATE)
		return format_rate(value, out);
	return format_quantity(spellings[option->type].units, value, out);
}

static void append(char *out, size_t size, const char *text)
{
	size_t n = strlen(out);

	snprintf(out + n, size - n, "%s", text);
}

const char *value_expected(const struct option *option, char *out, size_t size)
{
	bool is_rate = option->type == OPTION_RATE;
	char low[NUMBER_TEXT], high[NUMBER_TEXT];

	out[0] = '\0';
	append(out, size, spellings[option->type].title ?: option->expected);
	if (option->type == OPTION_BOOL || option->type == OPTION_WORD)
		for (const char *const *w = words_of(option); *w; w++) {
			append(out, size, w == words_of(option) ? " " : ", ");
			append(out, size, *w);
		}
	if (!spellings[option->type].units)
		return out;
	/* The longest interval is the smallest rate. */
	append(out, size, " from ");
	append(out, size, format_value(option, is_rate ? option->max : option->min, low));
	append(out, size, " to ");
	append(out, size, format_value(option, is_rate ? option->min : option->max, high));
	return out;
}

bool value_is_set(const struct option *option, const void *field)
{
	if (option->type == OPTION_MODE) /* listeners that have none hold 0 */
		return *(const mode_t *)field != 0;
	if (option->fallback)
		return true;
	if (option->type == OPTION_TEXT)
		return *(char *const *)field;
	return fetch(option, field) != 0;
}

void value_print(const struct option *option, const void *field, FILE *f)
{
	char text[NUMBER_TEXT];

	if (option->type == OPTION_TEXT)
		value_print_text(slice_from(*(char *const *)field), f);
	else if (option->type == OPTION_MODE)
		fprintf(f, "%04o", (unsigned)*(const mode_t *)field);
	else if (option->type == OPTION_BOOL)
		fputs(words_of(option)[*(const bool *)field], f);
	else if (option->type == OPTION_WORD)
		fputs(words_of(option)[*(const unsigned *)field], f);
	else if (option->type == OPTION_RATE)
		fputs(format_rate((uint64_t)((const struct rate *)field)->interval, text), f);
	else if (option->type == OPTION_BANDWIDTH && fetch(option, field) == 0)
		fputs("none", f);
	else
		fputs(format_value(option, fetch(option, field), text), f);
}

/* A word that YAML can't take for anything else. */
static bool is_word(struct slice s)
{
	if (s.n == 0 || !strncasecmp(s.p, "null", MAX(s.n, (size_t)4)))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';

		if (!letter && !(c >= '0' && c <= '9') && (i == 0 || !c || !strchr("._-/", c)))
			return false;
	}
	return true;
}

void value_print_text(struct slice text, FILE *f)
{
	size_t size = 6 * text.n + 1;
	_cleanup_(freep) char *canonical = malloc(size);
	int n;

	if (is_word(text)) {
		fprintf(f, "%.*s", (int)text.n, text.p);
		return;
	}
	n = canonical ? json_canonical(text, canonical, size - 1) : -1;
	if (n < 0)
		return; /* out of memory: what is printed can't be read then */
	canonical[n] = '\0';
	value_print_canonical(canonical, f);
}

/* Decodes one character of valid UTF-8; returns its length. */
static size_t decode(const char *p, uint32_t *ret_c)
{
	unsigned char lead = (unsigned char)*p;
	size_t n = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	uint32_t c = n == 1 ? lead : lead & (0x7fu >> n);

	for (size_t i = 1; i < n; i++)
		c = c << 6 | ((unsigned char)p[i] & 0x3f);
	*ret_c = c;
	return n;
}

/* YAML 1.1 takes fewer characters as they are than JSON, and folds some that break lines. */
static bool is_printable(uint32_t c)
{
	if (c == 0x2028 || c == 0x2029 || c == 0xfeff)
		return false;
	return c < 0x7f || (c >= 0xa0 && c <= 0xd7ff) || (c >= 0xe000 && c <= 0xfffd) ||
	       c >= 0x10000;
}

void value_print_canonical(const char *text, FILE *f)
{
	fputc('"', f);
	while (*text) {
		uint32_t c;
		size_t n = decode(text, &c);

		if (is_printable(c))
			fwrite(text, 1, n, f);
		else
			fprintf(f, "\\u%04x", (unsigned)c); /* those are all below 0x10000 */
		text += n;
	}
	fputc('"', f);
}
