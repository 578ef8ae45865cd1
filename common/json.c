/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "block.h"

#include <errno.h>
#include <string.h>

_Static_assert(LIMIT_JSON_MEMBERS < UINT16_MAX, "node indices are uint16_t");

/* An array or object whose end has not been read. */
struct level {
	uint16_t node;
	uint16_t first_name; /* where its members begin in reader.names */
};

/* `out` never passes `in`, so what is still to be read is never overwritten. */
struct reader {
	char *text;
	size_t n;
	size_t in;  /* the next byte to read */
	size_t out; /* the next byte to write */
	struct json_doc *doc;
	struct error *error;
	unsigned depth;
	struct level levels[LIMIT_JSON_DEPTH];
	/* The members of the open objects, as indices of nodes; those of one object stand
	 * together, sorted by name. So a duplicate is found with few comparisons: comparing
	 * each name with each costs milliseconds when a body holds 256 long ones that are
	 * almost alike. */
	unsigned n_names;
	uint16_t names[LIMIT_JSON_MEMBERS];
};

static bool bad(const struct reader *r, size_t at, const char *what)
{
	error_set(r->error, "JSON, byte %zu: %s", at, what);
	return false;
}

static bool over_limit(const struct reader *r, size_t at, unsigned limit, const char *what)
{
	error_set(r->error, "JSON, byte %zu: more than %u %s", at, limit, what);
	return false;
}

/* The next byte, -1 at the end. */
static int peek(const struct reader *r)
{
	return r->in < r->n ? (unsigned char)r->text[r->in] : -1;
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static void skip_space(struct reader *r)
{
	int c = peek(r);

	while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
		r->in++;
		c = peek(r);
	}
}

/* Passes on `n` bytes as they came. Text that is canonical already is not even written to. */
static void keep(struct reader *r, size_t n)
{
	if (r->out != r->in)
		memmove(r->text + r->out, r->text + r->in, n);
	r->in += n;
	r->out += n;
}

/* The same for one byte, which isn't worth a call of memmove(). */
static void keep_byte(struct reader *r)
{
	if (r->out != r->in)
		r->text[r->out] = r->text[r->in];
	r->in++;
	r->out++;
}

/* Writes the n bytes of `s` in place of the next `n_in`; n <= n_in. */
static void replace(struct reader *r, size_t n_in, const char *s, size_t n)
{
	if (memcmp(r->text + r->out, s, n) != 0)
		memcpy(r->text + r->out, s, n);
	r->in += n_in;
	r->out += n;
}

static bool is_plain(char c)
{
	return (unsigned char)(c - 0x20) < 0x60 && c != '"' && c != '\\';
}

/* Which bytes end a run of plain ASCII. The ^ lets space and quote change places, and leaves
 * control bytes below and all others above them: one comparison less. */
static block ends_run(block b)
{
	return ((b ^ (' ' ^ '"')) <= ' ') | (b == '\\');
}

/* How many bytes at `p` are ASCII that a string holds as it is. Most strings are short, and
 * most bytes are in one that is long. */
static size_t ascii_run(const char *p, size_t n)
{
	size_t i = 0;

	while (n - i >= sizeof(block)) {
		size_t run = block_first(ends_run(block_load(p + i)));

		i += run;
		if (run < sizeof(block))
			return i;
		for (; n - i >= 4 * sizeof(block); i += 4 * sizeof(block)) {
			block a = ends_run(block_load(p + i));
			block b = ends_run(block_load(p + i + sizeof(block)));
			block c = ends_run(block_load(p + i + 2 * sizeof(block)));
			block d = ends_run(block_load(p + i + 3 * sizeof(block)));

			if (block_any(a | b | c | d))
				break;
		}
	}
	while (i < n && is_plain(p[i]))
		i++;
	return i;
}

/* The length of the UTF-8 sequence at `p`, which begins with a byte from 0x80 up; 0 if it is
 * not a whole and valid one: no overlong form, no surrogate, nothing above U+10FFFF (RFC 3629
 * 3). */
