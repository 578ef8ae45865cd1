/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as a configuration file. What is refused says where and why; what is accepted is
 * whole, prints as YAML, and that is read to the same again. */

#include "compare.h"
#include "config.h"

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
	must(rule->name && rule->line > 0 && rule->actions && rule->endpoints,
	     "a rule in part");
	must(rule->any_key == (rule->n_keys == 0), "the keys of a rule");
	for (size_t i = 0; i < rule->n_contexts; i++) {
		must(rule->contexts[i].name && rule->contexts[i].n_values > 0,
		     "a pair in part");
		for (size_t k = 0; k < rule->contexts[i].n_values; k++)
			must(rule->contexts[i].values[k] != NULL, "a value in part");
	}
}

static void check_enclave(const struct config *c, size_t i)
{
	const struct enclave_config *e = &c->enclaves[i];

	must(config_find_enclave(c, e->name) == (int)i, "two enclaves of one name");
	must(!e->has_cid || (e->cid >= 4 && config_find_cid(c, e->cid) == (int)i), "a CID");
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
		must(e->tunnel.hosts[k].host && e->tunnel.hosts[k].port > 0, "a tunnel's host");
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
	must(c->workers > 0 && c->memory / c->n_enclaves > LIMIT_REPLY_BODY, "its resources");
	for (size_t i = 0; i < c->n_listeners; i++)
		check_listener(c, &c->listeners[i]);
	for (size_t i = 0; i < c->n_endpoints; i++)
		must(c->endpoints[i].host && c->endpoints[i].region &&
			     c->endpoints[i].host_header && c->endpoints[i].port > 0,
		     "an endpoint in part");
	for (size_t i = 0; i < c->n_enclaves; i++)
		check_enclave(c, i);
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
	for (size_t i = 0; i < c->n_enclaves; i++)
		must(config_enclave_equal(c, i, again, i), "enclaves that differ");
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
