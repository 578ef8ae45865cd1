/* SPDX-License-Identifier: Apache-2.0 */
#include "enclave.h"

#include <errno.h>

struct enclave_table {
	struct named_table all;
};

bool enclave_take_token(struct enclave *e, const struct enclave_config *config, usec_t now,
			usec_t *ret_wait)
{
	return rate_limit_take(&e->requests, config->limits.requests, now, ret_wait);
}

bool enclave_charge(struct enclave *e, size_t share, size_t *charged, size_t n)
{
	if (n > *charged && !gauge_take(&e->memory, n - *charged, share))
		return false;
	if (n < *charged)
		gauge_return(&e->memory, *charged - n);
	*charged = n;
	return true;
}

void enclave_uncharge(struct enclave *e, size_t *charged)
{
	gauge_return(&e->memory, *charged);
	*charged = 0;
}

int enclave_table_new(struct enclave_table **ret_table)
{
	struct enclave_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->all.size = sizeof(struct enclave);
	*ret_table = t;
	return 0;
}

struct enclave_table *enclave_table_free(struct enclave_table *t)
{
	if (!t)
		return NULL;
	named_table_done(&t->all);
	free(t);
	return NULL;
}

struct enclave *enclave_table_get(struct enclave_table *t, const char *name, unsigned cid)
{
	struct named *named = named_table_get(&t->all, name, cid);

	return named ? CONTAINER_OF(named, struct enclave, named) : NULL;
}

struct enclave *enclave_table_at(const struct enclave_table *t, unsigned i)
{
	return i < t->all.n ? CONTAINER_OF(t->all.list[i], struct enclave, named) : NULL;
}
