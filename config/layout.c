/* SPDX-License-Identifier: Apache-2.0 */
#include "layout.h"

#include "options.h"

#include <stdio.h>

/* A line that has an entry: "NAME: VALUE", "- ..." or both. Columns are counted from 0. */
struct line {
	const char *start; /* in the text */
	unsigned number;   /* from 1 */
	unsigned indent;   /* where it begins */
	unsigned level;    /* where its entry begins: behind the dashes of its list items */
	bool is_item;
	bool opens;       /* a name without a value: what follows belongs to it */
	struct slice key; /* the name; empty where there is none */
	struct slice entry;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct slice rest_of_line(struct slice text, const char *start)
{
	size_t n = (size_t)(text.p + text.n - start);
	const char *end = n ? memchr(start, '\n', n) : NULL;

	n = end ? (size_t)(end - start) : n;
	return (struct slice){start, n > 0 && start[n - 1] == '\r' ? n - 1 : n};
}

static struct slice behind(struct slice s, size_t n)
{
	return (struct slice){s.p + n, s.n - n};
}

static size_t blanks(struct slice s)
{
	size_t n = 0;

	while (n < s.n && is_blank(s.p[n]))
		n++;
	return n;
}

/* Up to the first colon that ends a name. */
static struct slice key_of(struct slice entry, bool *ret_opens)
{
	for (size_t i = 0; i < entry.n; i++) {
		struct slice value = behind(entry, i + 1);
		size_t skipped;

		if (entry.p[i] != ':' || (value.n > 0 && !is_blank(value.p[0])))
			continue;
		skipped = blanks(value);
		*ret_opens = skipped == value.n || value.p[skipped] == '#';
		return (struct slice){entry.p, i};
	}
	return (struct slice){entry.p, 0};
}

/* False when the line has no entry: it is empty, a comment, or goes on with a value. */
static bool read_line(struct slice text, const char *start, unsigned number,
		      struct line *ret_line)
{
	struct line l = {.start = start, .number = number};
	struct slice rest = rest_of_line(text, start);
	size_t n = blanks(rest);

	l.indent = l.level = (unsigned)n;
	rest = behind(rest, n);
	while (rest.n > 0 && rest.p[0] == '-' && (rest.n == 1 || is_blank(rest.p[1]))) {
		n = 1 + blanks(behind(rest, 1));
		l.is_item = true;
		l.level += (unsigned)n;
		rest = behind(rest, n);
	}
	if (rest.n > 0 && rest.p[0] == '#')
		rest.n = 0;
	l.entry = rest;
	l.key = key_of(rest, &l.opens);
	if (!l.is_item && l.key.n == 0)
		return false;
	*ret_line = l;
	return true;
}

static const char *line_start(struct slice text, unsigned number)
{
	const char *p = text.p, *end = text.p + text.n;

	for (unsigned i = 1; i < number; i++) {
		const char *newline = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;

		if (!newline)
			return p;
		p = newline + 1;
	}
	return p;
}

/* Where the line before that which begins at `start` begins; it is not the first. */
static const char *start_before(struct slice text, const char *start)
{
	start--; /* the end of the line before */
	while (start > text.p && start[-1] != '\n')
		start--;
	return start;
}

/* The line with an entry before that which begins at `start`. */
static bool previous(struct slice text, const char *start, unsigned number,
		     struct line *ret_line)
{
	while (start > text.p) {
		start = start_before(text, start);
		if (read_line(text, start, --number, ret_line))
			return true;
	}
	return false;
}

static bool next(struct slice text, const struct line *l, struct line *ret_line)
{
	const char *start = l->start, *end = text.p + text.n;
	unsigned number = l->number;

	while (start < end) {
		const char *newline = memchr(start, '\n', (size_t)(end - start));

		start = newline ? newline + 1 : end;
		if (start < end && read_line(text, start, ++number, ret_line))
			return true;
	}
	return false;
}

/* ---- what may be wrong ---- */

static bool is_option(struct slice name)
{
	for (unsigned i = 0; i < _SECTION_MAX; i++)
		if (section_find(section_get(i), name))
			return true;
	return false;
}

static const char *option_name(struct slice name)
{
	for (unsigned i = 0; i < _SECTION_MAX; i++) {
		const struct config_option *o = section_find(section_get(i), name);

		if (o)
			return o->name;
	}
	return NULL;
}

const char *layout_glued_option(struct slice text)
{
	const char *colon = text.n ? memchr(text.p, ':', text.n) : NULL;
	size_t n = colon ? (size_t)(colon - text.p) : 0;

	if (!colon || n + 1 == text.n || is_blank(colon[1]))
		return NULL;
	return option_name((struct slice){text.p, n});
}

static bool explain_blank(struct slice text, struct place at, struct place *ret_place,
			  char *out)
{
	/* A page or a word processor puts the second there, which looks like a space. */
	static const char *const others[][2] = {{"\t", "a tab"},
						{"\xc2\xa0", "a no-break space"}};
	struct slice line = rest_of_line(text, line_start(text, at.line));

	for (size_t i = 0; i < line.n; i++) {
		for (size_t k = 0; k < ELEMENTSOF(others); k++) {
			if (!slice_starts(behind(line, i), slice_from(others[k][0])))
				continue;
			*ret_place = (struct place){at.line, (unsigned)i + 1};
			snprintf(out, LAYOUT_SENTENCE,
				 "%s indents this line; YAML takes spaces only", others[k][1]);
			return true;
		}
		if (line.p[i] != ' ' && line.p[i] != '-')
			break;
	}
	return false;
}

/* The line that begins at `start`, as it stands: it may have no entry, and that is what is
 * wrong with it. */
static bool explain_glued_line(struct slice text, const char *start, unsigned number,
			       struct place *ret_place, char *out)
{
	struct slice rest = rest_of_line(text, start);
	size_t skipped = blanks(rest);
	const char *name;
	bool opens;