static size_t utf8_length(const char *p, size_t n)
{
	static const uint32_t least[] = {[2] = 0x80, [3] = 0x800, [4] = 0x10000};
	unsigned char lead = (unsigned char)p[0];
	unsigned len = (unsigned)__builtin_clz(~((uint32_t)lead << 24)); /* its leading ones */
	uint32_t code;

	if (len < 2 || len > 4 || len > n)
		return 0;
	code = lead & (0x7f >> len);
	for (unsigned i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least[len] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)
		return 0;
	return len;
}

/* How many bytes at `p` a string holds as they are: UTF-8 up to a quote, a backslash, a control
 * character or a byte that is not UTF-8. */
static size_t string_run(const char *p, size_t n)
{
	size_t i = ascii_run(p, n);

	while (i < n && (p[i] & 0x80)) {
		size_t len = utf8_length(p + i, n - i);

		if (len == 0)
			break;
		i += len;
		if (i < n && !(p[i] & 0x80))
			i += ascii_run(p + i, n - i);
	}
	return i;
}

static size_t utf8_write(uint32_t code, char *out)
{
	static const unsigned char lead[] = {[2] = 0xc0, [3] = 0xe0, [4] = 0xf0};
	size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	if (len == 1) {
		out[0] = (char)code;
		return 1;
	}
	for (size_t i = len - 1; i > 0; i--) {
		out[i] = (char)(0x80 | (code & 0x3f));
		code >>= 6;
	}
	out[0] = (char)(lead[len] | code);
	return len;
}

#define CHARACTER_SIZE 6 /* the longest canonical character, \u00xx */

/* Writes the canonical form of one character. */
static size_t write_character(uint32_t code, char *out)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
				       ['\t'] = 't', ['"'] = '"',  ['\\'] = '\\'};

	if (code < sizeof(letters) && letters[code]) {
		out[0] = '\\';
		out[1] = letters[code];
		return 2;
	}
	if (code >= 0x20)
		return utf8_write(code, out);
	memcpy(out, "\\u00", 4);
	out[4] = hex[code >> 4];
	out[5] = hex[code & 15];
	return 6;
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The UTF-16 code unit that text[at..] gives as \uXXXX; -1 if it gives none. */
static int32_t code_unit(const struct reader *r, size_t at)
{
	int32_t code = 0;

	if (r->n - at < 6 || r->text[at] != '\\' || r->text[at + 1] != 'u')
		return -1;
	for (size_t i = at + 2; i < at + 6; i++) {
		int digit = hex_digit(r->text[i]);

		if (digit < 0)
			return -1;
		code = code << 4 | digit;
	}
	return code;
}

/* At the backslash of \u. A pair of surrogates is one character (RFC 8259 7). */
static bool read_unicode(struct reader *r, bool name)
{
	char s[CHARACTER_SIZE];
	int32_t code = code_unit(r, r->in);
	size_t used = 6;

	if (code < 0)
		return bad(r, r->in, "\\u needs four hexadecimal digits");
	if (code == 0 && name)
		return bad(r, r->in, "NUL in a name");
	if (code >= 0xd800 && code < 0xe000) {
		int32_t low = code_unit(r, r->in + used);

		if (code >= 0xdc00 || low < 0xdc00 || low >= 0xe000)
			return bad(r, r->in, "a surrogate without its partner");
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
		used += 6;
	}
	replace(r, used, s, write_character((uint32_t)code, s));
	return true;
}

/* At the backslash. */
static bool read_escape(struct reader *r, bool name)
{
	switch (r->n - r->in > 1 ? r->text[r->in + 1] : '\0') {
	case '"':
	case '\\':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		keep_byte(r);
		keep_byte(r);
		return true;
	case '/':
		replace(r, 2, "/", 1);
		return true;
	case 'u':
		return read_unicode(r, name);
	default:
		return bad(r, r->in, "an escape that JSON doesn't have");
	}
}

