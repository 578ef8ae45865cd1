/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_reply.h"

#include "json.h"

#include <errno.h>

#define CODE_SHOWN 64
#define MESSAGE_SHOWN 256

/* Our own reader and not json-c: it works in place. json-c collects each string in a buffer of
 * its tokener, and frees that unwiped: nearly all of a session token stayed in the heap. */

static const struct {
	bool code, token, expiration; /* must be there */
} forms[] = {
	[CREDENTIALS_FORM_IMDS] = {true, true, true},
	[CREDENTIALS_FORM_CONTAINER] = {false, true, true},
	[CREDENTIALS_FORM_FILE] = {false, false, false},
};

/* The string member `name`. Absent or null: {NULL, 0}. */
static int get_string(const struct json_doc *doc, struct slice name, struct slice *ret_value,
		      struct error *error)
{
	int index = json_member(doc, 0, name);

	if (index < 0 || doc->nodes[index].type == JSON_NULL) {
		*ret_value = (struct slice){NULL, 0};
		return 0;
	}
	if (doc->nodes[index].type != JSON_STRING)
		return error_set(error, "has a member %.*s that is not a string", (int)name.n,
				 name.p);
	*ret_value = doc->nodes[index].value;
	return 0;
}

/* As above, but what is required must not be empty. None of these values has a character that
 * JSON escapes, so a backslash is refused rather than decoded. */
static int get_plain(const struct json_doc *doc, struct slice name, bool required,
		     struct slice *ret_value, struct error *error)
{
	struct slice value;
	int r = get_string(doc, name, &value, error);

	if (r < 0)
		return r;
	if (required && value.n == 0)
		return error_set(error, "has no %.*s", (int)name.n, name.p);
	if (value.n && memchr(value.p, '\\', value.n))
		return error_set(error, "has a %.*s with characters that can't be in one",
				 (int)name.n, name.p);
	*ret_value = value;
	return 0;
}

/* IMDS reports errors with status 200 and another Code. */
static int check_code(const struct json_doc *doc, bool required, struct error *error)
{
	char code_text[CODE_SHOWN], message_text[MESSAGE_SHOWN];
	struct slice code, message;
	int r = get_string(doc, SLICE("Code"), &code, error);

	if (r >= 0)
		r = get_string(doc, SLICE("Message"), &message, error);
	if (r < 0)
		return r;
	if (!code.p && !required)
		return 0;
	if (!code.p)
		return error_set(error, "has no Code");
	if (slice_eq_nocase(code, SLICE("Success")))
		return 0;
	return error_set(error, "has the Code %s%s%s",
			 slice_escape(code, code_text, sizeof(code_text)),
			 message.n ? ": " : "",
			 slice_escape(message, message_text, sizeof(message_text)));
}

/* Token as IMDS and containers call it, SessionToken as `credential_process` does. */
static int get_token(const struct json_doc *doc, bool required, struct slice *ret_token,
		     struct error *error)
{
	struct slice token, session_token;
	int r = get_plain(doc, SLICE("SessionToken"), false, &session_token, error);

	if (r >= 0)
		r = get_plain(doc, SLICE("Token"), required && !session_token.n, &token, error);
	if (r < 0)
		return r;
	if (token.n && session_token.n)
		return error_set(error, "has both a Token and a SessionToken");
	*ret_token = token.n ? token : session_token;
	return 0;
}

int credentials_reply_expiration(struct slice text, usec_t *ret_expiration, struct error *error)
{
	char shown[64];

	if (clock_parse_rfc3339(text, ret_expiration))
		return 0;
	return error_set(error,
			 "has the Expiration \"%s\", not a time like 2026-01-02T03:04:05Z",
			 slice_escape(text, shown, sizeof(shown)));
}

int credentials_reply_make(struct slice access_key_id, struct slice secret_access_key,
			   struct slice session_token, usec_t expiration,
			   struct credentials **ret_credentials, struct error *error)
{
	int r = credentials_new(access_key_id, secret_access_key, session_token, expiration,
				ret_credentials);

	if (r == -EINVAL)
		return error_set(error,
				 "has an access key id, secret or token of a length or with "
				 "a character that AWS doesn't give");
	if (r < 0)
		return error_set_errno(error, r, "can't be kept: the secure heap is full");
	return 0;
}

int credentials_reply_parse(enum credentials_form form, char *text, size_t n,
			    struct credentials **ret_credentials, struct error *error)
{
	struct slice key, secret, token, time;
	struct json_doc doc;
	struct error fault;
	usec_t expiration = 0;
	int r;

	if (json_read(text, n, &doc, &n, &fault) != JSON_OK)
		return error_set(error, "can't be read: %s", fault.text);
	if (doc.nodes[0].type != JSON_OBJECT)
		return error_set(error, "is not a JSON object");

	r = check_code(&doc, forms[form].code, error);
	if (r >= 0)
		r = get_plain(&doc, SLICE("AccessKeyId"), true, &key, error);
	if (r >= 0)
		r = get_plain(&doc, SLICE("SecretAccessKey"), true, &secret, error);
	if (r >= 0)
		r = get_token(&doc, forms[form].token, &token, error);
	if (r >= 0)
		r = get_plain(&doc, SLICE("Expiration"), forms[form].expiration, &time, error);
	if (r >= 0 && time.n)
		r = credentials_reply_expiration(time, &expiration, error);
	if (r < 0)
		return r;
	return credentials_reply_make(key, secret, token, expiration, ret_credentials, error);
}
