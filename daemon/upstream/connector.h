/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One outgoing TLS connection: dialled (dial.h), its certificate verified for one name, and
 * then used. */

#include "address.h"
#include "clock.h"
#include "dial.h"
#include "macro.h"
#include "slice.h"

#include <event2/event.h>
#include <openssl/x509.h>

/* What the connections to one host under one configuration share: who may vouch for it, and the
 * TLS session that the next resumes. */
struct connector_tls;

/* Takes a reference of the store. -ENOMEM. */
_must_check_ int connector_tls_new(X509_STORE *store, struct connector_tls **ret_tls);

/* After a failure to connect: out of memory, OpenSSL makes contexts without some of their
 * algorithms and says that all went well. One that can't be renewed stays as it is. */
void connector_tls_renew(struct connector_tls *tls);

/* Its connectors go before it. Accepts and returns NULL. */
struct connector_tls *connector_tls_free(struct connector_tls *tls);
DEFINE_CLEANUP(struct connector_tls *, connector_tls_free)

struct connector;

struct connector_options {
	const char *host;      /* what TLS verifies: a name or an IP literal */
	const char *addresses; /* where to connect, as dial_options has them */
	unsigned port;
	enum address_class reach;           /* as dial_options has it */
	const struct proxy_target *through; /* the same */
	struct connector_tls *tls;          /* borrowed */
	usec_t timeout; /* of dialling, the proxy's answer and TLS together */
};

/* Called once, when the connection stands (`why` is NULL) or failed (`why` says in one phrase).
 * The connector may be freed in it. */
typedef void (*connector_cb)(struct connector *c, const char *why, void *userdata);

/* Begins to connect; never calls `done` before it returns. */
_must_check_ int connector_new(struct event_base *base, const struct connector_options *options,
			       connector_cb done, void *userdata,
			       struct connector **ret_connector);

/* Whose fault it is: called in `done` with a `why`. */
enum dial_fault connector_fault(const struct connector *c);

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

/* The name of a TLS alert by its number, as OpenSSL has it: "unknown CA". Static text. */
const char *connector_alert_name(int alert);
