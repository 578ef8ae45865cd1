/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "page_end.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define S(lit)                                                                                 \
	{                                                                                      \
		(lit), sizeof(lit) - 1                                                         \
	}

static struct json_doc doc;
static struct error error;

/* A copy in an allocation of exactly its size: sanitizers and valgrind see an overread. */
static char *copy(struct slice s)
{
	char *p = malloc(s.n ? s.n : 1);

	ck_assert_ptr_nonnull(p);
	if (s.n)
		memcpy(p, s.p, s.n);
	return p;
}

static void assert_slice(struct slice got, struct slice want)
{
	ck_assert_msg(slice_eq(got, want), "got \"%.*s\", expected \"%.*s\"", (int)got.n, got.p,
		      (int)want.n, want.p);
}

/* Reads `in` and asserts its canonical form. */
static void assert_accepted(struct slice in, struct slice out)
{
	_cleanup_(freep) char *text = copy(in);
	size_t n;

	error.text[0] = '\0';
	ck_assert_msg(json_read(text, in.n, &doc, &n, &error) == JSON_OK, "%.*s: %s", (int)in.n,
		      in.p, error.text);
	assert_slice((struct slice){text, n}, out);
	ck_assert_str_eq(error.text, "");
}

static void assert_refused(struct slice in, size_t at, const char *why)
{
	_cleanup_(freep) char *text = copy(in);
	char want[sizeof(error.text)];
	size_t n = 4711;

	snprintf(want, sizeof(want), "JSON, byte %zu: %s", at, why);
	ck_assert_msg(json_read(text, in.n, &doc, &n, &error) == JSON_BAD, "accepted: %.*s",
		      (int)in.n, in.p);
	ck_assert_str_eq(error.text, want);
	ck_assert_uint_eq(n, 4711);
}

/* Reads `in`, which may be refused; asserts that an accepted text did not grow and that its
 * canonical form reads as itself. Returns the verdict. */
static enum json_result assert_stable(struct slice in)
{
	_cleanup_(freep) char *first = copy(in);
	_cleanup_(freep) char *second = NULL;
	size_t n, again;

	if (json_read(first, in.n, &doc, &n, NULL) == JSON_BAD)
		return JSON_BAD;
	ck_assert_uint_le(n, in.n);
	second = copy((struct slice){first, n});
	ck_assert(json_read(second, n, &doc, &again, NULL) == JSON_OK);
	assert_slice((struct slice){second, again}, (struct slice){first, n});
	return JSON_OK;
}

