/* SPDX-License-Identifier: Apache-2.0 */
#include "hint.h"

#include "endpoint.h"
#include "findings.h"
#include "rate_limit.h"
#include "syntax.h"
#include "value.h"

#include <stdio.h>

#define WORD_SIZE 64

/* In lower case, if it fits WORD_SIZE; else empty. */
static struct slice lower(struct slice text, char *out)
{
	if (text.n >= WORD_SIZE)
		return (struct slice){"", 0};
	for (size_t i = 0; i < text.n; i++)
		out[i] = (char)(text.p[i] >= 'A' && text.p[i] <= 'Z' ? text.p[i] | 0x20
								     : text.p[i]);
	return (struct slice){out, text.n};
}

static bool is_one_of(struct slice text, const char *const *words)
{
	for (; *words; words++)
		if (slice_eq_nocase(text, slice_from(*words)))
			return true;
	return false;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* ---- numbers with a unit ---- */

/* What people write for a unit; the first is the unit. */
static const struct {
	enum option_type type;
	const char *words[10];
} units[] = {
	{OPTION_SIZE, {"MiB", "M", "MB", "Mi", "mbyte", "mbytes", "megabytes", NULL}},
	{OPTION_SIZE, {"KiB", "K", "KB", "Ki", "kbyte", "kbytes", "kilobytes", NULL}},
	{OPTION_SIZE, {"B", "byte", "bytes", NULL}},
	{OPTION_BANDWIDTH, {"MiB/s", "M", "MB", "MiB", "M/s", "MB/s", "MBps", "MiBps", NULL}},
	{OPTION_BANDWIDTH, {"KiB/s", "K", "KB", "KiB", "K/s", "KB/s", "KBps", "KiBps", NULL}},
	{OPTION_BANDWIDTH, {"B/s", "B", "byte", "bytes", "Bps", "byte/s", "bytes/s", NULL}},
	{OPTION_TIME, {"s", "sec", "secs", "second", "seconds", NULL}},
	{OPTION_TIME, {"ms", "msec", "msecs", "millis", "millisecond", "milliseconds", NULL}},
	{OPTION_TIME, {"m", "min", "mins", "minute", "minutes", NULL}},
	{OPTION_TIME, {"h", "hr", "hrs", "hour", "hours", NULL}},
	{OPTION_RATE,
	 {"/s", "/sec", "/second", "rps", "per second", "s", "sec", "second", "/1s", NULL}},
	{OPTION_RATE,
	 {"/m", "/min", "/minute", "rpm", "per minute", "m", "min", "minute", NULL}},
	{OPTION_RATE, {"/h", "/hour", "/hr", "per hour", "h", "hour", NULL}},
};

/* Whether NUMBER UNIT would do; if so it is the hint. */
static bool suggest(const struct config_option *option, struct slice number, const char *unit,
		    char *out)
{
	char text[WORD_SIZE];
	union {
		uint64_t number;
		struct rate rate;
	} field;
	int n = snprintf(text, sizeof(text), "%.*s%s", (int)number.n, number.p, unit);

	if (n >= (int)sizeof(text) ||
	    value_read(option, (struct slice){text, (size_t)n}, true, &field) != VALUE_OK)
		return false;
	snprintf(out, HINT_SIZE, "; did you mean %s?", text);
	return true;
}

/* Of a number alone the default's unit is tried first: it is of the option's size. But a time
 * that has none is in seconds everywhere else. */
static void hint_quantity(const struct config_option *option, struct slice text, char *out)
{
	struct slice number = {text.p, 0}, unit;
	const char *usual = option->fallback ?: "";

	while (number.n < text.n && is_digit(text.p[number.n]))
		number.n++;
	if (number.n == 0 || number.n > 20)
		return;
	unit = (struct slice){text.p + number.n, text.n - number.n};
	while (unit.n > 0 && unit.p[0] == ' ')
		unit = (struct slice){unit.p + 1, unit.n - 1};
	while (is_digit(*usual))
		usual++;
	if (unit.n == 0 && *usual && option->type != OPTION_TIME &&
	    suggest(option, number, usual, out))
		return;
	for (size_t i = 0; i < ELEMENTSOF(units); i++)
		if (units[i].type == option->type &&
		    (unit.n == 0 || is_one_of(unit, units[i].words)) &&
		    suggest(option, number, units[i].words[0], out))
			return;
}

/* ---- words ---- */

static void hint_bool(const struct config_option *option, struct slice text, char *out)
{
	static const char *const yes[] = {"true", "yes",    "on",      "y", "1",
					  "t",    "enable", "enabled", NULL};
	static const char *const no[] = {"false", "no",      "off",      "n", "0",
					 "f",     "disable", "disabled", NULL};
	static const char *const bools[] = {"false", "true"};
	const char *const *words = option->words ?: bools;

	if (is_one_of(text, no) || slice_eq_nocase(text, slice_from(words[0])))
		snprintf(out, HINT_SIZE, "; did you mean %s?", words[0]);
	else if (option->words && is_one_of(text, yes)) /* it is a consent: to what */
		snprintf(out, HINT_SIZE, "; did you mean %s? It lets through: %s", words[1],
			 option->help);
	else if (is_one_of(text, yes) || slice_eq_nocase(text, slice_from(words[1])))
		snprintf(out, HINT_SIZE, "; did you mean %s?", words[1]);
}

static void hint_cid(const struct config_option *option, struct slice text, char *out)
{
	static const char *const taken[] = {"0 is the hypervisor", "1 is this machine itself",
					    "2 is the host of a machine",
					    "3 is the parent itself"};
	const char *dash = text.n ? memchr(text.p, '-', text.n) : NULL;
	unsigned long long cid;

	if (dash) /* a range */
		text.n = (size_t)(dash - text.p);
	if (strncmp(option->name, "cid", 3) == 0 && slice_to_u64(text, 3, &cid))
		snprintf(out, HINT_SIZE, ": %s; enclaves begin at 4", taken[cid]);
}

/* ---- names ---- */

/* eu-central1, eu_central_1, EU-Central-1; eu-central-1a. */
const char *hint_region(struct slice text, char *out)
{
	char room[WORD_SIZE], dashed[WORD_SIZE + 1];
	struct slice region = lower(text, room);
	size_t digits = 0;

	for (size_t i = 0; i < region.n; i++)
		if (room[i] == '_' || room[i] == ' ')
			room[i] = '-';
	if (region.n > 1 && region.p[region.n - 1] >= 'a' && is_digit(region.p[region.n - 2]) &&
	    endpoint_partition((struct slice){region.p, region.n - 1})) {
		snprintf(out, HINT_SIZE, "; that is an availability zone of %.*s",
			 (int)region.n - 1, region.p);
		return out;
	}
	while (digits < region.n && is_digit(region.p[region.n - 1 - digits]))
		digits++;
	snprintf(dashed, sizeof(dashed), "%.*s-%.*s", (int)(region.n - digits), region.p,
		 (int)digits, region.p + region.n - digits);
	if (endpoint_partition(region) && !slice_eq(region, text))
		snprintf(out, HINT_SIZE, "; did you mean \"%.*s\"?", (int)region.n, region.p);
	else if (digits > 0 && endpoint_partition(slice_from(dashed)))
		snprintf(out, HINT_SIZE, "; did you mean \"%s\"?", dashed);
	return out;
}

/* Cuts SCHEME:// off; returns its length. */
static size_t cut_scheme(struct slice *text)
{
	char *found = text->n ? memmem(text->p, text->n, "://", 3) : NULL;
	size_t n = found ? (size_t)(found - text->p) + 3 : 0;

	*text = (struct slice){text->p + n, text->n - n};
	return n;
}

/* Cuts off what begins with `mark`; returns how long that is. */
static size_t cut_tail(struct slice *text, char mark)
{
	const char *found = text->n ? memchr(text->p, mark, text->n) : NULL;
	size_t n = found ? (size_t)(text->p + text->n - found) : 0;

	text->n -= n;
	return n;
}

/* An address with or without brackets. */
static bool is_address(struct slice text)
{
	if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
		text = (struct slice){text.p + 1, text.n - 2};
	return syntax_is_ip(text);
}

/* What of a URL isn't the host; false when there is nothing of it. */
static bool hint_url(struct slice text, char *out)
{
	struct slice host = text;
	size_t scheme = cut_scheme(&host), path = cut_tail(&host, '/');
	size_t port = cut_tail(&host, ':');
	char shown[40];

	slice_escape((struct slice){text.p, scheme}, shown, sizeof(shown));
	if (scheme || path)
		snprintf(out, HINT_SIZE, "; leave out %s%s%s%s", shown,
			 scheme && path ? " and " : "", path ? "the path" : "",
			 port > 1 ? ", and put the port in \"port\"" : "");
	else if (port > 1)
		snprintf(out, HINT_SIZE, "; put the port in \"port\"");
	return *out;
}

static void hint_host(struct slice text, char *out)
{
	char room[256];

	if (is_address(text)) {
		snprintf(out, HINT_SIZE, "; an address goes into \"connect_to\"");
		return;
	}
	if (hint_url(text, out) || text.n == 0 || text.n >= sizeof(room))
		return;
	if (text.p[text.n - 1] == '.')
		text.n--;
	for (size_t i = 0; i < text.n; i++)
		room[i] = (char)(text.p[i] >= 'A' && text.p[i] <= 'Z' ? text.p[i] | 0x20
								      : text.p[i]);
	if (syntax_host((struct slice){room, text.n}))
		snprintf(out, HINT_SIZE, "; did you mean \"%.*s\"?",
			 (int)MIN(text.n, (size_t)200), room);
}

/* IPV6:PORT without brackets. */
static bool split_ip6(struct slice text, char *out)
{
	const char *colon = text.n ? memrchr(text.p, ':', text.n) : NULL;
	struct slice address, port;
	unsigned long long number;

	if (!colon)
		return false;
	address = (struct slice){text.p, (size_t)(colon - text.p)};
	port = (struct slice){colon + 1, text.n - address.n - 1};
	if (port.n < 2 || !slice_to_u64(port, 65535, &number) || !syntax_is_ip(address) ||
	    !memchr(address.p, ':', address.n))
		return false;
	snprintf(out, HINT_SIZE, "; did you mean \"[%.*s]:%llu\"?", (int)address.n, address.p,
		 number);
	return true;
}

const char *hint_host_port(struct slice text, char *out)
{
	struct slice rest = text, host;
	size_t scheme = cut_scheme(&rest), path = cut_tail(&rest, '/');
	bool bare = syntax_is_ip(rest);
	char whole[256], room[201];
	bool changed = scheme || path;
	unsigned port;

	if (rest.n == 0 || rest.n >= sizeof(room))
		return out;
	if (syntax_host_port(text, &host, &port) && syntax_is_ip(host)) {
		snprintf(out, HINT_SIZE, "; write {host: NAME, port: %u, connect_to: \"%.*s\"}",
			 port, (int)text.n, text.p);
		return out;
	}
	for (size_t i = 0; i < rest.n; i++) {
		bool upper = rest.p[i] >= 'A' && rest.p[i] <= 'Z';

		changed = changed || upper;
		room[i] = (char)(upper ? rest.p[i] | 0x20 : rest.p[i]);
	}
	rest.p = room;
	if (split_ip6(rest, out))
		return out;
	snprintf(whole, sizeof(whole), "%.*s", (int)rest.n, rest.p);
	if (bare || syntax_host(rest))
		snprintf(whole, sizeof(whole),
			 bare && memchr(rest.p, ':', rest.n) ? "[%.*s]:443" : "%.*s:443",
			 (int)rest.n, rest.p);
	else if (!changed)
		return out;
	if (syntax_host_port(slice_from(whole), &host, &port))
		snprintf(out, HINT_SIZE, "; did you mean \"%.220s\"?", whole);
	return out;
}

/* arn:aws:iam::ACCOUNT:role/PATH/NAME */
static void hint_role(struct slice text, char *out)
{
	struct slice name;
	const char *slash = text.p && text.n ? memrchr(text.p, '/', text.n) : NULL;

	if (!slash)
		return;
	if (memmem(text.p, text.n, ":instance-profile/", 18)) {
		snprintf(out, HINT_SIZE, "; that is an instance profile: name the role in it");
		return;
	}
	name = (struct slice){slash + 1, text.n - (size_t)(slash - text.p) - 1};
	if (syntax_role(name))
		snprintf(out, HINT_SIZE, "; did you mean \"%.*s\"?", (int)name.n, name.p);
}

static void hint_text(const struct config_option *option, struct slice text, char *out)
{
	if (option->syntax == syntax_region_or_instance)
		hint_region(text, out);
	else if (option->syntax == syntax_host)
		hint_host(text, out);
	else if (option->syntax == syntax_role)
		hint_role(text, out);
}

const char *hint_scalar(const struct config_option *option, struct slice text, char *out)
{
	static void (*const hints[_OPTION_TYPE_MAX])(const struct config_option *option,
						     struct slice text, char *out) = {
		[OPTION_SIZE] = hint_quantity,      [OPTION_TIME] = hint_quantity,
		[OPTION_BANDWIDTH] = hint_quantity, [OPTION_RATE] = hint_quantity,
		[OPTION_BOOL] = hint_bool,          [OPTION_NUMBER] = hint_cid,
		[OPTION_CIDS] = hint_cid,           [OPTION_TEXT] = hint_text,
	};

	out[0] = '\0';
	if (hints[option->type])
		hints[option->type](option, text, out);
	return out;
}
