/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Looks for a secret in all of this process's writable memory, as somebody with a core dump
 * would. */

#include <stddef.h>

#define CANARY_SIZE 40

/* Writes the canary, with a NUL behind it, into out[CANARY_SIZE + 1]. It stands nowhere in the
 * program: it is computed. */
void canary_write(char *out);

/* How often `n` bytes of the canary, beginning at `from`, are found. Aborts if memory can't be
 * read. */
size_t canary_count(size_t from, size_t n);
