/* SPDX-License-Identifier: Apache-2.0 */
#include "import_vsock_proxy.h"

#include "reader.h"
#include "syntax.h"

#include <errno.h>

/* One of the allow-list. */
struct entry {
	enum {
		ENTRY_BAD = 0,
		ENTRY_NAME,
		ENTRY_SECOND_PORT, /* its name stands there already, with `other` */
		ENTRY_REPEATED,
		ENTRY_ADDRESS, /* an IP address */
	} kind;
	char address[254]; /* a DNS name in lower case, or an IP address without brackets */
	unsigned port, other;
};

/* ---- reading ---- */

static bool read_port(struct reader *r, const yaml_node_t *node, unsigned *ret_port)
{
	unsigned long long port;

	if (!node_is_plain(node) || !slice_to_u64(node_text(node), 65535, &port) || port == 0) {
		reader_error(r, node, "port: found \"%s\"; expected a number from 1 to 65535",
			     CLIPPED(node_text(node)));
		return false;
	}
	*ret_port = (unsigned)port;
	return true;
}

/* vsock-proxy hands a name to the resolver in any case; ours are compared in lower case. */
static bool read_address(struct reader *r, const yaml_node_t *node, struct entry *e)
{
	struct slice text = node_text(node);

	if (!reader_is_text(r, "address", node))
		return false;
	if (text.n < sizeof(e->address)) {
		for (size_t i = 0; i < text.n; i++) {
			char c = text.p[i];

			e->address[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
		}
		e->address[text.n] = '\0';
		text = (struct slice){e->address, text.n};
	}
	e->kind = syntax_is_ip(text) ? ENTRY_ADDRESS : ENTRY_NAME;
	if (e->kind == ENTRY_ADDRESS || syntax_host(text))
		return true;
	reader_error(r, node, "address: found \"%s\"; expected a DNS name or an IP address",
		     CLIPPED(node_text(node)));
	return false;
}

/* What vsock-proxy ignores in an entry is ignored here too. */
static void read_entry(struct reader *r, const yaml_node_t *node, struct entry *e)
{
	const yaml_node_t *address = reader_member(r, node, "address");
	const yaml_node_t *port = reader_member(r, node, "port");
	struct entry read = {0};
	bool good;

	if (node->type != YAML_MAPPING_NODE) {
		reader_error(r, node,
			     "allowlist: found %s; expected a mapping with address and port",
			     node_kind(node));
		return;
	}
	if (!address || !port) {
		reader_error(r, node, "allowlist: an entry lacks \"%s\"",
			     address ? "port" : "address");
		return;
	}
	good = read_port(r, port, &read.port);
	if (read_address(r, address, &read) && good)
		*e = read;
}

static void check_repeated(struct reader *r, const yaml_node_t *node, struct entry *entries,
			   size_t i)
{
	struct entry *e = &entries[i];

	for (size_t k = 0; k < i; k++) {
		if (entries[k].kind != ENTRY_NAME ||
		    strcmp(entries[k].address, e->address) != 0)
			continue;
		e->kind = entries[k].port == e->port ? ENTRY_REPEATED : ENTRY_SECOND_PORT;
		e->other = entries[k].port;
	}
	if (e->kind == ENTRY_SECOND_PORT)
		reader_warning(r, node,
			       "address: %s is listed with port %u already; a TLS server name "
			       "tells no port, so this one is left out",
			       e->address, e->other);
}

static void read_entries(struct reader *r, const yaml_node_t *list, struct entry *entries)
{
	for (size_t i = 0; i < node_count(list); i++) {
		const yaml_node_t *node = document_item(&r->document, list, i);

		read_entry(r, node, &entries[i]);
		if (entries[i].kind == ENTRY_NAME)
			check_repeated(r, node, entries, i);
		else if (entries[i].kind == ENTRY_ADDRESS)
			reader_warning(r, node,
				       "address: %s is an IP address, and a ClientHello names "
				       "no address; find out which server name the enclave "
				       "asks for, and put that in with connect_to",
				       entries[i].address);
	}
}

/* ---- printing ---- */

static const char head[] =
	"# kms-vsock-proxy.yaml(5) describes every option.\n"
	"#\n"
	"# vsock-proxy let every enclave reach the host that it was started for. Here an "
	"enclave "
	"is known\n"
	"# by its CID and reaches what its own `tunnel` lists; nobody else gets in. What is "
	"left "
	"to do:\n"
	"#\n"
	"# 1. Take off the \"#\" that begins each line below `enclaves`, once for each "
	"enclave, "
	"and put in its\n"
	"#    name and its CID: start it with nitro-cli run-enclave --enclave-cid CID.\n"
	"# 2. Remove the hosts that it doesn't need.\n"
	"# 3. kms-vsock-proxyd --check-config\n"
	"\n"
	"listen:\n"
	"  - vsock: 8000    # as vsock-proxy's unit; here one port serves all hosts\n"
	"\n"
	"enclaves:\n"
	"#  my-enclave:\n"
	"#    cid: 16\n"
	"#    tunnel:\n"
	"#      hosts:\n";

static void print_entry(const struct entry *e, FILE *f)
{
	bool is_ip6 = strchr(e->address, ':');

	switch (e->kind) {
	case ENTRY_NAME:
		fprintf(f, "#        - %s:%u\n", e->address, e->port);
		return;
	case ENTRY_SECOND_PORT:
		fprintf(f, "#        # %s:%u is left out: no server name tells %u from %u\n",
			e->address, e->port, e->other, e->port);
		return;
	case ENTRY_ADDRESS:
		fprintf(f,
			"#        # An IP address is no server name: put in the one that the "
			"enclave asks for.\n"
			"#        # - {host: NAME, port: %u, connect_to: \"%s%s%s:%u\"}\n",
			e->port, is_ip6 ? "[" : "", e->address, is_ip6 ? "]" : "", e->port);
		return;
	case ENTRY_REPEATED:
	case ENTRY_BAD:
		return;
	}
}

static void print_entries(const struct entry *entries, size_t n, const char *path, FILE *f)
{
	char escaped[256];

	fprintf(f, "# For kms-vsock-proxyd, from the allow-list of vsock-proxy in %s.\n",
		slice_escape(slice_from(path), escaped, sizeof(escaped)));
	fputs(head, f);
	for (size_t i = 0; i < n; i++)
		print_entry(&entries[i], f);
}

/* ---- both ---- */

static int import_document(struct reader *r, const char *path, FILE *f)
{
	const yaml_node_t *root = document_root(&r->document);
	const yaml_node_t *list = reader_member(r, root, "allowlist");
	_cleanup_(freep) struct entry *entries = NULL;

	if (!list) {
		findings_add(r->findings, false, (struct place){1, 1},
			     "there is no \"allowlist\": expected a file of AWS's vsock-proxy");
		return -EINVAL;
	}
	if (!reader_is_list(r, "allowlist", list))
		return -EINVAL;
	entries = reader_alloc(r, node_count(list), sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	read_entries(r, list, entries);
	if (r->findings->n_errors > 0)
		return -EINVAL;
	print_entries(entries, node_count(list), path, f);
	return 0;
}

int import_vsock_proxy(struct slice text, const char *path, FILE *f, struct findings *findings)
{
	struct reader r = {.findings = findings};
	int k = document_init(&r.document, text, findings);

	if (k < 0)
		return k;
	k = import_document(&r, path, f);
	document_done(&r.document);
	return k;
}
