/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Drop-ins become part of the main file's tree: their enclaves are appended to its own, so that
 * all that reads the tree sees one mapping. Each node keeps its own file, line and column. */

#include "document.h"
#include "texts.h"

/* Reads each text after the first, and puts its enclaves into `d`, which the first was read to.
 * Faults are findings. 0, also with errors that leave the tree readable; -EINVAL when they
 * don't; -ENOMEM. */
_must_check_ int merge_dropins(struct document *d, const struct config_texts *texts,
			       struct findings *findings);
