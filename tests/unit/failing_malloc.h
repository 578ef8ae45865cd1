/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Lets malloc() fail in what a test links statically: the test needs the link argument
 * -Wl,--wrap=malloc. */

#include <stdbool.h>

/* The `nth` call from now on (1 is the next) returns NULL, once. */
void failing_malloc_begin(unsigned nth);

/* Ends that, before anything of the test's own allocates. Whether it has come to the failure.
 */
bool failing_malloc_end(void);