static const struct {
	struct slice in, out;
} accepted[] = {
	/* each type alone */
	{S("null"), S("null")},
	{S("true"), S("true")},
	{S("false"), S("false")},
	{S("0"), S("0")},
	{S("\"\""), S("\"\"")},
	{S("[]"), S("[]")},
	{S("{}"), S("{}")},
	/* white space goes, inside strings it stays */
	{S(" \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } } \n"), S("{\"a\":[1,2],\"b\":{}}")},
	{S("[ ]"), S("[]")},
	{S("{ }"), S("{}")},
	{S(" 1 "), S("1")},
	{S("[ null , true , false ]"), S("[null,true,false]")},
	{S("{\" a \" : \" b  c \"}"), S("{\" a \":\" b  c \"}")},
	/* numbers stay as they came */
	{S("[0,-0,7,-7,10,1234567890]"), S("[0,-0,7,-7,10,1234567890]")},
	{S("[0.0,-0.5,1.50,10.001]"), S("[0.0,-0.5,1.50,10.001]")},
	{S("[1e1,1E1,1e+1,1e-1,0e0,1.5E007,-0e-0]"),
	 S("[1e1,1E1,1e+1,1e-1,0e0,1.5E007,-0e-0]")},
	{S("[99999999999999999999999,1e999]"), S("[99999999999999999999999,1e999]")},
	/* the escapes that stay */
	{S("\"\\\"\\\\\\b\\f\\n\\r\\t\""), S("\"\\\"\\\\\\b\\f\\n\\r\\t\"")},
	{S("\"\\u0000\\u0001\\u001f\""), S("\"\\u0000\\u0001\\u001f\"")},
	/* the escapes that become shorter */
	{S("\"\\/\""), S("\"/\"")},
	{S("\"\\u0022\\u005c\\u002f\""), S("\"\\\"\\\\/\"")},
	{S("\"\\u0008\\u000c\\u000a\\u000d\\u0009\""), S("\"\\b\\f\\n\\r\\t\"")},
	{S("\"\\u000B\\u001F\\u000e\""), S("\"\\u000b\\u001f\\u000e\"")},
	{S("\"\\u0020\\u0041\\u007e\\u007f\""), S("\" A~\x7f\"")},
	{S("\"\\u0080\\u07ff\""), S("\"\xc2\x80\xdf\xbf\"")},
	{S("\"\\u0800\\ud7ff\\ue000\\uffff\""),
	 S("\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"")},
	{S("\"\\uABCD\\uabcd\\uAbCd\""), S("\"\xea\xaf\x8d\xea\xaf\x8d\xea\xaf\x8d\"")},
	{S("\"\\ud800\\udc00\\udbff\\udfff\""), S("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"")},
	{S("\"\\uD83D\\uDE00\""), S("\"\xf0\x9f\x98\x80\"")},
	{S("\"a\\u0062c\\u0000d\""), S("\"abc\\u0000d\"")},
	/* plain bytes: DEL and the first and last UTF-8 of each length */
	{S("\" !~\x7f\""), S("\" !~\x7f\"")},
	{S("\"\xc2\x80\xdf\xbf\""), S("\"\xc2\x80\xdf\xbf\"")},
	{S("\"\xe0\xa0\x80\xef\xbf\xbf\""), S("\"\xe0\xa0\x80\xef\xbf\xbf\"")},
	{S("\"\xed\x9f\xbf\xee\x80\x80\""), S("\"\xed\x9f\xbf\xee\x80\x80\"")},
	{S("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""), S("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"")},
	{S("\"\xef\xbb\xbf\""), S("\"\xef\xbb\xbf\"")}, /* U+FEFF is a BOM only at the start */
	/* names */
	{S("{\"\":1}"), S("{\"\":1}")},
	{S("{\"\\u004beyId\":\"\\u006b\"}"), S("{\"KeyId\":\"k\"}")},
	{S("{\"a\\n\\u00e9\":1}"), S("{\"a\\n\xc3\xa9\":1}")},
	{S("{\"a\":1,\"A\":2,\"aa\":3,\"\":4}"), S("{\"a\":1,\"A\":2,\"aa\":3,\"\":4}")},
	/* the same name, but not in the same object */
	{S("{\"a\":{\"a\":{\"a\":1}}}"), S("{\"a\":{\"a\":{\"a\":1}}}")},
	{S("[{\"a\":1},{\"a\":2}]"), S("[{\"a\":1},{\"a\":2}]")},
	{S("{\"b\":{\"a\":1},\"a\":{\"b\":1}}"), S("{\"b\":{\"a\":1},\"a\":{\"b\":1}}")},
	/* U+00E9 is not e with U+0301: nothing is normalized */
	{S("{\"\\u00e9\":1,\"e\\u0301\":2}"), S("{\"\xc3\xa9\":1,\"e\xcc\x81\":2}")},
	/* bodies as the SDKs write them */
	{S("{\"KeyId\": \"alias/app\", \"Plaintext\": \"aGVsbG8gd29ybGQhIQ==\", "
	   "\"EncryptionContext\": {\"app\": \"payments\"}}"),
	 S("{\"KeyId\":\"alias/app\",\"Plaintext\":\"aGVsbG8gd29ybGQhIQ==\","
	   "\"EncryptionContext\":{\"app\":\"payments\"}}")},
	{S("{\"CiphertextBlob\":\"AQIC\\/Ag==\",\"DryRun\":false}"),
	 S("{\"CiphertextBlob\":\"AQIC/Ag==\",\"DryRun\":false}")},
};

START_TEST(accept)
{
	assert_accepted(accepted[_i].in, accepted[_i].out);
	ck_assert(assert_stable(accepted[_i].in) == JSON_OK);
}
END_TEST

/* A write into the page would end the test by a signal. */
START_TEST(canonical_text_is_not_written_to)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n;
	struct slice out = accepted[_i].out;
	char *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	memcpy(p, out.p, out.n);
	ck_assert_int_eq(mprotect(p, page, PROT_READ), 0);
	ck_assert(json_read(p, out.n, &doc, &n, NULL) == JSON_OK);
	ck_assert_uint_eq(n, out.n);
	munmap(p, page);
}
END_TEST

#define VALUE "expected a value"
#define NAME "expected a member's name"
#define COMMA "expected a comma or the closing bracket"
#define DIGIT "expected a digit"
#define AFTER "something after the value"
#define NO_END "the string has no end"
#define CONTROL "a control character in a string"
#define NOT_UTF8 "not UTF-8"
#define ESCAPE "an escape that JSON doesn't have"
#define FOUR_DIGITS "\\u needs four hexadecimal digits"
#define LONE "a surrogate without its partner"
#define SECOND "a second member of this name"

static const struct {
	struct slice in;
	size_t at;
	const char *why;
} refused[] = {
	/* nothing, or nothing that begins a value */
	{S(""), 0, VALUE},
	{S(" "), 1, VALUE},
	{S("\n\t\r "), 4, VALUE},
	{S("}"), 0, VALUE},
	{S("]"), 0, VALUE},
	{S(","), 0, VALUE},
	{S(":"), 0, VALUE},
	{S("'a'"), 0, VALUE},
	{S("a"), 0, VALUE},
	{S("\0"), 0, VALUE},
	{S("\v1"), 0, VALUE},
	{S("\f1"), 0, VALUE},
	{S("\xc2\xa0{}"), 0, VALUE},     /* no-break space */
	{S("\xef\xbb\xbf{}"), 0, VALUE}, /* BOM */
	{S("\xff\xfe{\0}\0"), 0, VALUE}, /* UTF-16 */
	{S("{\0}\0"), 1, NAME},
	{S("/**/1"), 0, VALUE},
	{S("//\n1"), 0, VALUE},
	/* literals */
	{S("nul"), 0, VALUE},
	{S("NULL"), 0, VALUE},
	{S("True"), 0, VALUE},
	{S("tru"), 0, VALUE},
	{S("fals"), 0, VALUE},
	{S("truE"), 0, VALUE},
	{S("truefalse"), 4, AFTER},
	{S("nulll"), 4, AFTER},
	{S("NaN"), 0, VALUE},
	{S("nan"), 0, VALUE},
	{S("Infinity"), 0, VALUE},
	{S("-Infinity"), 1, DIGIT},
	{S("-NaN"), 1, DIGIT},
	{S("undefined"), 0, VALUE},
	/* numbers */
	{S("-"), 1, DIGIT},
	{S("+1"), 0, VALUE},
	{S(".5"), 0, VALUE},
	{S("-.5"), 1, DIGIT},
	{S("1."), 2, DIGIT},
	{S("1.e1"), 2, DIGIT},
	{S("1e"), 2, DIGIT},
	{S("1e+"), 3, DIGIT},
	{S("1e-"), 3, DIGIT},
	{S("1ee1"), 2, DIGIT},
	{S("1e1.5"), 3, AFTER},
	{S("00"), 1, AFTER},
	{S("01"), 1, AFTER},
	{S("-01"), 2, AFTER},
	{S("--1"), 1, DIGIT},
	{S("0x10"), 1, AFTER},
	{S("1_000"), 1, AFTER},
	{S("1 2"), 2, AFTER},
	{S("1a"), 1, AFTER},
	{S("[1.]"), 3, DIGIT},
	{S("[01]"), 2, COMMA},
	{S("\xef\xbc\x91"), 0, VALUE}, /* full-width digit one */
	/* arrays */
	{S("["), 1, VALUE},
	{S("[1"), 2, COMMA},
	{S("[1,"), 3, VALUE},
	{S("[1,]"), 3, VALUE},
	{S("[,]"), 1, VALUE},
	{S("[,1]"), 1, VALUE},
	{S("[1,,2]"), 3, VALUE},
	{S("[1 2]"), 3, COMMA},
	{S("[1;2]"), 2, COMMA},
	{S("[1}"), 2, COMMA},
	{S("[}"), 1, VALUE},
	{S("[1:2]"), 2, COMMA},
	{S("[\"a\":1]"), 4, COMMA},
	{S("[]]"), 2, AFTER},
	{S("[[]"), 3, COMMA},
	/* objects */
	{S("{"), 1, NAME},
	{S("{]"), 1, NAME},
	{S("{,}"), 1, NAME},
	{S("{1:2}"), 1, NAME},
	{S("{a:1}"), 1, NAME},
	{S("{'a':1}"), 1, NAME},
	{S("{null:1}"), 1, NAME},
	{S("{\"a\"}"), 4, "expected a colon"},
	{S("{\"a\" 1}"), 5, "expected a colon"},
	{S("{\"a\",1}"), 4, "expected a colon"},
	{S("{\"a\"=1}"), 4, "expected a colon"},
	{S("{\"a\"::1}"), 5, VALUE},
	{S("{\"a\":}"), 5, VALUE},
	{S("{\"a\":1"), 6, COMMA},
	{S("{\"a\":1]"), 6, COMMA},
	{S("{\"a\":1,}"), 7, NAME},
	{S("{\"a\":1,,\"b\":2}"), 7, NAME},
	{S("{\"a\":1 \"b\":2}"), 7, COMMA},
	{S("{\"a\":1}}"), 7, AFTER},
	{S("{\"a\":[}"), 6, VALUE},
	{S("{\"a\":1/**/}"), 6, COMMA},
	/* after the value */
	{S("{} {}"), 3, AFTER},
	{S("{},"), 2, AFTER},
	{S("{}\0"), 2, AFTER},
	{S("{}\v"), 2, AFTER},
	{S("null\xef\xbb\xbf"), 4, AFTER},
	{S("\"a\"\"b\""), 3, AFTER},
	/* strings */
	{S("\""), 1, NO_END},
	{S("\"a"), 2, NO_END},
	{S("\"0123456789abcdef"), 17, NO_END},
	{S("\"a\\\""), 4, NO_END},
	{S("{\"a"), 3, NO_END},
	{S("\"\\u0041"), 7, NO_END},
	{S("\"\0\""), 1, CONTROL},
	{S("\"a\nb\""), 2, CONTROL},
	{S("\"a\tb\""), 2, CONTROL},
	{S("\"\x1f\""), 1, CONTROL},
	{S("{\"a\0\":1}"), 3, CONTROL},
	/* escapes */
	{S("\"\\"), 1, ESCAPE},
	{S("\"\\a\""), 1, ESCAPE},
	{S("\"\\v\""), 1, ESCAPE},
	{S("\"\\0\""), 1, ESCAPE},
	{S("\"\\'\""), 1, ESCAPE},
	{S("\"\\x41\""), 1, ESCAPE},
	{S("\"\\N\""), 1, ESCAPE},
	{S("\"\\U0041\""), 1, ESCAPE},
	{S("\"\\\n\""), 1, ESCAPE},
	{S("\"\\\0\""), 1, ESCAPE},
	{S("\"\\\xc3\xa9\""), 1, ESCAPE},
	{S("\"\\u\""), 1, FOUR_DIGITS},
	{S("\"\\u"), 1, FOUR_DIGITS},
	{S("\"\\u004"), 1, FOUR_DIGITS},
	{S("\"\\u004\""), 1, FOUR_DIGITS},
	{S("\"\\u004g\""), 1, FOUR_DIGITS},
	{S("\"\\u/041\""), 1, FOUR_DIGITS},
	{S("\"\\u:041\""), 1, FOUR_DIGITS},
	{S("\"\\u@041\""), 1, FOUR_DIGITS},
	{S("\"\\u`041\""), 1, FOUR_DIGITS},
	{S("\"\\u004G\""), 1, FOUR_DIGITS},
	{S("\"\\u 041\""), 1, FOUR_DIGITS},
	{S("\"\\u+041\""), 1, FOUR_DIGITS},
	{S("\"\\u-041\""), 1, FOUR_DIGITS},
	{S("\"\\u0x41\""), 1, FOUR_DIGITS},
	{S("\"\\u{41}\""), 1, FOUR_DIGITS},
	{S("\"\\u00\xc3\xa9\""), 1, FOUR_DIGITS},
	/* surrogates */
	{S("\"\\ud800\""), 1, LONE},
	{S("\"\\udbff\""), 1, LONE},
	{S("\"\\udc00\""), 1, LONE},
	{S("\"\\udfff\""), 1, LONE},
	{S("\"\\ud800a\""), 1, LONE},
	{S("\"\\ud800\\n\""), 1, LONE},
	{S("\"\\ud800\\\""), 1, LONE},
	{S("\"\\ud800\\u"), 1, LONE},
	{S("\"\\ud800\\udc0"), 1, LONE},
	{S("\"\\ud800\\u0041\""), 1, LONE},
	{S("\"\\ud800\\ud800\\udc00\""), 1, LONE},
	{S("\"\\ud800\\udbff\""), 1, LONE},
	{S("\"\\ud800\\ue000\""), 1, LONE},
	{S("\"\\udc00\\ud800\""), 1, LONE},
	{S("\"\\udc00\\udc00\""), 1, LONE},
	{S("\"\\ud800 \\udc00\""), 1, LONE},
	{S("\"\\ud800\xed\xb0\x80\""), 1, LONE},
	{S("{\"\\ud800\":1}"), 2, LONE},
	/* UTF-8 */
	{S("\"\x80\""), 1, NOT_UTF8},
	{S("\"\xbf\""), 1, NOT_UTF8},
	{S("\"\xc0\x80\""), 1, NOT_UTF8}, /* overlong */
	{S("\"\xc1\xbf\""), 1, NOT_UTF8},
	{S("\"\xe0\x80\xaf\""), 1, NOT_UTF8},
	{S("\"\xe0\x9f\xbf\""), 1, NOT_UTF8},
	{S("\"\xf0\x80\x80\xaf\""), 1, NOT_UTF8},
	{S("\"\xf0\x8f\xbf\xbf\""), 1, NOT_UTF8},
	{S("\"\xed\xa0\x80\""), 1, NOT_UTF8}, /* surrogates */
	{S("\"\xed\xbf\xbf\""), 1, NOT_UTF8},
	{S("\"\xed\xa0\x80\xed\xb0\x80\""), 1, NOT_UTF8},
	{S("\"\xf4\x90\x80\x80\""), 1, NOT_UTF8}, /* above U+10FFFF */
	{S("\"\xf5\x80\x80\x80\""), 1, NOT_UTF8},
	{S("\"\xf8\x84\x80\x80\x80\""), 1, NOT_UTF8}, /* five bytes and more */
	{S("\"\xf8\x88\x80\x80\x80\""), 1, NOT_UTF8},
	{S("\"\xfc\x84\x80\x80\x80\x80\""), 1, NOT_UTF8},
	{S("\"\xfe\""), 1, NOT_UTF8},
	{S("\"\xff\""), 1, NOT_UTF8},
	{S("\"\xc3\""), 1, NOT_UTF8}, /* cut short, by the quote and by the end */
	{S("\"\xe2\x82\""), 1, NOT_UTF8},
	{S("\"\xf0\x9f\x98\""), 1, NOT_UTF8},
	{S("\"\xc3"), 1, NOT_UTF8},
	{S("\"\xe2\x82"), 1, NOT_UTF8},
	{S("\"\xf0\x9f\x98"), 1, NOT_UTF8},
	{S("\"\xc3\xa9\xa9\""), 3, NOT_UTF8},
	{S("\"\xc3(\""), 1, NOT_UTF8},
	{S("\"\xc3\xc3\""), 1, NOT_UTF8},
	{S("\"\xe2\x82\xc3\""), 1, NOT_UTF8},
	{S("\"\xe2(\xa1\""), 1, NOT_UTF8},
	{S("\"\xe2\x82(\""), 1, NOT_UTF8},
	{S("\"0123456789abcdef\xff\""), 17, NOT_UTF8},
	{S("{\"\xff\":1}"), 2, NOT_UTF8},
	/* NUL in a name */
	{S("{\"\\u0000\":1}"), 2, "NUL in a name"},
	{S("{\"Key\\u0000Id\":1}"), 5, "NUL in a name"},
	/* duplicates, also after white space, in other spellings and at depth */
	{S("{\"a\":1,\"a\":1}"), 7, SECOND},
	{S("{\"\":1,\"\":1}"), 6, SECOND},
	{S("{ \"a\" : 1 , \"a\" : 2 }"), 12, SECOND},
	{S("{\"KeyId\":1,\"b\":2,\"KeyId\":3}"), 17, SECOND},
	{S("{\"a\":1,\"\\u0061\":2}"), 7, SECOND},
	{S("{\"\\u0061\":1,\"a\":2}"), 12, SECOND},
	{S("{\"/\":1,\"\\/\":2}"), 7, SECOND},
	{S("{\"\\n\":1,\"\\u000A\":2}"), 8, SECOND},
	{S("{\"\xc3\xa9\":1,\"\\u00e9\":2}"), 8, SECOND},
	{S("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}"), 10, SECOND},
	{S("{\"a\":{\"b\":1,\"b\":2}}"), 12, SECOND},
	{S("[{\"b\":1,\"b\":2}]"), 8, SECOND},
	{S("{\"a\":{\"a\":1},\"a\":2}"), 13, SECOND},
	{S("{\"b\":{\"c\":{}},\"a\":[],\"b\":2}"), 21, SECOND},
};

START_TEST(refuse)
{
	assert_refused(refused[_i].in, refused[_i].at, refused[_i].why);
}
END_TEST

START_TEST(a_refusal_needs_no_error)
{
	char text[] = "{";
	size_t n;

	ck_assert(json_read(text, 1, &doc, &n, NULL) == JSON_BAD);
	ck_assert(json_read(NULL, 0, &doc, &n, NULL) == JSON_BAD);
}
END_TEST

/* Every path of the wide scan: a byte that matters at each place of strings of each length. */
START_TEST(special_bytes_at_every_place)
{
	char text[160], plain[160];

	memset(plain, 'A', sizeof(plain));
	plain[0] = '"';
	for (size_t n = 1; n < 150; n++) { /* the scan takes 64 at once */
		struct slice in = {text, n + 2};

		for (size_t at = 1; at <= n; at++) {
			memcpy(text, plain, n + 1);
			text[n + 1] = '"';
			text[at] = '\0';
			assert_refused(in, at, CONTROL);
			text[at] = '\x1f';
			assert_refused(in, at, CONTROL);
			text[at] = '\\'; /* the next is A, or the closing quote: then no end */
			assert_refused(in, at < n ? at : n + 2, at < n ? ESCAPE : NO_END);
			text[at] = '\x80';
			assert_refused(in, at, NOT_UTF8);
			text[at] = '\xff';
			assert_refused(in, at, NOT_UTF8);
			text[at] = '"';
			assert_refused(in, at + 1, AFTER);
			text[at] = '\x7f';
			assert_accepted(in, in);
			if (at < n) {
				memcpy(text + at, "\xc3\xa9", 2);
				assert_accepted(in, in);
			}
		}
	}
}
END_TEST

/* Arrays or objects within each other, `levels` of them. */
static struct slice nested(unsigned levels, bool objects, char *out, size_t size)
{
	size_t n = 0;

	for (unsigned i = 1; i <= levels; i++)
		n += (size_t)snprintf(out + n, size - n, "%s%s", objects ? "{" : "[",
				      objects && i < levels ? "\"a\":" : "");
	for (unsigned i = 1; i <= levels; i++)
		n += (size_t)snprintf(out + n, size - n, "%s", objects ? "}" : "]");
	return (struct slice){out, n};
}

START_TEST(limit_of_depth)
{
	char text[256], why[64];
	bool objects = _i;
	struct slice s;

	snprintf(why, sizeof(why), "more than %d levels of nesting", LIMIT_JSON_DEPTH);
	s = nested(LIMIT_JSON_DEPTH - 1, objects, text, sizeof(text));
	assert_accepted(s, s);
	s = nested(LIMIT_JSON_DEPTH, objects, text, sizeof(text));
	assert_accepted(s, s);
	s = nested(LIMIT_JSON_DEPTH + 1, objects, text, sizeof(text));
	assert_refused(s, LIMIT_JSON_DEPTH * (objects ? strlen("{\"a\":") : 1), why);
}
END_TEST

START_TEST(closed_levels_do_not_count)
{
	static const struct slice s = S("[[],[],[[]],[],{},{},{\"a\":[]},[],[],[],[],[]]");

	assert_accepted(s, s);
}
END_TEST

#define MEMBER "\"000\":1" /* the members of many() are this long */

/* An object of `n` members with different names. */
static struct slice many(unsigned n, char *out, size_t size)
{
	size_t o = 0;

	out[o++] = '{';
	for (unsigned i = 0; i < n; i++)
		o += (size_t)snprintf(out + o, size - o, "%s\"%03u\":1", i ? "," : "", i);
	out[o++] = '}';
	return (struct slice){out, o};
}

START_TEST(limit_of_members)
{
	char text[4096], why[64];
	struct slice s;

	s = many(LIMIT_JSON_MEMBERS - 1, text, sizeof(text));
	assert_accepted(s, s);
	ck_assert_uint_eq(doc.n, LIMIT_JSON_MEMBERS);
	s = many(LIMIT_JSON_MEMBERS, text, sizeof(text));
	assert_accepted(s, s);
	ck_assert_uint_eq(doc.n, LIMIT_JSON_MEMBERS + 1);
	ck_assert_uint_eq(doc.nodes[0].end, LIMIT_JSON_MEMBERS + 1);
	s = many(LIMIT_JSON_MEMBERS + 1, text, sizeof(text));
	snprintf(why, sizeof(why), "more than %d members and elements", LIMIT_JSON_MEMBERS);
	assert_refused(s, 1 + strlen(MEMBER ",") * LIMIT_JSON_MEMBERS, why);
}
END_TEST

/* [[1],[1],...]: two elements a pair. */
START_TEST(limit_of_elements_counts_all_levels)
{
	char text[2048], why[64];
	size_t n = 0;

	text[n++] = '[';
	for (unsigned i = 0; i < LIMIT_JSON_MEMBERS / 2; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s[1]", i ? "," : "");
	text[n++] = ']';
	assert_accepted((struct slice){text, n}, (struct slice){text, n});

	memcpy(text + n - 1, ",1]", 3);
	snprintf(why, sizeof(why), "more than %d members and elements", LIMIT_JSON_MEMBERS);
	assert_refused((struct slice){text, n + 2}, n, why);
}
END_TEST

/* A number of `n` bytes: `head`, then digits. */
static void assert_number(const char *head, size_t n, bool fits)
{
	char text[LIMIT_JSON_NUMBER + 8], why[64];
	struct slice s = {text, n + 2};

	memset(text, '7', sizeof(text));
	text[0] = '[';
	memcpy(text + 1, head, strlen(head));
	text[n + 1] = ']';
	snprintf(why, sizeof(why), "more than %d bytes in a number", LIMIT_JSON_NUMBER);
	if (fits)
		assert_accepted(s, s);
	else
		assert_refused(s, 1, why);
}

static const char *const number_heads[] = {"1", "-", "0.", "-0.5", "1e", "1E+0", "-1.5e-1"};

START_TEST(limit_of_a_number)
{
	assert_number(number_heads[_i], LIMIT_JSON_NUMBER - 1, true);
	assert_number(number_heads[_i], LIMIT_JSON_NUMBER, true);
	assert_number(number_heads[_i], LIMIT_JSON_NUMBER + 1, false);
}
END_TEST

START_TEST(duplicate_of_each_among_many)
{
	char text[4096];
	struct slice s = many(LIMIT_JSON_MEMBERS, text, sizeof(text));
	size_t each = strlen(MEMBER ","), last = 1 + (LIMIT_JSON_MEMBERS - 1) * each;

	for (size_t i = 0; i + 1 < LIMIT_JSON_MEMBERS; i++) {
		memcpy(text + last, text + 1 + i * each, strlen(MEMBER));
		assert_refused(s, last, SECOND);
	}
}
END_TEST

static const unsigned steps[] = {1, 2, 7, 100, 127, 210};

START_TEST(names_in_any_order)
{
	char text[4096];
	size_t n = 0;

	text[n++] = '{';
	for (unsigned i = 0; i < 210; i++) /* 211 is prime, so all names differ */
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"%u\":0", i ? "," : "",
				      (i + 1) * steps[_i] % 211);
	text[n++] = '}';
	assert_accepted((struct slice){text, n}, (struct slice){text, n});
}
END_TEST

START_TEST(nodes_of_a_text)
{
	static const struct json_node want[] = {
		{JSON_OBJECT,
		 8,
		 {NULL, 0},
		 S("{\"a\":[1,{\"b/\":null},\"\\nx\"],\"\":true,\"c\":{}}")},
		{JSON_ARRAY, 6, S("a"), S("[1,{\"b/\":null},\"\\nx\"]")},
		{JSON_NUMBER, 3, {NULL, 0}, S("1")},
		{JSON_OBJECT, 5, {NULL, 0}, S("{\"b/\":null}")},
		{JSON_NULL, 5, S("b/"), S("null")},
		{JSON_STRING, 6, {NULL, 0}, S("\\nx")},
		{JSON_TRUE, 7, S(""), S("true")},
		{JSON_OBJECT, 8, S("c"), S("{}")},
	};
	static const struct slice in =
		S(" {\"a\": [1, {\"b\\/\": null}, \"\\u000ax\"], \"\": true, "
		  "\"c\": { } }");
	_cleanup_(freep) char *text = copy(in);
	size_t n;

	ck_assert(json_read(text, in.n, &doc, &n, &error) == JSON_OK);
	ck_assert_uint_eq(doc.n, ELEMENTSOF(want));
	for (unsigned i = 0; i < doc.n; i++) {
		ck_assert_int_eq(doc.nodes[i].type, want[i].type);
		ck_assert_uint_eq(doc.nodes[i].end, want[i].end);
		ck_assert_int_eq(doc.nodes[i].name.p == NULL, want[i].name.p == NULL);
		assert_slice(doc.nodes[i].name, want[i].name);
		assert_slice(doc.nodes[i].value, want[i].value);
		ck_assert(doc.nodes[i].value.p >= text);
		ck_assert(doc.nodes[i].value.p + doc.nodes[i].value.n <= text + n);
	}
}
END_TEST

static const struct {
	struct slice text, name;
	int node;
} members[] = {
	{S("{\"a\":1,\"b\":{\"c\":2},\"d\":3}"), S("a"), 1},
	{S("{\"a\":1,\"b\":{\"c\":2},\"d\":3}"), S("b"), 2},
	{S("{\"a\":1,\"b\":{\"c\":2},\"d\":3}"), S("d"), 4},
	{S("{\"a\":1,\"b\":{\"c\":2},\"d\":3}"), S("c"), -1}, /* not a child */
	{S("{\"a\":1,\"b\":{\"c\":2},\"d\":3}"), S(""), -1},
	{S("{\"a\":1,\"b\":{\"c\":2},\"d\":3}"), S("A"), -1},
	{S("{\"KeyId\":1}"), S("Key"), -1},
	{S("{\"KeyId\":1}"), S("KeyIds"), -1},
	{S("{\"\\u004beyId\":1}"), S("KeyId"), 1},
	{S("{\"\":1}"), S(""), 1},
	{S("{\"a\\u000a\":1}"), S("a\\n"), 1}, /* canonical names */
	{S("{\"b\":{\"a\":1},\"a\":2}"), S("a"), 3},
	{S("{}"), S("a"), -1},
	{S("[\"a\"]"), S("a"), -1},
	{S("[{\"a\":1}]"), S("a"), -1},
	{S("[1]"), S(""), -1}, /* an element has no name, not an empty one */
	{S("\"a\""), S("a"), -1},
	{S("null"), S("a"), -1},
};

START_TEST(member_by_name)
{
	_cleanup_(freep) char *text = copy(members[_i].text);
	size_t n;

	ck_assert(json_read(text, members[_i].text.n, &doc, &n, &error) == JSON_OK);
	ck_assert_int_eq(json_member(&doc, 0, members[_i].name), members[_i].node);
}
END_TEST

START_TEST(member_of_an_inner_object)
{
	static const struct slice in = S("{\"a\":[{\"b\":1}],\"b\":2}");
	_cleanup_(freep) char *text = copy(in);
	size_t n;

	ck_assert(json_read(text, in.n, &doc, &n, &error) == JSON_OK);
	ck_assert_int_eq(json_member(&doc, 1, SLICE("b")), -1); /* an array */
	ck_assert_int_eq(json_member(&doc, 2, SLICE("b")), 3);
	ck_assert_int_eq(json_member(&doc, 3, SLICE("b")), -1); /* a number */
}
END_TEST

static const struct {
	struct slice in, out;
} strings[] = {
	{S(""), S("")},
	{S("payments"), S("payments")},
	{S("a/b"), S("a/b")},
	{S("\"\\"), S("\\\"\\\\")},
	{S("\b\f\n\r\t"), S("\\b\\f\\n\\r\\t")},
	{S("\0\1\x1f"), S("\\u0000\\u0001\\u001f")},
	{S("\x0b\x0e"), S("\\u000b\\u000e")},
	{S(" ~\x7f"), S(" ~\x7f")},
	{S("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), S("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")},
	{S("0123456789abcdef\n0123456789abcdef"), S("0123456789abcdef\\n0123456789abcdef")},
};

START_TEST(canonical)
{
	struct slice in = strings[_i].in, out = strings[_i].out;
	_cleanup_(freep) char *text = copy(out), *room = malloc(in.n * 6 + 1);

	ck_assert_int_eq(json_canonical(in, room, in.n * 6), (int)out.n);
	assert_slice((struct slice){room, out.n}, out);
	ck_assert_int_eq(json_canonical(in, text, out.n), (int)out.n);
	for (size_t size = 0; size < out.n; size++)
		ck_assert_int_eq(json_canonical(in, text, size), -EMSGSIZE);
}
END_TEST

/* The reader gives the same for the same string, however it is written in the text. */
START_TEST(canonical_is_what_the_reader_writes)
{
	static const struct slice in =
		S("\"\\u0022\\/\\u000a\\u001F\\u0000\\u20ac\\ud83d\\ude00\"");
	static const struct slice decoded = S("\"/\n\x1f\0\xe2\x82\xac\xf0\x9f\x98\x80");
	_cleanup_(freep) char *text = copy(in);
	char out[64];
	size_t n;
	int r;

	ck_assert(json_read(text, in.n, &doc, &n, &error) == JSON_OK);
	r = json_canonical(decoded, out, sizeof(out));
	ck_assert_int_ge(r, 0);
	assert_slice(doc.nodes[0].value, (struct slice){out, (size_t)r});
}
END_TEST

static const struct slice not_utf8[] = {
	S("\x80"),         S("\xff"),
	S("\xc0\x80"),     S("a\xc3"),
	S("\xed\xa0\x80"), S("\xf4\x90\x80\x80"),
	S("\n\xe2\x82"),   S("0123456789abcdef\xfe"),
};

START_TEST(canonical_of_no_utf8)
{
	char out[128];

	ck_assert_int_eq(json_canonical(not_utf8[_i], out, sizeof(out)), -EINVAL);
}
END_TEST

/* Objects and arrays: no beginning of one is a text itself. */
static const struct slice whole[] = {
	S("{}"),
	S("[\"\\ud83d\\ude00\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\",-1.5e+3,null]"),
	S("{\"KeyId\": \"alias/app\", \"EncryptionContext\": {\"a\\n\": \"\\u0062\\/\"}, "
	  "\"GrantTokens\": [\"x\", \"y\"], \"DryRun\": false, \"NumberOfBytes\": 32}"),
	S("{\"Recipient\":{\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\","
	  "\"AttestationDocument\":\"hEShATgioFkRYKlpbW9kdWxlX2lkeCdp\"}}"),
};

START_TEST(every_truncation_is_refused)
{
	ck_assert(assert_stable(whole[_i]) == JSON_OK);
	for (size_t n = 0; n < whole[_i].n; n++)
		ck_assert(assert_stable((struct slice){whole[_i].p, n}) == JSON_BAD);
}
END_TEST

/* Each byte becomes every other byte, or goes. */
START_TEST(every_mutation_is_refused_or_stable)
{
	struct slice in = whole[_i];
	_cleanup_(freep) char *text = copy(in);
	unsigned ok = 0, bad = 0;

	for (size_t at = 0; at < in.n; at++) {
		for (int c = 0; c < 256; c++) {
			text[at] = (char)c;
			if (assert_stable((struct slice){text, in.n}) == JSON_OK)
				ok++;
			else
				bad++;
		}
		memmove(text + at, in.p + at + 1, in.n - at - 1);
		assert_stable((struct slice){text, in.n - 1});
		memcpy(text, in.p, in.n);
	}
	ck_assert_uint_ge(ok, in.n); /* at least the text itself, once for each byte */
	ck_assert_uint_gt(bad, ok);
}
END_TEST

/* Where a run of plain bytes ends is found by blocks; this is byte after byte. */
static int canonical_by_bytes(struct slice s, char *out)
{
	int n = 0;

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		const char *short_form = c ? strchr("\bb\ff\nn\rr\tt\"\"\\\\", c) : NULL;

		if (c >= 0x80)
			return -EINVAL;
		if (c < 0x20 && !short_form)
			n += snprintf(out + n, 7, "\\u%04x", c);
		else if (c < 0x20 || c == '"' || c == '\\')
			n += snprintf(out + n, 3, "\\%c", short_form[1]);
		else
			out[n++] = (char)c;
	}
	return n;
}

/* Whether json_read() takes what stands between two quotes, and how it leaves it. */
static void read_it(struct slice content, int want_n, const char *want)
{
	char text[200] = "\"";
	size_t n = content.n + 2, got_n = 0;
	char *p;

	memcpy(text + 1, content.p, content.n);
	text[n - 1] = '"';
	p = page_end_copy((struct slice){text, n});
	if (json_read(p, n, &doc, &got_n, &error) == JSON_OK &&
	    (got_n != n || want_n != (int)content.n || memcmp(p + 1, want, content.n) != 0))
		ck_abort_msg("%zu bytes are read as another text", content.n);
	if (want_n == (int)content.n && got_n != n)
		ck_abort_msg("%zu bytes are refused: %s", content.n, error.text);
}

/* Of text that ends where memory ends. */
START_TEST(every_byte_at_every_place_of_every_length)
{
	for (size_t n = 0; n <= 100; n++)
		for (size_t at = 0; at < MAX(n, (size_t)1); at++)
			for (int c = 0; c < 256; c++) {
				struct slice s = page_end_text(n, at, (char)c);
				char got[200], want[200];
				int want_n = canonical_by_bytes(s, want);
				int got_n = json_canonical(s, got, sizeof(got));

				if (got_n != want_n ||
				    (got_n > 0 && memcmp(got, want, (size_t)got_n) != 0))
					ck_abort_msg("byte %d at %zu of %zu", c, at, n);
				read_it(s, want_n, want);
			}
}
END_TEST

int main(void)
{
	TCase *texts = tcase_create("texts"), *limits = tcase_create("limits");
	TCase *nodes = tcase_create("nodes"), *rest = tcase_create("strings and mutations");
	Suite *suite = suite_create("json");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(texts, accept, 0, ELEMENTSOF(accepted));
	tcase_add_loop_test(texts, canonical_text_is_not_written_to, 0, ELEMENTSOF(accepted));
	tcase_add_loop_test(texts, refuse, 0, ELEMENTSOF(refused));
	tcase_add_test(texts, a_refusal_needs_no_error);
	tcase_add_test(texts, special_bytes_at_every_place);
	tcase_add_loop_test(limits, limit_of_depth, 0, 2);
	tcase_add_test(limits, closed_levels_do_not_count);
	tcase_add_test(limits, limit_of_members);
	tcase_add_test(limits, limit_of_elements_counts_all_levels);
	tcase_add_loop_test(limits, limit_of_a_number, 0, ELEMENTSOF(number_heads));
	tcase_add_test(limits, duplicate_of_each_among_many);
	tcase_add_loop_test(limits, names_in_any_order, 0, ELEMENTSOF(steps));
	tcase_add_test(nodes, nodes_of_a_text);
	tcase_add_loop_test(nodes, member_by_name, 0, ELEMENTSOF(members));
	tcase_add_test(nodes, member_of_an_inner_object);
	tcase_add_loop_test(rest, canonical, 0, ELEMENTSOF(strings));
	tcase_add_test(rest, canonical_is_what_the_reader_writes);
	tcase_add_test(rest, every_byte_at_every_place_of_every_length);
	tcase_add_loop_test(rest, canonical_of_no_utf8, 0, ELEMENTSOF(not_utf8));
	tcase_add_loop_test(rest, every_truncation_is_refused, 0, ELEMENTSOF(whole));
	tcase_add_loop_test(rest, every_mutation_is_refused_or_stable, 0, ELEMENTSOF(whole));
	suite_add_tcase(suite, texts);
	suite_add_tcase(suite, limits);
	suite_add_tcase(suite, nodes);
	suite_add_tcase(suite, rest);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
