/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "config.h"
#include "limit.h"
#include "syntax.h"

#define AT(type, member) .offset = offsetof(struct type, member)
#define COUNT(type, member) .second = offsetof(struct type, member)
#define PORT(type, member) .second = offsetof(struct type, member)
#define SPAN(lowest, highest) .min = (lowest), .max = (highest)

/* clang-format off */
#define PROXY(type)                                                                            \
	{"proxy", OPTION_PROXY, AT(type, proxy.host), PORT(type, proxy.port),                  \
	 .help = "the HTTP proxy that is asked for the way there"},                            \
	{"proxy_credentials_file", OPTION_TEXT, .veiled = true,                                \
	 AT(type, proxy.credentials_file),                                                     \
	 .syntax = syntax_credentials_file,                                                    \
	 .expected = "an absolute path, or the name of a credential of the unit",              \
	 .help = "the file with the user and password for the proxy"}
/* clang-format on */

static const char *const audit_words[] = {"all", "refusals", NULL};
static const char *const source_words[] = {"imds", "container", "file", NULL};
static const char *const consent_words[] = {"refuse", "allow", NULL};
static const char *const missing_key_words[] = {"refuse", "add", NULL};

/* In the order of reading and printing: what is named stands before what names it. */
static const struct config_option root[] = {
	{"listen", OPTION_LIST, .required = true, .restart = true, AT(config, listeners),
	 COUNT(config, n_listeners), .section = SECTION_LISTENER,
	 .help = "sockets that enclaves connect to"},
	{"endpoints", OPTION_MAP, AT(config, endpoints), COUNT(config, n_endpoints),
	 SPAN(1, POLICY_ENDPOINTS), .section = SECTION_ENDPOINT,
	 .help = "the allow-list of KMS hosts, by name"},
	{"credentials", OPTION_SECTION, AT(config, credentials), .section = SECTION_CREDENTIALS,
	 .help = "where the AWS credentials come from"},
	{"limits", OPTION_SECTION, AT(config, limits), .section = SECTION_LIMITS,
	 .help = "the defaults of each enclave's limits"},
	{"enclaves", OPTION_MAP, .required = true, AT(config, enclaves),
	 COUNT(config, n_enclaves), .section = SECTION_ENCLAVE,
	 .help = "the enclaves, by name, and what each may do"},
	{"workers", OPTION_NUMBER, .restart = true, AT(config, workers), SPAN(1, 64),
	 .fallback = "1", .help = "data threads"},
	{"memory", OPTION_SIZE, AT(config, memory), SPAN(4 * MIB, 16384 * MIB),
	 .fallback = "96MiB", .help = "all request, reply and tunnel buffers together"},
	{"audit", OPTION_WORD, AT(config, audit), .words = audit_words, .fallback = "all",
	 .help = "which requests leave an audit record"},
};

static const struct config_option listener[] = {
	{"vsock", OPTION_NUMBER, .restart = true, AT(listener_config, port),
	 SPAN(1, UINT32_MAX - 1), .help = "listen on this vsock port"},
	{"unix", OPTION_TEXT, .restart = true, AT(listener_config, path),
	 .syntax = syntax_unix_path, .expected = "an absolute path of at most 107 bytes",
	 .help = "listen on this Unix socket"},
	{"systemd", OPTION_TEXT, .restart = true, AT(listener_config, fd_name),
	 .syntax = syntax_fd_name,
	 .expected = "a FileDescriptorName: at most 255 printable characters without a colon",
	 .help = "use the socket that systemd hands over under this name"},
	{"enclave", OPTION_ENCLAVE, .restart = true, AT(listener_config, enclave_index),
	 .help = "the enclave that connects to a Unix socket"},
	{"mode", OPTION_MODE, .restart = true, AT(listener_config, mode), SPAN(1, 0777),
	 .fallback = "0600", .help = "the access mode of a Unix socket"},
	{"group", OPTION_TEXT, .restart = true, AT(listener_config, group),
	 .syntax = syntax_group, .expected = "the name of a group",
	 .help = "the group of a Unix socket"},
};

