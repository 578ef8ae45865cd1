/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as a configuration file. What is refused says where and why; what is accepted is
 * whole, prints as YAML, and that is read to the same again. */

#include "address.h"
#include "compare.h"
#include "config.h"
#include "endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A region for `region: instance`. */
static const struct config_facts facts = {.instance_region = "eu-central-1"};

/* assert() would go with -DNDEBUG. */
static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz-config: %s\n", what);
		abort();
	}
}

/* Findings stand in the order of the file; each has a place and one line of printable text. */
static void check_findings(const struct findings *findings)
{
	size_t errors = 0;

	for (size_t i = 0; i < findings->n; i++) {
		const struct finding *f = &findings->list[i];

		must(f->line > 0 && f->column > 0, "a finding without a place");
		must(i == 0 || f->line > f[-1].line ||
			     (f->line == f[-1].line && f->column >= f[-1].column),
		     "findings out of order");
		must(f->text[0] != '\0', "a finding that says nothing");
		for (const char *p = f->text; *p; p++)
			must(*p >= 0x20 && *p <= 0x7e, "a finding that can't be printed");
		errors += !f->warning;
	}
	must(errors <= findings->n_errors &&
		     findings->n_errors - errors <= findings->n_left_out,
	     "the number of errors");
}

static void check_rule(const struct rule *rule)
{
	must(rule->name && rule->line > 0 && (rule->actions || rule->n_extra_actions) &&
		     rule->endpoints,
	     "a rule in part");
	must(rule->any_key == (rule->n_keys == 0), "the keys of a rule");
	for (size_t i = 0; i < rule->n_contexts; i++) {
		must(rule->contexts[i].name && rule->contexts[i].n_values > 0,
		     "a pair in part");
		for (size_t k = 0; k < rule->contexts[i].n_values; k++)
			must(rule->contexts[i].values[k] != NULL, "a value in part");
	}
}

static void check_tunnel_host(const struct tunnel_host *h)
{
	must(h->host && h->port > 0, "a tunnel's host");
	must(!h->proxy.host || (h->proxy.port > 0 && h->tls), "its proxy");
	must(h->tls || !h->connect_to ||
		     address_classify_host(h->connect_to) != ADDRESS_SPECIAL,
	     "a place that trusts whoever asks");
	must(h->tls || !endpoint_is_kms_host(slice_from(h->host)), "KMS without TLS");
}

static void check_enclave(const struct config *c, size_t i)
{
	const struct enclave_config *e = &c->enclaves[i];

	must(config_find_enclave(c, e->name) == (int)i, "two enclaves of one name");
	must(e->policy.n_rules > 0 || e->tunnel.n_hosts > 0, "an enclave without purpose");
	must(e->policy.n_rules == 0 || (e->n_endpoints > 0 && e->policy.index), "its policy");
	must(e->limits.requests.interval > 0 && e->limits.requests.burst > 0, "its rate");
	must(e->limits.body <= LIMIT_BODY_MAX && e->limits.connections > 0, "its limits");
	for (size_t k = 0; k < e->n_endpoints; k++) {
		const char *host = c->endpoints[e->endpoints[k]].host;

		must(config_pick_endpoint(c, e, slice_from(host)) == (int)e->endpoints[k],
		     "a host that picks another endpoint");
	}
	for (size_t k = 0; k < e->policy.n_rules; k++)
		check_rule(&e->policy.rules[k]);
	for (size_t k = 0; k < e->tunnel.n_hosts; k++)
		check_tunnel_host(&e->tunnel.hosts[k]);
}

