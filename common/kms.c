/* SPDX-License-Identifier: Apache-2.0 */
#include "kms.h"

#include "limit.h"

#include <string.h>

bool kms_read_arn(struct slice text, struct kms_arn *ret_arn)
{
	struct slice fields[6] = {0}, key = SLICE("key/");
	struct kms_arn arn = {0};
	size_t n = 0;

	if (text.n == 0)
		return false;
	for (const char *p = text.p, *end = text.p + text.n;; p++) {
		const char *colon = memchr(p, ':', (size_t)(end - p));

		if (n == ELEMENTSOF(fields))
			return false;
		fields[n++] = (struct slice){p, (size_t)((colon ?: end) - p)};
		if (!colon)
			break;
		p = colon;
	}
	if (n != ELEMENTSOF(fields) || !slice_eq(fields[0], SLICE("arn")) || fields[1].n == 0 ||
	    !slice_eq(fields[2], SLICE("kms")) || fields[3].n == 0 || fields[4].n == 0)
		return false;

	arn.region = fields[3];
	arn.account = fields[4];
	arn.resource = fields[5];
	if (slice_starts(arn.resource, key)) {
		arn.id = (struct slice){arn.resource.p + key.n, arn.resource.n - key.n};
		if (arn.id.n == 0 || memchr(arn.id.p, '/', arn.id.n))
			return false;
	} else if (!slice_starts(arn.resource, SLICE("alias/"))) {
		return false;
	}
	*ret_arn = arn;
	return true;
}

static bool is_listed(struct slice name, const char *const *list)
{
	for (; *list; list++)
		if (slice_eq_str(name, *list))
			return true;
	return false;
}

bool kms_has_member(const struct kms_action *action, struct slice name)
{
	return is_listed(name, action->members);
}

bool kms_names_key(struct slice name)
{
	for (unsigned i = 0; i < KMS_ACTIONS; i++) {
		const struct kms_action *action = kms_action(i);

		if (is_listed(name, action->keys) ||
		    (action->token && slice_eq_str(name, action->token)))
			return true;
	}
	return false;
}

/* An unknown member would pass the policy unseen, so it is refused, not ignored. One in `extra`
 * is allowed; *ret_extra tells that there is one. */
static bool all_listed(const struct json_doc *doc, unsigned parent, const char *const *list,
		       const char *const *extra, const char *where, bool *ret_extra,
		       struct error *error)
{
	for (unsigned i = parent + 1; i < doc->nodes[parent].end; i = doc->nodes[i].end) {
		char name[80];

		if (is_listed(doc->nodes[i].name, list))
			continue;
		if (extra && is_listed(doc->nodes[i].name, extra)) {
			*ret_extra = true;
			continue;
		}
		error_set(error, "%s has no member \"%s\"", where,
			  slice_escape(doc->nodes[i].name, name, sizeof(name)));
		return false;
	}
	return true;
}

/* An absent member leaves *ret_value as it is. */
static bool read_string(const struct json_doc *doc, unsigned parent, const char *member,
			struct slice *ret_value, struct error *error)
{
	int i = json_member(doc, parent, slice_from(member));

	if (i < 0)
		return true;
	if (doc->nodes[i].type != JSON_STRING) {
		error_set(error, "%s must be a string", member);
		return false;
	}
	*ret_value = doc->nodes[i].value;
	return true;
}

static bool read_name(const struct json_doc *doc, const char *member, struct slice *ret_name,
		      struct error *error)
{
	if (!read_string(doc, 0, member, ret_name, error))
		return false;
	if (ret_name->p && ret_name->n == 0) {
		error_set(error, "%s must not be empty", member);
		return false;
	}
	return true;
}

static bool read_context(const struct json_doc *doc, const char *member, int *ret_context,
			 struct error *error)
{
	int i = json_member(doc, 0, slice_from(member));

	if (i < 0)
		return true;
	if (doc->nodes[i].type != JSON_OBJECT) {
		error_set(error, "%s must be an object of strings", member);
		return false;
	}
	for (unsigned k = (unsigned)i + 1; k < doc->nodes[i].end; k = doc->nodes[k].end)
		if (doc->nodes[k].type != JSON_STRING) {
			error_set(error, "%s must be an object of strings", member);
			return false;
		}
	*ret_context = i;
	return true;
}

/* Who is given a key must be legible, since the journal says it. */
static bool read_grantees(const struct json_doc *doc, const struct kms_action *row,
			  struct slice *ret_grantees, struct error *error)
{
	for (unsigned i = 0; i < ELEMENTSOF(row->grantees) && row->grantees[i]; i++)
		if (!read_name(doc, row->grantees[i], &ret_grantees[i], error))
			return false;
	return true;
}

/* 1 for a byte outside the alphabet of RFC 4648 4. Without branches, so that the compiler
 * checks many bytes at once: a document can be 350 KB, and it is read on the loop. */
static inline unsigned char is_foreign(unsigned char c)
{
	unsigned char letter = (unsigned char)((c | 0x20) - 'a') < 26;
	unsigned char digit = (unsigned char)(c - '0') < 10;

	return !(letter | digit | (c == '+') | (c == '/'));
}

static bool is_alphabet(const char *p, size_t n)
{
	unsigned char foreign = 0;

	while (n >= 64) {
		for (size_t i = 0; i < 64; i++)
			foreign |= is_foreign((unsigned char)p[i]);
		p += 64;
		n -= 64;
	}
	for (size_t i = 0; i < n; i++)
		foreign |= is_foreign((unsigned char)p[i]);
	return !foreign;
}

