/* SPDX-License-Identifier: Apache-2.0 */
#include "hint.h"

#include "macro.h"
#include "syntax.h"

#include <stdio.h>

#define HEX "0123456789abcdef"
#define DIGITS "0123456789"

#define SHOWN 40 /* of a part of a key, in a message */

static bool only(struct slice s, const char *characters)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '\0' || !strchr(characters, s.p[i]))
			return false;
	return s.n > 0;
}

/* Cuts the part before the first colon off; false when there is none. */
static bool cut_part(struct slice *rest, struct slice *ret_part)
{
	const char *colon = rest->n ? memchr(rest->p, ':', rest->n) : NULL;

	if (!colon)
		return false;
	*ret_part = (struct slice){rest->p, (size_t)(colon - rest->p)};
	*rest = (struct slice){colon + 1, rest->n - ret_part->n - 1};
	return true;
}

static const char *shown(struct slice part, char *out)
{
	return slice_escape(part, out, SHOWN + 1);
}

static bool has_upper(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 'A' && s.p[i] <= 'F')
			return true;
	return false;
}

/* Whether it is an id but for the case of its letters. */
static bool is_id_in_upper_case(struct slice id)
{
	struct slice partition, region;
	char room[64];

	if (id.n >= sizeof(room) || !has_upper(id))
		return false;
	for (size_t i = 0; i < id.n; i++)
		room[i] = (char)(id.p[i] >= 'A' && id.p[i] <= 'Z' ? id.p[i] | 0x20 : id.p[i]);
	return syntax_key((struct slice){room, id.n}, &partition, &region) == KEY_ID;
}

/* Dashes of hex digits, as a UUID has them, in a wrong number. */
static bool is_nearly_uuid(struct slice id)
{
	return id.n >= 30 && id.n <= 42 && only(id, HEX "-");
}

static void hint_id(struct slice id, char *out)
{
	struct slice digits = {id.p + 4, id.n - 4};

	if (is_id_in_upper_case(id))
		snprintf(out, HINT_SIZE, ": the id must be in lower case");
	else if (slice_starts(id, SLICE("mrk-")) && !only(digits, HEX))
		snprintf(out, HINT_SIZE, ": \"mrk-\" is followed by hex digits in lower case");
	else if (slice_starts(id, SLICE("mrk-")))
		snprintf(out, HINT_SIZE, ": \"mrk-\" is followed by 32 hex digits, not by %zu",
			 digits.n);
	else if (is_nearly_uuid(id))
		snprintf(out, HINT_SIZE,
			 ": an id has 8, 4, 4, 4 and 12 hex digits with dashes between them");
}

static void hint_resource(struct slice resource, char *out)
{
	struct slice partition, region, id;
	char text[SHOWN + 1];

	if (slice_starts(resource, SLICE("key/"))) {
		id = (struct slice){resource.p + 4, resource.n - 4};
		hint_id(id, out);
		if (!*out)
			snprintf(out, HINT_SIZE, ": \"%s\" is no key id", shown(id, text));
	} else if (slice_starts(resource, SLICE("alias/"))) {
		snprintf(out, HINT_SIZE,
			 ": an alias has 1 to 250 letters, digits, dashes, underscores, "
			 "slashes and colons");
	} else if (syntax_key(resource, &partition, &region) == KEY_ID) {
		snprintf(out, HINT_SIZE, ": \"key/\" is missing before the id");
	} else {
		snprintf(out, HINT_SIZE, ": \"%s\" is neither key/ID nor alias/NAME",
			 shown(resource, text));
	}
}

static void hint_arn(struct slice rest, char *out)
{
	struct slice partition, service, region, account;
	char text[SHOWN + 1];

	if (!cut_part(&rest, &partition) || !cut_part(&rest, &service) ||
	    !cut_part(&rest, &region) || !cut_part(&rest, &account))
		snprintf(out, HINT_SIZE,
			 ": the ARN lacks a part; expected "
			 "arn:PARTITION:kms:REGION:ACCOUNT:key/ID");
	else if (!slice_eq_str(service, "kms"))
		snprintf(out, HINT_SIZE, ": that is an ARN of \"%s\", not of kms",
			 shown(service, text));
	else if (!only(partition, "abcdefghijklmnopqrstuvwxyz" DIGITS "-"))
		snprintf(out, HINT_SIZE, ": \"%s\" is no partition", shown(partition, text));
	else if (region.n == 0)
		snprintf(out, HINT_SIZE, ": the ARN has no region");
	else if (!syntax_region(region))
		snprintf(out, HINT_SIZE, ": \"%s\" is no region%s", shown(region, text),
			 hint_region(region, HINT_ROOM));
	else if (!only(account, DIGITS))
		snprintf(out, HINT_SIZE, ": \"%s\" is no account", shown(account, text));
	else if (account.n != 12)
		snprintf(out, HINT_SIZE, ": the account has %zu digits, not 12", account.n);
	else
		hint_resource(rest, out);
}

/* ALIAS/NAME and alias:NAME are aliases, and so is a bare word. */
static bool make_alias(struct slice text, char *out, size_t size)
{
	struct slice partition, region, begin = {text.p, MIN(text.n, (size_t)6)};
	bool has_begin = slice_eq_nocase(begin, SLICE("alias/")) ||
			 slice_eq_nocase(begin, SLICE("alias:"));

	if (has_begin)
		text = (struct slice){text.p + 6, text.n - 6};
	if (text.n == 0 || text.n > SHOWN || memchr(text.p, '/', text.n) ||
	    memchr(text.p, ':', text.n))
		return false;
	snprintf(out, size, "alias/%.*s", (int)text.n, text.p);
	return syntax_key(slice_from(out), &partition, &region) == KEY_ALIAS;
}

static bool is_any(struct slice text)
{
	static const char *const words[] = {"*", "any", "all", "every"};

	for (size_t i = 0; i < ELEMENTSOF(words); i++)
		if (slice_eq_nocase(text, slice_from(words[i])))
			return true;
	return false;
}

const char *hint_key(struct slice text, char *out)
{
	char alias[SHOWN + 8];

	out[0] = '\0';
	if (is_any(text))
		snprintf(out, HINT_SIZE, "; did you mean keys: any, without a list?");
	else if (slice_starts(text, SLICE("arn:")))
		hint_arn((struct slice){text.p + 4, text.n - 4}, out);
	else if (slice_starts(text, SLICE("key/")))
		snprintf(out, HINT_SIZE, ": leave out \"key/\", or write the ARN");
	else if (slice_starts(text, SLICE("alias/")))
		hint_resource(text, out);
	else
		hint_id(text, out);
	if (!*out && make_alias(text, alias, sizeof(alias)))
		snprintf(out, HINT_SIZE, "; did you mean \"%s\"?", alias);
	return out;
}

const char *hint_keys(struct slice text, char *out)
{
	struct slice partition, region;
	char key[128];

	out[0] = '\0';
	if (is_any(text))
		snprintf(out, HINT_SIZE, "; did you mean any?");
	else if (text.n < sizeof(key) && syntax_key(text, &partition, &region) != KEY_BAD)
		snprintf(out, HINT_SIZE, "; did you mean [\"%.*s\"]?", (int)text.n, text.p);
	else if (make_alias(text, key, sizeof(key)))
		snprintf(out, HINT_SIZE, "; did you mean [\"%s\"]?", key);
	return out;
}
