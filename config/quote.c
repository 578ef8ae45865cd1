/* SPDX-License-Identifier: Apache-2.0 */
#include "quote.h"

#include "json.h"

#include <stdint.h>
#include <string.h>

/* What YAML 1.1 takes for something other than text. We don't, but others may read what we
 * print. */
static bool is_special(struct slice s)
{
	static const char *const words[] = {"null", "true", "false", "yes", "no",
					    "on",   "off",  "y",     "n"};

	for (size_t i = 0; i < ELEMENTSOF(words); i++)
		if (slice_eq_nocase(s, slice_from(words[i])))
			return true;
	return false;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_word(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!is_letter(c) && (i == 0 || c == '\0' || !strchr("0123456789._-/", c)))
			return false;
	}
	return s.n > 0 && !is_special(s);
}

void quote_text(struct slice text, FILE *f)
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
	quote_canonical(canonical, f);
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

void quote_canonical(const char *text, FILE *f)
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
