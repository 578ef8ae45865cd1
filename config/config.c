/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "log.h"
#include "syntax.h"

#include <stdatomic.h>
#include <string.h>

static void listener_done(struct listener_config *l)
{
	free(l->path);
	free(l->fd_name);
	free(l->group);
}

static void proxy_done(struct proxy_config *p)
{
	free(p->host);
	free(p->credentials_file);
}

static void endpoint_done(struct endpoint_config *e)
{
	free(e->name);
	free(e->host);
	free(e->written_region);
	free(e->region);
	free(e->host_header);
	free(e->connect_to);
	proxy_done(&e->proxy);
	free(e->ca_file);
}

static void tunnel_done(struct tunnel_config *t)
{
	for (size_t i = 0; i < t->n_hosts; i++) {
		free(t->hosts[i].host);
		free(t->hosts[i].connect_to);
		proxy_done(&t->hosts[i].proxy);
	}
	free(t->hosts);
}

static void enclave_done(struct enclave_config *e)
{
	free(e->name);
	free(e->cids);
	free(e->endpoints);
	policy_done(&e->policy);
	tunnel_done(&e->tunnel);
}

static void credentials_done(struct credentials_config *c)
{
	free(c->imds_endpoint);
	free(c->imds_role);
	free(c->container_uri);
	free(c->container_token_file);
	free(c->file);
}

static void config_free(struct config *c)
{
	for (size_t i = 0; i < c->n_listeners; i++)
		listener_done(&c->listeners[i]);
	for (size_t i = 0; i < c->n_endpoints; i++)
		endpoint_done(&c->endpoints[i]);
	for (size_t i = 0; i < c->n_enclaves; i++)
		enclave_done(&c->enclaves[i]);
	credentials_done(&c->credentials);
	free(c->listeners);
	free(c->endpoints);
	free(c->enclaves);
	for (size_t i = 0; i < c->n_files; i++)
		free(c->files[i]);
	free(c->files);
	free(c->slots);
	free(c->path);
	free(c);
}

struct config *config_ref(struct config *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

struct config *config_unref(struct config *c)
{
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		config_free(c);
	return NULL;
}

const char *config_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int config_find_enclave(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_enclaves; i++)
		if (strcmp(config->enclaves[i].name, name) == 0)
			return (int)i;
	return -1;
}

int config_find_cid(const struct config *config, unsigned cid)
{
	for (size_t i = 0; i < config->n_slots && cid != 0; i++)
		if (config->slots[i].cid == cid)
			return (int)i;
	return -1;
}

bool config_needs_region(const struct config *config)
{
	for (size_t i = 0; i < config->n_endpoints; i++)
		if (endpoint_is_instance(&config->endpoints[i]))
			return true;
	return false;
}

int config_find_slot(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_slots; i++)
		if (config->slots[i].cid == 0 &&
		    strcmp(config->enclaves[config->slots[i].enclave].name, name) == 0)
			return (int)i;
	return -1;
}

const char *config_slots_noun(const struct config *config)
{
	if (config->n_slots == config->n_enclaves)
		return config->n_slots == 1 ? "enclave" : "enclaves";
	return "slots of enclaves";
}

const char *config_count(const struct config *config, char out[CONFIG_COUNT_SIZE])
{
	int n = snprintf(out, CONFIG_COUNT_SIZE, "%zu enclave%s", config->n_enclaves,
			 plural(config->n_enclaves));

	if (config->n_slots != config->n_enclaves)
		snprintf(out + n, CONFIG_COUNT_SIZE - (size_t)n, " (%zu slot%s)",
			 config->n_slots, plural(config->n_slots));
	return out;
}

unsigned config_endpoint_users(const struct config *config, unsigned endpoint)
{
	unsigned users = 0;

	for (size_t i = 0; i < config->n_slots; i++) {
		const struct enclave_config *e = &config->enclaves[config->slots[i].enclave];

		for (size_t j = 0; j < e->n_endpoints; j++)
			users += e->endpoints[j] == endpoint;
	}
	return users;
}

/* What a client sends when it was given the address of its bridge. */
static bool is_nameless(struct slice host)
{
	return slice_eq_nocase(host, SLICE("localhost")) || syntax_is_ip(host);
}

int config_pick_endpoint(const struct config *config, const struct enclave_config *enclave,
			 struct slice host)
{
	for (size_t i = 0; i < enclave->n_endpoints; i++) {
		const char *name = config->endpoints[enclave->endpoints[i]].host;

		if (slice_eq_nocase(host, slice_from(name)))
			return (int)enclave->endpoints[i];
	}
	if (enclave->n_endpoints > 0 && is_nameless(host))
		return (int)enclave->endpoints[0];
	return -1;
}