static const struct config_option endpoint[] = {
	{"region", OPTION_TEXT, .required = true, AT(endpoint_config, written_region),
	 .syntax = syntax_region_or_instance,
	 .expected = "a region such as eu-central-1, or instance",
	 .help = "the region that signatures are made for"},
	{"fips", OPTION_BOOL, AT(endpoint_config, fips), .fallback = "false",
	 .help = "use the FIPS host of the region"},
	{"dualstack", OPTION_BOOL, AT(endpoint_config, dualstack), .fallback = "false",
	 .help = "use the dual-stack (IPv4 and IPv6) host of the region"},
	{"host", OPTION_TEXT, AT(endpoint_config, host), .syntax = syntax_host,
	 .expected = "a DNS name in lower case", .help = "the host, whose name TLS verifies"},
	{"port", OPTION_NUMBER, AT(endpoint_config, port), SPAN(1, 65535), .fallback = "443",
	 .help = "its TCP port"},
	{"connect_to", OPTION_ADDRESS, AT(endpoint_config, connect_to),
	 PORT(endpoint_config, connect_port),
	 .help = "connect there instead of looking the host up"},
	PROXY(endpoint_config),
	{"ca_file", OPTION_TEXT, AT(endpoint_config, ca_file), .syntax = syntax_path,
	 .expected = "an absolute path", .help = "trust these CA certificates only"},
	{"connections", OPTION_NUMBER, AT(endpoint_config, connections), SPAN(1, 1024),
	 .fallback = "64", .help = "connections to it, a worker"},
	{"connect_timeout", OPTION_TIME, AT(endpoint_config, connect_timeout),
	 SPAN(10 * USEC_PER_MSEC, 60 * USEC_PER_SEC), .fallback = "5s",
	 .help = "for connect, proxy and TLS together"},
	{"reply_timeout", OPTION_TIME, AT(endpoint_config, reply_timeout),
	 SPAN(10 * USEC_PER_MSEC, 300 * USEC_PER_SEC), .fallback = "30s",
	 .help = "from sending a request to the end of its reply"},
	{"queue_timeout", OPTION_TIME, AT(endpoint_config, queue_timeout),
	 SPAN(10 * USEC_PER_MSEC, 60 * USEC_PER_SEC), .fallback = "5s",
	 .help = "for a request that waits for a connection, lookup included"},
};

static const struct config_option credentials[] = {
	{"source", OPTION_WORD, AT(credentials_config, source), .words = source_words,
	 .fallback = "imds", .help = "which source is asked"},
	{"imds", OPTION_SECTION, .section = SECTION_IMDS,
	 .help = "the instance metadata service"},
	{"container", OPTION_SECTION, .section = SECTION_CONTAINER,
	 .help = "the credentials endpoint of a container"},
	{"file", OPTION_TEXT, AT(credentials_config, file), .syntax = syntax_credentials_file,
	 .expected = "an absolute path, or the name of a credential of the unit",
	 .help = "an AWS credentials file"},
};

static const struct config_option imds[] = {
	{"endpoint", OPTION_TEXT, AT(credentials_config, imds_endpoint),
	 .syntax = syntax_imds_endpoint, .fallback = "http://169.254.169.254",
	 .expected = "http://HOST or http://HOST:PORT", .help = "its address"},
	{"role", OPTION_TEXT, AT(credentials_config, imds_role), .syntax = syntax_role,
	 .expected = "the name of an IAM role", .help = "the role to ask for"},
};

static const struct config_option container[] = {
	{"uri", OPTION_TEXT, AT(credentials_config, container_uri),
	 .syntax = syntax_container_uri,
	 .expected = "an https URL, or an http URL of loopback, 169.254.170.2, 169.254.170.23 "
		     "or [fd00:ec2::23]",
	 .help = "where credentials are fetched"},
	{"token_file", OPTION_TEXT, AT(credentials_config, container_token_file),
	 .syntax = syntax_path, .expected = "an absolute path",
	 .help = "the file with the token to send along"},
};

