/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A listening socket, bound by us or handed over by systemd. It survives
 * being out of descriptors. It decides nothing but who the peer is. */

#include "config.h"
#include "error.h"
#include "handed_sockets.h"
#include "macro.h"

#include <event2/event.h>
#include <sys/socket.h>

struct listener;

/* A socket was accepted (non-blocking, close-on-exec); the callee owns it. */
typedef void (*listener_cb)(struct listener *listener, int fd, const struct sockaddr *peer,
			    socklen_t n, void *userdata);

/* Opens what one entry of the configuration names: binds it, unless a socket that was handed
 * over fits (it is taken out of `handed`). `enclave` is the entry's, or NULL. It accepts
 * nothing yet. 0, or negative errno with a sentence that says what to do. */
_must_check_ int listener_new(const struct listener_config *config, const char *enclave,
			      struct handed_sockets *handed, struct listener **ret_listener,
			      struct error *error);

/* Once, on the thread of `base`: begins to accept. */
void listener_start(struct listener *l, struct event_base *base, listener_cb accepted,
		    void *userdata);

/* Accepts what waits already, before it is closed for good: closing would reset it. Of a socket
 * that systemd handed over nothing: there it waits for the next start. */
void listener_accept_rest(struct listener *l);

/* Stops accepting, closes, and removes a Unix socket's file that we made. Returns NULL. */
struct listener *listener_free(struct listener *l);
DEFINE_CLEANUP(struct listener *, listener_free)

/* Who a peer is. */
struct peer {
	int enclave_index; /* of a slot in the configuration; -1: nobody we know */
	bool has_cid;
	uint32_t cid;
};

/* Pure. The peer of a vsock listener is who has the CID that the kernel reports, and CIDs 0 to
 * 3 (any, local, host, and the parent itself on Nitro) and VMADDR_CID_ANY never name an
 * enclave; the peer of a Unix listener is the enclave that the listener names. An address of
 * another family, or too short, is nobody. */
struct peer peer_identify(const struct config *config, const char *listener_enclave,
			  const struct sockaddr *address, socklen_t n);

/* The enclave this listener names, or NULL. */
const char *listener_enclave(const struct listener *l);
