/* SPDX-License-Identifier: Apache-2.0 */
#include "client_hello_source.h"

#include "macro.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* OpenSSL's functions answer 1, or a pointer. */
#define MUST(x)                                                                                \
	do {                                                                                   \
		if (!(x)) {                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                \
			ERR_print_errors_fp(stderr);                                           \
			exit(2);                                                               \
		}                                                                              \
	} while (0)

struct hello_source {
	SSL_CTX *server;
	SSL_SESSION *sessions[2]; /* of TLS 1.2 and 1.3, to resume */
};

unsigned pick(unsigned n)
{
	static uint64_t state = 1;

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(state >> 33) % n;
}

static const char *const names[] = {
	NULL,
	"kms.eu-central-1.amazonaws.com",
	"KMS.us-east-1.amazonaws.COM",
	"kms-fips.us-gov-west-1.amazonaws.com",
	"vpce-0e1bb1852241f8cc6-pzi0do8n.kms.us-east-1.vpce.amazonaws.com",
	"localhost",
	"a",
	"under_score.example",
	"xn--bcher-kva.example",
	"-.example",
	"10.0.0.1",
	"abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz."
	"abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz."
	"abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz.aaaaaaaaaaaaaaaaaa",
	/* No host names: OpenSSL sends and takes them. */
	"trailing.dot.",
	"two..dots",
	"a blank",
	"[2001:db8::1]",
	"*.example",
	"b\xc3\xbc"
	"cher.example",
	"port.example:443",
};

static const struct {
	int min, max;
} versions[] = {
	{TLS1_2_VERSION, TLS1_2_VERSION}, {TLS1_2_VERSION, TLS1_3_VERSION},
	{TLS1_3_VERSION, TLS1_3_VERSION}, {TLS1_VERSION, TLS1_3_VERSION},
	{TLS1_VERSION, TLS1_2_VERSION},   {TLS1_VERSION, TLS1_1_VERSION},
};

static const char *const ciphers[] = {"DEFAULT:@SECLEVEL=0", "ALL:@SECLEVEL=0",
				      "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:@SECLEVEL=0",
				      "AES256-SHA:@SECLEVEL=0"};
static const char *const groups[] = {"X25519", "P-256", "X25519:P-256:P-384:P-521:X448",
				     "ffdhe8192:X25519", "P-521:ffdhe2048:ffdhe4096"};
static const uint64_t options[] = {SSL_OP_NO_TICKET,
				   SSL_OP_TLSEXT_PADDING,
				   SSL_OP_NO_ENCRYPT_THEN_MAC,
				   SSL_OP_NO_EXTENDED_MASTER_SECRET,
				   SSL_OP_LEGACY_SERVER_CONNECT,
				   SSL_OP_CRYPTOPRO_TLSEXT_BUG};

/* An extension of an unknown type that makes the hello large, as a post-quantum key share does.
 */
static int add_bulk(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
		    size_t *outlen, X509 *x, size_t chain, int *al, void *arg)
{
	static unsigned char bulk[16000];
	unsigned sizes[] = {0, 1, 255, 1200, 4000, 9000, sizeof(bulk)};

	(void)ssl, (void)type, (void)context, (void)x, (void)chain, (void)al, (void)arg;
	for (size_t i = 0; i < sizeof(bulk); i += 64)
		bulk[i] = (unsigned char)pick(256);
	*out = bulk;
	*outlen = sizes[pick(ELEMENTSOF(sizes))];
	return 1;
}

static SSL_CTX *client_new(struct real_hello *hello)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	unsigned v = pick(ELEMENTSOF(versions));

	MUST(ctx);
	hello->old = versions[v].max < TLS1_2_VERSION;
	MUST(SSL_CTX_set_cipher_list(ctx, ciphers[pick(ELEMENTSOF(ciphers))]));
	MUST(SSL_CTX_set_min_proto_version(ctx, versions[v].min));
	MUST(SSL_CTX_set_max_proto_version(ctx, versions[v].max));
	if (pick(3) == 0)
		MUST(SSL_CTX_set1_groups_list(ctx, groups[pick(ELEMENTSOF(groups))]));
	for (size_t i = 0; i < ELEMENTSOF(options); i++)
		if (pick(4) == 0)
			SSL_CTX_set_options(ctx, options[i]);
	if (pick(4) == 0)
		SSL_CTX_clear_options(ctx, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	if (pick(3) == 0)
		MUST(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\2h2\10http/1.1",
					     12) == 0);
	if (pick(4) == 0)
		MUST(SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp));
	if (pick(2) == 0)
		MUST(SSL_CTX_add_custom_ext(ctx, 0xff77, SSL_EXT_CLIENT_HELLO, add_bulk, NULL,
					    NULL, NULL, NULL));
	return ctx;
}