	while (rest.n > skipped + 1 && rest.p[skipped] == '-' && is_blank(rest.p[skipped + 1]))
		skipped += 1 + blanks(behind(rest, skipped + 1));
	rest = behind(rest, skipped);
	name = layout_glued_option(rest);
	if (name)
		snprintf(out, LAYOUT_SENTENCE, "put a space after \"%s:\"", name);
	else if (rest.n > 1 && rest.p[0] == '-' &&
		 (is_option(key_of(behind(rest, 1), &opens)) ||
		  layout_glued_option(behind(rest, 1))))
		snprintf(out, LAYOUT_SENTENCE, "put a space after \"-\"");
	else
		return false;
	*ret_place = (struct place){number, (unsigned)skipped + 1};
	return true;
}

static bool is_empty_line(struct slice text, const char *start)
{
	struct slice line = rest_of_line(text, start);
	size_t n = blanks(line);

	return n == line.n || line.p[n] == '#';
}

/* libyaml stumbles over the line that follows. */
static bool explain_glued(struct slice text, struct place at, struct place *ret_place,
			  char *out)
{
	const char *start = line_start(text, at.line);
	unsigned number = at.line;

	if (explain_glued_line(text, start, number, ret_place, out))
		return true;
	while (start > text.p) {
		start = start_before(text, start);
		number--;
		if (!is_empty_line(text, start))
			break;
	}
	return explain_glued_line(text, start, number, ret_place, out);
}

/* What the items of a list are called, by the option that the list is. */
static const char *item_noun(struct slice option)
{
	static const char *const nouns[][2] = {
		{"allow", "rule"}, {"listen", "listener"}, {"hosts", "host"}};

	for (size_t i = 0; i < ELEMENTSOF(nouns); i++)
		if (slice_eq_str(option, nouns[i][0]))
			return nouns[i][1];
	return "item";
}

/* A name that stands below the dash of its list item, not beside the item's other names. */
static bool explain_member(struct slice text, const struct line *line, struct place *ret_place,
			   char *out)
{
	struct line item = {0}, l = *line;

	if (line->is_item || !is_option(line->key))
		return false;
	while (previous(text, l.start, l.number, &l) && l.indent >= line->indent) {
		if (l.indent > line->indent)
			continue;
		if (!l.is_item)
			return false; /* a name of the same mapping */
		item = item.start ? item : l;
	}
	if (!item.start || item.key.n == 0)
		return false; /* of a value nothing can be a name */
	*ret_place = (struct place){line->number, line->indent + 1};
	snprintf(out, LAYOUT_SENTENCE, "\"%.*s\" belongs to the %s on line %u: indent it by %u",
		 (int)line->key.n, line->key.p,
		 item_noun(l.indent < line->indent ? l.key : (struct slice){"", 0}),
		 item.number, item.level);
	return true;
}

static bool blame(const struct line *l, unsigned level, struct place *ret_place, char *out)
{
	unsigned wanted = l->indent + level - l->level;

	*ret_place = (struct place){l->number, l->indent + 1};
	if (l->is_item && l->key.n > 0)
		snprintf(out, LAYOUT_SENTENCE,
			 "indented by %u; the lines that belong to it want %u", l->indent,
			 wanted);
	else
		snprintf(out, LAYOUT_SENTENCE, "indented by %u, its neighbours by %u",
			 l->indent, wanted);
	return true;
}

/* A line that is deeper than the one before it, which has a value and so nothing below it. */
static bool explain_deeper(struct slice text, const struct line *before,
			   const struct line *line, struct place *ret_place, char *out)
{
	struct line other;
	bool is_common = (next(text, line, &other) && other.level == line->level) ||
			 (previous(text, before->start, before->number, &other) &&
			  other.level == line->level);

	if (before->opens || before->entry.n == 0)
		return false;
	return is_common ? blame(before, line->level, ret_place, out)
			 : blame(line, before->level, ret_place, out);
}

static unsigned apart(unsigned a, unsigned b)
{
	return a > b ? a - b : b - a;
}

/* What stands before a line and is open there. */
struct open_levels {
	bool fits;          /* the line is at one of them */
	unsigned meant;     /* which it was meant for, or its own */
	struct line lowest; /* the line of the least deep one */
};

/* `inside`: the level of what follows the line, if that belongs to it. */
static struct open_levels read_levels(struct slice text, const struct line *line,
				      unsigned inside)
{
	struct open_levels o = {.meant = line->indent};
	unsigned least = UINT32_MAX, nearest = UINT32_MAX;
	struct line l = *line;

	while (least > 0 && !o.fits && previous(text, l.start, l.number, &l)) {
		/* Names stand beside names, and dashes below dashes. */
		unsigned levels[2] = {l.level, l.indent};
		bool fits[2] = {l.key.n > 0 && !line->is_item, l.is_item == line->is_item};

		for (unsigned i = 0; i < 2; i++) {
			if (levels[i] >= least)
				continue;
			least = levels[i];
			o.lowest = l;
			if (!fits[i])
				continue;
			o.fits = o.fits || least == line->indent;
			if (least < inside && apart(least, line->indent) < nearest) {
				nearest = apart(least, line->indent);
				o.meant = least;
			}
		}
	}
	return o;
}

/* A line that is less deep than the one before it, and fits nothing that is open. */
static bool explain_shallower(struct slice text, const struct line *before,
			      const struct line *line, struct place *ret_place, char *out)
{
	struct line after = {0};
	bool has_after = next(text, line, &after);
	unsigned inside = line->opens && has_after ? after.indent : UINT32_MAX;
	struct open_levels o = read_levels(text, line, inside);
	struct line other;

	if (o.fits)
		return false;
	if (o.lowest.indent > line->indent)
		return blame(&o.lowest, o.lowest.level + line->indent - o.lowest.indent,
			     ret_place, out);
	/* The first of several: the others show which of the two is alone. */
	if (!line->is_item && has_after && after.level == line->level &&
	    previous(text, before->start, before->number, &other) && other.opens &&
	    other.level < line->level)
		return blame(before, line->level, ret_place, out);
	return o.meant != line->indent &&
	       blame(line, line->level + o.meant - line->indent, ret_place, out);
}

static bool explain_indent(struct slice text, const struct line *line, struct place *ret_place,
			   char *out)
{
	struct line before;

	if (!previous(text, line->start, line->number, &before))
		return false;
	if (line->indent > before.level)
		return explain_deeper(text, &before, line, ret_place, out);
	if (line->indent < before.level)
		return explain_shallower(text, &before, line, ret_place, out);
	return false;
}

bool layout_explain(struct slice text, struct place at, struct place *ret_place, char *out)
{
	struct line line;

	if (explain_blank(text, at, ret_place, out) || explain_glued(text, at, ret_place, out))
		return true;
	if (!read_line(text, line_start(text, at.line), at.line, &line))
		return false;
	if (!explain_member(text, &line, ret_place, out) &&
	    !explain_indent(text, &line, ret_place, out))
		return false;
	(void)explain_blank(text, *ret_place, ret_place,
			    out); /* what is to blame may show why */
	return true;
}
