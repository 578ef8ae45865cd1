/* SPDX-License-Identifier: Apache-2.0 */
#include "http_line.h"

#include "block.h"

#include <assert.h>

/* HTAB, SP and VCHAR: no control byte, nothing outside ASCII (obs-text, RFC 9110 5.5, is out).
 */
static const bool is_text[256] = {['\t'] = true, [0x20 ... 0x7e] = true};

/* RFC 9110 5.6.2 */
static const bool is_token[256] =
	{
		['!'] = true,         ['#' ... '\''] = true, ['*' ... '+'] = true,
		['-' ... '.'] = true, ['0' ... '9'] = true,  ['A' ... 'Z'] = true,
		['^' ... 'z'] = true, /* ^ _ ` and the small letters */
		['|'] = true,         ['~'] = true,
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

const char *http_byte_fault(char c)
{
	if (is_text[(unsigned char)c])
		return NULL;
	if (c == '\n')
		return "bare LF";
	if (c == '\r')
		return "bare CR";
	return (unsigned char)c >= 0x80 ? "byte outside ASCII" : "control byte";
}

enum line_result http_line_scan(struct slice bytes, size_t start, size_t *scanned,
				const char **ret_fault)
{
	size_t i = *scanned;

	assert(start <= i && i <= bytes.n);
	if (i == start && i < bytes.n && is_blank(bytes.p[i])) {
		*ret_fault = "line begins with a blank";
		return LINE_BAD;
	}

	i += block_text_run(bytes.p + i, bytes.n - i, '\t', 0x7f);
	*scanned = i;
	if (i == bytes.n)
		return LINE_NEED_MORE;
	if (bytes.p[i] == '\r') {
		if (i + 1 == bytes.n)
			return LINE_NEED_MORE;
		if (bytes.p[i + 1] == '\n') {
			*scanned = i + 2;
			return LINE_DONE;
		}
	}
	*ret_fault = http_byte_fault(bytes.p[i]);
	return LINE_BAD;
}

/* How many bytes at `p` make a token. */
static size_t token_run(const char *p, size_t n)
{
	size_t i = 0;

	/* Nearly all names are letters, digits and hyphens. */
	while (n - i >= sizeof(block)) {
		block b = block_load(p + i), small = b | 0x20;
		size_t run = block_first(~(((small >= 'a') & (small <= 'z')) |
					   ((b >= '0') & (b <= '9')) | (b == '-')));

		i += run;
		if (run < sizeof(block))
			break;
	}
	while (i < n && is_token[(unsigned char)p[i]])
		i++;
	return i;
}

static struct slice trim(struct slice s)
{
	while (s.n && is_blank(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

const char *http_field_split(struct slice line, struct http_field *ret_field)
{
	size_t n = token_run(line.p, line.n);

	if (n == line.n)
		return "field line without a colon";
	if (line.p[n] != ':')
		return is_blank(line.p[n]) ? "blank in a field name"
					   : "bad byte in a field name";
	if (n == 0)
		return "empty field name";

	ret_field->name = (struct slice){line.p, n};
	ret_field->value = trim((struct slice){line.p + n + 1, line.n - n - 1});
	return NULL;
}

bool http_list_next(struct slice *list, struct slice *ret_element)
{
	const char *comma;
	size_t n;

	if (!list->p)
		return false;
	comma = memchr(list->p, ',', list->n);
	n = comma ? (size_t)(comma - list->p) : list->n;
	*ret_element = trim((struct slice){list->p, n});
	*list = comma ? (struct slice){comma + 1, list->n - n - 1} : (struct slice){NULL, 0};
	return true;
}
