/* SPDX-License-Identifier: Apache-2.0 */
#include "small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int small_file_find(const char *name, char **ret_path, struct error *error)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char *path;

	if (name[0] == '/')
		directory = "";
	else if (!directory)
		return error_set(error,
				 "%s: $CREDENTIALS_DIRECTORY is not set (LoadCredential= in "
				 "the unit sets it), and this is no absolute path",
				 name);
	if (asprintf(&path, "%s%s%s", directory, *directory ? "/" : "", name) < 0)
		return error_set_errno(error, -ENOMEM, "%s", name);
	*ret_path = path;
	return 0;
}

/* What is appended to the file meanwhile is left out. */
static int read_regular(int fd, struct buf *out, struct stat *ret_stat)
{
	size_t left;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	left = (size_t)st.st_size;
	r = buf_reserve(out, left);
	if (r < 0)
		return r;
	while (left > 0) {
		ssize_t n = read(fd, out->p + out->n, left);

		if (n < 0)
			return -errno; /* not EINTR: a regular file is never waited for */
		if (n == 0)
			break;
		out->n += (size_t)n;
		left -= (size_t)n;
	}
	*ret_stat = st;
	return 0;
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
