/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_journal.h"

#include <check.h>
#include <endian.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void fake_journal_init(struct fake_journal *j)
{
	*j = (struct fake_journal){.folder = "/tmp/fake-journal-XXXXXX", .fd = -1};
	ck_assert_ptr_nonnull(mkdtemp(j->folder));
	snprintf(j->path, sizeof(j->path), "%s/socket", j->folder);
}

void fake_journal_appear(struct fake_journal *j)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, j->path, strlen(j->path));
	unlink(j->path);
	j->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_ge(j->fd, 0);
	ck_assert_int_eq(bind(j->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

void fake_journal_vanish(struct fake_journal *j, bool leave_file)
{
	close(j->fd);
	j->fd = -1;
	if (!leave_file)
		unlink(j->path);
}

void fake_journal_done(struct fake_journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	unlink(j->path);
	rmdir(j->folder);
}

/* One field at `p`; returns the byte after it. */
static char *read_field(struct fake_entry *e, char *p, char *end)
{
	char *newline = memchr(p, '\n', (size_t)(end - p));
	char *equals = memchr(p, '=', (size_t)(end - p));
	uint64_t size;

	ck_assert_ptr_nonnull(newline);
	ck_assert_uint_lt(e->n, sizeof(e->fields) / sizeof(e->fields[0]));
	e->fields[e->n].name = p;
	if (equals && equals < newline) {
		*equals = *newline = '\0';
		e->fields[e->n++].value = equals + 1;
		return newline + 1;
	}

	ck_assert_int_ge(end - newline, 1 + 8 + 1);
	memcpy(&size, newline + 1, sizeof(size));
	size = le64toh(size);
	ck_assert_uint_lt(size, (uint64_t)(end - newline - 9));
	ck_assert_int_eq(newline[9 + size], '\n');
	*newline = newline[9 + size] = '\0';
	e->fields[e->n++].value = newline + 9;
	return newline + 9 + size + 1;
}

bool fake_journal_next(struct fake_journal *j, struct fake_entry *e, int msec)
{
	struct pollfd poller = {.fd = j->fd, .events = POLLIN};
	ssize_t n;

	if (poll(&poller, 1, msec) == 0)
		return false;
	n = recv(j->fd, e->text, sizeof(e->text), MSG_TRUNC);
	ck_assert_int_gt(n, 0);
	ck_assert_int_le(n, (ssize_t)sizeof(e->text));
	e->n = 0;
	for (char *p = e->text; p < e->text + n;)
		p = read_field(e, p, e->text + n);
	return true;
}

const char *fake_entry_get(const struct fake_entry *e, const char *name)
{
	const char *value = NULL;

	for (size_t i = 0; i < e->n; i++) {
		if (strcmp(e->fields[i].name, name) != 0)
			continue;
		ck_assert_msg(!value, "%s is there twice", name);
		value = e->fields[i].value;
	}
	return value;
}
