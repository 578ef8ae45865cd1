/* SPDX-License-Identifier: Apache-2.0 */
#include "canary.h"

#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define PIECE ((size_t)8)
#define MAPPING_MAX 512

void canary_main(char **argv)
{
	if (getenv("LD_BIND_NOW"))
		return;
	setenv("LD_BIND_NOW", "1", 1);
	execv("/proc/self/exe", argv);
	abort();
}

/* Base64 characters, as in a secret access key; no two pieces of it alike. */
static char canary_byte(size_t i)
{
	return "Zq8xKv3wLmT5bYc7NhRd2sGfJp9uQeWa4iXo6EtV"[(i * 7 + 3) % CANARY_SIZE];
}

void canary_write(char *out)
{
	for (size_t i = 0; i < CANARY_SIZE; i++)
		out[i] = canary_byte(i);
	out[CANARY_SIZE] = '\0';
}

static size_t count_in(const char *p, size_t size, size_t from, size_t n)
{
	const char *last = p + size - n;
	size_t found = 0;

	while (p <= last && (p = memchr(p, canary_byte(from), (size_t)(last - p) + 1))) {
		size_t i = 1;

		while (i < n && p[i] == canary_byte(from + i))
			i++;
		found += i == n;
		p++;
	}
	return found;
}

/* Chunks overlap by n - 1 bytes, so that none is missed or counted twice. */
static size_t count_mapping(int fd, size_t start, size_t end, char *chunk, size_t from,
			    size_t n)
{
	size_t found = 0;

	while (end - start >= n) {
		size_t want = end - start < CHUNK ? end - start : CHUNK;
		ssize_t got = pread(fd, chunk, want, (off_t)start);

		if (got < (ssize_t)n) /* a guard page, or shadow memory that can't be read */
			break;
		found += count_in(chunk, (size_t)got, from, n);
		start += (size_t)got - (n - 1);
	}
	return found;
}

static bool is_worth_a_look(size_t start, size_t end, const char *rights, const char *chunk)
{
	bool is_chunk = start <= (size_t)chunk && (size_t)chunk < end;

	/* The sanitizer's shadow is terabytes of reserved addresses; nothing of ours is that
	 * big. */
	return strncmp(rights, "rw", 2) == 0 && !is_chunk && end - start < ((size_t)1 << 30);
}

/* `ret_where` gets the line of /proc/self/maps of the last find. */
static size_t count(size_t from, size_t n, char *ret_where)
{
	/* With guard pages of its own, so that the kernel can't merge it with another mapping.
	 */
	char *area = mmap(NULL, 3 * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	FILE *maps = fopen("/proc/self/maps", "re");
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char line[MAPPING_MAX], rights[8];
	size_t start, end, found = 0;

	if (area == MAP_FAILED || !maps || fd < 0 ||
	    mprotect(area + CHUNK, CHUNK, PROT_READ | PROT_WRITE) < 0)
		abort();
	while (fgets(line, sizeof(line), maps)) {
		size_t here = 0;

		if (sscanf(line, "%zx-%zx %7s", &start, &end, rights) == 3 &&
		    is_worth_a_look(start, end, rights, area + CHUNK))
			here = count_mapping(fd, start, end, area + CHUNK, from, n);
		if (here)
			memcpy(ret_where, line, sizeof(line));
		found += here;
	}
	fclose(maps);
	close(fd);
	munmap(area, 3 * CHUNK);
	return found;
}

size_t canary_count(void)
{
	char where[MAPPING_MAX];

	return count(0, CANARY_SIZE, where);
}

void canary_assert_gone(void)
{
	char where[MAPPING_MAX];

	ck_assert_uint_eq(canary_count(), 0);
	for (size_t from = 0; from + PIECE <= CANARY_SIZE; from += PIECE / 2)
		ck_assert_msg(count(from, PIECE, where) == 0,
			      "a piece of the canary from byte %zu on is in %s", from, where);
}
