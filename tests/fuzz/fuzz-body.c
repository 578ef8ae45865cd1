/* SPDX-License-Identifier: Apache-2.0 */

/* A request body's way: json_read(), kms_read(), policy_decide() under a fixed set of policies;
 * and the same bytes as a reply. The first byte picks the action, the rest is the body. What is
 * asserted is that a plain second look at the text agrees with what was allowed. */

#include "../lib/policy/model.h"
#include "../unit/policy_spec.h"
#include "kms.h"
#include "kms_error.h"
#include "policy.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EVERYTHING                                                                             \
	"Decrypt Encrypt ReEncrypt GenerateDataKey GenerateDataKeyPair GenerateRandom "        \
	"DeriveSharedSecret Encapsulate Sign ListKeys ListAliases CreateAlias CreateGrant "    \
	"RetireGrant"
#define EXTRA "NewAction"
#define ARN_EU "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
#define ARN_US "arn:aws:kms:us-east-1:111122223333:key/1234abcd"

static const struct spec specs[][4] = {
	{{.name = "one key", .actions = EVERYTHING, .keys = {"alias/x"}}},
	{{.name = "an ARN", .actions = EVERYTHING, .keys = {ARN_EU}},
	 {.name = "another", .actions = EVERYTHING, .keys = {ARN_US}, .endpoints = 2}},
	{{.name = "a context",
	  .actions = EVERYTHING,
	  .keys = {"alias/x", "alias/y", ARN_US},
	  .contexts = {{"app", {"pay", "ship"}}},
	  .plaintext_allow = true}},
	{{.name = "two pairs",
	  .actions = "Encrypt Decrypt ReEncrypt",
	  .keys = {"any"},
	  .contexts = {{"app", {"pay"}}, {"env", {"", "\\\"\\n"}}}},
	 {.name = "plaintext",
	  .actions = "Decrypt",
	  .keys = {"1234abcd"},
	  .plaintext_allow = true},
	 {.name = "sealed", .actions = EVERYTHING, .keys = {"any"}, .endpoints = 1}},
	{{.name = "adds",
	  .actions = EVERYTHING,
	  .keys = {ARN_EU},
	  .contexts = {{"app", {"pay"}}},
	  .missing_key_add = true},
	 {.name = "adds in the other region",
	  .actions = "Decrypt ReEncrypt",
	  .keys = {ARN_US},
	  .plaintext_allow = true,
	  .missing_key_add = true}},
	{{.name = "elsewhere", .actions = EVERYTHING, .keys = {"any"}, .endpoints = 4}},
	{{.name = "an action",
	  .actions = "Encrypt",
	  .keys = {"alias/x"},
	  .plaintext_allow = true,
	  .extra_actions = {EXTRA}},
	 {.name = "members",
	  .actions = EVERYTHING,
	  .keys = {"alias/x", ARN_EU},
	  .extra_actions = {EXTRA},
	  .extra_members = {"NewMember", "Recipient"}},
	 {.name = "a member of any key",
	  .actions = "Decrypt Sign",
	  .keys = {"any"},
	  .plaintext_allow = true,
	  .extra_members = {"OtherMember", "KeyId"}}},
	{{.name = NULL}}, /* no rules */
};

static const struct policy_endpoint endpoints[] = {{0, "eu-central-1"}, {1, "us-east-1"}};

static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-body: %s\n", what);
		abort();
	}
}

static bool says(struct slice text, const char *what)
{
	return memmem(text.p, text.n, what, strlen(what)) != NULL;
}

/* The key stands in the text as the value of a member, as it is listed or as an ARN's id. */
static bool names_listed_key(const struct rule *rule, struct slice text)
{
	for (size_t i = 0; i < rule->n_keys; i++) {
		const char *id = strrchr(rule->keys[i], '/');
		char quoted[160];

		snprintf(quoted, sizeof(quoted), ":\"%s\"", rule->keys[i]);
		if (says(text, quoted))
			return true;
		snprintf(quoted, sizeof(quoted), ":\"%s\"", id ? id + 1 : "");
		if (strncmp(rule->keys[i], "arn:", 4) == 0 && says(text, quoted))
			return true;
	}
	return false;
}