/* Those of the CIDs, each once, and one for whom a listener names. */
static void check_slots(const struct config *c)
{
	uint64_t wanted = 0;
	bool named;

	must(c->n_slots >= c->n_enclaves && c->n_slots <= LIMIT_SLOTS, "the number of slots");
	for (size_t i = 0; i < c->n_slots; i++) {
		const struct slot_config *s = &c->slots[i];

		must(s->enclave < c->n_enclaves && s->line > 0, "a slot");
		must((s->cid ? config_find_cid(c, s->cid)
			     : config_find_slot(c, c->enclaves[s->enclave].name)) == (int)i,
		     "two slots of one CID");
		must(s->cid == 0 || (s->cid >= 4 && s->cid < UINT32_MAX), "a CID");
	}
	for (size_t i = 0; i < c->n_enclaves; i++) {
		const struct enclave_config *e = &c->enclaves[i];

		must(!e->cid || e->n_cids == 0, "cid and cids");
		wanted += e->cid != 0;
		for (size_t k = 0; k < e->n_cids; k++) {
			const struct cid_range *range = &e->cids[k];
			int slot = config_find_cid(c, range->last);

			must(range->first >= 4 && range->first <= range->last && slot >= 0 &&
				     c->slots[slot].enclave == i,
			     "a range");
			wanted += (uint64_t)range->last - range->first + 1;
		}
		named = false;
		for (size_t k = 0; k < c->n_listeners; k++)
			named |= c->listeners[k].enclave_index == (int)i;
		must(named == (config_find_slot(c, e->name) >= 0), "the slot of a listener");
		wanted += named;
	}
	must(wanted == c->n_slots, "slots for all");
}

static void check_listener(const struct config *c, const struct listener_config *l)
{
	must(l->line > 0 && l->enclave_index >= -1 && l->enclave_index < (int)c->n_enclaves,
	     "a listener");
	must(l->kind != LISTENER_VSOCK || (l->port > 0 && l->enclave_index == -1),
	     "a vsock listener");
	must(l->kind != LISTENER_UNIX || (l->path && l->enclave_index >= 0 && l->mode),
	     "a Unix one");
	must(l->kind != LISTENER_SYSTEMD || l->fd_name, "a socket handed over");
}

static void check_config(const struct config *c)
{
	must(c->n_listeners > 0 && c->n_enclaves > 0, "a configuration in part");
	must(c->workers > 0 && c->memory / c->n_slots > LIMIT_REPLY_BODY, "its resources");
	for (size_t i = 0; i < c->n_listeners; i++)
		check_listener(c, &c->listeners[i]);
	for (size_t i = 0; i < c->n_endpoints; i++)
		must(c->endpoints[i].host && c->endpoints[i].region &&
			     c->endpoints[i].host_header && c->endpoints[i].port > 0,
		     "an endpoint in part");
	for (size_t i = 0; i < c->n_enclaves; i++)
		check_enclave(c, i);
	check_slots(c);
}

static char *print(const struct config *c, size_t *ret_n)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_n);

	must(f != NULL, "no memory");
	config_print(c, f);
	must(fclose(f) == 0, "no memory");
	return text;
}

/* Also no warning more than the first time. */
static void check_print(const struct config *c, const struct findings *findings)
{
	_cleanup_(findings_done) struct findings found = {0};
	_cleanup_(config_unrefp) struct config *again = NULL;
	_cleanup_(freep) char *first = NULL, *second = NULL;
	size_t n1, n2;

	first = print(c, &n1);
	must(config_parse_with(first, n1, "printed", &facts, &again, &found) == 0,
	     "what is printed is refused");
	must(found.n + found.n_left_out <= findings->n + findings->n_left_out,
	     "what is printed has more warnings");
	second = print(again, &n2);
	must(n1 == n2 && memcmp(first, second, n1) == 0, "what is printed is read otherwise");
	must(config_listen_equal(c, again), "listeners that differ");
	must(c->n_slots == again->n_slots, "slots that are other ones");
	for (size_t i = 0; i < c->n_slots; i++)
		must(config_slot_equal(c, i, again, i), "slots that differ");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(findings_done) struct findings findings = {0};
	_cleanup_(config_unrefp) struct config *config = NULL;
	_cleanup_(freep) char *text = malloc(size ? size : 1);
	int r;

	must(text != NULL, "no memory");
	memcpy(text, data, size); /* an exact allocation, whose ends the sanitizer guards */
	r = config_parse_with(text, size, "fuzz.yaml", &facts, &config, &findings);
	check_findings(&findings);
	if (r == 0) {
		must(config && findings.n_errors == 0, "errors, and yet a configuration");
		check_config(config);
		check_print(config, &findings);
	} else {
		must(r == -EINVAL && !config && findings.n_errors > 0,
		     "a refusal without errors");
	}
	return 0;
}
