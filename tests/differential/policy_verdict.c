/* SPDX-License-Identifier: Apache-2.0 */

/* Loads configurations and judges requests by them with the daemon's own functions;
 * policy_pairs.py compares what it says with the model of the policy. Reads commands from
 * stdin, each a byte and its fields, and writes fields to stdout. A field stands after its
 * length, 32 bits in the machine's order.
 *
 *   C text                       a configuration, which must be without errors
 *   R enclave host action body   a request; answered with its REASON, RULE, ENDPOINT,
 * RECIPIENT, both keys, both contexts, and the body that would be sent; a field is empty where
 * there is no such thing
 *
 * Keys and contexts are JSON text, as the policy saw them. */

#include "authority.h"
#include "config.h"
#include "kms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct field {
	char *p; /* of n bytes exactly, so that an overread shows; owned */
	size_t n;
};

static void field_done(struct field *f)
{
	free(f->p);
}

static struct slice field_slice(struct field f)
{
	return (struct slice){f.p, f.n};
}

/* What is cut off is a fault of the caller: nothing is judged then. */
static struct field get(void)
{
	struct field f = {0};
	uint32_t n;

	if (fread(&n, sizeof(n), 1, stdin) != 1)
		exit(1);
	f.n = n;
	f.p = malloc(n ? n : 1);
	if (!f.p || fread(f.p, 1, n, stdin) != n)
		exit(1);
	return f;
}

static void put(struct slice s)
{
	uint32_t n = (uint32_t)s.n;

	fwrite(&n, sizeof(n), 1, stdout);
	if (s.n)
		fwrite(s.p, 1, s.n, stdout);
}

static void put_string(struct slice canonical)
{
	uint32_t n = (uint32_t)canonical.n + 2;

	if (!canonical.p) {
		put((struct slice){0});
		return;
	}
	fwrite(&n, sizeof(n), 1, stdout);
	putchar('"');
	fwrite(canonical.p, 1, canonical.n, stdout);
	putchar('"');
}

static struct config *load(void)
{
	_cleanup_(field_done) struct field text = get();
	struct config *config = NULL;
	struct findings findings = {0};

	if (config_parse(text.p, text.n, "config", &config, &findings) < 0) {
		findings_print(&findings, "config", stderr);
		exit(1);
	}
	findings_done(&findings);
	return config;
}

struct question {
	const struct config *config;
	struct field enclave, host, action, body;
};

struct judgement {
	const char *reason;
	const char *rule, *endpoint, *recipient; /* or NULL */
	struct kms_request request;
	size_t n;              /* of the body that would be sent */
	struct field with_key; /* instead of it, where a key is added */
};

static void question_done(struct question *q)
{
	field_done(&q->enclave);
	field_done(&q->host);
	field_done(&q->action);
	field_done(&q->body);
}

static const struct enclave_config *find_enclave(const struct question *q)
{
	for (size_t i = 0; i < q->config->n_enclaves; i++)
		if (slice_eq_str(field_slice(q->enclave), q->config->enclaves[i].name))
			return &q->config->enclaves[i];
	exit(1);
}

static int pick_endpoint(const struct question *q, const struct enclave_config *enclave)
{
	struct authority authority;

	if (authority_parse(field_slice(q->host), &authority)) {
		fputs("a request with this Host would not get as far as the policy\n", stderr);
		exit(1);
	}
	return config_pick_endpoint(q->config, enclave, authority.host);
}

/* In room of its own, since what the policy saw points into the body. */
static void add_key(const struct verdict *v, const struct question *q, struct judgement *j)
{
	const struct kms_action *action = j->request.action;
	struct slice key = slice_from(v->added);

	j->with_key.p = malloc(j->n + kms_added_size(action, key));
	if (!j->with_key.p)
		exit(1);
	memcpy(j->with_key.p, q->body.p, j->n);
	j->with_key.n = kms_add_key(action, key, j->with_key.p, j->n);
	j->request.keys[0] = key;
}

/* Steps 6 and 7 of daemon/downstream/request.c. */
static void judge(struct question *q, struct json_doc *doc, struct judgement *ret)
{
	const struct enclave_config *enclave = find_enclave(q);
	int endpoint = pick_endpoint(q, enclave);
	const struct kms_action *action =
		policy_action(&enclave->policy, field_slice(q->action));
	struct verdict verdict;

	ret->reason = "unknown-action";
	if (!action)
		return;
	ret->reason = "json";
	if (json_read(q->body.p, q->body.n, doc, &ret->n, NULL) == JSON_BAD ||
	    kms_read(action, enclave->policy.extra_members, doc, &ret->request, NULL) ==
		    KMS_BAD) {
		ret->n = 0;
		return;
	}
	ret->recipient = ret->request.recipient == KMS_RECIPIENT_PRESENT ? "present" : "none";
	ret->reason = "host";
	if (endpoint < 0)
		return;
	ret->endpoint = q->config->endpoints[endpoint].name;
	verdict = policy_decide(&enclave->policy,
				(struct policy_endpoint){(unsigned)endpoint,
							 q->config->endpoints[endpoint].region},
				&ret->request);
	ret->reason = reason_word(policy_stage_reason(verdict.stage));
	ret->rule = verdict.rule ? verdict.rule->name : NULL;
	if (verdict.added)
		add_key(&verdict, q, ret);
}

static void answer(const struct config *config)
{
	_cleanup_(question_done) struct question q = {.config = config};
	struct judgement j = {.request = {.contexts = {-1, -1}}};
	static struct json_doc doc;

	q.enclave = get();
	q.host = get();
	q.action = get();
	q.body = get();
	judge(&q, &doc, &j);
	put(slice_from(j.reason));
	put(slice_from(j.rule ?: ""));
	put(slice_from(j.endpoint ?: ""));
	put(slice_from(j.recipient ?: ""));
	for (unsigned i = 0; i < 2; i++)
		put_string(j.request.keys[i]);
	for (unsigned i = 0; i < 2; i++)
		put(j.request.contexts[i] < 0 ? (struct slice){0}
					      : doc.nodes[j.request.contexts[i]].value);
	put(j.with_key.p ? field_slice(j.with_key) : (struct slice){q.body.p, j.n});
	field_done(&j.with_key);
}

int main(void)
{
	_cleanup_(config_unrefp) struct config *config = NULL;
	int c;

	while ((c = getchar()) != EOF) {
		if (c == 'C') {
			config_unref(config);
			config = load();
		} else if (c == 'R' && config) {
			answer(config);
		} else {
			return 1;
		}
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