static bool says_pair(const struct rule_context *pair, struct slice text)
{
	for (size_t i = 0; i < pair->n_values; i++) {
		char quoted[160];

		snprintf(quoted, sizeof(quoted), "\"%s\":\"%s\"", pair->name, pair->values[i]);
		if (says(text, quoted))
			return true;
	}
	return false;
}

static void check_allowed(const struct verdict *v, const struct kms_action *action,
			  struct slice text)
{
	must(v->member < 0 && v->key < 0 && v->context < 0 && v->pair < 0,
	     "allowed, and something failed");
	must(v->rule->any_key || (v->added && !action->keys[1]) ||
		     names_listed_key(v->rule, text),
	     "a key that isn't listed");
	for (unsigned i = v->added ? 1 : 0; action->keys[i] && !v->rule->any_key; i++)
		must(says(text, action->keys[i]), "a key is not named");
	for (size_t i = 0; i < v->rule->n_contexts; i++)
		must(says_pair(&v->rule->contexts[i], text), "a pair is missing");
	must(v->rule->plaintext_allow || !action->secrets[0] ||
		     (says(text, "\"Recipient\":{") &&
		      says(text, "\"AttestationDocument\":\"") &&
		      says(text, "\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"")),
	     "plaintext: refuse without a Recipient");
}

static void check_explanation(const struct verdict *v, const struct kms_request *request)
{
	char text[512];
	size_t n;

	must(verdict_explain(v, request, text, sizeof(text)) == text, "another text");
	n = strnlen(text, sizeof(text));
	must(n > 0 && n < sizeof(text), "an explanation without an end");
	must(reason_word(policy_stage_reason(v->stage))[0] != '\0', "a stage without a name");
	for (size_t i = 0; i < n; i++)
		must(text[i] >= 0x20 && text[i] <= 0x7e, "an explanation isn't printable");
}

/* With the key added the body is canonical, names it, and is allowed by the same rule. */
static void check_added(const struct verdict *v, const struct kms_request *request,
			struct slice text)
{
	static struct json_doc doc;
	const struct kms_action *action = request->action;
	struct slice key = slice_from(v->added);
	_cleanup_(freep) char *body = malloc(text.n + kms_added_size(action, key));
	size_t n, canonical;
	int i;

	must(body && v->stage == POLICY_ALLOWED && !request->keys[0].p, "a key is added");
	memcpy(body, text.p, text.n);
	n = kms_add_key(action, key, body, text.n);
	must(n <= text.n + kms_added_size(action, key), "too long a key");
	if (request->doc->n > LIMIT_JSON_MEMBERS)
		return; /* KMS takes one member more, our reader doesn't */
	must(json_read(body, n, &doc, &canonical, NULL) == JSON_OK && canonical == n,
	     "the body with its key");
	i = json_member(&doc, 0, slice_from(action->keys[0]));
	must(i > 0 && doc.nodes[i].end == doc.nodes[0].end && slice_eq(doc.nodes[i].value, key),
	     "the key is the last member");
}

static void check_policy(const struct policy *policy, const struct kms_request *request,
			 struct slice text)
{
	for (size_t e = 0; e < ELEMENTSOF(endpoints); e++) {
		struct verdict v = policy_decide(policy, endpoints[e], request);
		struct verdict again = policy_decide(policy, endpoints[e], request);
		struct verdict model = model_decide(policy, endpoints[e], request);

		must(v.stage == again.stage && v.rule == again.rule &&
			     v.member == again.member && v.key == again.key &&
			     v.context == again.context && v.pair == again.pair,
		     "decided otherwise the second time");
		must(v.stage == model.stage && v.rule == model.rule && v.added == model.added,
		     "the model differs");
		must((v.rule == NULL) == (v.stage == POLICY_NO_RULES), "no rule is named");
		if (v.stage == POLICY_ALLOWED)
			check_allowed(&v, request->action, text);
		if (v.added)
			check_added(&v, request, text);
		check_explanation(&v, request);
	}
}

/* A rule that lists exactly what the request names allows it, unless a key is left out or of
 * another region, or it may name one unseen. */
static void check_own_keys(const struct kms_request *request)
{
	const struct kms_action *action = request->action;
	const struct spec spec = {
		.name = "own", .actions = action->name, .plaintext_allow = true};
	struct policy policy = make_policy(&spec, 1);
	struct rule *rule = &policy.rules[0];
	unsigned named = 0, wanted = 0;
	bool elsewhere = false;

	for (; action->keys[wanted]; wanted++)
		if (request->keys[wanted].p) {
			rule->keys[rule->n_keys] =
				strndup(request->keys[wanted].p, request->keys[wanted].n);
			must(rule->keys[rule->n_keys] != NULL, "no memory");
			elsewhere |= model_is_elsewhere(rule->keys[rule->n_keys++],
							endpoints[0].region);
			named++;
		}
	must(policy_prepare(&policy) == 0, "no memory");
	must(policy_decide(&policy, endpoints[0], request).stage ==
		     (named == wanted && wanted > 0 && !elsewhere && !request->has_token
			      ? POLICY_ALLOWED
			      : POLICY_KEY),
	     "its own keys don't decide");
	policy_done(&policy);
}

static bool is_in(struct slice name, const char *const *list)
{
	while (list && *list && !slice_eq_str(name, *list))
		list++;
	return list && *list;
}

static void check_members(const struct kms_request *request, const char *const *extra)
{
	const struct json_doc *doc = request->doc;
	bool has_extra = false;

	for (unsigned i = 1; i < doc->nodes[0].end; i = doc->nodes[i].end) {
		bool is_own = is_in(doc->nodes[i].name, request->action->members);

		must(is_own || is_in(doc->nodes[i].name, extra),
		     "a member that the action doesn't have");
		has_extra = has_extra || !is_own;
	}
	must(request->has_extra == has_extra, "an extra member is lost");
}

/* One byte after the other. */
static bool is_base64(struct slice s)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = s.n;

	while (n > 0 && s.n - n < 2 && s.p[n - 1] == '=')
		n--;
	for (size_t i = 0; i < n; i++)
		if (s.p[i] == '\0' || !strchr(letters, s.p[i]))
			return false;
	return n > 0 && s.n % 4 == 0;
}

static void check_recipient(const struct kms_request *request)
{
	int i = json_member(request->doc, 0, SLICE("Recipient")), document;

	must((i < 0) == (request->recipient == KMS_RECIPIENT_NONE), "a Recipient is lost");
	if (request->recipient != KMS_RECIPIENT_PRESENT)
		return;
	document = json_member(request->doc, (unsigned)i, SLICE("AttestationDocument"));
	must(document >= 0 && is_base64(request->doc->nodes[document].value),
	     "a document that isn't base64");
}

static void check_request(const struct policy *policy, const struct kms_action *action,
			  const struct json_doc *doc, struct slice text)
{
	struct kms_request request;
	struct error error = {0};

	if (kms_read(action, policy->extra_members, doc, &request, &error) == KMS_BAD) {
		must(error.text[0] != '\0', "a refusal that says nothing");
		return;
	}
	check_members(&request, policy->extra_members);
	check_recipient(&request);
	for (unsigned i = 0; i < 2; i++)
		must(!request.keys[i].p ||
			     (request.keys[i].n > 0 && request.keys[i].p > text.p &&
			      request.keys[i].p + request.keys[i].n < text.p + text.n),
		     "a key that isn't in the text");
	check_policy(policy, &request, text);
	if (!(action->flags & KMS_EXTRA) && !request.has_extra)
		check_own_keys(&request);
}

/* `action` is NULL for the one that some rules have beyond the table. */
static void check_requests(const struct kms_action *action, const struct json_doc *doc,
			   struct slice text)
{
	static struct policy policies[ELEMENTSOF(specs)];

