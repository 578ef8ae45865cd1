/* SPDX-License-Identifier: Apache-2.0 */
#include "explain.h"

#include "authority.h"
#include "explain_body.h"
#include "explain_document.h"
#include "findings.h"
#include "similar.h"

#include <errno.h>

/* What is asked and what was found out so far. */
struct explanation {
	const struct config *config;
	const struct enclave_config *enclave;
	const struct endpoint_config *endpoint;
	unsigned endpoint_index;
	usec_t now;
	FILE *f;
};

/* So that it can be opened from where the main file can. */
static void print_place(const struct explanation *x, const char *file, unsigned line)
{
	const char *path = x->config->path;

	if (file == x->config->files[0])
		fprintf(x->f, "%s:%u", path, line);
	else
		fprintf(x->f, "%.*s%s:%u", (int)(config_base_name(path) - path), path, file,
			line);
}

static void print_verdict(const struct explanation *x, bool allowed)
{
	fprintf(x->f, "verdict:    %s\n", allowed ? "allowed" : "refused");
	fprintf(x->f, "enclave:    %s (", x->enclave->name);
	print_place(x, x->enclave->file, x->enclave->line);
	fputs(")\n", x->f);
}

static int refuse_early(const struct explanation *x, const char *what, const char *why)
{
	print_verdict(x, false);
	fprintf(x->f, "%s%s\n", what, why);
	return 1;
}

static void print_context(FILE *f, const char *name, const struct json_doc *doc, int context)
{
	char text[2][256];

	fprintf(f, "context:    %s", name);
	if (context < 0)
		fputs(" is not given", f);
	for (unsigned i = context < 0 ? 0 : (unsigned)context + 1;
	     context >= 0 && i < doc->nodes[context].end; i = doc->nodes[i].end)
		fprintf(f, " \"%s\"=\"%s\"",
			slice_escape(doc->nodes[i].name, text[0], sizeof(text[0])),
			slice_escape(doc->nodes[i].value, text[1], sizeof(text[1])));
	fputc('\n', f);
}

static void print_key(const struct explanation *x, const char *member, struct slice value,
		      const char *added)
{
	char key[256];

	if (added)
		fprintf(x->f, "key:        %s is not given; the rule adds %s\n", member, added);
	else
		fprintf(x->f, "key:        %s %s\n", member,
			value.p ? slice_escape(value, key, sizeof(key)) : "is not given");
}

static void print_request(const struct explanation *x, const struct kms_request *request,
			  const struct verdict *v)
{
	static const char *const recipients[] = {
		[KMS_RECIPIENT_NONE] = "none",
		[KMS_RECIPIENT_BAD] = ("there, but without a base64 AttestationDocument or "
				       "RSAES_OAEP_SHA_256"),
		[KMS_RECIPIENT_PRESENT] = "present",
	};
	const struct kms_action *action = request->action;

	fprintf(x->f, "endpoint:   %s (%s, region %s)\n", x->endpoint->name, x->endpoint->host,
		x->endpoint->region);
	fprintf(x->f, "action:     %s\n", action->name);
	for (unsigned i = 0; action->keys[i]; i++)
		print_key(x, action->keys[i], request->keys[i], i == 0 ? v->added : NULL);
	for (unsigned i = 0; action->contexts[i]; i++)
		print_context(x->f, action->contexts[i], request->doc, request->contexts[i]);
	if (action->flags & KMS_RECIPIENT)
		fprintf(x->f, "recipient:  %s\n", recipients[request->recipient]);
}

/* One rule, judged as if the policy had no other. */
static int judge_rule(const struct explanation *x, struct rule *rule,
		      const struct kms_request *request, struct verdict *ret_verdict)
{
	struct policy alone = {.rules = rule, .n_rules = 1};
	int r = policy_prepare(&alone);

	if (r < 0)
		return r;
	*ret_verdict = policy_decide(
		&alone, (struct policy_endpoint){x->endpoint_index, x->endpoint->region},
		request);
	alone.rules = NULL; /* they are the configuration's: only the index goes */
	alone.n_rules = 0;
	policy_done(&alone);
	return 0;
}

static void print_rule(const struct explanation *x, const struct verdict *v,
		       const struct kms_request *request)
{
	const char *action = request->action->name;
	char text[512];

	fputs("  ", x->f);
	print_place(x, v->rule->file, v->rule->line);
	fputs(": ", x->f);
	if (v->stage == POLICY_ENDPOINT)
		fprintf(x->f, "rule \"%s\" is not for endpoint %s\n", v->rule->name,
			x->endpoint->name);
	else if (v->stage == POLICY_ACTION)
		fprintf(x->f, "rule \"%s\" does not list %s\n", v->rule->name, action);
	else
		fprintf(x->f, "%s\n", verdict_explain(v, request, text, sizeof(text)));
}

static int print_rules(const struct explanation *x, const struct kms_request *request)
{
	const struct policy *policy = &x->enclave->policy;

	fputs("rules, in the order they are tried:\n", x->f);
	for (size_t i = 0; i < policy->n_rules; i++) {
		struct verdict v;
		int r = judge_rule(x, &policy->rules[i], request, &v);

		if (r < 0)
			return r;
		print_rule(x, &v, request);
		if (v.stage == POLICY_ALLOWED)
			break; /* the others are not asked */
	}
	return 0;
}

