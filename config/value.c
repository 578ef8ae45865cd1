/* SPDX-License-Identifier: Apache-2.0 */
#include "value.h"

#include "clock.h"
#include "limit.h"
#include "quote.h"
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

/* A scalar type; the table is at the end. */
struct scalar {
	const char *title;        /* for messages; NULL: the option's own */
	const struct unit *units; /* NULL: not a number */
	size_t size;              /* of a number's field */
	enum value_result (*read)(const struct config_option *option, struct slice text,
				  void *field);
	void (*print)(const struct config_option *option, const void *field, FILE *f);
};

static const struct scalar scalars[_OPTION_TYPE_MAX];

bool value_is_scalar(const struct config_option *option)
{
	return scalars[option->type].read != NULL;
}

bool value_is_bare(const struct config_option *option)
{
	return option->type == OPTION_NUMBER || (option->type == OPTION_BOOL && !option->words);
}

static const char *const *words_of(const struct config_option *option)
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

static void store(const struct config_option *option, uint64_t value, void *field)
{
	if (scalars[option->type].size == sizeof(uint64_t))
		*(uint64_t *)field = value;
	else
		*(uint32_t *)field = (uint32_t)value;
}

static uint64_t fetch(const struct config_option *option, const void *field)
{
	if (scalars[option->type].size == sizeof(uint64_t))
		return *(const uint64_t *)field;
	return *(const uint32_t *)field;
}

static enum value_result read_quantity(const struct config_option *option, struct slice text,
				       void *field)
{
	uint64_t number, factor, value;

	if (!read_number(scalars[option->type].units, text, &number, &factor))
		return VALUE_BAD;
	if (__builtin_mul_overflow(number, factor, &value) || value < option->min ||
	    value > option->max)
		return VALUE_OUT_OF_RANGE;
	store(option, value, field);
	return VALUE_OK;
}

static enum value_result read_bandwidth(const struct config_option *option, struct slice text,
					void *field)
{
	if (!slice_eq_str(text, "none"))
		return read_quantity(option, text, field);
	store(option, 0, field);
	return VALUE_OK;
}

static enum value_result read_rate(const struct config_option *option, struct slice text,
				   void *field)
{
	uint64_t number, period, interval;

	if (!read_number(rates, text, &number, &period))
		return VALUE_BAD;
	interval = number ? period / number : 0;
	if (interval < option->min || interval > option->max)
		return VALUE_OUT_OF_RANGE;
	/* As many as come in two units of time may come at once, unless `burst` says otherwise.
	 */
	*(struct rate *)field = (struct rate){
		(usec_t)interval, (uint32_t)MIN(2 * number, (uint64_t)OPTION_BURST_MAX)};
	return VALUE_OK;
}

static enum value_result read_mode(const struct config_option *option, struct slice text,
				   void *field)
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

/* The index of the word, or -1. */
static int find_word(const char *const *words, struct slice text)
{
	for (int i = 0; words[i]; i++)
		if (slice_eq_str(text, words[i]))
			return i;
	return -1;
}

static enum value_result read_bool(const struct config_option *option, struct slice text,
				   void *field)
{
	int i = find_word(words_of(option), text);

	if (i < 0)
		return VALUE_BAD;
	*(bool *)field = i;
	return VALUE_OK;
}

static enum value_result read_word(const struct config_option *option, struct slice text,
				   void *field)
{
	int i = find_word(words_of(option), text);

	if (i < 0)
		return VALUE_BAD;
	*(unsigned *)field = (unsigned)i;
	return VALUE_OK;
}

static enum value_result read_text(const struct config_option *option, struct slice text,
				   void *field)
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

enum value_result value_read(const struct config_option *option, struct slice text, bool plain,
			     void *field)
{
	if (value_is_bare(option) && !plain)
		return VALUE_BAD;
	return scalars[option->type].read(option, text, field);
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

/* Of the numbers that give this interval the roundest: it is what was written. */
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
	/* Not reached: every interval was read from a rate. */
	snprintf(out, NUMBER_TEXT, "1/h");
	return out;
}

