/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Files that an operator or service manager hands over: small and regular, read whole. */

#include "buf.h"
#include "error.h"
#include "macro.h"

#include <sys/stat.h>

/* Where a file is that a configuration names: that path, or for a name without a slash a
 * credential of the unit, under $CREDENTIALS_DIRECTORY. The caller frees *ret_path. */
_must_check_ int small_file_find(const char *name, char **ret_path, struct error *error);

/* Appends the whole file to `out`, whose maximum bounds it, and tells what it was. Never waits,
 * as for a FIFO. Negative errno, with `error` naming the file: -EINVAL where it isn't a regular
 * file, -EMSGSIZE where it is too large. */
_must_check_ int small_file_read(const char *path, struct buf *out, struct stat *ret_stat,
				 struct error *error);
