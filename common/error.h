/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One sentence for a person who must fix something: it has the file, line, value or limit. */

#include "macro.h"

struct error {
	char text[512]; /* "" while there is no error */
};

/* Formats the sentence; what doesn't fit is cut. Returns -EINVAL, so that a caller can write
 * `return error_set(error, "...")`. `error` may be NULL: then only the code is returned. */
_printf_(2, 3) int error_set(struct error *error, const char *format, ...);

/* The same for a machine failure: appends ": " and the text of errno value -r; returns r. */
_printf_(3, 4) int error_set_errno(struct error *error, int r, const char *format, ...);
