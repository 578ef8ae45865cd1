/* SPDX-License-Identifier: Apache-2.0 */

/* What our reader finds in a hello, OpenSSL finds too: over thousands of real hellos, and over
 * copies of them with bytes changed, dropped, doubled and cut into other records. Ours may
 * refuse more; it may never find another name. Prints what was compared. Usage: client_hello
 * [HELLOS [COPIES]] */

#include "client_hello.h"

#include "client_hello_source.h"
#include "macro.h"
#include "slice.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

/* What OpenSSL's server made of a hello. */
struct oracle {
	bool reached;             /* its ClientHello callback: the hello was read */
	bool has_name;            /* there was a server_name extension */
	bool parsed;              /* its server_name callback: the extensions were read too */
	char raw[256], name[256]; /* as each of the two gave it */
};

static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
	struct oracle *oracle = SSL_get_app_data(ssl);
	const unsigned char *p;
	size_t n;

	(void)alert, (void)arg;
	oracle->reached = true;
	oracle->has_name = SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n);
	/* Two bytes for the list, one for the type, two for the name. */
	if (oracle->has_name && n > 5 && n - 5 < sizeof(oracle->raw))
		memcpy(oracle->raw, p + 5, n - 5);
	return SSL_CLIENT_HELLO_SUCCESS;
}

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
	struct oracle *oracle = SSL_get_app_data(ssl);
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert, (void)arg;
	oracle->parsed = true;
	snprintf(oracle->name, sizeof(oracle->name), "%s", name ?: "");
	return SSL_TLSEXT_ERR_ALERT_FATAL; /* seen enough */
}

static struct oracle ask_openssl(SSL_CTX *ctx, struct slice bytes)
{
	struct oracle oracle = {0};
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

	if (!ssl || !in || !out || (bytes.n && BIO_write(in, bytes.p, (int)bytes.n) <= 0))
		exit(2);
	SSL_set_bio(ssl, in, out);
	SSL_set_app_data(ssl, &oracle);
	SSL_accept(ssl);
	SSL_free(ssl);
	ERR_clear_error();
	return oracle;
}

static void dump_and_exit(const char *what, struct slice bytes, const char *ours,
			  const struct oracle *oracle)
{
	fprintf(stderr, "%s: ours \"%s\", OpenSSL \"%s\" and \"%s\"\n", what, ours, oracle->raw,
		oracle->name);
	for (size_t i = 0; i < bytes.n; i++)
		fprintf(stderr, "%02x", (unsigned char)bytes.p[i]);
	fprintf(stderr, "\n");
	exit(1);
}

static struct {
	unsigned hellos, copies;
	unsigned same, none;    /* both found the name, or that there is none */
	unsigned ours, openssl; /* refused or wanted more: ours only, OpenSSL only */
	unsigned both;          /* neither took it */
	unsigned parsed;        /* of `same`: OpenSSL's second callback agreed too */
} count;

/* The final answer must not depend on how the bytes arrive. */
static enum client_hello_result ask_ours(struct slice bytes, struct client_hello *ret_hello)
{
	struct client_hello_fault fault;
	enum client_hello_result whole = client_hello_read(bytes, ret_hello, &fault), r;
	struct client_hello early;
	size_t n = 0;

	do {
		n += 1 + pick(400);
		n = MIN(n, bytes.n);
		r = client_hello_read((struct slice){bytes.p, n}, &early, &fault);
	} while (r == CLIENT_HELLO_NEED_MORE && n < bytes.n);
	if (r != whole ||
	    (r == CLIENT_HELLO_DONE && strcmp(early.server_name, ret_hello->server_name) != 0))
		dump_and_exit("another answer in pieces", bytes, "", &(struct oracle){0});
	return whole;
}

static enum client_hello_result compare(SSL_CTX *ctx, struct slice bytes)
{
	struct oracle oracle = ask_openssl(ctx, bytes);
	struct client_hello hello = {""};
	enum client_hello_result r = ask_ours(bytes, &hello);
	bool done = r == CLIENT_HELLO_DONE;

	if (!done || !oracle.reached) {
		count.ours += !done && oracle.reached;
		count.openssl += done && !oracle.reached;
		count.both += !done && !oracle.reached;
		return r;
	}
	if (!slice_eq_nocase(slice_from(hello.server_name), slice_from(oracle.raw)) ||
	    oracle.has_name != (hello.server_name[0] != '\0') ||
	    (oracle.parsed &&
	     !slice_eq_nocase(slice_from(hello.server_name), slice_from(oracle.name))))
		dump_and_exit("another name", bytes, hello.server_name, &oracle);
	count.parsed += oracle.parsed;
	count.same += oracle.has_name;
	count.none += !oracle.has_name;
	return r;
}