static const char *format_value(const struct config_option *option, uint64_t value, char *out)
{
	if (option->type == OPTION_RATE)
		return format_rate(value, out);
	return format_quantity(scalars[option->type].units, value, out);
}

static void append(char *out, size_t size, const char *text)
{
	size_t n = strlen(out);

	snprintf(out + n, size - n, "%s", text);
}

const char *value_expected(const struct config_option *option, char *out, size_t size)
{
	bool is_rate = option->type == OPTION_RATE;
	char low[NUMBER_TEXT], high[NUMBER_TEXT];

	out[0] = '\0';
	append(out, size, scalars[option->type].title ?: option->expected);
	if (option->type == OPTION_BOOL || option->type == OPTION_WORD)
		for (const char *const *w = words_of(option); *w; w++) {
			append(out, size, w == words_of(option) ? " " : ", ");
			append(out, size, *w);
		}
	if (!scalars[option->type].units)
		return out;
	/* The longest interval is the smallest rate. */
	append(out, size, " from ");
	append(out, size, format_value(option, is_rate ? option->max : option->min, low));
	append(out, size, " to ");
	append(out, size, format_value(option, is_rate ? option->min : option->max, high));
	return out;
}

bool value_is_set(const struct config_option *option, const void *field)
{
	if (option->type == OPTION_MODE) /* listeners that have none hold 0 */
		return *(const mode_t *)field != 0;
	if (option->fallback)
		return true;
	if (option->type == OPTION_TEXT)
		return *(char *const *)field;
	return fetch(option, field) != 0;
}

void value_print(const struct config_option *option, const void *field, FILE *f)
{
	scalars[option->type].print(option, field, f);
}

static void print_quantity(const struct config_option *option, const void *field, FILE *f)
{
	char text[NUMBER_TEXT];

	fputs(format_quantity(scalars[option->type].units, fetch(option, field), text), f);
}

static void print_bandwidth(const struct config_option *option, const void *field, FILE *f)
{
	if (fetch(option, field) == 0)
		fputs("none", f);
	else
		print_quantity(option, field, f);
}

static void print_rate(const struct config_option *option, const void *field, FILE *f)
{
	const struct rate *rate = field;
	char text[NUMBER_TEXT];

	(void)option;
	fputs(format_rate((uint64_t)rate->interval, text), f);
}

static void print_mode(const struct config_option *option, const void *field, FILE *f)
{
	(void)option;
	fprintf(f, "%04o", (unsigned)*(const mode_t *)field);
}

static void print_bool(const struct config_option *option, const void *field, FILE *f)
{
	fputs(words_of(option)[*(const bool *)field], f);
}

static void print_word(const struct config_option *option, const void *field, FILE *f)
{
	fputs(words_of(option)[*(const unsigned *)field], f);
}

static void print_text(const struct config_option *option, const void *field, FILE *f)
{
	(void)option;
	quote_text(slice_from(*(char *const *)field), f);
}

/* clang-format off */
static const struct scalar scalars[_OPTION_TYPE_MAX] = {
	[OPTION_NUMBER] = {"a whole number", no_units, sizeof(unsigned), read_quantity,
			   print_quantity},
	[OPTION_SIZE] = {"a size in B, KiB or MiB", sizes, sizeof(size_t), read_quantity,
			 print_quantity},
	[OPTION_TIME] = {"a time in ms, s, m or h", times, sizeof(usec_t), read_quantity,
			 print_quantity},
	[OPTION_BANDWIDTH] = {"none, or a bandwidth in B/s, KiB/s or MiB/s", bandwidths,
			      sizeof(uint64_t), read_bandwidth, print_bandwidth},
	[OPTION_RATE] = {"a rate such as 200/s, 50/m or 10/h", rates, 0, read_rate, print_rate},
	[OPTION_MODE] = {"an octal mode from 0001 to 0777", NULL, 0, read_mode, print_mode},
	[OPTION_BOOL] = {"one of", NULL, 0, read_bool, print_bool},
	[OPTION_WORD] = {"one of", NULL, 0, read_word, print_word},
	[OPTION_TEXT] = {NULL, NULL, 0, read_text, print_text},
};
/* clang-format on */
