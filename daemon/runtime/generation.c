/* SPDX-License-Identifier: Apache-2.0 */
#include "generation.h"

#include "compare.h"
#include "credentials_health.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where Debian and Amazon Linux keep the system's bundle. */
static const char *const system_bundles[] = {
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
};

static const char *system_bundle(void)
{
	for (size_t i = 0; i < ELEMENTSOF(system_bundles); i++)
		if (access(system_bundles[i], R_OK) == 0)
			return system_bundles[i];
	return system_bundles[0]; /* the error names it */
}

/* Whether a certificate can verify another: its key was read, and measured, and its extensions
 * too (this has OpenSSL do so now, not in the worker that needs it first). */
static bool is_sound(X509 *certificate)
{
	EVP_PKEY *key = X509_get0_pubkey(certificate);

	return key && EVP_PKEY_get_security_bits(key) > 0 &&
	       X509_check_purpose(certificate, -1, 0) == 1;
}

/* Out of memory, OpenSSL takes a certificate without its key and calls that a success; nothing
 * that it issued would be verified until the next reload. What OpenSSL doesn't know how to read
 * is as unsound when it is read again, and harms nothing. */
static bool is_whole(X509 *certificate)
{
	X509 *again;
	bool whole;

	if (is_sound(certificate))
		return true;
	again = X509_dup(certificate);
	whole = again && !is_sound(again);
	X509_free(again);
	return whole;
}

static bool store_is_whole(X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (certificate && !is_whole(certificate))
			return false;
	}
	return true;
}

static int digest_store(X509_STORE *store, unsigned char *ret_digest)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);
	EVP_MD_CTX *all = EVP_MD_CTX_new();
	unsigned char one[SHA256_DIGEST_LENGTH];
	bool good = all && EVP_DigestInit_ex(all, EVP_sha256(), NULL) == 1;

	for (int i = 0; good && i < sk_X509_OBJECT_num(objects); i++) {
		X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (certificate)
			good = X509_digest(certificate, EVP_sha256(), one, NULL) == 1 &&
			       EVP_DigestUpdate(all, one, sizeof(one)) == 1;
	}
	good = good && EVP_DigestFinal_ex(all, ret_digest, NULL) == 1;
	EVP_MD_CTX_free(all);
	return good ? 0 : -ENOMEM;
}

/* The bundle is parsed once and shared by every connection: parsing it for each one would block
 * the loop for 32 ms (measured). */
static int load_trust(const char *path, struct trust *ret_trust, struct error *error)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	X509_STORE *store = X509_STORE_new();
	int r = store ? 0 : -ENOMEM;
	struct stat st;

	/* A FIFO would be waited for, by the thread that feeds the watchdog. */
	if (r == 0 && stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		r = error_set(error, "%s: not a regular file", path);
	if (r == 0 && X509_STORE_load_file(store, path) != 1)
		r = error_set(error, "%s: no CA certificate can be read from this file", path);
	if (r == 0 && !store_is_whole(store))
		r = -ENOMEM;
	if (r == 0)
		r = digest_store(store, digest);
	ERR_clear_error();
	if (r < 0) {
		X509_STORE_free(store);
		return r;
	}
	/* As libcurl has them: a listed intermediate is trusted. */
	X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	ret_trust->store = store;
	memcpy(ret_trust->digest, digest, sizeof(digest));
	return 0;
}

int generation_check_ca(const char *path, struct error *error)
{
	struct trust trust;
	int r;

	path = path ?: system_bundle();
	if (access(path, R_OK) < 0)
		return error_set_errno(error, -errno, "%s", path);
	r = load_trust(path, &trust, error);
	if (r == 0)
		X509_STORE_free(trust.store);
	return r == -ENOMEM ? error_set_errno(error, r, "%s", path) : r;
}

/* Endpoints with the same CA file share one store. */
static int load_trusts(struct generation *g, struct error *error)
{
	const struct config *c = g->config;
	int r;

	for (size_t i = 0; i < c->n_endpoints; i++) {
		const char *path = c->endpoints[i].ca_file ?: system_bundle();

		for (size_t j = 0; j < i && !g->trusts[i].store; j++) {
			if (strcmp(path, c->endpoints[j].ca_file ?: system_bundle()) != 0)
				continue;
			X509_STORE_up_ref(g->trusts[j].store);
			g->trusts[i] = g->trusts[j];
		}
		if (g->trusts[i].store)
			continue;
		r = load_trust(path, &g->trusts[i], error);
		if (r < 0)
			return r;
	}
	return 0;
}

struct proxy_authorization *generation_proxy_authorization(const struct generation *g,
							   const struct proxy_config *proxy)
{
	for (size_t i = 0; i < g->n_proxy_files && proxy->credentials_file; i++)
		if (strcmp(g->proxy_files[i].path, proxy->credentials_file) == 0)
			return g->proxy_files[i].authorization;
	return NULL;
}

