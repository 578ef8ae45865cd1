/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Texts as YAML scalars, for --print-config. */

#include "slice.h"

#include <stdio.h>

/* As it is, or in double quotes where that could be taken for something else. */
void quote_text(struct slice text, FILE *f);

/* The same for the canonical JSON form of a text, always in quotes. */
void quote_canonical(const char *text, FILE *f);
