/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a tunnel may be, and how it is refused: which host it leads to, whether the enclave's
 * limits have room for it, what an enclave is told that may not have it. Does no I/O. */

#include "client_hello.h"
#include "clock.h"
#include "config.h"
#include "enclave.h"
#include "macro.h"
#include "reason.h"
#include "slice.h"

enum tunnel_refusal {
	TUNNEL_ALLOWED = 0,
	TUNNEL_NO_NAME,
	TUNNEL_BAD_HELLO,
	TUNNEL_HOST,
	TUNNEL_NAME_DIFFERS,
	TUNNEL_RATE,
	TUNNEL_CONNECTIONS,
	TUNNEL_MEMORY,
	TUNNEL_NO_HOST,
	TUNNEL_NO_PROXY,
	TUNNEL_PROXY_REFUSED,
	TUNNEL_PROXY_BROKEN,
	TUNNEL_TIMEOUT,
	TUNNEL_TOO_SLOW,
	_TUNNEL_REFUSAL_MAX,
};

struct tunnel_refusal_info {
	enum reason reason;
	const char *text;     /* for the enclave; for the record unless that has a closer one */
	int status;           /* to a CONNECT */
	enum tls_alert alert; /* to a ClientHello */
};

/* The row of a refusal; TUNNEL_ALLOWED has none (asserted). */
const struct tunnel_refusal_info *tunnel_refusal_info(enum tunnel_refusal refusal);

/* What an enclave is told: the row's text with `status`, or the alert where that is 0. */
#define TUNNEL_ANSWER_SIZE 512
struct slice tunnel_refusal_write(enum tunnel_refusal refusal, int status, enum tls_alert alert,
				  char out[TUNNEL_ANSWER_SIZE]);

/* The listed host of this name, in whatever case, on this port; or, with `port` 0, the one that
 * a TLS server name of it leads to, on whatever port. NULL: it isn't listed. */
struct tunnel_host *tunnel_find_host(const struct tunnel_config *config, struct slice name,
				     unsigned port);

/* The host of a new configuration that a tunnel to `host` may go on with: of the same name, and
 * leading to the same place; any, where `host` is NULL, that of a tunnel whose host isn't known
 * yet. NULL: there is none. */
struct tunnel_host *tunnel_keep_host(const struct tunnel_config *config,
				     const struct tunnel_host *host);

/* Takes a token of the rate and a place among its tunnels, which *ret_counted says that the
 * caller has to give back, also after a refusal. */
enum tunnel_refusal tunnel_admit(struct enclave *enclave, const struct enclave_config *config,
				 usec_t now, bool *ret_counted);