/* At the opening quote. */
static bool read_string(struct reader *r, bool name, struct slice *ret_content)
{
	size_t start;

	keep_byte(r);
	start = r->out;
	for (;;) {
		int c;

		keep(r, string_run(r->text + r->in, r->n - r->in));
		c = peek(r);
		if (c == '"')
			break;
		if (c < 0)
			return bad(r, r->in, "the string has no end");
		if (c < 0x20)
			return bad(r, r->in, "a control character in a string");
		if (c >= 0x80)
			return bad(r, r->in, "not UTF-8");
		if (!read_escape(r, name))
			return false;
	}
	*ret_content = (struct slice){r->text + start, r->out - start};
	keep_byte(r);
	return true;
}

static bool keep_digits(struct reader *r)
{
	if (!is_digit(peek(r)))
		return bad(r, r->in, "expected a digit");
	while (is_digit(peek(r)))
		keep_byte(r);
	return true;
}

/* RFC 8259 6. The number stays as it came: nobody here calculates with it. */
static bool read_number(struct reader *r, struct slice *ret_text)
{
	size_t at = r->in, start = r->out;

	if (peek(r) == '-')
		keep_byte(r);
	if (peek(r) == '0')
		keep_byte(r);
	else if (!keep_digits(r))
		return false;
	if (peek(r) == '.') {
		keep_byte(r);
		if (!keep_digits(r))
			return false;
	}
	if (peek(r) == 'e' || peek(r) == 'E') {
		keep_byte(r);
		if (peek(r) == '+' || peek(r) == '-')
			keep_byte(r);
		if (!keep_digits(r))
			return false;
	}
	if (r->out - start > LIMIT_JSON_NUMBER)
		return over_limit(r, at, LIMIT_JSON_NUMBER, "bytes in a number");
	*ret_text = (struct slice){r->text + start, r->out - start};
	return true;
}

static bool read_literal(struct reader *r, struct slice word, struct slice *ret_text)
{
	if (r->n - r->in < word.n || memcmp(r->text + r->in, word.p, word.n) != 0)
		return bad(r, r->in, "expected a value");
	*ret_text = (struct slice){r->text + r->out, word.n};
	keep(r, word.n);
	return true;
}

/* At the bracket. */
static bool open_level(struct reader *r, struct json_node *node)
{
	if (r->depth == LIMIT_JSON_DEPTH)
		return over_limit(r, r->in, LIMIT_JSON_DEPTH, "levels of nesting");
	r->levels[r->depth++] =
		(struct level){(uint16_t)(node - r->doc->nodes), (uint16_t)r->n_names};
	node->value.p = r->text + r->out;
	keep_byte(r);
	return true;
}

/* At the bracket. */
static void close_level(struct reader *r)
{
	struct level *level = &r->levels[--r->depth];
	struct json_node *node = &r->doc->nodes[level->node];

	keep_byte(r);
	r->n_names = level->first_name;
	node->end = (uint16_t)r->doc->n;
	node->value.n = (size_t)(r->text + r->out - node->value.p);
}

/* Reads a whole value, or the bracket that opens one: read_text() goes on from there. */
static bool read_value(struct reader *r, struct json_node *node)
{
	skip_space(r);
	switch (peek(r)) {
	case '{':
		node->type = JSON_OBJECT;
		return open_level(r, node);
	case '[':
		node->type = JSON_ARRAY;
		return open_level(r, node);
	case '"':
		node->type = JSON_STRING;
		return read_string(r, false, &node->value);
	case 't':
		node->type = JSON_TRUE;
		return read_literal(r, SLICE("true"), &node->value);
	case 'f':
		node->type = JSON_FALSE;
		return read_literal(r, SLICE("false"), &node->value);
	case 'n':
		node->type = JSON_NULL;
		return read_literal(r, SLICE("null"), &node->value);
	case '-':
	case '0' ... '9':
		node->type = JSON_NUMBER;
		return read_number(r, &node->value);
	default:
		return bad(r, r->in, "expected a value");
	}
}

/* A new last node; NULL when there are too many. */
static struct json_node *add_node(struct reader *r)
{
	unsigned i = r->doc->n;

	if (i > LIMIT_JSON_MEMBERS) {
		over_limit(r, r->in, LIMIT_JSON_MEMBERS, "members and elements");
		return NULL;
	}
	r->doc->n++;
	r->doc->nodes[i] = (struct json_node){.end = (uint16_t)(i + 1)};
	return &r->doc->nodes[i];
}