static void print_rule_found(const struct explanation *x, const struct verdict *v)
{
	const struct rule *rule = v->rule;

	fprintf(x->f, "rule:       %s (", rule->name);
	print_place(x, rule->file, rule->line);
	fputs(")\n", x->f);
	fprintf(x->f, "plaintext:  %s\n",
		rule->plaintext_allow
			? "allow: a secret in clear passes"
			: "refuse: a reply with a secret in clear is not relayed");
	if (rule->delegation_allow)
		fputs("delegation: allow: authority over a key may be handed to others\n",
		      x->f);
}

static int explain_request(const struct explanation *x, const struct kms_request *request)
{
	struct verdict v = policy_decide(
		&x->enclave->policy,
		(struct policy_endpoint){x->endpoint_index, x->endpoint->region}, request);
	char text[512];
	int r;

	print_verdict(x, v.stage == POLICY_ALLOWED);
	if (v.stage == POLICY_ALLOWED)
		print_rule_found(x, &v);
	else
		fprintf(x->f, "reason:     %s: %s\n", reason_word(policy_stage_reason(v.stage)),
			verdict_explain(&v, request, text, sizeof(text)));
	print_request(x, request, &v);
	r = explain_print_document(request, x->now, x->f);
	r = r ?: print_rules(x, request);
	return r < 0 ? r : v.stage != POLICY_ALLOWED;
}

static int explain_body(const struct explanation *x, const struct kms_action *action,
			char *body, size_t n)
{
	struct kms_request request;
	struct error why = {0};
	struct json_doc doc;
	size_t canonical;

	if (n > x->enclave->limits.body)
		return refuse_early(x, "body:       larger than the enclave's limit `body`",
				    "");
	if (json_read(body, n, &doc, &canonical, &why) == JSON_BAD)
		return refuse_early(x, "body:       not strict JSON: ", why.text);
	if (kms_read(action, x->enclave->policy.extra_members, &doc, &request, &why) == KMS_BAD)
		return refuse_early(x, "body:       ", why.text);
	return explain_request(x, &request);
}

static int unknown_enclave(const struct config *config, const char *name, struct error *error)
{
	struct similar similar;
	unsigned long long cid;
	int slot = -1;

	if (slice_to_u64(slice_from(name), UINT32_MAX, &cid))
		slot = config_find_cid(config, (unsigned)cid);
	if (slot >= 0)
		return error_set(error, "%s is a CID of enclave \"%s\": give its name", name,
				 config->enclaves[config->slots[slot].enclave].name);
	similar_init(&similar, slice_from(name));
	for (size_t i = 0; i < config->n_enclaves; i++)
		similar_offer(&similar, config->enclaves[i].name);
	return error_set(error, "there is no enclave \"%s\"%s", CLIPPED(slice_from(name)),
			 SIMILAR_PHRASE(&similar));
}

static int unknown_action(const char *name, struct error *error)
{
	struct similar similar;

	similar_init_action(&similar, slice_from(name));
	return error_set(error, "KMS has no action \"%s\"%s", CLIPPED(slice_from(name)),
			 SIMILAR_PHRASE(&similar));
}

/* Reads the Host as the reader of heads does, and picks the endpoint by it as a request does.
 */
static const char *pick_endpoint(struct explanation *x, const char *host)
{
	struct authority authority;
	const char *fault = authority_parse(slice_from(host), &authority);
	int i = fault ? -1 : config_pick_endpoint(x->config, x->enclave, authority.host);

	if (i < 0)
		return fault ?: "picks none of the enclave's endpoints";
	x->endpoint_index = (unsigned)i;
	x->endpoint = &x->config->endpoints[i];
	return NULL;
}

static void print_hosts(const struct explanation *x)
{
	for (size_t i = 0; i < x->enclave->n_endpoints; i++) {
		const struct endpoint_config *e =
			&x->config->endpoints[x->enclave->endpoints[i]];

		fprintf(x->f, "endpoint:   %s (%s, region %s)\n", e->name, e->host, e->region);
	}
}

int config_explain(const struct config *config, const struct explain_question *question,
		   FILE *f, struct error *error)
{
	int e = config_find_enclave(config, question->enclave);
	struct explanation x = {.config = config, .now = question->now, .f = f};
	const struct kms_action *action;
	_cleanup_(buf_done) struct buf made = {0};
	const char *fault;
	int r = 0;

	if (e < 0)
		return unknown_enclave(config, question->enclave, error);
	x.enclave = &config->enclaves[e];
	action = policy_action(&x.enclave->policy, slice_from(question->action));
	if (!action)
		return unknown_action(question->action, error);
	if (!question->body)
		r = explain_make_body(action, question, &made, error);
	if (r < 0)
		return error->text[0] ? r : error_set_errno(error, r, "can't make the body");
	fault = pick_endpoint(&x, question->host ?: "localhost");
	if (fault) {
		r = refuse_early(&x, "host:       ", fault);
		print_hosts(&x);
		return r;
	}
	r = explain_body(&x, action, question->body ?: made.p,
			 question->body ? question->n : made.n);
	return r < 0 ? error_set_errno(error, r, "can't judge the rules") : r;
}
