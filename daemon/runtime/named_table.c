/* SPDX-License-Identifier: Apache-2.0 */
#include "named_table.h"

#include <stdio.h>
#include <string.h>

struct named *named_table_get(struct named_table *t, const char *name, uint32_t number)
{
	struct named **list, *o;

	for (unsigned i = 0; i < t->n; i++)
		if (t->list[i]->number == number && strcmp(t->list[i]->name, name) == 0)
			return t->list[i];

	list = reallocarray(t->list, t->n + 1, sizeof(struct named *));
	if (!list)
		return NULL;
	t->list = list;
	o = calloc(1, t->size);
	if (!o)
		return NULL;
	snprintf(o->name, sizeof(o->name), "%s", name);
	o->number = number;
	o->id = t->n;
	t->list[t->n++] = o;
	return o;
}

void named_table_done(struct named_table *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free(t->list[i]);
	free(t->list);
}
