/* SPDX-License-Identifier: Apache-2.0 */
#include "connector.h"

#include "address.h"
#include "curl_loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct connector {
	struct curl_loop *loop;
	CURL *easy;
	struct curl_slist *resolve, *connect_to;
	X509_STORE *store;
	bool any_address;
	bool address_refused;
	SSL *ssl; /* to look into, not to use: libcurl has it. NULL: not known yet */
	int fd;
	connector_cb done;
	void *userdata;
	char error[CURL_ERROR_SIZE];
};

int connector_fd(const struct connector *c)
{
	return c->fd;
}

/* libcurl is done. The owner may free the connector in its callback. */
static void on_done(CURLcode code, void *userdata)
{
	struct connector *c = userdata;
	curl_socket_t fd = CURL_SOCKET_BAD;

	if (code == CURLE_OK)
		code = curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &fd);
	if (code == CURLE_OK && fd == CURL_SOCKET_BAD)
		code = CURLE_COULDNT_CONNECT;
	if (code == CURLE_OK) {
		c->fd = fd;
		c->done(c, NULL, c->userdata);
		return;
	}
	if (c->address_refused)
		snprintf(c->error, sizeof(c->error),
			 "its name leads to a loopback, link-local or metadata address");
	c->done(c, c->error[0] ? c->error : curl_easy_strerror(code), c->userdata);
}

/* The last word on where a connection goes, whatever a name resolved to. */
static curl_socket_t opensocket_cb(void *userdata, curlsocktype purpose,
				   struct curl_sockaddr *address)
{
	struct connector *c = userdata;

	(void)purpose;
	if (!c->any_address && address_is_refused(&address->addr, address->addrlen)) {
		c->address_refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static CURLcode ssl_ctx_cb(CURL *easy, void *ssl_ctx, void *userdata)
{
	struct connector *c = userdata;

	(void)easy;
	SSL_CTX_set1_cert_store(ssl_ctx, c->store);
	/* Else the last answer stays in OpenSSL's buffer in clear, as long as the connection.
	 */
	SSL_CTX_set_options(ssl_ctx, SSL_OP_CLEANSE_PLAINTEXT);
	/* libcurl has OpenSSL free its buffers, 34 KiB, whenever they are empty: each answer
	 * would wipe and allocate them twice. */
	SSL_CTX_clear_mode(ssl_ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ssl_ctx, 1); /* a record's head and body with one system call */
	return CURLE_OK;
}

static CURLcode set_tls(struct connector *c, const struct connector_options *o)
{
	CURLcode e;

	X509_STORE_up_ref(o->store);
	c->store = o->store;
	e = curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYPEER, 1L);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYHOST, 2L);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_CAINFO, NULL);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_CAPATH, NULL);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_SSL_CTX_FUNCTION, ssl_ctx_cb);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_SSL_CTX_DATA, c);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_SHARE, o->share);
	return e;
}

/* The scheme only chooses TLS: no HTTP is spoken by libcurl on this handle. */
static CURLcode set_target(struct connector *c, const struct connector_options *o)
{
	bool v6 = strchr(o->connect_host, ':'); /* a literal */
	char text[1600];
	CURLcode e;

	snprintf(text, sizeof(text), "https://%s:%u/", o->host, o->port);
	e = curl_easy_setopt(c->easy, CURLOPT_URL, text);

	snprintf(text, sizeof(text), "%s:%u:%s%s%s:%u", o->host, o->port, v6 ? "[" : "",
		 o->connect_host, v6 ? "]" : "", o->connect_port);
	c->connect_to = curl_slist_append(NULL, text);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_CONNECT_TO, c->connect_to);

	if (o->addresses) {
		snprintf(text, sizeof(text), "%s:%u:%s", o->connect_host, o->connect_port,
			 o->addresses);
		c->resolve = curl_slist_append(NULL, text);
		e = e ?: curl_easy_setopt(c->easy, CURLOPT_RESOLVE, c->resolve);
	}
	return e
		       ?: (c->connect_to && (c->resolve || !o->addresses)
				   ? CURLE_OK
				   : CURLE_OUT_OF_MEMORY);
}

static CURLcode set_options(struct connector *c, const struct connector_options *o)
{
	CURLcode e = set_target(c, o);

	e = e ?: set_tls(c, o);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_CONNECT_ONLY, 1L);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_FRESH_CONNECT, 1L);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_QUICK_EXIT, 1L);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_PROXY, "");
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_NOPROXY, "*");
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_TCP_KEEPALIVE, 1L);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_BUFFERSIZE, 1024L);
	e = e
		    ?: curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS,
					(long)(o->timeout / USEC_PER_MSEC));
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETFUNCTION, opensocket_cb);
	e = e ?: curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETDATA, c);
	return e;
}

int connector_new(struct event_base *base, const struct connector_options *options,
		  connector_cb done, void *userdata, struct connector **ret_connector)
{
	_cleanup_(connector_freep) struct connector *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->fd = -1;
	c->done = done;
	c->userdata = userdata;
	c->any_address = options->any_address;
	c->easy = curl_easy_init();
	if (!c->easy || set_options(c, options) != CURLE_OK ||
	    curl_loop_new(base, c->easy, on_done, c, &c->loop) < 0)
		return -ENOMEM;
	*ret_connector = TAKE_PTR(c);
	return 0;
}

struct connector *connector_free(struct connector *c)
{
	if (!c)
		return NULL;
	/* The loop's multi handle owns the connection: it is closed before the easy handle
	 * goes. */
	curl_loop_free(c->loop);
	curl_easy_cleanup(c->easy);
	curl_slist_free_all(c->resolve);
	curl_slist_free_all(c->connect_to);
	X509_STORE_free(c->store);
	free(c);
	return NULL;
}

static ssize_t io_result(CURLcode code, size_t n)
{
	if (code == CURLE_OK)
		return (ssize_t)n;
	return code == CURLE_AGAIN ? -EAGAIN : -EPIPE;
}

ssize_t connector_send(struct connector *c, struct slice bytes)
{
	size_t n = 0;
	CURLcode code = curl_easy_send(c->easy, bytes.p, bytes.n, &n);

	return io_result(code, n);
}

ssize_t connector_recv(struct connector *c, char *p, size_t n)
{
	size_t got = 0;
	CURLcode code = curl_easy_recv(c->easy, p, n, &got);

	return io_result(code, got);
}

/* libcurl shows it only once it has sent or received for us. */
static SSL *connector_ssl(struct connector *c)
{
	const struct curl_tlssessioninfo *info = NULL;

	if (!c->ssl && curl_easy_getinfo(c->easy, CURLINFO_TLS_SSL_PTR, &info) == CURLE_OK &&
	    info && info->backend == CURLSSLBACKEND_OPENSSL)
		c->ssl = info->internals;
	return c->ssl;
}

bool connector_is_quiet(struct connector *c)
{
	SSL *ssl = connector_ssl(c);
	char byte;

	/* Nothing read ahead and nothing in the socket: a tenth of what asking libcurl costs.
	 */
	if (ssl && !SSL_has_pending(ssl) && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
		return errno == EAGAIN;
	return connector_recv(c, &byte, 1) == -EAGAIN;
}
