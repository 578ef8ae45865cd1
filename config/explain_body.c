/* SPDX-License-Identifier: Apache-2.0 */
#include "explain_body.h"

#include "base64.h"
#include "findings.h"
#include "json.h"
#include "kms.h"
#include "limit.h"

#include <errno.h>

/* "," before each member of an object but its first. */
static int add_comma(struct buf *b)
{
	return b->p[b->n - 1] == '{' ? 0 : buf_append(b, SLICE(","));
}

static int add_text(struct buf *b, struct slice text, struct error *error)
{
	int r = buf_append(b, SLICE("\""));
	int n;

	r = r ?: buf_reserve(b, 6 * text.n);
	if (r < 0)
		return r;
	n = json_canonical(text, b->p + b->n, 6 * text.n);
	if (n < 0)
		return error_set(error, "\"%s\" is not UTF-8", CLIPPED(text));
	b->n += (size_t)n;
	return buf_append(b, SLICE("\""));
}

static int add_member(struct buf *b, const char *name, struct slice text, struct error *error)
{
	int r = add_comma(b);

	r = r ?: add_text(b, slice_from(name), error);
	r = r ?: buf_append(b, SLICE(":"));
	return r ?: add_text(b, text, error);
}

/* MEMBER=KEY names the member; no key has a "=". Returns which it is, or -1. */
static int named_member(const struct kms_action *action, struct slice *key)
{
	for (int i = 0; action->keys[i]; i++) {
		struct slice name = slice_from(action->keys[i]);

		if (!slice_starts(*key, name) || key->n == name.n || key->p[name.n] != '=')
			continue;
		*key = (struct slice){key->p + name.n + 1, key->n - name.n - 1};
		return i;
	}
	return -1;
}

static int add_keys(struct buf *b, const struct kms_action *action,
		    const struct explain_question *q, struct error *error)
{
	bool filled[EXPLAIN_KEYS + 1] = {false}; /* one more, that none fills */
	int r = 0;

	for (size_t i = 0; r == 0 && i < q->n_keys; i++) {
		struct slice key = slice_from(q->keys[i]);
		int member = named_member(action, &key);

		if (member < 0)
			for (member = 0; action->keys[member] && filled[member]; member++)
				;
		if (!action->keys[member])
			return error_set(error, "--key %s: %s", q->keys[i],
					 member == 0 ? "the action names no key"
						     : "the action names no more keys");
		if (filled[member])
			return error_set(error, "--key %s: %s is given already", q->keys[i],
					 action->keys[member]);
		filled[member] = true;
		r = add_member(b, action->keys[member], key, error);
	}
	return r;
}

static int add_pairs(struct buf *b, const struct explain_question *q, struct error *error)
{
	int r = buf_append(b, SLICE("{"));

	for (size_t i = 0; r == 0 && i < q->n_contexts; i++) {
		const char *equals = strchr(q->contexts[i], '=');
		struct slice name = {q->contexts[i], 0};

		if (!equals || equals == q->contexts[i])
			return error_set(error, "--context %s: expected NAME=VALUE",
					 q->contexts[i]);
		name.n = (size_t)(equals - q->contexts[i]);
		r = add_comma(b);
		r = r ?: add_text(b, name, error);
		r = r ?: buf_append(b, SLICE(":"));
		r = r ?: add_text(b, slice_from(equals + 1), error);
	}
	return r ?: buf_append(b, SLICE("}"));
}

static int add_contexts(struct buf *b, const struct kms_action *action,
			const struct explain_question *q, struct error *error)
{
	int r = 0;

	if (q->n_contexts > 0 && !action->contexts[0])
		return error_set(error, "--context: %s has no encryption context",
				 action->name);
	for (int i = 0; r == 0 && q->n_contexts > 0 && action->contexts[i]; i++) {
		r = add_comma(b);
		r = r ?: add_text(b, slice_from(action->contexts[i]), error);
		r = r ?: buf_append(b, SLICE(":"));
		r = r ?: add_pairs(b, q, error);
	}
	return r;
}

static int add_recipient(struct buf *b, struct slice document)
{
	static const char head[] = "\"Recipient\":{\"KeyEncryptionAlgorithm\":"
				   "\"RSAES_OAEP_SHA_256\",\"AttestationDocument\":\"";
	int r;

	if (!document.p)
		return 0;
	r = add_comma(b);
	r = r ?: buf_append(b, slice_from(head));
	r = r ?: buf_reserve(b, BASE64_SIZE(document.n));
	if (r < 0)
		return r;
	base64_encode(document, b->p + b->n);
	b->n += BASE64_SIZE(document.n);
	return buf_append(b, SLICE("\"}"));
}

int explain_make_body(const struct kms_action *action, const struct explain_question *question,
		      struct buf *ret_body, struct error *error)
{
	/* Whatever fits a command line, and a document. */
	_cleanup_(buf_done) struct buf b = BUF_INIT(64 * LIMIT_BODY_MAX);
	int r = buf_append(&b, SLICE("{"));

	r = r ?: add_keys(&b, action, question, error);
	r = r ?: add_contexts(&b, action, question, error);
	r = r ?: add_recipient(&b, question->document);
	r = r ?: buf_append(&b, SLICE("}"));
	if (r < 0)
		return r;
	*ret_body = b;
	b = (struct buf){0};
	return 0;
}
