/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Text that ends where memory ends: who reads a byte after it dies of SIGSEGV. */

#include "slice.h"

#define PAGE_END_MAX 4096

/* A copy of `s`, which is at most PAGE_END_MAX, until the next call; it may be written to. */
char *page_end_copy(struct slice s);

/* Text of `n` times 'a' but for the byte `c` at `at`, or none where at >= n; as above. */
struct slice page_end_text(size_t n, size_t at, char c);
