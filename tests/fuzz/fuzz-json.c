/* SPDX-License-Identifier: Apache-2.0 */

/* The JSON reader on any text, and json_canonical() on any string. What is asserted here is
 * what the policy relies on: each node lies where it says, and reading the result gives it
 * again. */

#include "json.h"

#include <errno.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() would go with -DNDEBUG. */
static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-json: %s\n", what);
		abort();
	}
}

/* An exact allocation: the sanitizer sees what is read or written beside it. */
static char *copy(struct slice s, size_t more)
{
	char *p = malloc(s.n + more ? s.n + more : 1);

	must(p != NULL, "no memory");
	if (s.n)
		memcpy(p, s.p, s.n);
	return p;
}

static bool within(struct slice inner, struct slice outer)
{
	return inner.p >= outer.p && inner.p + inner.n <= outer.p + outer.n;
}

/* Node `i` as a child of `parent`, after the byte where the last sibling ended. */
static void check_node(const struct json_doc *doc, unsigned i, unsigned parent,
		       const char *behind)
{
	const struct json_node *node = &doc->nodes[i], *up = &doc->nodes[parent];

	must(within(node->value, up->value), "a value outside its parent");
	must(node->value.p > behind, "values overlap");
	must((node->name.p != NULL) == (up->type == JSON_OBJECT), "a name where none belongs");
	if (node->name.p) {
		must(within(node->name, up->value) && node->name.p > behind, "a name outside");
		must(node->name.p + node->name.n < node->value.p, "a name after its value");
		must(json_member(doc, parent, node->name) == (int)i,
		     "a name gives another member");
	}
	must(node->end > i && node->end <= up->end, "a subtree outside its parent's");
	must(node->type >= JSON_ARRAY || node->end == i + 1, "a scalar with children");
}

static void check_children(const struct json_doc *doc, unsigned parent, unsigned depth)
{
	const char *behind = doc->nodes[parent].value.p;

	must(depth < LIMIT_JSON_DEPTH || doc->nodes[parent].type < JSON_ARRAY, "too deep");
	for (unsigned i = parent + 1; i < doc->nodes[parent].end; i = doc->nodes[i].end) {
		check_node(doc, i, parent, behind);
		check_children(doc, i, depth + 1);
		behind = doc->nodes[i].value.p + doc->nodes[i].value.n - 1;
	}
}

static void check_doc(const struct json_doc *doc, struct slice text)
{
	const struct json_node *root = &doc->nodes[0];
	size_t quote = root->type == JSON_STRING;

	must(doc->n >= 1 && doc->n <= ELEMENTSOF(doc->nodes), "the number of nodes");
	must(root->end == doc->n && root->name.p == NULL, "the root");
	must(root->value.p == text.p + quote && root->value.n == text.n - 2 * quote,
	     "the text");
	check_children(doc, 0, 0);
}

static void check_text(struct slice in)
{
	static struct json_doc doc, again;
	_cleanup_(freep) char *text = copy(in, 0);
	_cleanup_(freep) char *second = NULL;
	struct error error;
	size_t n, n2;

	if (json_read(text, in.n, &doc, &n, &error) == JSON_BAD) {
		must(strncmp(error.text, "JSON, byte ", 11) == 0,
		     "a refusal that says nothing");
		return;
	}
	must(n <= in.n, "it grew");
	check_doc(&doc, (struct slice){text, n});

	second = copy((struct slice){text, n}, 0);
	must(json_read(second, n, &again, &n2, NULL) == JSON_OK, "its own text is refused");
	must(n2 == n && memcmp(second, text, n) == 0, "its own text is changed");
	must(again.n == doc.n, "its own text has other nodes");
}

/* A string that json_canonical() wrote is one that json_read() takes and leaves as it is. */
static void check_string(struct slice in)
{
	static struct json_doc doc;
	_cleanup_(freep) char *out = copy((struct slice){NULL, 0}, 6 * in.n + 2);
	_cleanup_(freep) char *text = NULL;
	struct slice quoted = {out, 0};
	size_t n;
	int r = json_canonical(in, out + 1, 6 * in.n);

	if (r < 0) {
		must(r == -EINVAL, "no room in 6 * n");
		return;
	}
	out[0] = '"';
	out[r + 1] = '"';
	quoted.n = (size_t)r + 2;
	text = copy(quoted, 0);
	must(json_read(text, quoted.n, &doc, &n, NULL) == JSON_OK,
	     "a canonical string is refused");
	must(slice_eq((struct slice){text, n}, quoted), "a canonical string is changed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = {(const char *)data, size};

	check_text(in);
	check_string(in);
	return 0;
}
