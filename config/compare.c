/* SPDX-License-Identifier: Apache-2.0 */
#include "compare.h"

#include <string.h>

static bool text_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool texts_equal(char *const *a, size_t n_a, char *const *b, size_t n_b)
{
	if (n_a != n_b)
		return false;
	for (size_t i = 0; i < n_a; i++)
		if (!text_equal(a[i], b[i]))
			return false;
	return true;
}

static bool proxy_equal(const struct proxy_config *a, const struct proxy_config *b)
{
	return text_equal(a->host, b->host) && a->port == b->port &&
	       text_equal(a->credentials_file, b->credentials_file);
}

/* Without `connections` and the timeouts: see config_slot_equal(). */
static bool endpoint_equal(const struct endpoint_config *a, const struct endpoint_config *b)
{
	return text_equal(a->name, b->name) && text_equal(a->host, b->host) &&
	       text_equal(a->region, b->region) && a->port == b->port &&
	       text_equal(a->connect_to, b->connect_to) && a->connect_port == b->connect_port &&
	       proxy_equal(&a->proxy, &b->proxy) && text_equal(a->ca_file, b->ca_file);
}

/* A rule's endpoints are bits, and in another configuration the same bit may mean another
 * endpoint. */
static bool endpoint_set_equal(const struct config *a, uint64_t in_a, const struct config *b,
			       uint64_t in_b)
{
	for (size_t i = 0; i < a->n_endpoints; i++) {
		bool found = false;

		if (!(in_a >> i & 1))
			continue;
		for (size_t j = 0; j < b->n_endpoints; j++)
			found |= (in_b >> j & 1) &&
				 text_equal(a->endpoints[i].name, b->endpoints[j].name);
		if (!found)
			return false;
	}
	return __builtin_popcountll(in_a) == __builtin_popcountll(in_b);
}

static bool contexts_equal(const struct rule *a, const struct rule *b)
{
	if (a->n_contexts != b->n_contexts)
		return false;
	for (size_t i = 0; i < a->n_contexts; i++) {
		const struct rule_context *x = &a->contexts[i], *y = &b->contexts[i];

		if (!text_equal(x->name, y->name) ||
		    !texts_equal(x->values, x->n_values, y->values, y->n_values))
			return false;
	}
	return true;
}

static bool rule_equal(const struct config *ca, const struct rule *a, const struct config *cb,
		       const struct rule *b)
{
	return text_equal(a->name, b->name) && a->actions == b->actions &&
	       endpoint_set_equal(ca, a->endpoints, cb, b->endpoints) &&
	       a->any_key == b->any_key && a->missing_key_add == b->missing_key_add &&
	       a->plaintext_allow == b->plaintext_allow &&
	       a->delegation_allow == b->delegation_allow &&
	       texts_equal(a->extra_actions, a->n_extra_actions, b->extra_actions,
			   b->n_extra_actions) &&
	       texts_equal(a->extra_members, a->n_extra_members, b->extra_members,
			   b->n_extra_members) &&
	       texts_equal(a->keys, a->n_keys, b->keys, b->n_keys) && contexts_equal(a, b);
}

static bool tunnel_equal(const struct tunnel_config *a, const struct tunnel_config *b)
{
	if (a->n_hosts != b->n_hosts || a->bandwidth != b->bandwidth ||
	    a->connections != b->connections || a->idle != b->idle)
		return false;
	for (size_t i = 0; i < a->n_hosts; i++) {
		const struct tunnel_host *x = &a->hosts[i], *y = &b->hosts[i];

		if (!text_equal(x->host, y->host) || x->port != y->port ||
		    !text_equal(x->connect_to, y->connect_to) ||
		    x->connect_port != y->connect_port || x->tls != y->tls ||
		    !proxy_equal(&x->proxy, &y->proxy))
			return false;
	}
	return true;
}

static bool limits_equal(const struct limits_config *a, const struct limits_config *b)
{
	return a->requests.interval == b->requests.interval &&
	       a->requests.burst == b->requests.burst && a->in_flight == b->in_flight &&
	       a->connections == b->connections && a->body == b->body;
}

/* Without `cids`: what another CID may do is not what this one may. */
static bool enclave_equal(const struct config *ca, const struct enclave_config *a,
			  const struct config *cb, const struct enclave_config *b)
{
	if (!text_equal(a->name, b->name) || a->n_endpoints != b->n_endpoints ||
	    a->policy.n_rules != b->policy.n_rules || !limits_equal(&a->limits, &b->limits) ||
	    !tunnel_equal(&a->tunnel, &b->tunnel))
		return false;
	for (size_t k = 0; k < a->n_endpoints; k++)
		if (!endpoint_equal(&ca->endpoints[a->endpoints[k]],
				    &cb->endpoints[b->endpoints[k]]))
			return false;
	for (size_t k = 0; k < a->policy.n_rules; k++)
		if (!rule_equal(ca, &a->policy.rules[k], cb, &b->policy.rules[k]))
			return false;
	return true;
}

bool config_slot_equal(const struct config *ca, size_t i, const struct config *cb, size_t j)
{
	const struct slot_config *a = &ca->slots[i], *b = &cb->slots[j];

	return a->cid == b->cid &&
	       enclave_equal(ca, &ca->enclaves[a->enclave], cb, &cb->enclaves[b->enclave]);
}

static const char *listener_enclave(const struct config *c, const struct listener_config *l)
{
	return l->enclave_index >= 0 ? c->enclaves[l->enclave_index].name : NULL;
}

bool config_listen_equal(const struct config *a, const struct config *b)
{
	if (a->n_listeners != b->n_listeners)
		return false;
	for (size_t i = 0; i < a->n_listeners; i++) {
		const struct listener_config *x = &a->listeners[i], *y = &b->listeners[i];

		if (x->kind != y->kind || x->port != y->port || x->mode != y->mode ||
		    !text_equal(x->path, y->path) || !text_equal(x->fd_name, y->fd_name) ||
		    !text_equal(x->group, y->group) ||
		    !text_equal(listener_enclave(a, x), listener_enclave(b, y)))
			return false;
	}
	return true;
}
