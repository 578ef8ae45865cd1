/* SPDX-License-Identifier: Apache-2.0 */
#include "reader.h"

#include <string.h>

/* What the file names and this machine must have: files, folders, groups. Others look at it,
 * config_facts.look; here is what is looked at, and where in the file it is told. */

static void look(struct reader *r, const yaml_node_t *at, const char *option,
		 enum config_thing thing, const char *value)
{
	const struct config_facts *facts = r->facts;
	struct error why = {0};
	int k = facts->look(thing, value, &why);

	if (k == 0)
		return;
	if (k < 0 && facts->look_is_error)
		reader_error(r, at, "%s: %s", option, why.text);
	else
		reader_warning(r, at, "%s: %s", option, why.text);
}

static void look_at_listeners(struct reader *r, const yaml_node_t *list)
{
	for (size_t i = 0; i < r->config->n_listeners; i++) {
		const struct listener_config *l = &r->config->listeners[i];
		const yaml_node_t *node = document_item(&r->document, list, i);

		if (l->group)
			look(r, reader_member(r, node, "group"), "group", CONFIG_GROUP,
			     l->group);
		if (l->path && r->facts->look_is_error)
			look(r, reader_member(r, node, "unix"), "unix", CONFIG_SOCKET, l->path);
	}
}

/* Several endpoints mostly have the same file, which is told once. */
static bool is_first(const struct config *c, size_t i)
{
	const char *file = c->endpoints[i].ca_file;

	for (size_t k = 0; k < i; k++) {
		const char *other = c->endpoints[k].ca_file;

		if (file == other || (file && other && strcmp(file, other) == 0))
			return false;
	}
	return true;
}

static void look_at_endpoints(struct reader *r, const yaml_node_t *map)
{
	for (size_t i = 0; i < r->config->n_endpoints; i++) {
		const yaml_node_t *at =
			reader_member(r, reader_pair_value(r, map, i), "ca_file");

		if (is_first(r->config, i) && (at || r->facts->look_is_error))
			look(r, at ?: reader_pair_key(r, map, i), "ca_file", CONFIG_CA_FILE,
			     r->config->endpoints[i].ca_file);
	}
}

/* `node` is the mapping that has the proxy. */
static void look_at_proxy(struct reader *r, const yaml_node_t *node,
			  const struct proxy_config *proxy)
{
	static const char option[] = "proxy_credentials_file";

	if (proxy->host && proxy->credentials_file && r->facts->look_is_error)
		look(r, reader_member(r, node, option), option, CONFIG_PROXY_CREDENTIALS,
		     proxy->credentials_file);
}

static void look_at_proxies(struct reader *r, const yaml_node_t *root)
{
	const yaml_node_t *endpoints = reader_member(r, root, "endpoints");
	const yaml_node_t *enclaves = reader_member(r, root, "enclaves");

	for (size_t i = 0; i < r->config->n_endpoints; i++)
		look_at_proxy(r, reader_pair_value(r, endpoints, i),
			      &r->config->endpoints[i].proxy);
	for (size_t i = 0; i < r->config->n_enclaves; i++) {
		const struct tunnel_config *tunnel = &r->config->enclaves[i].tunnel;
		const yaml_node_t *node =
			reader_member(r, reader_pair_value(r, enclaves, i), "tunnel");
		const yaml_node_t *hosts = reader_member(r, node, "hosts");

		for (size_t k = 0; k < tunnel->n_hosts; k++)
			look_at_proxy(r, document_item(&r->document, hosts, k),
				      &tunnel->hosts[k].proxy);
	}
}

static void look_at_credentials(struct reader *r, const yaml_node_t *node)
{
	const struct credentials_config *c = &r->config->credentials;

	if (!r->facts->look_is_error)
		return;
	if (c->source == SOURCE_FILE && c->file)
		look(r, reader_member(r, node, "file"), "file", CONFIG_CREDENTIALS, c->file);
	if (c->source == SOURCE_CONTAINER && c->container_token_file)
		look(r, reader_member(r, reader_member(r, node, "container"), "token_file"),
		     "token_file", CONFIG_TOKEN_FILE, c->container_token_file);
}

void reader_validate_here(struct reader *r, const yaml_node_t *root)
{
	if (!r->facts->look)
		return;
	look_at_listeners(r, reader_member(r, root, "listen"));
	look_at_endpoints(r, reader_member(r, root, "endpoints"));
	look_at_proxies(r, root);
	look_at_credentials(r, reader_member(r, root, "credentials"));
}
