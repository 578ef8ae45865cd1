/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Looks for a secret in all of this process's writable memory, as somebody with a core dump
 * would. */

#include <stddef.h>

#define CANARY_SIZE 40

/* Writes the canary, with a NUL behind it, into out[CANARY_SIZE + 1]. It stands nowhere in the
 * program: it is computed. */
void canary_write(char *out);

/* How often the canary is found. Aborts if memory can't be read. */
size_t canary_count(void);

/* Asserts that not even pieces of it are left. The stack is looked through for the whole only:
 * what a register held may lie there until the next call goes as deep. */
void canary_assert_gone(void);