	for (size_t i = 0; i < ELEMENTSOF(policies); i++) {
		const struct kms_action *row;

		if (!policies[i].index)
			policies[i] = make_policy(specs[i], ELEMENTSOF(specs[i]));
		row = action ?: policy_action(&policies[i], SLICE(EXTRA));
		if (row)
			check_request(&policies[i], row, doc, text);
	}
}

static bool holds_text(const struct json_doc *doc, const char *member)
{
	int i = json_member(doc, 0, slice_from(member));

	return i >= 0 && doc->nodes[i].type == JSON_STRING && doc->nodes[i].value.n > 0;
}

/* As an error's body, and as its header. */
static void check_error(struct json_doc *doc, struct slice text)
{
	const char *blamed = "";
	struct kms_error error;
	struct slice type;
	size_t n = 0;

	if (!kms_error_read((char *)text.p, text.n, text, doc, &error, &n))
		must(doc->nodes[0].type != JSON_OBJECT, "an object is no error");
	for (struct kms_error_place at = {0}; kms_error_next(&error, &at, &type);)
		must(type.n > 0 && type.p >= text.p && type.p + type.n <= text.p + text.n &&
			     !memchr(type.p, ':', type.n) && !memchr(type.p, '#', type.n) &&
			     !memchr(type.p, ',', type.n),
		     "an error type with more in it");
	type = kms_error_type(&error);
	must((kms_error_blame(&error, &blamed) != KMS_BLAME_REQUEST) == (*blamed != 0) &&
		     says(text, blamed) && (type.n > 0 || !*blamed),
	     "blame without a type");
	must(!kms_error_throttles(type) || type.n >= strlen("SlowDown"),
	     "a throttle of no word");
	must(kms_error_tells(text, text) == (text.n >= 16), "a text that does not tell itself");
	must(!kms_error_tells((struct slice){text.p, text.n / 2}, text) || text.n >= 64,
	     "less than a piece tells");
}

/* `text` is canonical, so that reading it again changes nothing. */
static void check_reply(const struct kms_action *action, struct json_doc *doc,
			struct slice text)
{
	enum kms_reply reply;
	size_t n = 0;

