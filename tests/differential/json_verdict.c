/* SPDX-License-Identifier: Apache-2.0 */

/* Reads documents from stdin, each after its length, and writes for each what our reader says
 * and what json-c says: a byte (1 accepted, 0 refused), then the canonical form (refused: the
 * reason) after its length. Lengths are 32 bits in the machine's order. The first words
 * written are the limits on depth, members and the length of a number. json_bodies.py compares
 * the two with Python's json. */

#include "json.h"

#include <json-c/json.h>
#include <stdio.h>

static void put(bool accepted, struct slice text)
{
	uint32_t n = (uint32_t)text.n;

	putchar(accepted ? 1 : 0);
	fwrite(&n, sizeof(n), 1, stdout);
	fwrite(text.p, 1, text.n, stdout);
}

static void put_ours(char *text, size_t n)
{
	static struct json_doc doc;
	struct error error;

	if (json_read(text, n, &doc, &n, &error) == JSON_OK)
		put(true, (struct slice){text, n});
	else
		put(false, slice_from(error.text));
}

/* `text` has a NUL after its n bytes: json-c must see it to know that a number has ended. */
static void put_json_c(const char *text, size_t n)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *object;
	enum json_tokener_error e;
	struct slice out;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tokener, text, (int)n + 1);
	e = json_tokener_get_error(tokener);
	if (e == json_tokener_success) {
		out.p = json_object_to_json_string_length(
			object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
			&out.n);
		put(true, out);
	} else {
		put(false, slice_from(json_tokener_error_desc(e)));
	}
	json_object_put(object);
	json_tokener_free(tokener);
}

int main(void)
{
	uint32_t limits[] = {LIMIT_JSON_DEPTH, LIMIT_JSON_MEMBERS, LIMIT_JSON_NUMBER}, n;

	fwrite(limits, sizeof(limits), 1, stdout);
	while (fread(&n, sizeof(n), 1, stdin) == 1) {
		_cleanup_(freep) char *text = malloc((size_t)n + 1);
		_cleanup_(freep) char *ours =
			malloc(n ? n : 1); /* exactly: an overread shows */

		if (!text || !ours || fread(text, 1, n, stdin) != n)
			return 1;
		text[n] = '\0';
		memcpy(ours, text, n);
		put_ours(ours, n);
		put_json_c(text, n);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