/* Each file once. */
static int load_proxy_file(struct generation *g, const struct proxy_config *proxy,
			   struct error *error)
{
	struct proxy_file *file;
	int r;

	if (!proxy->credentials_file || generation_proxy_authorization(g, proxy))
		return 0;
	file = reallocarray(g->proxy_files, g->n_proxy_files + 1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	g->proxy_files = file;
	file += g->n_proxy_files;
	r = proxy_authorization_load(proxy->credentials_file, &file->authorization, error);
	if (r < 0)
		return r;
	file->path = proxy->credentials_file;
	g->n_proxy_files++;
	return 0;
}

static int load_proxy_files(struct generation *g, struct error *error)
{
	const struct config *c = g->config;
	int r = 0;

	for (size_t i = 0; i < c->n_endpoints && r == 0; i++)
		r = load_proxy_file(g, &c->endpoints[i].proxy, error);
	for (size_t i = 0; i < c->n_enclaves; i++)
		for (size_t k = 0; k < c->enclaves[i].tunnel.n_hosts && r == 0; k++)
			r = load_proxy_file(g, &c->enclaves[i].tunnel.hosts[k].proxy, error);
	return r;
}

int generation_new(struct config *config, struct enclave_table *table,
		   struct credentials_health_table *health, struct generation **ret_generation,
		   struct error *error)
{
	_cleanup_(generation_unrefp) struct generation *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->refs = 1;
	g->config = config_ref(config);
	g->memory_share = config->memory / MAX(config->n_slots, (size_t)1);
	g->enclaves = calloc(config->n_slots + 1, sizeof(*g->enclaves));
	g->trusts = calloc(config->n_endpoints + 1, sizeof(*g->trusts));
	g->skews = calloc(config->n_endpoints + 1, sizeof(*g->skews));
	g->health = calloc(config->n_endpoints + 1, sizeof(struct credentials_health *));
	if (!g->enclaves || !g->trusts || !g->skews || !g->health)
		return -ENOMEM;

	for (size_t i = 0; i < config->n_slots; i++) {
		g->enclaves[i] = enclave_table_get(
			table, generation_enclave(g, (unsigned)i)->name, config->slots[i].cid);
		if (!g->enclaves[i])
			return -ENOMEM;
	}
	for (size_t i = 0; i < config->n_endpoints; i++) {
		g->health[i] = credentials_health_get(health, config->endpoints[i].name);
		if (!g->health[i])
			return -ENOMEM;
	}
	r = load_trusts(g, error) ?: load_proxy_files(g, error);
	if (r < 0)
		return r;

	*ret_generation = TAKE_PTR(g);
	return 0;
}

struct generation *generation_ref(struct generation *g)
{
	if (g)
		atomic_fetch_add(&g->refs, 1);
	return g;
}

struct generation *generation_unref(struct generation *g)
{
	if (!g || atomic_fetch_sub(&g->refs, 1) > 1)
		return NULL;
	for (size_t i = 0; g->trusts && i < g->config->n_endpoints; i++)
		X509_STORE_free(g->trusts[i].store);
	for (size_t i = 0; i < g->n_proxy_files; i++)
		proxy_authorization_unref(g->proxy_files[i].authorization);
	free(g->proxy_files);
	free(g->trusts);
	free(g->skews);
	free(g->health);
	free(g->enclaves);
	config_unref(g->config);
	free(g);
	return NULL;
}

void generation_swap(struct generation **slot, struct generation *g)
{
	generation_ref(g);
	generation_unref(*slot);
	*slot = g;
}

int generation_find(const struct generation *g, const struct identity *id)
{
	int i = id->has_cid ? config_find_cid(g->config, id->cid)
			    : config_find_slot(g->config, id->enclave->named.name);

	return i >= 0 && g->enclaves[i] == id->enclave ? i : -1;
}

bool generation_same(const struct generation *old, const struct generation *g,
		     const struct identity *id)
{
	int before = generation_find(old, id), now = generation_find(g, id);

	return before >= 0 && now >= 0 &&
	       config_slot_equal(old->config, (size_t)before, g->config, (size_t)now);
}

bool generation_same_trust(const struct generation *old, const struct generation *g,
			   const struct identity *id)
{
	int before = generation_find(old, id), now = generation_find(g, id);
	const struct enclave_config *a, *b;

	if (!generation_same(old, g, id))
		return false;
	/* Equal ones list the same endpoints in the same order. */
	a = generation_enclave(old, (unsigned)before);
	b = generation_enclave(g, (unsigned)now);
	for (size_t i = 0; i < a->n_endpoints; i++)
		if (memcmp(old->trusts[a->endpoints[i]].digest,
			   g->trusts[b->endpoints[i]].digest, SHA256_DIGEST_LENGTH) != 0)
			return false;
	return true;
}
