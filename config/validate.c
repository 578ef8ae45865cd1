/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"
#include "hint.h"
#include "limit.h"
#include "log.h"
#include "reader.h"
#include "similar.h"

#include <stdio.h>
#include <string.h>

/* Listeners. */

static void check_listener_kind(struct reader *r, const yaml_node_t *node,
				struct listener_config *listener)
{
	static const char *const kinds[] = {"vsock", "unix", "systemd"}; /* by listener_kind */
	const yaml_node_t *found = NULL;

	for (unsigned i = 0; i < ELEMENTSOF(kinds); i++) {
		const yaml_node_t *value = reader_member(r, node, kinds[i]);

		if (value && found)
			reader_error(r, value,
				     "%s: a listener is one of vsock, unix and systemd",
				     kinds[i]);
		else if (value)
			listener->kind = i;
		found = found ?: value;
	}
	if (!found && !reader_has_unknown(r, node, SECTION_LISTENER))
		reader_error(r, node, "a listener needs one of vsock, unix and systemd");
}

static void check_listener_enclave(struct reader *r, const yaml_node_t *node,
				   struct listener_config *listener)
{
	const yaml_node_t *name = reader_member(r, node, "enclave");
	struct similar similar;

	if (!name && listener->kind == LISTENER_UNIX &&
	    !reader_has_unknown(r, node, SECTION_LISTENER))
		reader_error(
			r, node,
			"listen lacks \"enclave\": a Unix socket has no CID, so the listener "
			"names the enclave");
	if (!name || name->type != YAML_SCALAR_NODE || node_is_null(name))
		return;
	if (listener->kind == LISTENER_VSOCK) {
		reader_error(r, name,
			     "enclave: on a vsock listener the peer's CID names the enclave");
		return;
	}
	similar_init(&similar, node_text(name));
	for (size_t i = 0; i < r->config->n_enclaves; i++) {
		similar_offer(&similar, r->config->enclaves[i].name);
		if (slice_eq_str(node_text(name), r->config->enclaves[i].name))
			listener->enclave_index = (int)i;
	}
	if (listener->enclave_index < 0)
		reader_error(r, name, "enclave: there is no enclave \"%s\"%s",
			     CLIPPED(node_text(name)), SIMILAR_PHRASE(&similar));
}

static void check_listener_access(struct reader *r, const yaml_node_t *node,
				  struct listener_config *listener)
{
	static const char *const options[] = {"mode", "group"};

	for (unsigned i = 0; i < ELEMENTSOF(options); i++) {
		const yaml_node_t *value = reader_member(r, node, options[i]);

		if (value && listener->kind != LISTENER_UNIX)
			reader_error(r, value, "%s: only a Unix listener has one", options[i]);
	}
	if (listener->kind != LISTENER_UNIX)
		listener->mode = 0;
	else if (listener->mode & 0002)
		reader_warning(
			r, reader_member(r, node, "mode"),
			"mode: every user of this host will have the authority of the enclave");
}

static bool is_same_socket(const struct listener_config *a, const struct listener_config *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->path && b->path)
		return strcmp(a->path, b->path) == 0;
	if (a->fd_name && b->fd_name)
		return strcmp(a->fd_name, b->fd_name) == 0;
	return a->kind == LISTENER_VSOCK && a->port && a->port == b->port;
}

static void check_listeners(struct reader *r, const yaml_node_t *list)
{
	struct listener_config *listeners = r->config->listeners;

	for (size_t i = 0; i < r->config->n_listeners; i++) {
		const yaml_node_t *node = document_item(&r->document, list, i);

		listeners[i].enclave_index = -1;
		if (node->type != YAML_MAPPING_NODE)
			continue;
		check_listener_kind(r, node, &listeners[i]);
		check_listener_enclave(r, node, &listeners[i]);
		check_listener_access(r, node, &listeners[i]);
		for (size_t k = 0; k < i; k++)
			if (is_same_socket(&listeners[k], &listeners[i])) {
				reader_error(r, node, "listen: the same socket as on line %u",
					     listeners[k].line);
				break;
			}
	}
}

/* Endpoints. */

/* What `fips` and `dualstack` say of a host that is given must be true: readers believe it. */
static void check_given_host(struct reader *r, const yaml_node_t *node,
			     const struct endpoint_config *endpoint, const char *made)
{
	if ((!endpoint->fips && !endpoint->dualstack) ||
	    (made && !strcmp(endpoint->host, made)))
		return;
	reader_error(r, reader_member(r, node, "host"),
		     "host: fips and dualstack choose the host of the region%s%s; leave host "
		     "out, or leave them out",
		     made ? ", which is " : "", made ?: "");
}

static void make_host(struct reader *r, const yaml_node_t *node,
		      struct endpoint_config *endpoint)
{
	struct slice region = slice_from(endpoint->region);
	const struct partition *partition = endpoint_partition(region);
	char made[ENDPOINT_HOST_SIZE];

	if (partition)
		endpoint_host(partition, region, endpoint->fips, endpoint->dualstack, made);
	if (endpoint->host)
		check_given_host(r, node, endpoint, partition ? made : NULL);
	else if (partition && !reader_member(r, node, "host"))
		endpoint->host = reader_text(r, slice_from(made));
	else if (!partition && !reader_member(r, node, "host"))
		reader_error(r, reader_member(r, node, "region"),
			     "region: \"%s\" is in no partition whose host names are known; "
			     "set host%s",
			     CLIPPED(region), hint_region(region, HINT_ROOM));
	if (partition && partition->no_fips && endpoint->fips)
		reader_warning(r, reader_member(r, node, "fips"),
			       "fips: AWS lists no FIPS endpoint of KMS in partition %s",
			       partition->name);
}

