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

struct generation {
	_Atomic unsigned refs;
	struct config *config;
	struct enclave **enclaves; /* by the configuration's index; owned by the table */
	struct trust *trusts;      /* by endpoint */
	struct skew *skews;  /* by endpoint: a wrong clock of one says nothing of others */
	size_t memory_share; /* bytes of buffers each enclave may hold */

	struct credentials_health **health; /* by endpoint; owned by their table */
};

/* Whether CA certificates can be read from a file; NULL is the system's bundle. 0, or negative
 * errno with an error. */
_must_check_ int generation_check_ca(const char *path, struct error *error);

/* Reads the CA files anew. Takes its own reference of `config`. `error` names the file. */
_must_check_ int generation_new(struct config *config, struct enclave_table *table,
				struct credentials_health_table *health,
				struct generation **ret_generation, struct error *error);

struct generation *generation_ref(struct generation *g);
struct generation *generation_unref(struct generation *g); /* returns NULL */
DEFINE_CLEANUP(struct generation *, generation_unref)

/* Has *slot hold `g`, with a reference of its own, in place of what it held. */
void generation_swap(struct generation **slot, struct generation *g);

/* The configuration of an enclave by its index. */
static inline struct enclave_config *generation_enclave(const struct generation *g,
							unsigned enclave_index)
{
	return &g->config->enclaves[enclave_index];
}

/* The index of the enclave that this identity has in `g`, or -1 if it has none any more: its
 * CID is another enclave's now, or it is no longer configured. */
int generation_find(const struct generation *g, const struct identity *identity);

/* Whether a connection may live on from `old` to `g`: its identity has the same enclave, and
 * that may do the same, see config_enclave_equal() and what that leaves out. */
bool generation_same(const struct generation *old, const struct generation *g,
		     const struct identity *identity);

/* Whether a request that waits may: the same, and the CA files of its enclave's endpoints hold
 * the same certificates. It keeps the timeouts and the upstream it began with. */
bool generation_same_trust(const struct generation *old, const struct generation *g,
			   const struct identity *identity);