void hello_source_make(struct hello_source *source, struct real_hello *ret_hello)
{
	SSL_CTX *ctx = client_new(ret_hello);
	SSL *ssl = SSL_new(ctx);
	BIO *out = BIO_new(BIO_s_mem());
	int n;

	MUST(ssl && out);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
	ret_hello->name = names[pick(ELEMENTSOF(names))];
	if (ret_hello->name)
		MUST(SSL_set_tlsext_host_name(ssl, ret_hello->name));
	if (pick(4) == 0)
		MUST(SSL_set_session(ssl, source->sessions[pick(2)]));
	if (pick(3) == 0) /* several records */
		MUST(SSL_set_max_send_fragment(ssl, 512 + pick(1500)));
	SSL_connect(ssl); /* fails: nobody answers */
	n = BIO_read(out, ret_hello->bytes, sizeof(ret_hello->bytes));
	MUST(n > 0);
	ret_hello->n = (size_t)n;
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

static void give_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	MUST(key && cert && X509_set_pubkey(cert, key));
	MUST(X509_gmtime_adj(X509_getm_notBefore(cert), 0));
	MUST(X509_gmtime_adj(X509_getm_notAfter(cert), 3600));
	MUST(X509_sign(cert, key, EVP_sha256()));
	MUST(SSL_CTX_use_certificate(ctx, cert) == 1);
	MUST(SSL_CTX_use_PrivateKey(ctx, key) == 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION **kept = SSL_get_app_data(ssl);

	SSL_SESSION_free(*kept);
	*kept = session;
	return 1;
}

/* A whole handshake in memory; the session is what the server hands out. */
static SSL_SESSION *make_session(SSL_CTX *server_ctx, int version)
{
	SSL_CTX *client_ctx = SSL_CTX_new(TLS_client_method());
	SSL_SESSION *session = NULL;
	SSL *client, *server;
	BIO *left, *right;
	char byte = 'Z';

	MUST(client_ctx);
	SSL_CTX_set_session_cache_mode(client_ctx, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(client_ctx, keep_session);
	MUST(SSL_CTX_set_max_proto_version(client_ctx, version));
	MUST(client = SSL_new(client_ctx));
	MUST(server = SSL_new(server_ctx));
	SSL_set_app_data(client, &session);
	MUST(BIO_new_bio_pair(&left, 0, &right, 0));
	SSL_set_bio(client, left, left);
	SSL_set_bio(server, right, right);
	for (int i = 0;
	     i < 10 && !(SSL_is_init_finished(client) && SSL_is_init_finished(server)); i++) {
		SSL_connect(client);
		SSL_accept(server);
	}
	/* The tickets of TLS 1.3 come with the first bytes. */
	MUST(SSL_write(server, &byte, 1) == 1 && SSL_read(client, &byte, 1) == 1);
	MUST(session && SSL_SESSION_is_resumable(session));
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(client_ctx);
	return session;
}

struct hello_source *hello_source_new(void)
{
	struct hello_source *source = calloc(1, sizeof(*source));

	MUST(source && (source->server = SSL_CTX_new(TLS_server_method())));
	give_certificate(source->server);
	source->sessions[0] = make_session(source->server, TLS1_2_VERSION);
	source->sessions[1] = make_session(source->server, TLS1_3_VERSION);
	return source;
}

void hello_source_free(struct hello_source *source)
{
	SSL_SESSION_free(source->sessions[0]);
	SSL_SESSION_free(source->sessions[1]);
	SSL_CTX_free(source->server);
	free(source);
}
