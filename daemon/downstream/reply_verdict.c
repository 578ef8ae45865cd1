/* SPDX-License-Identifier: Apache-2.0 */
#include "reply_verdict.h"

#include "kms.h"

#include <stdio.h>

static void refuse(struct reply_verdict *v, enum refusal refusal)
{
	v->is = REPLY_IS_REFUSED;
	v->refusal = refusal;
}

static void relay(struct reply_verdict *v, size_t body_n)
{
	v->is = REPLY_IS_RELAYED;
	v->body_n = body_n;
}

/* ---- a success ---- */

/* One that blames us is a contradiction; whatever it is, it isn't for the enclave. */
static bool contradicts_itself(const struct http_reply *reply, struct reply_verdict *v)
{
	const struct kms_error error = {.header = reply->headers[REPLY_ERROR_TYPE]};
	const char *type;

	if (!error.header.p || kms_error_blame(&error, &type) == KMS_BLAME_REQUEST)
		return false;
	snprintf(v->detail, sizeof(v->detail),
		 "the endpoint answered %d with the error type %s", reply->status, type);
	return true;
}

static enum kms_reply check_secrets(const struct reply_case *about, struct buf *body,
				    struct json_doc *doc, size_t *n)
{
	return about->checked ? kms_check_reply(about->action, body->p, body->n, doc, n)
			      : KMS_REPLY_SAFE;
}

static void judge_success(const struct reply_case *about, struct http_reply *reply,
			  struct json_doc *doc, struct reply_verdict *v)
{
	size_t n = reply->body.n;

	if (contradicts_itself(reply, v)) {
		refuse(v, REFUSAL_UPSTREAM_MALFORMED);
		return;
	}
	v->accepted = true;
	switch (check_secrets(about, &reply->body, doc, &n)) {
	case KMS_REPLY_SAFE:
		relay(v, n);
		return;
	case KMS_REPLY_LEAKS:
		refuse(v, REFUSAL_REPLY_LEAKS);
		return;
	case KMS_REPLY_NO_CIPHERTEXT:
		refuse(v, REFUSAL_REPLY_NO_CIPHERTEXT);
		return;
	case KMS_REPLY_UNREADABLE:
		refuse(v, REFUSAL_REPLY_UNREADABLE);
		return;
	}
}

/* ---- an error ---- */

static bool clock_explains(const struct reply_case *about, const struct kms_error *error,
			   struct slice *ret_type)
{
	struct kms_error_place at = {0};

	while (kms_error_next(error, &at, ret_type))
		if (skew_explains(about->skew, about->correction, *ret_type))
			return true;
	return false;
}

/* Whether the first `n` bytes of the body, or a header that would be relayed, hold the session
 * token. An error answer may echo what was signed, and no list of types can tell us for sure
 * which ones do. Only errors are looked through: in no other answer does KMS echo anything, and
 * they are the many. The access key id is no secret, and an enclave that knows it could have
 * itself refused by naming it. */
static bool tells_token(const struct reply_case *about, const struct http_reply *reply,
			size_t n)
{
	for (unsigned i = 0; i < _REPLY_HEADER_MAX; i++)
		if (kms_error_tells(reply->headers[i], about->token))
			return true;
	return kms_error_tells((struct slice){reply->body.p, n}, about->token);
}

static void refuse_non_error(const struct http_reply *reply, struct reply_verdict *v)
{
	snprintf(v->detail, sizeof(v->detail), "the endpoint answered %d without a KMS error",
		 reply->status);
	refuse(v, reply->status >= 500 ? REFUSAL_NO_UPSTREAM : REFUSAL_UPSTREAM_MALFORMED);
}

/* Its answer may hold the session token (KMS echoes what was signed), and is never relayed. */
static void blame_us(enum reply_is is, struct slice type, struct reply_verdict *v)
{
	refuse(v, REFUSAL_BAD_CREDENTIALS);
	v->is = is;
	slice_escape(type, v->error, sizeof(v->error));
	snprintf(v->detail, sizeof(v->detail), "AWS KMS answered %s", v->error);
}

/* A KMS error that is about the request. It looked at it, so it took the signature; a 5xx may
 * come from before. */
static void judge_plain_error(const struct reply_case *about, const struct http_reply *reply,
			      const struct kms_error *error, size_t n, struct reply_verdict *v)
{
	struct slice type = kms_error_type(error);

	if (tells_token(about, reply, n)) {
		snprintf(v->detail, sizeof(v->detail),
			 "an error of the endpoint holds the proxy's session token");
		refuse(v, REFUSAL_REPLY_LEAKS);
		return;
	}
	v->accepted = reply->status < 500;
	slice_escape(type.n ? type : SLICE("unknown"), v->error, sizeof(v->error));
	relay(v, n);
}

static void judge_error(const struct reply_case *about, struct http_reply *reply,
			struct json_doc *doc, struct reply_verdict *v)
{
	struct buf *body = &reply->body;
	struct kms_error error;
	struct slice type;
	size_t n = 0, ignored;
	bool is_error = kms_error_read(body->p, body->n, reply->headers[REPLY_ERROR_TYPE], doc,
				       &error, &n);

	if (reply->status < 400) {
		refuse_non_error(reply, v);
		return;
	}
	if (is_error && about->checked &&
	    kms_check_reply(about->action, body->p, n, doc, &ignored) == KMS_REPLY_LEAKS) {
		refuse(v, REFUSAL_REPLY_LEAKS);
		return;
	}
	if (clock_explains(about, &error, &type)) {
		blame_us(REPLY_IS_WRONG_CLOCK, type, v);
		return;
	}
	v->blame = kms_error_blame(&error, &v->type);
	if (v->blame != KMS_BLAME_REQUEST)
		blame_us(REPLY_BLAMES_US, slice_from(v->type), v);
	else if (is_error)
		judge_plain_error(about, reply, &error, n, v);
	else
		refuse_non_error(reply, v);
}

void reply_judge(const struct reply_case *about, struct http_reply *reply, struct json_doc *doc,
		 struct reply_verdict *ret_verdict)
{
	*ret_verdict = (struct reply_verdict){0};
	if (reply->status >= 200 && reply->status < 300)
		judge_success(about, reply, doc, ret_verdict);
	else
		judge_error(about, reply, doc, ret_verdict);
}
