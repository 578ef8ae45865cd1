/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The other side of an upstream: a TLS server on loopback, on the event base of the test, with
 * a certificate of its own for `kms.test`. A request is "\r\n\r\n" and whatever stands before
 * it.
 */

#include <event2/event.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

enum tls_peer_mode {
	TLS_PEER_HOLD,   /* reads requests, says nothing */
	TLS_PEER_ANSWER, /* 200 with "{}" to each, also to those it held on the same connection
			  */
	TLS_PEER_CLOSE,  /* ends connections with a request, without an answer */
	TLS_PEER_DEAF,   /* reads nothing once a connection stands */
};

struct tls_peer;

/* Aborts the test on any failure, as all of these. */
struct tls_peer *tls_peer_new(struct event_base *base);
void tls_peer_free(struct tls_peer *peer);

unsigned tls_peer_port(const struct tls_peer *peer);

/* Who trusts it; borrowed. */
X509_STORE *tls_peer_store(const struct tls_peer *peer);

/* From now on, and for requests that were held. */
void tls_peer_set(struct tls_peer *peer, enum tls_peer_mode mode);

/* New connections resume those that were given before, and are given none. */
void tls_peer_give_no_sessions(struct tls_peer *peer);

/* So far. */
unsigned tls_peer_connections(const struct tls_peer *peer);
unsigned tls_peer_resumed(const struct tls_peer *peer); /* of the connections */
unsigned tls_peer_requests(const struct tls_peer *peer);
