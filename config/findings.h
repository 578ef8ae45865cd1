/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Findings about a configuration file: collected while it is read, kept in the order of the
 * file. struct findings itself is in config.h. */

#include "config.h"
#include "macro.h"
#include "slice.h"

#include <stdbool.h>

#define FINDINGS_MAX 500 /* a file that is wrong throughout is not quoted throughout */

/* Where in a file, from 1; line 0 is the file as a whole. */
struct place {
	unsigned line, column;
	unsigned file; /* 0: the one that is being read */
};

/* The file of that name is read from here on: its number goes up from 1, the main file's being
 * 0. 0 or -ENOMEM. */
_must_check_ int findings_begin_file(struct findings *findings, const char *name);

/* When memory runs out the finding is lost, but n_errors still counts it. */
_printf_(4, 5) void findings_add(struct findings *findings, bool warning, struct place at,
				 const char *format, ...);

/* A value for a message: escaped, and cut to fit. */
#define CLIP 120
#define CLIPPED(s) slice_escape((s), (char[CLIP]){0}, CLIP)
