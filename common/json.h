/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The strict JSON reader. One pass over the text, in place: the text is rewritten into its
 * canonical form as it is read, so what the policy looked at is what is sent on. Canonical
 * means: no white space; in strings only the quote, the backslash and control characters are
 * escaped, as \" \\ \b \f \n \r \t or \u00xx with lower-case digits, all else is plain UTF-8;
 * numbers and member order as they came. The canonical form is never longer than what was read,
 * and equal strings have equal canonical forms, so they are compared byte for byte without
 * decoding.
 *
 * Refused beyond RFC 8259's grammar: duplicate members of one object at any depth (compared
 * decoded), NUL in a name, lone surrogates, invalid UTF-8, a BOM, more than LIMIT_JSON_DEPTH
 * arrays and objects within each other, more than LIMIT_JSON_MEMBERS members and elements in
 * all, a number of more than LIMIT_JSON_NUMBER bytes, anything but white space after the value.
 * Nothing is allocated. */

#include "error.h"
#include "limit.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum json_node_type {
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

struct json_node {
	enum json_node_type type;
	uint16_t end;      /* index after the last node of this one's subtree */
	struct slice name; /* member name, canonical, without quotes; .p is NULL for elements */
	struct slice value; /* canonical text; a string's is without its quotes */
};

/* The nodes in the order of the text; node 0 is the whole value. The children of node i are
 * i + 1, nodes[i + 1].end, ... up to nodes[i].end. Some 10 KiB: one a worker, not one a
 * request. The slices point into the text that was read. */
struct json_doc {
	struct json_node nodes[LIMIT_JSON_MEMBERS + 1];
	unsigned n;
};

enum json_result { JSON_BAD = 0, JSON_OK };

/* Reads text[0..n) and rewrites it in place; *ret_n is the canonical length, and text that is
 * canonical already is not written to. On JSON_BAD the text may be half rewritten, `doc` is
 * undefined and `error` (may be NULL) says what is wrong at which byte offset of the original,
 * without quoting the text. */
_must_check_ enum json_result json_read(char *text, size_t n, struct json_doc *doc,
					size_t *ret_n, struct error *error);

/* The member called `name`, given in canonical form, of the object `parent`, an index below
 * doc->n; -1 if there is none or `parent` is not an object. */
int json_member(const struct json_doc *doc, unsigned parent, struct slice name);

/* Writes the canonical form of the decoded string `s`, without quotes, into out[size]; for
 * strings of the configuration that are compared with ones from a body. Returns the length,
 * -EINVAL if `s` is not UTF-8, -EMSGSIZE if it doesn't fit (6 * s.n always does). On failure
 * `out` may be half written. */
_must_check_ int json_canonical(struct slice s, char *out, size_t size);
