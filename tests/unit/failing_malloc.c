/* SPDX-License-Identifier: Apache-2.0 */
#include "failing_malloc.h"

#include <stdlib.h>

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

static unsigned left;
static bool failed;

void failing_malloc_begin(unsigned nth)
{
	left = nth;
	failed = false;
}

bool failing_malloc_end(void)
{
	left = 0;
	return failed;
}

void *__wrap_malloc(size_t n)
{
	if (left && --left == 0) {
		failed = true;
		return NULL;
	}
	return __real_malloc(n);
}
