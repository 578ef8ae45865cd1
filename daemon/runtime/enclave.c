/* SPDX-License-Identifier: Apache-2.0 */
#include "enclave.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct enclave_table {
	struct enclave **list;
	unsigned n;
};

const char *counter_name(enum counter counter)
{
	static const char *const names[] = {
		[COUNTER_CONNECTIONS] = "CONNECTIONS",
		[COUNTER_CONNECTIONS_REFUSED] = "CONNECTIONS_REFUSED",
		[COUNTER_REQUESTS] = "REQUESTS",
		[COUNTER_ALLOWED] = "ALLOWED",
		[COUNTER_REFUSED] = "REFUSED",
		[COUNTER_THROTTLED] = "THROTTLED",
		[COUNTER_FAILED] = "FAILED",
		[COUNTER_BYTES_IN] = "BYTES_IN",
		[COUNTER_BYTES_OUT] = "BYTES_OUT",
		[COUNTER_TUNNELS] = "TUNNELS",
	};

	return names[counter];
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
