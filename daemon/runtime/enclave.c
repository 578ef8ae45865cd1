/* SPDX-License-Identifier: Apache-2.0 */
#include "enclave.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct enclave_table {
	struct enclave **list;
	unsigned n;
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
	*ret_table = t;
	return 0;
}

struct enclave_table *enclave_table_free(struct enclave_table *t)
{
	if (!t)
		return NULL;
	for (unsigned i = 0; i < t->n; i++)
		free(t->list[i]);
	free(t->list);
	free(t);
	return NULL;
}

struct enclave *enclave_table_get(struct enclave_table *t, const char *name)
{
	struct enclave **list;
	struct enclave *e;

	for (unsigned i = 0; i < t->n; i++)
		if (strcmp(t->list[i]->name, name) == 0)
			return t->list[i];

	list = reallocarray(t->list, t->n + 1, sizeof(*list));
	if (!list)
		return NULL;
	t->list = list;

	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->id = t->n;
	snprintf(e->name, sizeof(e->name), "%s", name);
	t->list[t->n++] = e;
	return e;
}

struct enclave *enclave_table_at(const struct enclave_table *t, unsigned i)
{
	return i < t->n ? t->list[i] : NULL;
}
