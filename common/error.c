/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void error_format(struct error *error, const char *format, ...)
{
	va_list args;

	if (!error)
		return;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
}

void error_format_errno(struct error *error, int r, const char *format, ...)
{
	va_list args;
	size_t n;

	if (!error)
		return;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	n = strlen(error->text);
	snprintf(error->text + n, sizeof(error->text) - n, ": %s", strerrordesc_np(-r) ?: "?");
}
