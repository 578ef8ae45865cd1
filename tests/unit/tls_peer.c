/* SPDX-License-Identifier: Apache-2.0 */
#include "tls_peer.h"

#include <arpa/inet.h>
#include <check.h>
#include <openssl/ec.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

struct stream {
	LIST_ENTRY(stream) link;
	struct tls_peer *peer;
	struct event *event;
	SSL *ssl;
	int fd;
	bool up;          /* TLS stands */
	unsigned matched; /* of the end of a request */
	unsigned unanswered;
};

struct tls_peer {
	struct event_base *base;
	struct event *event;
	int fd;
	unsigned port, connections, resumed, requests;
	enum tls_peer_mode mode;
	SSL_CTX *context;
	X509_STORE *store;
	LIST_HEAD(, stream) streams;
};

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509_EXTENSION *san =
		X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:kms.test");

	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1,
				   -1, 0);
	X509_set_issuer_name(x, name);
	X509_set_pubkey(x, key);
	X509_add_ext(x, san, -1);
	X509_EXTENSION_free(san);
	ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
	return x;
}

static void stream_free(struct stream *s)
{
	LIST_REMOVE(s, link);
	event_free(s->event);
	SSL_free(s->ssl);
	close(s->fd);
	free(s);
}

/* Does with what was read and not answered what the mode says; may free the stream. */
static void take_requests(struct stream *s)
{
	if (s->unanswered && s->peer->mode == TLS_PEER_CLOSE)
		stream_free(s);
	else if (s->peer->mode == TLS_PEER_ANSWER)
		for (; s->unanswered; s->unanswered--)
			ck_assert_int_eq(SSL_write(s->ssl, answer, sizeof(answer) - 1),
					 sizeof(answer) - 1);
}

/* Requests that end in these bytes. */
static unsigned count_ends(struct stream *s, const char *bytes, size_t n)
{
	static const char end[] = "\r\n\r\n";
	unsigned found = 0;

	for (size_t i = 0; i < n; i++) {
		s->matched = bytes[i] == end[s->matched] ? s->matched + 1 : bytes[i] == end[0];
		if (s->matched == sizeof(end) - 1) {
			s->matched = 0;
			found++;
		}
	}
	return found;
}

static void on_stream(evutil_socket_t fd, short what, void *userdata)
{
	struct stream *s = userdata;
	struct tls_peer *peer = s->peer;
	char bytes[4096];
	int n;

	(void)fd;
	(void)what;
	if (!s->up) {
		s->up = SSL_accept(s->ssl) == 1;
		if (s->up && SSL_session_reused(s->ssl))
			peer->resumed++;
		return;
	}
	if (peer->mode == TLS_PEER_DEAF) {
		event_del(s->event);
		return;
	}
	while ((n = SSL_read(s->ssl, bytes, sizeof(bytes))) > 0) {
		unsigned ends = count_ends(s, bytes, (size_t)n);

		peer->requests += ends;
		s->unanswered += ends;
	}
	if (SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_READ)
		take_requests(s);
	else
		stream_free(s);
}

static void on_connection(evutil_socket_t fd, short what, void *userdata)
{
	struct tls_peer *peer = userdata;
	struct stream *s = calloc(1, sizeof(*s));

	(void)what;
	s->peer = peer;
	s->fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_ge(s->fd, 0);
	s->ssl = SSL_new(peer->context);
	SSL_set_fd(s->ssl, s->fd);
	s->event = event_new(peer->base, s->fd, EV_READ | EV_PERSIST, on_stream, s);
	event_add(s->event, NULL);
	LIST_INSERT_HEAD(&peer->streams, s, link);
	peer->connections++;
}

static int listen_somewhere(unsigned *ret_port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), small = 4096;
	socklen_t n = sizeof(in);

	/* Little of a request that isn't read has left the other side. */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert_int_eq(listen(fd, 64), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &n), 0);
	*ret_port = ntohs(in.sin_port);
	return fd;
}

struct tls_peer *tls_peer_new(struct event_base *base)
{
	struct tls_peer *peer = calloc(1, sizeof(*peer));
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = make_certificate(key);

	peer->base = base;
	peer->store = X509_STORE_new();
	peer->context = SSL_CTX_new(TLS_server_method());
	ck_assert_int_eq(X509_STORE_add_cert(peer->store, certificate), 1);
	ck_assert_int_eq(SSL_CTX_use_certificate(peer->context, certificate), 1);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey(peer->context, key), 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
	peer->fd = listen_somewhere(&peer->port);
	peer->event = event_new(base, peer->fd, EV_READ | EV_PERSIST, on_connection, peer);
	event_add(peer->event, NULL);
	return peer;
}

void tls_peer_free(struct tls_peer *peer)
{
	struct stream *s;

	while ((s = LIST_FIRST(&peer->streams)))
		stream_free(s);
	event_free(peer->event);
	close(peer->fd);
	SSL_CTX_free(peer->context);
	X509_STORE_free(peer->store);
	free(peer);
}

unsigned tls_peer_port(const struct tls_peer *peer)
{
	return peer->port;
}

X509_STORE *tls_peer_store(const struct tls_peer *peer)
{
	return peer->store;
}

void tls_peer_set(struct tls_peer *peer, enum tls_peer_mode mode)
{
	struct stream *s, *next;

	peer->mode = mode;
	for (s = LIST_FIRST(&peer->streams); s; s = next) {
		next = LIST_NEXT(s, link);
		take_requests(s);
	}
}

unsigned tls_peer_connections(const struct tls_peer *peer)
{
	return peer->connections;
}

void tls_peer_give_no_sessions(struct tls_peer *peer)
{
	SSL_CTX_set_num_tickets(peer->context, 0);
}

unsigned tls_peer_resumed(const struct tls_peer *peer)
{
	return peer->resumed;
}

unsigned tls_peer_requests(const struct tls_peer *peer)
{
	return peer->requests;
}
