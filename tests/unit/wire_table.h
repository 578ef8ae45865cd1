/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reads the tables of wire bytes under tests/data (good-requests.txt says how they are
 * written). For tests: it ends the program with a message when a table is malformed. */

#include "slice.h"

#include <stddef.h>

#define WIRE_COLUMNS_MAX 8

struct wire_row {
	unsigned line;                          /* in the file, for messages */
	struct slice columns[WIRE_COLUMNS_MAX]; /* escapes and names replaced; NUL-terminated */
	struct slice bytes;                     /* the last column */
};

struct wire_table {
	struct wire_row *rows;
	size_t n;
};

/* `file` under $TEST_DATA; every row has `columns` columns, the bytes included. Never empty. */
struct wire_table wire_table_load(const char *file, size_t columns);
void wire_table_done(struct wire_table *table);
