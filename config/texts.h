/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The texts of a configuration: the main file X.yaml, then its drop-ins, the files
 * X.d/NAME.yaml beside it in the order of their bytes. Read once, so that what is hashed is
 * what is parsed. */

#include "buf.h"
#include "config.h"
#include "macro.h"

#include <stddef.h>

#define TEXTS_DROPINS 1024 /* files in the folder */

struct config_text {
	char *name; /* relative to the folder of the main file, in printable ASCII */
	struct buf bytes;
};

struct config_texts {
	struct config_text *list; /* the main file first */
	size_t n;
};

/* Reads the files of `path`; "-" is standard input, which has no drop-ins. 0, -ENOMEM, -errno
 * when the main file can't be read, -EINVAL when a drop-in or its folder is refused; each but
 * -ENOMEM with findings, whose files are named from here on. Ends in texts_done() in any case.
 */
_must_check_ int texts_read(const char *path, struct config_texts *texts,
			    struct findings *findings);
void texts_done(struct config_texts *texts);

/* One file's name and bytes more, which `text` borrows no longer than this. 0 or -ENOMEM. */
_must_check_ int texts_add(struct config_texts *texts, const char *name, struct slice bytes);

/* The hash of all: SHA-256 of what sha256sum(1) prints for these files in the main file's
 * folder, in hexadecimal, so that no byte can move from one file, or name, to another. 0, or
 * -EIO when OpenSSL fails, -ENOMEM. */
_must_check_ int texts_hash(const struct config_texts *texts, char *ret_hex);

/* What config_load() makes of the texts it has read, for who needs it twice. The texts' names
 * are among these findings, or the findings are never told. */
_must_check_ int config_load_texts(const struct config_texts *texts, const char *path,
				   const struct config_facts *facts, struct config **ret_config,
				   struct findings *findings);
