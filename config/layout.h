/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a person did to lines and columns, where libyaml has found that a text is not YAML: it
 * says which character it can't take, often of a line too late. This never decides whether a
 * text is YAML; it says what an error that is there already came of. Pure. */

#include "findings.h"
#include "slice.h"

#define LAYOUT_SENTENCE 200

/* False when there is nothing better to say of the error at `at` than what libyaml says. Else
 * *ret_place and `out`, which has LAYOUT_SENTENCE bytes, are where the mistake is and which. */
bool layout_explain(struct slice text, struct place at, struct place *ret_place, char *out);

/* NAME:VALUE where NAME is an option: a space is missing. Returns the option's name, or NULL.
 */
const char *layout_glued_option(struct slice text);
