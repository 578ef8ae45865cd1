/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Objects by name, and where several have one name by a number, that outlive the configuration:
 * made when they are first asked for, and never freed before their table, so that a pointer to
 * one stays good. One thread's own; the objects may be shared. */

#include "limit.h"
#include "macro.h"

#include <stddef.h>
#include <stdint.h>

/* What such an object begins with. */
struct named {
	char name[LIMIT_NAME + 1];
	uint32_t number; /* 0 where the name is enough */
	unsigned id;     /* dense, from 0 */
};

struct named_table {
	struct named **list; /* by id */
	unsigned n;
	size_t size; /* of an object */
};

/* The object of that name and number; made, all else zeroed, if it isn't there. NULL when
 * memory ran out. */
struct named *named_table_get(struct named_table *table, const char *name, uint32_t number);

/* Frees the objects. */
void named_table_done(struct named_table *table);
