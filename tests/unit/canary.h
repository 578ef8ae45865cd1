/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Looks for a secret in all of this process's writable memory, as somebody with a core dump
 * would. */

#include <stddef.h>

#define CANARY_SIZE 40

/* To be called first in main(): runs the program anew with LD_BIND_NOW, unless it is set.
 * Without it the dynamic linker, finding a function at its first call, saves the vector
 * registers on the stack, and with them what memcpy() moved last: a whole secret access key
 * fits. */
void canary_main(char **argv);

/* Writes the canary, with a NUL after it, into out[CANARY_SIZE + 1]. It stands nowhere in the
 * program: it is computed. */
void canary_write(char *out);

/* How often the canary is found. Aborts if memory can't be read. */
size_t canary_count(void);

/* Asserts that not even pieces of it are left. */
void canary_assert_gone(void);
