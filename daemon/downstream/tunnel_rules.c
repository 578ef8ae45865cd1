/* SPDX-License-Identifier: Apache-2.0 */
#include "tunnel_rules.h"

#include "refusal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct tunnel_refusal_info table[_TUNNEL_REFUSAL_MAX] = {
	[TUNNEL_NO_NAME] = {REASON_NO_SERVER_NAME,
			    "the ClientHello names no server, and no CONNECT did", 403,
			    TLS_ALERT_UNRECOGNIZED_NAME},
	[TUNNEL_BAD_HELLO] = {REASON_CLIENT_HELLO, "the ClientHello is malformed", 403,
			      TLS_ALERT_DECODE_ERROR},
	[TUNNEL_HOST] = {REASON_TUNNEL_HOST, "it is not in tunnel.hosts of the enclave", 403,
			 TLS_ALERT_UNRECOGNIZED_NAME},
	[TUNNEL_NAME_DIFFERS] = {REASON_SERVER_NAME, "the ClientHello is for another host", 403,
				 TLS_ALERT_UNRECOGNIZED_NAME},
	[TUNNEL_RATE] = {REASON_RATE, "limits.requests of the enclave is used up", 403,
			 TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_CONNECTIONS] = {REASON_TUNNEL_CONNECTIONS,
				"tunnel.connections of the enclave is reached", 403,
				TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_MEMORY] = {REASON_MEMORY, "out of memory", 502, TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_NO_HOST] = {REASON_NO_UPSTREAM, "the host can't be reached", 502,
			    TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_NO_PROXY] = {REASON_NO_PROXY, "the host can't be reached", 502,
			     TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_PROXY_REFUSED] = {REASON_PROXY_REFUSED, "the host can't be reached", 502,
				  TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_PROXY_BROKEN] = {REASON_PROXY_BROKEN, "the host can't be reached", 502,
				 TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_TIMEOUT] = {REASON_UPSTREAM_TIMEOUT, "the host did not answer in time", 504,
			    TLS_ALERT_INTERNAL_ERROR},
	[TUNNEL_TOO_SLOW] = {REASON_TOO_SLOW, "the ClientHello did not come in time", 403,
			     TLS_ALERT_INTERNAL_ERROR},
};

static_assert(TLS_ALERT_SIZE <= TUNNEL_ANSWER_SIZE, "either answer fits");

const struct tunnel_refusal_info *tunnel_refusal_info(enum tunnel_refusal refusal)
{
	assert(refusal > TUNNEL_ALLOWED && refusal < _TUNNEL_REFUSAL_MAX);
	return &table[refusal];
}

struct slice tunnel_refusal_write(enum tunnel_refusal refusal, int status, enum tls_alert alert,
				  char out[TUNNEL_ANSWER_SIZE])
{
	const char *text = tunnel_refusal_info(refusal)->text;
	int n;

	if (!status)
		return tls_alert_write(alert, out);
	n = snprintf(out, TUNNEL_ANSWER_SIZE,
		     "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\n"
		     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
		     status, http_reason_phrase(status), strlen(text) + 1, text);
	return (struct slice){out, (size_t)n};
}

struct tunnel_host *tunnel_find_host(const struct tunnel_config *config, struct slice name,
				     unsigned port)
{
	for (size_t i = 0; i < config->n_hosts; i++)
		if (slice_eq_nocase(name, slice_from(config->hosts[i].host)) &&
		    (port == 0 ? config->hosts[i].tls : port == config->hosts[i].port))
			return &config->hosts[i];
	return NULL;
}

static bool proxy_equal(const struct proxy_config *a, const struct proxy_config *b)
{
	return strcmp(a->host ?: "", b->host ?: "") == 0 && a->port == b->port;
}

static bool host_equal(const struct tunnel_host *a, const struct tunnel_host *b)
{
	const char *to_a = a->connect_to ?: a->host, *to_b = b->connect_to ?: b->host;

	return strcmp(a->host, b->host) == 0 && strcmp(to_a, to_b) == 0 && a->port == b->port &&
	       a->connect_port == b->connect_port && a->tls == b->tls &&
	       proxy_equal(&a->proxy, &b->proxy);
}

struct tunnel_host *tunnel_keep_host(const struct tunnel_config *config,
				     const struct tunnel_host *host)
{
	for (size_t i = 0; i < config->n_hosts; i++)
		if (!host || host_equal(host, &config->hosts[i]))
			return &config->hosts[i];
	return NULL;
}

enum tunnel_refusal tunnel_admit(struct enclave *enclave, const struct enclave_config *config,
				 usec_t now, bool *ret_counted)
{
	*ret_counted = false;
	if (!enclave_take_token(enclave, config, now, NULL))
		return TUNNEL_RATE;
	*ret_counted = gauge_take(&enclave->tunnels, 1, config->tunnel.connections);
	return *ret_counted ? TUNNEL_ALLOWED : TUNNEL_CONNECTIONS;
}