/* Base64 of 1 to `max` bytes, one spelling only: padded, the spare bits of the last letter
 * zero. */
static bool is_base64(struct slice s, size_t max)
{
	static const char *const spare_is_zero[] = {NULL, "AEIMQUYcgkosw048", "AQgw"};
	size_t padding;

	if (s.n == 0 || s.n % 4 != 0)
		return false;
	padding = s.p[s.n - 1] != '=' ? 0 : s.p[s.n - 2] != '=' ? 1 : 2;
	if (s.n / 4 * 3 - padding > max || !is_alphabet(s.p, s.n - padding))
		return false;
	return padding == 0 || strchr(spare_is_zero[padding], s.p[s.n - padding - 1]);
}

static bool read_recipient(const struct json_doc *doc, enum kms_recipient *ret_recipient,
			   struct error *error)
{
	static const char *const members[] = {"AttestationDocument", "KeyEncryptionAlgorithm",
					      NULL};
	int i = json_member(doc, 0, SLICE("Recipient"));
	struct slice document = {0}, algorithm = {0};

	*ret_recipient = KMS_RECIPIENT_NONE;
	if (i < 0)
		return true;
	if (doc->nodes[i].type != JSON_OBJECT) {
		error_set(error, "Recipient must be an object");
		return false;
	}
	if (!all_listed(doc, (unsigned)i, members, NULL, "Recipient", NULL, error) ||
	    !read_string(doc, (unsigned)i, members[0], &document, error) ||
	    !read_string(doc, (unsigned)i, members[1], &algorithm, error))
		return false;

	*ret_recipient = KMS_RECIPIENT_BAD;
	if (is_base64(document, LIMIT_ATTESTATION) &&
	    slice_eq(algorithm, SLICE("RSAES_OAEP_SHA_256")))
		*ret_recipient = KMS_RECIPIENT_PRESENT;
	return true;
}

enum kms_result kms_read(const struct kms_action *row, const char *const *extra,
			 const struct json_doc *doc, struct kms_request *ret_request,
			 struct error *error)
{
	struct kms_request request = {.action = row, .contexts = {-1, -1}, .doc = doc};

	if (doc->nodes[0].type != JSON_OBJECT) {
		error_set(error, "the body of %s must be a JSON object", row->name);
		return KMS_BAD;
	}
	if (!all_listed(doc, 0, row->members, extra, row->name, &request.has_extra, error))
		return KMS_BAD;
	for (unsigned i = 0; row->keys[i]; i++)
		if (!read_name(doc, row->keys[i], &request.keys[i], error))
			return KMS_BAD;
	for (unsigned i = 0; row->contexts[i]; i++)
		if (!read_context(doc, row->contexts[i], &request.contexts[i], error))
			return KMS_BAD;
	if (!read_recipient(doc, &request.recipient, error))
		return KMS_BAD;
	if (!read_grantees(doc, row, request.grantees, error))
		return KMS_BAD;
	request.has_policy = row->policy && json_member(doc, 0, slice_from(row->policy)) >= 0;
	request.has_token = row->token && json_member(doc, 0, slice_from(row->token)) >= 0;
	*ret_request = request;
	return KMS_OK;
}

size_t kms_added_size(const struct kms_action *action, struct slice key)
{
	return strlen(",\"\":\"\"") + strlen(action->keys[0]) + key.n;
}

size_t kms_add_key(const struct kms_action *action, struct slice key, char *body, size_t n)
{
	const struct slice parts[] = {SLICE(",\""), slice_from(action->keys[0]), SLICE("\":\""),
				      key, SLICE("\"}")};
	bool is_empty = n == strlen("{}");

	n--; /* over the brace, and where there is no other member without the comma */
	for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
		size_t skip = i == 0 && is_empty;

		memcpy(body + n, parts[i].p + skip, parts[i].n - skip);
		n += parts[i].n - skip;
	}
	return n;
}

/* Anything but null and the empty string counts as a secret, of whatever type it is. */
static bool holds(const struct json_doc *doc, const char *member)
{
	int i = json_member(doc, 0, slice_from(member));

	if (i < 0 || doc->nodes[i].type == JSON_NULL)
		return false;
	return doc->nodes[i].type != JSON_STRING || doc->nodes[i].value.n > 0;
}

/* Of any action: a reply that carries the secret member of another one is no better. */
static bool holds_secret(const struct json_doc *doc)
{
	for (unsigned i = 0; i < KMS_ACTIONS; i++)
		for (const char *const *s = kms_action(i)->secrets; *s; s++)
			if (holds(doc, *s))
				return true;
	return false;
}

enum kms_reply kms_check_reply(const struct kms_action *action, char *body, size_t n,
			       struct json_doc *doc, size_t *ret_n)
{
	bool has_secret = action->flags & KMS_SECRET_REPLY;
	size_t length;
	int i;

	if (n == 0 && !has_secret) {
		*ret_n = 0;
		return KMS_REPLY_SAFE;
	}
	if (json_read(body, n, doc, &length, NULL) == JSON_BAD ||
	    doc->nodes[0].type != JSON_OBJECT)
		return KMS_REPLY_UNREADABLE;
	*ret_n = length;
	if (holds_secret(doc))
		return KMS_REPLY_LEAKS;
	if (!has_secret)
		return KMS_REPLY_SAFE;
	i = json_member(doc, 0, SLICE("CiphertextForRecipient"));
	if (i < 0 || doc->nodes[i].type != JSON_STRING || doc->nodes[i].value.n == 0)
		return KMS_REPLY_NO_CIPHERTEXT;
	return KMS_REPLY_SAFE;
}