/* The shorter name first: most comparisons end at the length. */
static int compare_names(struct slice a, struct slice b)
{
	if (a.n != b.n)
		return a.n < b.n ? -1 : 1;
	return memcmp(a.p, b.p, a.n);
}

/* Sorts the member into those of the innermost object; false if its name is there already. */
static bool insert_name(struct reader *r, const struct json_node *member)
{
	unsigned low = r->levels[r->depth - 1].first_name, high = r->n_names;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		int c = compare_names(member->name, r->doc->nodes[r->names[middle]].name);

		if (c == 0)
			return false;
		if (c < 0)
			high = middle;
		else
			low = middle + 1;
	}
	memmove(&r->names[low + 1], &r->names[low], (r->n_names - low) * sizeof(r->names[0]));
	r->names[low] = (uint16_t)(member - r->doc->nodes);
	r->n_names++;
	return true;
}

/* Reads a member's name and its colon. */
static bool read_name(struct reader *r, struct json_node *member)
{
	size_t at;

	skip_space(r);
	at = r->in;
	if (peek(r) != '"')
		return bad(r, at, "expected a member's name");
	if (!read_string(r, true, &member->name))
		return false;
	if (!insert_name(r, member))
		return bad(r, at, "a second member of this name");
	skip_space(r);
	if (peek(r) != ':')
		return bad(r, r->in, "expected a colon");
	keep_byte(r);
	return true;
}

/* Reads on in the innermost array or object: its end, or one more member or element. */
static bool read_next(struct reader *r)
{
	unsigned parent = r->levels[r->depth - 1].node;
	bool object = r->doc->nodes[parent].type == JSON_OBJECT;
	struct json_node *node;

	skip_space(r);
	if (peek(r) == (object ? '}' : ']')) {
		close_level(r);
		return true;
	}
	if (r->doc->n > parent + 1) { /* not the first */
		if (peek(r) != ',')
			return bad(r, r->in, "expected a comma or the closing bracket");
		keep_byte(r);
	}

	node = add_node(r);
	if (!node)
		return false;
	if (object && !read_name(r, node))
		return false;
	return read_value(r, node);
}

static bool read_text(struct reader *r)
{
	if (!read_value(r, add_node(r)))
		return false;
	while (r->depth > 0)
		if (!read_next(r))
			return false;
	skip_space(r);
	if (r->in != r->n)
		return bad(r, r->in, "something after the value");
	return true;
}

enum json_result json_read(char *text, size_t n, struct json_doc *doc, size_t *ret_n,
			   struct error *error)
{
	/* Not an initializer either: it would clear the names each time. */
	_uninitialized_ struct reader r;

	r.text = text;
	r.n = n;
	r.in = r.out = 0;
	r.doc = doc;
	r.error = error;
	r.depth = 0;
	r.n_names = 0;
	doc->n = 0;
	if (!read_text(&r))
		return JSON_BAD;
	*ret_n = r.out;
	return JSON_OK;
}

int json_member(const struct json_doc *doc, unsigned parent, struct slice name)
{
	if (doc->nodes[parent].type != JSON_OBJECT)
		return -1;
	for (unsigned i = parent + 1; i < doc->nodes[parent].end; i = doc->nodes[i].end)
		if (slice_eq(doc->nodes[i].name, name))
			return (int)i;
	return -1;
}

int json_canonical(struct slice s, char *out, size_t size)
{
	size_t i = 0, o = 0;

	size = MIN(size, (size_t)INT32_MAX);
	while (i < s.n) {
		char character[CHARACTER_SIZE];
		const char *from = s.p + i;
		size_t n = string_run(from, s.n - i);

		i += n;
		if (n == 0) { /* one that can't stay as it is */
			if (*from & 0x80)
				return -EINVAL;
			n = write_character((unsigned char)*from, character);
			from = character;
			i++;
		}
		if (n > size - o)
			return -EMSGSIZE;
		memcpy(out + o, from, n);
		o += n;
	}
	return (int)o;
}
