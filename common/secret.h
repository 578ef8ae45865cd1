/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Secrets live in OpenSSL's secure heap: locked in memory, with guard pages, left out of core
 * dumps, wiped when freed. */

#include "macro.h"
#include "slice.h"

#define SECRET_HEAP_SIZE (256 * 1024) /* OpenSSL's own key exchange draws on it too */

/* Makes the heap, and makes the process undumpable. Call once, before any thread and before
 * OpenSSL is used. 0, or negative errno if memory can't be locked (the message names
 * LimitMEMLOCK). */
_must_check_ int secret_init(void);

/* NUL-terminated copy of `s` in the secure heap; NULL if there is no room: keep what you have.
 * Where secret_init() was not called (unit tests) this is the ordinary heap, also wiped. */
char *secret_dup(struct slice s);

/* `n` zeroed bytes of the secure heap; NULL if there is no room. */
void *secret_alloc(size_t n);

/* Wipes and frees what the two above returned; accepts NULL; returns NULL. */
void *secret_free(void *p);

/* _cleanup_(secret_freep) on a local of any pointer type. */
static inline void secret_freep(void *p)
{
	*(void **)p = secret_free(*(void **)p);
}

/* Allocators that wipe what they free, in the shape of curl_global_init_mem(): replies of IMDS
 * pass through libcurl's buffers. */
void *wipe_malloc(size_t n);
void *wipe_calloc(size_t n, size_t size);
void *wipe_realloc(void *p, size_t n);
char *wipe_strdup(const char *s);
void wipe_free(void *p);