/* The region that is meant. */
static void take_region(struct reader *r, const yaml_node_t *node,
			struct endpoint_config *endpoint)
{
	const struct config_facts *facts = r->facts;
	const yaml_node_t *at = reader_member(r, node, "region");

	if (!endpoint->written_region)
		return;
	if (!endpoint_is_instance(endpoint))
		endpoint->region = reader_text(r, slice_from(endpoint->written_region));
	else if (facts->instance_region)
		endpoint->region = reader_text(r, slice_from(facts->instance_region));
	else if (facts->no_region && facts->no_region_is_error)
		reader_error(r, at, "region: %s", facts->no_region);
	else if (facts->no_region)
		reader_warning(r, at, "region: %s", facts->no_region);
}

static void make_host_header(struct reader *r, struct endpoint_config *endpoint)
{
	char text[300];

	snprintf(text, sizeof(text), "%s:%u", endpoint->host, endpoint->port);
	if (endpoint->port == 443)
		snprintf(text, sizeof(text), "%s", endpoint->host);
	endpoint->host_header = reader_text(r, slice_from(text));
}

/* The pool keeps one connection for each slot that holds none, if it has so many. */
static void check_connections(struct reader *r, const yaml_node_t *node,
			      const struct endpoint_config *endpoint, unsigned users)
{
	if (endpoint->connections == 0 || users < 2)
		return;
	if (users > endpoint->connections)
		reader_warning(
			r, node,
			"connections: %u is fewer than the %u %s that use \"%s\": "
			"each gets one in turn, so that one enclave can wait for another",
			endpoint->connections, users, config_slots_noun(r->config),
			endpoint->name);
	else if (users == endpoint->connections)
		reader_warning(
			r, node,
			"connections: one for each of the %u %s that use \"%s\": "
			"each has one request at a time there, also while the others have "
			"none",
			users, config_slots_noun(r->config), endpoint->name);
}

static void check_endpoint_use(struct reader *r, const yaml_node_t *key,
			       const yaml_node_t *node, unsigned i)
{
	const struct endpoint_config *endpoint = &r->config->endpoints[i];
	unsigned users = config_endpoint_users(r->config, i);

	if (users == 0 && r->findings->n_errors == 0) /* else it may be due to one of them */
		reader_warning(r, key, "endpoints: no enclave uses \"%s\"", endpoint->name);
	check_connections(r, reader_member(r, node, "connections") ?: key, endpoint, users);
}

static void check_endpoints(struct reader *r, const yaml_node_t *map)
{
	for (unsigned i = 0; i < r->config->n_endpoints; i++) {
		struct endpoint_config *endpoint = &r->config->endpoints[i];
		const yaml_node_t *node = reader_pair_value(r, map, i);

		take_region(r, node, endpoint);
		if (endpoint->region)
			make_host(r, node, endpoint);
		if (endpoint->host)
			make_host_header(r, endpoint);
		reader_validate_proxy(r, node, &endpoint->proxy, endpoint->host,
				      endpoint->connect_to);
	}
}

static void check_endpoint_uses(struct reader *r, const yaml_node_t *map)
{
	for (unsigned i = 0; i < r->config->n_endpoints; i++)
		check_endpoint_use(r, reader_pair_key(r, map, i), reader_pair_value(r, map, i),
				   i);
}

/* The rest. */

static void check_credentials(struct reader *r, const yaml_node_t *node)
{
	struct credentials_config *c = &r->config->credentials;
	const yaml_node_t *container = reader_member(r, node, "container");
	const yaml_node_t *file = reader_member(r, node, "file");

	for (size_t i = 0; i < r->config->n_enclaves; i++)
		c->needed |= r->config->enclaves[i].n_endpoints > 0;
	if (c->source == SOURCE_FILE && !file &&
	    !reader_has_unknown(r, node, SECTION_CREDENTIALS))
		reader_error(r, reader_member(r, node, "source"),
			     "source: file needs the option \"file\"");
	if (c->source != SOURCE_FILE && file)
		reader_warning(r, file, "file: has no effect, since source is another");
	if (c->source != SOURCE_CONTAINER && container)
		reader_warning(r, container,
			       "container: has no effect, since source is another");
}

/* A slot's share must do for one request at least: its head and body, and the reply's. */
static void check_memory(struct reader *r, const yaml_node_t *root)
{
	const struct config *c = r->config;
	const yaml_node_t *node = reader_member(r, root, "memory");
	size_t body = 0, least;

	for (size_t i = 0; i < c->n_enclaves; i++)
		body = MAX(body, c->enclaves[i].limits.body);
	least = c->n_slots * (body + LIMIT_REPLY_BODY + LIMIT_HEAD + LIMIT_REPLY_HEAD);
	if (c->memory < least)
		reader_error(r, node ?: root,
			     "memory: %zuMiB is too little for %zu %s; expected %zuMiB or more",
			     c->memory / MIB, c->n_slots, config_slots_noun(c),
			     least / MIB + 1);
}

void reader_validate(struct reader *r)
{
	const yaml_node_t *root = document_root(&r->document);

	check_listeners(r, reader_member(r, root, "listen"));
	check_endpoints(r, reader_member(r, root, "endpoints"));
	check_credentials(r, reader_member(r, root, "credentials"));
	reader_validate_enclaves(r, reader_member(r, root, "enclaves"));
	check_memory(r, root);
	reader_check_unit(r, root);
	check_endpoint_uses(r, reader_member(r, root, "endpoints"));
	reader_validate_here(r, root);
}
