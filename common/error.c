/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *error, const char *format, ...)
{
	va_list args;

	if (!error)
		return -EINVAL;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return -EINVAL;
}

int error_set_errno(struct error *error, int r, const char *format, ...)
{
	va_list args;
	size_t n;

	if (!error)
		return r;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	n = strlen(error->text);
	snprintf(error->text + n, sizeof(error->text) - n, ": %s", strerrordesc_np(-r) ?: "?");
	return r;
}
