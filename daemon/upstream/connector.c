/* SPDX-License-Identifier: Apache-2.0 */
#include "connector.h"

#include "dial.h"
#include "socket_bio.h"

#include <errno.h>
#include <event2/event_struct.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct connector_tls {
	SSL_CTX *ctx;
	BIO_METHOD *socket;
	SSL_SESSION *session; /* the newest; NULL: none yet */
};

struct connector {
	struct event_base *base;
	struct connector_tls *tls;
	struct dial *dial; /* until it is connected */
	int fd;
	SSL *ssl;
	enum dial_fault fault;
	bool stands;          /* the handshake is over, and nothing broke it since */
	struct event io;      /* of the handshake */
	struct event timeout; /* of all */
	connector_cb done;
	void *userdata;
	char why[160];
};

/* ---- what connections share ---- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct connector_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(tls->session);
	tls->session = session;
	return 1; /* it is ours now */
}

static void forget_session(struct connector_tls *tls)
{
	SSL_SESSION_free(tls->session);
	tls->session = NULL;
}

static int new_context(struct connector_tls *tls, X509_STORE *store, SSL_CTX **ret_ctx)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_app_data(ctx, tls) != 1) {
		SSL_CTX_free(ctx);
		return -ENOMEM;
	}
	SSL_CTX_set1_cert_store(ctx, store);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	/* Else the last answer stays in OpenSSL's buffer in clear, as long as the connection.
	 */
	SSL_CTX_set_options(ctx, SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_NO_RENEGOTIATION);
	/* What is sent again is sent from where it goes on. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
	SSL_CTX_set_read_ahead(ctx, 1); /* a record's head and body with one system call */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	*ret_ctx = ctx;
	return 0;
}

int connector_tls_new(X509_STORE *store, struct connector_tls **ret_tls)
{
	_cleanup_(connector_tls_freep) struct connector_tls *tls = calloc(1, sizeof(*tls));

	if (!tls || new_context(tls, store, &tls->ctx) < 0)
		return -ENOMEM;
	tls->socket = socket_bio_method();
	if (!tls->socket)
		return -ENOMEM;
	*ret_tls = TAKE_PTR(tls);
	return 0;
}

/* Connections that are there keep the context they were made with. */
void connector_tls_renew(struct connector_tls *tls)
{
	SSL_CTX *ctx;

	if (new_context(tls, SSL_CTX_get_cert_store(tls->ctx), &ctx) < 0)
		return;
	SSL_CTX_free(tls->ctx);
	tls->ctx = ctx;
	forget_session(tls);
}

struct connector_tls *connector_tls_free(struct connector_tls *tls)
{
	if (!tls)
		return NULL;
	SSL_SESSION_free(tls->session);
	SSL_CTX_free(tls->ctx);
	BIO_meth_free(tls->socket);
	free(tls);
	return NULL;
}

/* ---- connecting ---- */

/* The end of connecting; the connector may be freed in the callback. */
static void connected(struct connector *c, const char *why)
{
	c->fault = c->dial && why ? dial_fault(c->dial) : DIAL_HOST;
	c->dial = dial_free(c->dial);
	event_del(&c->io);
	event_del(&c->timeout);
	c->stands = !why;
	c->done(c, why, c->userdata);
}

/* What OpenSSL says of a handshake that failed. */
static const char *why_not(struct connector *c)
{
	long verified = SSL_get_verify_result(c->ssl);
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	if (verified != X509_V_OK)
		snprintf(c->why, sizeof(c->why), "its certificate: %s",
			 X509_verify_cert_error_string(verified));
	else
		snprintf(c->why, sizeof(c->why), "TLS: %s",
			 reason ?: "the connection ended in the handshake");
	return c->why;
}

