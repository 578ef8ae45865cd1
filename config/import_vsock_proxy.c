/* SPDX-License-Identifier: Apache-2.0 */
#include "import_vsock_proxy.h"

#include "aws_name.h"
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
	char address[AWS_NAME_SIZE]; /* a DNS name in lower case, or an IP address without
				      * brackets */
	char asked[AWS_NAME_SIZE];   /* the name that clients ask for; mostly the address */
	enum aws_name name;
	const char *protocol; /* of its port, if it doesn't begin with TLS; else NULL */
	unsigned port, other;
};

/* Ports of what doesn't begin with a ClientHello, by IANA's names. */
static const struct {
	unsigned port;
	const char *protocol;
} clear_ports[] = {
	{21, "FTP"},        {22, "SSH"},     {23, "Telnet"},       {25, "SMTP"},
	{53, "DNS"},        {80, "HTTP"},    {110, "POP3"},        {143, "IMAP"},
	{389, "LDAP"},      {587, "SMTP"},   {1433, "SQL Server"}, {1521, "Oracle"},
	{2049, "NFS"},      {3306, "MySQL"}, {5432, "PostgreSQL"}, {5672, "AMQP"},
	{6379, "Redis"},    {8080, "HTTP"},  {9092, "Kafka"},      {11211, "memcached"},
	{27017, "MongoDB"},
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

/* vsock-proxy hands a name to the resolver in any case, and with its final dot; ours are
 * compared in lower case, without it. */
static struct slice normalised(struct slice text, char *out)
{
	if (text.n > 1 && text.p[text.n - 1] == '.')
		text.n--;
	if (text.n >= AWS_NAME_SIZE)
		return text;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	out[text.n] = '\0';
	return (struct slice){out, text.n};
}

static bool read_address(struct reader *r, const yaml_node_t *node, struct entry *e)
{
	struct slice text;

	if (!reader_is_text(r, "address", node))
		return false;
	text = normalised(node_text(node), e->address);
	e->kind = syntax_is_ip(text) ? ENTRY_ADDRESS : ENTRY_NAME;
	if (e->kind == ENTRY_ADDRESS)
		return true;
	if (!syntax_host(text)) {
		reader_error(r, node,
			     "address: found \"%s\"; expected a DNS name or an IP address",
			     CLIPPED(node_text(node)));
		return false;
	}
	memcpy(e->asked, e->address, sizeof(e->asked));
	e->name = aws_name_judge(text, e->asked);
	return true;
}

static const char *clear_protocol(unsigned port)
{
	for (size_t i = 0; i < ELEMENTSOF(clear_ports); i++)
		if (clear_ports[i].port == port)
			return clear_ports[i].protocol;
	return NULL;
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
	read.protocol = clear_protocol(read.port);
	if (read_address(r, address, &read) && good)
		*e = read;
}

/* One server name has one entry, and one place that it leads to. */
static void check_repeated(struct reader *r, const yaml_node_t *node, struct entry *entries,
			   size_t i)
{
	struct entry *e = &entries[i];

	for (size_t k = 0; k < i; k++) {
		if (entries[k].kind != ENTRY_NAME || strcmp(entries[k].asked, e->asked) != 0)
			continue;
		e->kind = entries[k].port == e->port ? ENTRY_REPEATED : ENTRY_SECOND_PORT;
		e->other = entries[k].port;
		if (e->kind == ENTRY_REPEATED && strcmp(entries[k].address, e->address) != 0)
			reader_warning(r, node,
				       "address: enclaves ask for %s, which leads to %s "
				       "already, so this one is left out",
				       e->asked, entries[k].address);
	}
	if (e->kind == ENTRY_SECOND_PORT)
		reader_warning(r, node,
			       "address: %s is listed with port %u already; a TLS server name "
			       "tells no port, so this one is left out",
			       e->asked, e->other);
}

static void warn(struct reader *r, const yaml_node_t *node, const struct entry *e)
{
	if (e->kind == ENTRY_ADDRESS) {
		reader_warning(r, node,
			       "address: %s is an IP address, and a ClientHello names no "
			       "address; find out which server name the enclave asks for, and "
			       "put that in with connect_to",
			       e->address);
		return;
	}
	if (e->kind != ENTRY_NAME)
		return;
	if (e->name == AWS_NAME_UNUSUAL)
		reader_warning(r, node,
			       "address: %s may not be the server name that the enclave asks "
			       "for; find that out, and put it in with connect_to",
			       e->address);
	if (e->protocol)
		reader_warning(r, node,
			       "port: %u is that of %s, which doesn't begin with TLS; an "
			       "enclave that speaks it must ask by CONNECT, and its host "
			       "needs tls: false",
			       e->port, e->protocol);
}

static void take_entry(struct reader *r, const yaml_node_t *node, struct entry *entries,
		       size_t i)
{
	if (entries[i].kind == ENTRY_NAME)
		check_repeated(r, node, entries, i);
	warn(r, node, &entries[i]);
}

/* `entries` has room for two of each of the list. Returns how many there are. */
static size_t read_entries(struct reader *r, const yaml_node_t *list, struct entry *entries)
{
	size_t n = 0;

	for (size_t i = 0; i < node_count(list); i++) {
		const yaml_node_t *node = document_item(&r->document, list, i);
		struct entry *e = &entries[n++];

		read_entry(r, node, e);
		if (e->kind == ENTRY_NAME && e->name == AWS_NAME_PARTITION) {
			entries[n] = *e;
			memcpy(entries[n].address, e->asked, sizeof(e->asked));
			memcpy(e->asked, e->address, sizeof(e->address));
			e->name = AWS_NAME_USUAL;
			take_entry(r, node, entries, n - 1);
			n++;
		}
		take_entry(r, node, entries, n - 1);
	}
	return n;
}

/* ---- printing ---- */

static const char head[] =
	"# kms-vsock-proxy.yaml(5) describes every option.\n"
	"#\n"
	"# vsock-proxy let every enclave reach the host that it was started for. Here an "
	"enclave is known\n"
	"# by its CID and reaches what its own `tunnel` lists; nobody else gets in. What is "
	"left to do:\n"
	"#\n"
	"# 1. Take off the \"#\" that begins each line below `enclaves`, once for each "
	"enclave, and put in its\n"
	"#    name and its CID: start it with nitro-cli run-enclave --enclave-cid CID.\n"
	"# 2. Remove the hosts that it doesn't need.\n"
	"# 3. kms-vsock-proxyd --check-config\n";

static const char enclaves[] = "\n"
			       "enclaves:\n"
			       "#  my-enclave:\n"
			       "#    cid: 16\n"
			       "#    tunnel:\n"
			       "#      hosts:\n";

#define UNIT_PORT 8000u /* of the socket unit that comes with the daemon */

static bool has_port(const struct import_question *q, unsigned port)
{
	for (size_t i = 0; i < q->n_ports; i++)
		if (q->ports[i] == port)
			return true;
	return false;
}

/* systemd holds the sockets, so it must be told of each port as well. */
static void print_drop_in(const struct import_question *q, FILE *f)
{
	bool keeps = has_port(q, UNIT_PORT);

	if (q->n_ports == 0 || (keeps && q->n_ports == 1))
		return;
	fprintf(f,
		"# 4. The socket unit listens on port %u. `systemctl edit "
		"kms-vsock-proxy.socket`, and put in:\n"
		"#      [Socket]\n",
		UNIT_PORT);
	if (!keeps)
		fputs("#      ListenStream=\n", f);
	for (size_t i = 0; i < q->n_ports; i++)
		if (q->ports[i] != UNIT_PORT)
			fprintf(f, "#      ListenStream=vsock::%u\n", q->ports[i]);
}

static void print_listeners(const struct import_question *q, FILE *f)
{
	fputs("\nlisten:    # each port serves all hosts: the server name says which\n", f);
	for (size_t i = 0; i < q->n_ports; i++)
		fprintf(f, "  - vsock: %u\n", q->ports[i]);
	if (q->n_ports == 0)
		fprintf(f, "  - vsock: %u    # as vsock-proxy's unit\n", UNIT_PORT);
}

/* Sentences that a person who fills in the enclaves needs beside the line. */
static void print_notes(const struct entry *e, FILE *f)
{
	if (e->name == AWS_NAME_UNUSUAL)
		fprintf(f,
			"#        # If the enclave asks for another name:\n"
			"#        # - {host: NAME, port: %u, connect_to: \"%s:%u\"}\n",
			e->port, e->address, e->port);
	if (e->protocol)
		fprintf(f,
			"#        # %s doesn't begin with TLS. This line serves an enclave "
			"that "
			"begins with it all the\n"
			"#        # same; one that doesn't must ask by CONNECT, and the line "
			"be:\n"
			"#        # - {host: %s, port: %u, tls: false}\n",
			e->protocol, e->asked, e->port);
	if (e->name == AWS_NAME_PARTITION)
		fputs("#        # The same by the name that the SDKs ask for:\n", f);
	if (e->name == AWS_NAME_ENDPOINT)
		fputs("#        # A VPC endpoint, by the name that the SDKs ask for:\n", f);
}

static void print_name(const struct entry *e, FILE *f)
{
	print_notes(e, f);
	if (e->name == AWS_NAME_ENDPOINT)
		fprintf(f, "#        - {host: %s, port: %u, connect_to: \"%s:%u\"}\n", e->asked,
			e->port, e->address, e->port);
	else
		fprintf(f, "#        - %s:%u\n", e->asked, e->port);
}

static void print_entry(const struct entry *e, FILE *f)
{
	bool is_ip6 = strchr(e->address, ':');

	switch (e->kind) {
	case ENTRY_NAME:
		print_name(e, f);
		return;
	case ENTRY_SECOND_PORT:
		fprintf(f, "#        # %s:%u is left out: no server name tells %u from %u\n",
			e->asked, e->port, e->other, e->port);
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

static void print_entries(const struct entry *entries, size_t n,
			  const struct import_question *question, FILE *f)
{
	char escaped[256];

	fprintf(f, "# For kms-vsock-proxyd, from the allow-list of vsock-proxy in %s.\n",
		slice_escape(slice_from(question->path), escaped, sizeof(escaped)));
	fputs(head, f);
	print_drop_in(question, f);
	print_listeners(question, f);
	fputs(enclaves, f);
	for (size_t i = 0; i < n; i++)
		print_entry(&entries[i], f);
}

/* ---- both ---- */

static int import_document(struct reader *r, const struct import_question *question, FILE *f)
{
	const yaml_node_t *root = document_root(&r->document);
	const yaml_node_t *list = reader_member(r, root, "allowlist");
	_cleanup_(freep) struct entry *entries = NULL;
	size_t n;

	if (!list) {
		findings_add(r->findings, false, (struct place){1, 1},
			     "there is no \"allowlist\": expected a file of AWS's vsock-proxy");
		return -EINVAL;
	}
	if (!reader_is_list(r, "allowlist", list))
		return -EINVAL;
	entries = reader_alloc(r, 2 * node_count(list), sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	n = read_entries(r, list, entries);
	if (r->findings->n_errors > 0)
		return -EINVAL;
	print_entries(entries, n, question, f);
	return 0;
}

int import_vsock_proxy(struct slice text, const struct import_question *question, FILE *f,
		       struct findings *findings)
{
	struct reader r = {.findings = findings};
	int k = document_init(&r.document, text, findings);

	if (k < 0)
		return k;
	k = import_document(&r, question, f);
	document_done(&r.document);
	return k;
}
