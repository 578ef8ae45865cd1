/* SPDX-License-Identifier: Apache-2.0 */
#include "page_end.h"

#include <sys/mman.h>
#include <unistd.h>

static char *end(void)
{
	static char *page;
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	if (!page) {
		page = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
		if (page == MAP_FAILED || mprotect(page + size, size, PROT_NONE) < 0)
			abort();
	}
	return page + size;
}

char *page_end_copy(struct slice s)
{
	char *p = end() - s.n;

	if (s.n > PAGE_END_MAX)
		abort();
	if (s.n)
		memcpy(p, s.p, s.n);
	return p;
}

struct slice page_end_text(size_t n, size_t at, char c)
{
	char *p = end() - n;

	if (n > PAGE_END_MAX)
		abort();
	memset(p, 'a', n);
	if (at < n)
		p[at] = c;
	return (struct slice){p, n};
}