	reply = kms_check_reply(action, (char *)text.p, text.n, doc, &n);
	if (reply == KMS_REPLY_SAFE) {
		must(n == text.n, "a reply was changed");
		must(!holds_text(doc, "Plaintext") && !holds_text(doc, "SharedSecret") &&
			     !holds_text(doc, "PrivateKeyPlaintext"),
		     "a secret in a safe reply");
		must(!action->secrets[0] || holds_text(doc, "CiphertextForRecipient"),
		     "nothing for the recipient");
	}
	if (action->secrets[0] && holds_text(doc, action->secrets[0]))
		must(reply == KMS_REPLY_LEAKS || reply == KMS_REPLY_UNREADABLE, "a leak");
	check_error(doc, text);
}

/* The bytes as what the configuration holds. */
static void check_names(struct slice s)
{
	int i = kms_action_index(s);
	struct kms_arn arn;

	if (i >= 0)
		must(slice_eq_str(s, kms_action((unsigned)i)->name), "another action");
	if (kms_read_arn(s, &arn))
		must(arn.region.n > 0 && arn.region.p > s.p &&
			     arn.resource.p + arn.resource.n == s.p + s.n &&
			     !memchr(arn.resource.p, ':', arn.resource.n),
		     "an ARN's parts");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct json_doc doc;
	_cleanup_(freep) char *text = malloc(size ? size : 1);
	const struct kms_action *action;
	size_t n;

	must(text != NULL, "no memory");
	if (size == 0)
		return 0;
	action = data[0] % (KMS_ACTIONS + 1) < KMS_ACTIONS
			 ? kms_action(data[0] % (KMS_ACTIONS + 1))
			 : NULL;
	memcpy(text, data + 1, size - 1);
	check_names((struct slice){text, size - 1});
	if (json_read(text, size - 1, &doc, &n, NULL) == JSON_BAD)
		return 0;
	check_requests(action, &doc, (struct slice){text, n});
	if (action)
		check_reply(action, &doc, (struct slice){text, n});
	return 0;
}
