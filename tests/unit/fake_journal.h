/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A journal for tests: a datagram socket in a folder of its own, which reads the native
 * protocol strictly (systemd.io/JOURNAL_NATIVE_PROTOCOL). Any failure of its own fails the
 * test. */

#include <stdbool.h>
#include <stddef.h>

struct fake_journal {
	char folder[64];
	char path[96];
	int fd; /* -1: absent */
};

struct fake_entry {
	struct {
		char *name, *value; /* into `text` */
	} fields[64];
	size_t n;
	char text[16384];
};

/* Makes the folder; the socket is absent until fake_journal_appear(). */
void fake_journal_init(struct fake_journal *j);
void fake_journal_appear(struct fake_journal *j);

/* The socket is closed; its file stays if `leave_file`, as after a crash. */
void fake_journal_vanish(struct fake_journal *j, bool leave_file);
void fake_journal_done(struct fake_journal *j);

/* The next entry; false when none comes within `msec`. */
bool fake_journal_next(struct fake_journal *j, struct fake_entry *ret_entry, int msec);

/* The value of a field that is there once, or NULL. */
const char *fake_entry_get(const struct fake_entry *entry, const char *name);