/* Our rules for names, once more: which of the real hellos must pass. */
static bool must_pass(const struct real_hello *real)
{
	static const char *const no_hosts[] = {
		"trailing.dot.", "two..dots", "a blank", "[", "*.", "b\xc3", "port.example:"};

	if (real->old || real->n > LIMIT_HELLO)
		return false;
	for (size_t i = 0; real->name && i < ELEMENTSOF(no_hosts); i++)
		if (strncmp(real->name, no_hosts[i], strlen(no_hosts[i])) == 0)
			return false;
	return true;
}

static size_t insert(char *bytes, size_t n, size_t size, size_t at, const char *p, size_t m)
{
	if (n + m > size)
		return n;
	memmove(bytes + at + m, bytes + at, n - at);
	memcpy(bytes + at, p, m);
	return n + m;
}

/* Where the server_name extension seems to be, or anywhere. */
static size_t pick_place(const char *bytes, size_t n, const char *name)
{
	const char *p = name && pick(2) ? memmem(bytes, n, name, strlen(name)) : NULL;

	if (p && p - bytes > 16)
		return MIN((size_t)(p - bytes) - 9 + pick(14), n - 1);
	return pick(pick(2) ? MIN((unsigned)n, 100U) : (unsigned)n);
}

/* Cuts the first record in two. */
static size_t cut_record(char *bytes, size_t n, size_t size)
{
	size_t length = (size_t)(unsigned char)bytes[3] << 8 | (unsigned char)bytes[4];
	size_t first;
	char header[5];

	if (length < 2 || n < 5 + length)
		return n;
	first = 1 + pick((unsigned)length - 1);
	memcpy(header, bytes, 3);
	header[3] = (char)((length - first) >> 8);
	header[4] = (char)(length - first);
	bytes[3] = (char)(first >> 8);
	bytes[4] = (char)first;
	return insert(bytes, n, size, 5 + first, header, sizeof(header));
}

static size_t mutate(char *bytes, size_t n, size_t size, const char *name)
{
	size_t at = pick_place(bytes, n, name), m = MIN((size_t)1 + pick(12), n - at);
	char piece[12];

	switch (pick(9)) {
	case 0:
		bytes[at] = (char)(bytes[at] ^ 1 << pick(8));
		return n;
	case 1:
		bytes[at] = (char)pick(256);
		return n;
	case 2:
		bytes[at] = (char)(bytes[at] + (pick(2) ? 1 : -1));
		return n;
	case 3: /* drop */
		memmove(bytes + at, bytes + at + m, n - at - m);
		return n - m;
	case 4: /* double */
		memcpy(piece, bytes + at, m);
		return insert(bytes, n, size, at, piece, m);
	case 5: /* the end is missing */
		return pick(8) ? n : at;
	default:
		return cut_record(bytes, n, size);
	}
}

int main(int argc, char **argv)
{
	unsigned hellos = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 3000;
	unsigned copies = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 10;
	struct hello_source *source = hello_source_new();
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	static struct real_hello real;
	static char copy[2 * sizeof(real.bytes)];

	if (!ctx || !SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0") ||
	    !SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION))
		return 2;
	SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
	SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);

	for (; count.hellos < hellos; count.hellos++) {
		enum client_hello_result r;

		hello_source_make(source, &real);
		r = compare(ctx, (struct slice){real.bytes, real.n});
		if ((r == CLIENT_HELLO_DONE) != must_pass(&real))
			dump_and_exit(must_pass(&real) ? "refused" : "not refused",
				      (struct slice){real.bytes, real.n}, real.name ?: "",
				      &(struct oracle){0});
		for (unsigned i = 0; i < copies; i++, count.copies++) {
			size_t n = real.n;

			memcpy(copy, real.bytes, n);
			for (unsigned k = 0; k <= pick(3) / 2 && n > 5; k++)
				n = mutate(copy, n, sizeof(copy), real.name);
			compare(ctx, (struct slice){copy, n});
		}
	}
	printf("%u hellos, %u copies: %u same names (%u by OpenSSL's own parser too), %u "
	       "without; refused by ours only %u, by OpenSSL only %u, by both %u\n",
	       count.hellos, count.copies, count.same, count.parsed, count.none, count.ours,
	       count.openssl, count.both);
	SSL_CTX_free(ctx);
	hello_source_free(source);
	/* All kinds must be there, or it shows nothing. */
	return count.same > hellos / 2 && count.none && count.ours && count.both ? 0 : 1;
}
