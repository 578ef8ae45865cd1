/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One outgoing connection, opened by libcurl (CURLOPT_CONNECT_ONLY: TCP with happy eyeballs,
 * TLS, its verification, session resumption) and then used by ourselves. Each has a multi
 * handle of its own: curl_easy_send() and curl_easy_recv() search their multi's connections at
 * every call. */

#include "clock.h"
#include "error.h"
#include "macro.h"
#include "slice.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <openssl/x509.h>

struct connector;

struct connector_options {
	const char *host; /* what TLS verifies */
	unsigned port;
	const char *connect_host; /* where to connect: a name or an IP literal */
	unsigned connect_port;
	const char *addresses; /* of connect_host, from the resolver; NULL for a literal */
	bool any_address;      /* the operator named the address: don't refuse loopback etc. */
	X509_STORE *store;     /* who may vouch for it; borrowed during the call */
	CURLSH *share;         /* the TLS sessions to resume */
	usec_t timeout;
};

/* Called once, when the connection stands (`why` is NULL) or failed (`why` says in one phrase).
 * The connector may be freed in it. */
typedef void (*connector_cb)(struct connector *c, const char *why, void *userdata);

/* Begins to connect; never calls `done` before it returns. */
_must_check_ int connector_new(struct event_base *base, const struct connector_options *options,
			       connector_cb done, void *userdata,
			       struct connector **ret_connector);

/* Closes; accepts NULL; returns NULL. */
struct connector *connector_free(struct connector *c);
DEFINE_CLEANUP(struct connector *, connector_free)

/* The connected socket, to wait on; owned by the connector. */
int connector_fd(const struct connector *c);

/* Bytes sent or received (more than 0), 0 at the end of the stream (receiving), -EAGAIN, or
 * another negative errno when the connection is broken. */
_must_check_ ssize_t connector_send(struct connector *c, struct slice bytes);
_must_check_ ssize_t connector_recv(struct connector *c, char *p, size_t n);

/* Whether it stands and nothing that TLS passes on has come. */
bool connector_is_quiet(struct connector *c);