static void shake_hands(struct connector *c)
{
	int r;

	ERR_clear_error();
	r = SSL_connect(c->ssl);
	if (r == 1) {
		connected(c, NULL);
		return;
	}
	switch (SSL_get_error(c->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return;
	default:
		connected(c, why_not(c));
	}
}

static void on_io(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	shake_hands(userdata);
}

static void on_timeout(evutil_socket_t fd, short what, void *userdata)
{
	struct connector *c = userdata;

	(void)fd;
	(void)what;
	if (c->dial && dial_fault(c->dial) == DIAL_PROXY_BROKEN)
		connected(c, "it did not answer in time");
	else
		connected(c, "connecting timed out");
}

static bool set_socket(struct connector *c)
{
	BIO *bio = socket_bio_new(c->tls->socket, &c->fd);

	if (bio)
		SSL_set_bio(c->ssl, bio, bio);
	return bio;
}

static void on_dialled(int fd, const char *why, void *userdata)
{
	struct connector *c = userdata;

	if (why) {
		snprintf(c->why, sizeof(c->why), "%s", why); /* it lives in the dial */
		connected(c, c->why);
		return;
	}
	c->fd = fd;
	event_assign(&c->io, c->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
		     on_io, c);
	if (event_add(&c->io, NULL) < 0 || !set_socket(c) || dial_keep_alive(fd) < 0) {
		connected(c, "out of memory");
		return;
	}
	c->dial = dial_free(c->dial);
	shake_hands(c);
}

/* Whom the certificate must name (RFC 9525): an alternative name, not the subject, no wildcard
 * within a label. */
static bool set_host(SSL *ssl, const char *host)
{
	if (address_is_literal(host))
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
				       X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

/* A copy: of TLS 1.3, OpenSSL resumes one object once, and new connections come in bursts,
 * before one of them is given the next. */
static bool resume(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION *copy = SSL_SESSION_dup(session);
	bool set = copy && SSL_set_session(ssl, copy) == 1;

	SSL_SESSION_free(copy);
	return set;
}

static SSL *new_ssl(const struct connector_tls *tls, const char *host)
{
	static const unsigned char http_1_1[] = "\x08http/1.1";
	SSL *ssl = SSL_new(tls->ctx);

	if (!ssl)
		return NULL;
	if (!set_host(ssl, host) ||
	    SSL_set_alpn_protos(ssl, http_1_1, sizeof(http_1_1) - 1) != 0 ||
	    (tls->session && !resume(ssl, tls->session))) {
		SSL_free(ssl);
		return NULL;
	}
	return ssl;
}

int connector_new(struct event_base *base, const struct connector_options *options,
		  connector_cb done, void *userdata, struct connector **ret_connector)
{
	const struct dial_options where = {options->addresses, options->port, options->reach,
					   options->through};
	const struct timeval timeout = {options->timeout / USEC_PER_SEC,
					options->timeout % USEC_PER_SEC};
	_cleanup_(connector_freep) struct connector *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->base = base;
	c->tls = options->tls;
	c->fd = -1;
	c->done = done;
	c->userdata = userdata;
	evtimer_assign(&c->timeout, base, on_timeout, c);
	event_assign(&c->io, base, -1, 0, on_io, c); /* so that it can be deleted */
	c->ssl = new_ssl(c->tls, options->host);
	if (!c->ssl || event_add(&c->timeout, &timeout) < 0 ||
	    dial_new(base, &where, on_dialled, c, &c->dial) < 0)
		return -ENOMEM;
	*ret_connector = TAKE_PTR(c);
	return 0;
}

struct connector *connector_free(struct connector *c)
{
	if (!c)
		return NULL;
	dial_free(c->dial);
	event_del(&c->io);
	event_del(&c->timeout);
	if (c->stands)
		(void)SSL_shutdown(c->ssl); /* only says so; nobody waits for the answer */
	SSL_free(c->ssl);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
	return NULL;
}

enum dial_fault connector_fault(const struct connector *c)
{
	return c->fault;
}

/* ---- using it ---- */

int connector_fd(const struct connector *c)
{
	return c->fd;
}

/* What became of a send or receive that did nothing. */
static ssize_t io_result(struct connector *c)
{
	switch (SSL_get_error(c->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		c->stands = false; /* OpenSSL wants to hear no more of it */
		if (SSL_session_reused(c->ssl))
			forget_session(c->tls); /* a server may resume what it can't serve */
		return -EPIPE;
	}
}

/* SSL_get_error() takes an error that is left of something else for this connection's. Looking
 * whether one is there is a fraction of clearing what is clear. */
static void forget_errors(void)
{
	if (ERR_peek_error())
		ERR_clear_error();
}

ssize_t connector_send(struct connector *c, struct slice bytes)
{
	size_t n;

	forget_errors();
	return SSL_write_ex(c->ssl, bytes.p, bytes.n, &n) ? (ssize_t)n : io_result(c);
}

ssize_t connector_recv(struct connector *c, char *p, size_t n)
{
	size_t got;

	forget_errors();
	return SSL_read_ex(c->ssl, p, n, &got) ? (ssize_t)got : io_result(c);
}

bool connector_is_quiet(struct connector *c)
{
	char byte;

	/* Nothing read ahead and nothing in the socket: a fraction of what asking TLS costs. */
	if (!SSL_has_pending(c->ssl) && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
		return errno == EAGAIN;
	return connector_recv(c, &byte, 1) == -EAGAIN;
}

const char *connector_alert_name(int alert)
{
	return SSL_alert_desc_string_long(alert);
}
