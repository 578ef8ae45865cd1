/* SPDX-License-Identifier: Apache-2.0 */
#include "kms_error.h"

#include <string.h>

/* Short, since an echo may write some characters of the token in another way. */
#define PIECE 32
#define SHORTEST ((size_t)16)  /* what is shorter may be in any text, and isn't AWS's */
#define BEGINNING ((size_t)64) /* of a session token: much the same in all of them */

static const struct blamed {
	const char *type;
	enum kms_blame blame;
} blamed[] = {
	{"ExpiredTokenException", KMS_BLAME_CREDENTIALS},
	{"ExpiredToken", KMS_BLAME_CREDENTIALS},
	{"UnrecognizedClientException", KMS_BLAME_CREDENTIALS},
	{"InvalidClientTokenId", KMS_BLAME_CREDENTIALS},
	{"InvalidClientTokenIdException", KMS_BLAME_CREDENTIALS},
	{"InvalidSignatureException", KMS_BLAME_SIGNATURE},
	{"SignatureDoesNotMatch", KMS_BLAME_SIGNATURE},
	{"IncompleteSignature", KMS_BLAME_SIGNATURE},
	{"IncompleteSignatureException", KMS_BLAME_SIGNATURE},
	{"MissingAuthenticationToken", KMS_BLAME_SIGNATURE},
	{"MissingAuthenticationTokenException", KMS_BLAME_SIGNATURE},
	{"RequestTimeTooSkewed", KMS_BLAME_SIGNATURE},
	{"RequestExpired", KMS_BLAME_SIGNATURE},
	{"RequestInTheFuture", KMS_BLAME_SIGNATURE},
	{"AuthFailure", KMS_BLAME_SIGNATURE},
};

/* Where the SDKs look for a type in the body; they agree on `code` in small letters only. */
static const char *const members[] = {"__type", "code", "Code"};

#define HEADER ELEMENTSOF(members) /* the place after them */

bool kms_error_read(char *body, size_t n, struct slice header, struct json_doc *doc,
		    struct kms_error *ret_error, size_t *ret_n)
{
	size_t length;
	bool is_object = json_read(body, n, doc, &length, NULL) == JSON_OK &&
			 doc->nodes[0].type == JSON_OBJECT;

	*ret_error = (struct kms_error){header, is_object ? doc : NULL};
	if (is_object)
		*ret_n = length;
	return is_object;
}

/* AWS writes it as Name, namespace#Name or Name:URL. */
static struct slice bare(struct slice s)
{
	const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
	const char *hash;

	if (colon)
		s.n = (size_t)(colon - s.p);
	hash = s.n ? memrchr(s.p, '#', s.n) : NULL;
	if (hash) {
		s.n -= (size_t)(hash + 1 - s.p);
		s.p = hash + 1;
	}
	while (s.n && s.p[0] == ' ')
		s.p++, s.n--;
	while (s.n && s.p[s.n - 1] == ' ')
		s.n--;
	return s;
}

static struct slice text_at(const struct kms_error *error, unsigned place)
{
	int i;

	if (place == HEADER)
		return error->header;
	i = error->doc ? json_member(error->doc, 0, slice_from(members[place])) : -1;
	if (i < 0 || error->doc->nodes[i].type != JSON_STRING)
		return (struct slice){0};
	return error->doc->nodes[i].value;
}

/* The part of a list with commas that begins at `from`. */
static struct slice part(struct slice list, size_t from)
{
	const char *end = list.p + list.n, *begin = list.p + from;
	const char *comma = memchr(begin, ',', (size_t)(end - begin));

	return (struct slice){begin, (size_t)((comma ?: end) - begin)};
}

bool kms_error_next(const struct kms_error *error, struct kms_error_place *at,
		    struct slice *ret_type)
{
	while (at->place <= HEADER) {
		struct slice text = text_at(error, at->place), type;

		if (at->offset >= text.n) {
			at->place++;
			at->offset = 0;
			continue;
		}
		type = part(text, at->offset);
		at->offset += type.n + 1;
		type = bare(type);
		if (type.n == 0)
			continue;
		*ret_type = type;
		return true;
	}
	return false;
}

struct slice kms_error_type(const struct kms_error *error)
{
	struct kms_error_place at = {0};
	struct slice type = {0};

	return kms_error_next(error, &at, &type) ? type : (struct slice){0};
}

static const struct blamed *find(struct slice type)
{
	for (size_t i = 0; i < ELEMENTSOF(blamed); i++)
		if (slice_eq_str(type, blamed[i].type))
			return &blamed[i];
	return NULL;
}

enum kms_blame kms_error_blame(const struct kms_error *error, const char **ret_type)
{
	enum kms_blame worst = KMS_BLAME_REQUEST;
	struct kms_error_place at = {0};
	struct slice type;

	while (kms_error_next(error, &at, &type)) {
		const struct blamed *row = find(type);

		if (!row || row->blame <= worst)
			continue;
		worst = row->blame;
		if (ret_type)
			*ret_type = row->type;
	}
	return worst;
}

/* Not LimitExceededException: KMS means a number of keys, grants or the like. */
bool kms_error_throttles(struct slice type)
{
	static const char *const throttles[] = {
		"ThrottlingException",
		"Throttling",
		"ThrottledException",
		"RequestThrottledException",
		"RequestThrottled",
		"TooManyRequestsException",
		"RequestLimitExceeded",
		"BandwidthLimitExceeded",
		"SlowDown",
		"PriorRequestNotComplete",
	};

	for (size_t i = 0; i < ELEMENTSOF(throttles); i++)
		if (slice_eq_str(type, throttles[i]))
			return true;
	return false;
}

bool kms_error_tells(struct slice text, struct slice secret)
{
	size_t piece = MIN(secret.n, (size_t)PIECE);

	if (secret.n < SHORTEST || text.n < piece)
		return false;
	for (size_t at = secret.n > 2 * BEGINNING ? BEGINNING : 0; at + piece <= secret.n;
	     at += piece)
		if (memmem(text.p, text.n, secret.p + at, piece))
			return true;
	return false;
}
