/* SPDX-License-Identifier: Apache-2.0 */
#include "small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* One byte more than fits is asked for, so that a file that has it is found to be too large. */
static int read_all(int fd, struct buf *out)
{
	char more;
	ssize_t n;

	do {
		int r = buf_reserve(out, MIN(out->max - out->n, (size_t)4096));

		if (r < 0)
			return r;
		if (out->n < out->cap)
			n = read(fd, out->p + out->n, out->cap - out->n);
		else
			n = read(fd, &more, 1);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && out->n == out->cap)
			return -EMSGSIZE;
		out->n += n > 0 ? (size_t)n : 0;
	} while (n != 0);
	return 0;
}

static int read_regular(int fd, struct buf *out, struct stat *ret_stat)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	r = read_all(fd, out);
	if (r >= 0)
		*ret_stat = st;
	return r;
}

int small_file_read(const char *path, struct buf *out, struct stat *ret_stat,
		    struct error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int r;

	if (fd < 0)
		return error_set_errno(error, -errno, "%s", path);
	r = read_regular(fd, out, ret_stat);
	close(fd);
	if (r == -EINVAL)
		return error_set(error, "%s: not a regular file", path);
	if (r == -EMSGSIZE) {
		error_set(error, "%s: larger than %zu bytes", path, out->max);
		return r;
	}
	return r < 0 ? error_set_errno(error, r, "%s", path) : 0;
}
