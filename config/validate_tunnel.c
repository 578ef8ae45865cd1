/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"
#include "endpoint.h"
#include "reader.h"

#include <string.h>

/* By TLS the name alone picks one of them, by CONNECT name and port. */
static void check_twice(struct reader *r, const yaml_node_t *node,
			const struct tunnel_config *tunnel, size_t i)
{
	const struct tunnel_host *b = &tunnel->hosts[i];

	for (size_t k = 0; k < i; k++) {
		const struct tunnel_host *a = &tunnel->hosts[k];

		if (!a->host || !b->host || strcmp(a->host, b->host) != 0)
			continue;
		if (a->tls && b->tls)
			reader_error(
				r, node,
				"hosts: \"%s\" is listed on line %u already; a TLS server name "
				"has no port that could tell them apart",
				b->host, a->line);
		else if (a->port == b->port)
			reader_error(r, node,
				     "hosts: \"%s\" is listed with port %u on line %u already",
				     b->host, b->port, a->line);
		else
			continue;
		return;
	}
}

static bool is_endpoint(const struct config *c, const char *host)
{
	for (size_t i = 0; i < c->n_endpoints; i++)
		if (c->endpoints[i].host && strcmp(c->endpoints[i].host, host) == 0)
			return true;
	return false;
}

/* Requests to KMS hold secrets; who is on the way would have them. */
static void check_not_kms(struct reader *r, const yaml_node_t *node, const char *option,
			  const char *host)
{
	if (host && (endpoint_is_kms_host(slice_from(host)) || is_endpoint(r->config, host)))
		reader_error(r, node,
			     "%s: \"%s\" is a host of AWS KMS, which tls: false must not lead "
			     "to",
			     option, host);
}

/* Nothing vouches for who answers, and the enclave says what it likes: such a service would
 * give its bearer's rights to it. */
static void check_place(struct reader *r, const yaml_node_t *node, const char *place)
{
	if (place && address_classify_host(place) == ADDRESS_SPECIAL)
		reader_error(r, node,
			     "connect_to: %s is a link-local or metadata address, which tls: "
			     "false must not lead to",
			     place);
}

static void check_plain(struct reader *r, const yaml_node_t *node,
			const struct tunnel_host *host)
{
	const yaml_node_t *connect_to = reader_member(r, node, "connect_to");

	check_not_kms(r, reader_member(r, node, "host"), "host", host->host);
	check_not_kms(r, connect_to, "connect_to", host->connect_to);
	check_place(r, connect_to, host->connect_to);
	if (reader_member(r, node, "proxy"))
		reader_error(r, reader_member(r, node, "proxy"),
			     "proxy: an HTTP proxy is not asked for what tls: false would pass "
			     "in clear; leave one of the two out");
	reader_warning(
		r, reader_member(r, node, "tls"),
		"tls: nothing verifies who answers for \"%s\", and who is on the way can "
		"read and change what passes",
		host->host ?: "");
}

/* The proxy's network has such places too, and may not know that they are none to lead to. */
static void check_asked_for(struct reader *r, const yaml_node_t *node, const char *host,
			    const char *connect_to)
{
	const char *option = connect_to ? "connect_to" : "host", *place = connect_to ?: host;

	if (place && address_classify_host(place) != ADDRESS_OTHER)
		reader_error(r, reader_member(r, node, option) ?: node,
			     "%s: %s is a loopback, link-local or metadata address, which no "
			     "proxy is asked for",
			     option, place);
}

void reader_validate_proxy(struct reader *r, const yaml_node_t *node,
			   const struct proxy_config *proxy, const char *host,
			   const char *connect_to)
{
	if (proxy->credentials_file && !reader_member(r, node, "proxy"))
		reader_warning(r, reader_member(r, node, "proxy_credentials_file"),
			       "proxy_credentials_file: has no effect without proxy");
	if (!proxy->host)
		return;
	if (address_classify_host(proxy->host) == ADDRESS_SPECIAL)
		reader_error(r, reader_member(r, node, "proxy"),
			     "proxy: %s is a link-local or metadata address", proxy->host);
	check_asked_for(r, node, host, connect_to);
}

void reader_validate_tunnel(struct reader *r, const yaml_node_t *node,
			    const struct tunnel_config *tunnel)
{
	const yaml_node_t *hosts = reader_member(r, node, "hosts");

	for (size_t i = 0; i < tunnel->n_hosts; i++) {
		const yaml_node_t *item = document_item(&r->document, hosts, i);

		check_twice(r, item, tunnel, i);
		reader_validate_proxy(r, item, &tunnel->hosts[i].proxy, tunnel->hosts[i].host,
				      tunnel->hosts[i].connect_to);
		if (!tunnel->hosts[i].tls)
			check_plain(r, item, &tunnel->hosts[i]);
	}
}