static const struct config_option limits[] = {
	{"requests", OPTION_RATE, AT(limits_config, requests),
	 SPAN(10, (uint64_t)3600 * USEC_PER_SEC), .fallback = "200/s",
	 .help = "requests in the long run"},
	{"burst", OPTION_NUMBER, AT(limits_config, requests.burst), SPAN(1, OPTION_BURST_MAX),
	 .fallback = "400", .help = "requests at once"},
	{"in_flight", OPTION_NUMBER, AT(limits_config, in_flight), SPAN(1, 1024),
	 .fallback = "64", .help = "requests that are worked on"},
	{"connections", OPTION_NUMBER, AT(limits_config, connections), SPAN(1, 4096),
	 .fallback = "1024", .help = "open connections"},
	{"body", OPTION_SIZE, AT(limits_config, body), SPAN(1 * KIB, LIMIT_BODY_MAX),
	 .fallback = "512KiB", .help = "the body of a request"},
};

static const struct config_option enclave[] = {
	{"cid", OPTION_NUMBER, AT(enclave_config, cid), SPAN(4, UINT32_MAX - 1),
	 .help = "its vsock context id"},
	{"cids", OPTION_CIDS, SPAN(4, UINT32_MAX - 1),
	 .help = "its vsock context ids, where it has several"},
	{"endpoints", OPTION_ENDPOINTS,
	 .help = "the endpoints it may use; the first is the default"},
	{"limits", OPTION_SECTION, AT(enclave_config, limits), .section = SECTION_LIMITS,
	 .help = "what it may use up"},
	{"allow", OPTION_LIST, AT(enclave_config, policy.rules),
	 COUNT(enclave_config, policy.n_rules), .section = SECTION_RULE,
	 .help = "the rules of its policy, tried in this order"},
	{"tunnel", OPTION_SECTION, AT(enclave_config, tunnel), .section = SECTION_TUNNEL,
	 .help = "TLS connections that are passed through"},
};

#define KMS_NAME                                                                               \
	"a name as KMS has them: an upper-case letter, then letters and digits, at most 64"

static const struct config_option rule[] = {
	{"name", OPTION_TEXT, .required = true, AT(rule, name), .syntax = syntax_name,
	 .expected = "1 to 64 letters, digits, dots, dashes and underscores",
	 .help = "what audit records call it"},
	{"actions", OPTION_ACTIONS, .required = true, .instead = "extra_actions",
	 .help = "KMS actions by exact name"},
	{"endpoints", OPTION_SUBSET, .help = "endpoints of the enclave that it is for"},
	{"keys", OPTION_KEYS, .required = true, .help = "the keys it is for, or any"},
	{"missing_key", OPTION_BOOL, AT(rule, missing_key_add), .words = missing_key_words,
	 .fallback = "refuse", .help = "requests that leave their key to KMS"},
	{"encryption_context", OPTION_CONTEXT, .help = "pairs that must be present"},
	{"plaintext", OPTION_BOOL, AT(rule, plaintext_allow), .words = consent_words,
	 .fallback = "refuse", .help = "replies that hold a secret in clear"},
	{"delegation", OPTION_BOOL, AT(rule, delegation_allow), .words = consent_words,
	 .fallback = "refuse", .help = "actions that hand authority over a key to others"},
	{"extra_actions", OPTION_NAMES, AT(rule, extra_actions), COUNT(rule, n_extra_actions),
	 .syntax = syntax_kms_name, .expected = KMS_NAME,
	 .help = "actions that this release doesn't know"},
	{"extra_members", OPTION_NAMES, AT(rule, extra_members), COUNT(rule, n_extra_members),
	 .syntax = syntax_kms_name, .expected = KMS_NAME,
	 .help = "members of requests that this release doesn't know"},
	{"extra_members_hold_no_key", OPTION_BOOL, AT(rule, extra_members_hold_no_key),
	 .fallback = "false", .help = "none of them names a key"},
};

