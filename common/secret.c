/* SPDX-License-Identifier: Apache-2.0 */
#include "secret.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <sys/prctl.h>

#define SMALLEST_BLOCK 32 /* the heap hands out no less: an HMAC key of 32 bytes fits */

int secret_init(void)
{
	int r;

	/* Not LimitCORE= alone: the kernel ignores the limit when core_pattern is a pipe. Also
	 * keeps processes of the same user from reading our memory. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;

	errno = 0;
	r = CRYPTO_secure_malloc_init(SECRET_HEAP_SIZE, SMALLEST_BLOCK);
	if (r == 1)
		return 0;
	/* 2: the heap works, but mlock(), mprotect() or madvise() failed. */
	return -(errno ?: ENOMEM);
}

void *secret_alloc(size_t n)
{
	return OPENSSL_secure_zalloc(n);
}

char *secret_dup(struct slice s)
{
	char *p = secret_alloc(s.n + 1);

	if (p && s.n)
		memcpy(p, s.p, s.n);
	return p;
}

void *secret_free(void *p)
{
	if (!p)
		return NULL;
	if (CRYPTO_secure_allocated(p))
		OPENSSL_secure_free(p); /* wipes the block */
	else
		wipe_free(p);
	return NULL;
}

void *wipe_malloc(size_t n)
{
	return malloc(n);
}

void *wipe_calloc(size_t n, size_t size)
{
	return calloc(n, size);
}

void *wipe_realloc(void *p, size_t n)
{
	size_t have;
	void *moved;

	if (!p)
		return malloc(n);

	/* Not realloc(): where it moves the bytes it leaves an unwiped copy behind. */
	have = malloc_usable_size(p);
	if (n && n <= have)
		return p;
	moved = malloc(n);
	if (!moved)
		return NULL;
	memcpy(moved, p, MIN(n, have));
	wipe_free(p);
	return moved;
}

char *wipe_strdup(const char *s)
{
	return strdup(s);
}

void wipe_free(void *p)
{
	if (!p)
		return;
	explicit_bzero(p, malloc_usable_size(p));
	free(p);
}
