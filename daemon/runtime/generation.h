/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One configuration as it is in force: the parsed file, the running state of its enclaves, and
 * the CA certificates of its endpoints. Immutable, but for the skews, and counted; the control
 * thread publishes a new one at each reload, and a request keeps the one it began under. */

#include "config.h"
#include "enclave.h"
#include "error.h"
#include "identity.h"
#include "macro.h"
#include "proxy_authorization.h"
#include "skew.h"

#include <openssl/sha.h>
#include <openssl/x509.h>

struct credentials_health;
struct credentials_health_table;

/* Who may vouch for an endpoint, as the CA file was at the reload. */
struct trust {
	X509_STORE *store;
	unsigned char digest[SHA256_DIGEST_LENGTH]; /* of its certificates, in their order */
};

/* What the proxies of this file's users are shown, as the file was at the reload. */
struct proxy_file {
	const char *path; /* of the configuration */
	struct proxy_authorization *authorization;
};

struct generation {
	_Atomic unsigned refs;
	struct config *config;
	struct enclave **enclaves; /* by the configuration's slots; owned by the table */
	struct trust *trusts;      /* by endpoint */
	struct skew *skews;  /* by endpoint: a wrong clock of one says nothing of others */
	size_t memory_share; /* bytes of buffers each slot may hold */

	struct proxy_file *proxy_files;
	size_t n_proxy_files;

	struct credentials_health **health; /* by endpoint; owned by their table */
};

/* Whether CA certificates can be read from a file; NULL is the system's bundle. 0, or negative
 * errno with an error. */
_must_check_ int generation_check_ca(const char *path, struct error *error);

/* Reads the CA files, and those with what proxies are shown, anew. Takes its own reference of
 * `config`. `error` names the file. */
_must_check_ int generation_new(struct config *config, struct enclave_table *table,
				struct credentials_health_table *health,
				struct generation **ret_generation, struct error *error);

struct generation *generation_ref(struct generation *g);
struct generation *generation_unref(struct generation *g); /* returns NULL */
DEFINE_CLEANUP(struct generation *, generation_unref)

/* Has *slot hold `g`, with a reference of its own, in place of what it held. */
void generation_swap(struct generation **slot, struct generation *g);

/* The configuration of the enclave whose slot has this index. Whatever is called
 * `enclave_index` here is a slot's. */
static inline struct enclave_config *generation_enclave(const struct generation *g,
							unsigned enclave_index)
{
	return &g->config->enclaves[g->config->slots[enclave_index].enclave];
}

/* What this proxy is shown; NULL: nothing. Borrowed. */
struct proxy_authorization *generation_proxy_authorization(const struct generation *g,
							   const struct proxy_config *proxy);

/* The index of the slot that this identity has in `g`, or -1 if it has none any more: its CID
 * is another enclave's now, or no longer configured; or no listener names the enclave any more.
 */
int generation_find(const struct generation *g, const struct identity *identity);

/* Whether a connection may live on from `old` to `g`: its identity has the same enclave, and
 * that may do the same, see config_slot_equal() and what that leaves out. */
bool generation_same(const struct generation *old, const struct generation *g,
		     const struct identity *identity);

/* Whether a request that waits may: the same, and the CA files of its enclave's endpoints hold
 * the same certificates. It keeps the timeouts and the upstream it began with. */
bool generation_same_trust(const struct generation *old, const struct generation *g,
			   const struct identity *identity);