static const struct config_option tunnel[] = {
	{"hosts", OPTION_HOSTS, .required = true, AT(tunnel_config, hosts),
	 COUNT(tunnel_config, n_hosts), .section = SECTION_TUNNEL_HOST,
	 .help = "the hosts that may be reached"},
	{"bandwidth", OPTION_BANDWIDTH, AT(tunnel_config, bandwidth),
	 SPAN(1 * KIB, 16384 * MIB), .fallback = "none",
	 .help = "all tunnels, both ways together"},
	{"connections", OPTION_NUMBER, AT(tunnel_config, connections), SPAN(1, 4096),
	 .fallback = "64", .help = "open tunnels"},
	{"idle", OPTION_TIME, AT(tunnel_config, idle),
	 SPAN(10 * USEC_PER_MSEC, (uint64_t)24 * 3600 * USEC_PER_SEC), .fallback = "5m",
	 .help = "a tunnel without traffic is closed"},
};

static const struct config_option tunnel_host[] = {
	{"host", OPTION_TEXT, .required = true, AT(tunnel_host, host), .syntax = syntax_host,
	 .expected = "a DNS name in lower case", .help = "the name that the enclave asks for"},
	{"port", OPTION_NUMBER, AT(tunnel_host, port), SPAN(1, 65535), .fallback = "443",
	 .help = "its TCP port"},
	{"connect_to", OPTION_ADDRESS, AT(tunnel_host, connect_to),
	 PORT(tunnel_host, connect_port),
	 .help = "connect there instead of looking the host up"},
	{"tls", OPTION_BOOL, AT(tunnel_host, tls), .fallback = "true",
	 .help = "what passes is TLS; false: anything, asked for by CONNECT"},
	PROXY(tunnel_host),
};

#define SECTION(title, rows, type)                                                             \
	.name = (title), .options = (rows), .n_options = ELEMENTSOF(rows),                     \
	.size = sizeof(struct type)
#define LINE(type) .line = offsetof(struct type, line)
#define PLACE(type) LINE(type), .file = offsetof(struct type, file)
#define NAME(type) .item = offsetof(struct type, name)

static const struct section sections[_SECTION_MAX] = {
	[SECTION_ROOT] = {SECTION("the file", root, config)},
	[SECTION_LISTENER] = {SECTION("listen", listener, listener_config),
			      LINE(listener_config)},
	[SECTION_ENDPOINT] = {SECTION("an endpoint", endpoint, endpoint_config),
			      LINE(endpoint_config), NAME(endpoint_config)},
	[SECTION_CREDENTIALS] = {SECTION("credentials", credentials, credentials_config)},
	[SECTION_IMDS] = {SECTION("imds", imds, credentials_config)},
	[SECTION_CONTAINER] = {SECTION("container", container, credentials_config)},
	[SECTION_LIMITS] = {SECTION("limits", limits, limits_config)},
	[SECTION_ENCLAVE] = {SECTION("an enclave", enclave, enclave_config),
			     PLACE(enclave_config), NAME(enclave_config)},
	[SECTION_RULE] = {SECTION("a rule", rule, rule), PLACE(rule)},
	[SECTION_TUNNEL] = {SECTION("tunnel", tunnel, tunnel_config)},
	[SECTION_TUNNEL_HOST] = {SECTION("a host of a tunnel", tunnel_host, tunnel_host),
				 LINE(tunnel_host)},
};

const struct section *section_get(enum section_id id)
{
	return &sections[id];
}

const struct config_option *section_find(const struct section *section, struct slice name)
{
	for (size_t i = 0; i < section->n_options; i++)
		if (slice_eq_str(name, section->options[i].name))
			return &section->options[i];
	return NULL;
}
