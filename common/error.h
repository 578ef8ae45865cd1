/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One sentence for a person who must fix something: it has the file, line, value or limit. */

#include "macro.h"

#include <errno.h>

struct error {
	char text[512]; /* "" while there is no error */
};

/* Formats the sentence; what doesn't fit is cut. Is -EINVAL, so that a caller can write
 * `return error_set(error, "...")`. `error` may be NULL: then there is only the code. A macro,
 * so that an analyzer that sees only the caller knows that an error is never taken for success.
 */
#define error_set(error, ...) error_returns((error_format((error), __VA_ARGS__), -EINVAL))
_printf_(2, 3) void error_format(struct error *error, const char *format, ...);

/* The same for a machine failure: appends ": " and the text of errno value -r; is r. */
#define error_set_errno(error, r, ...)                                                         \
	({                                                                                     \
		int _r = (r);                                                                  \
		error_format_errno((error), _r, __VA_ARGS__);                                  \
		error_returns(_r);                                                             \
	})
_printf_(3, 4) void error_format_errno(struct error *error, int r, const char *format, ...);

/* Unlike a bare value it may be left unused. */
static inline int error_returns(int r)
{
	return r;
}
