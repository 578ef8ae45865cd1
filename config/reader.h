/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the loader share: the document, the configuration that grows from it, and
 * the findings. A fault is reported and the reading goes on, so that one run finds all of them;
 * nothing here returns an error. */

#include "config.h"
#include "document.h"
#include "macro.h"
#include "options.h"

#include <stdbool.h>
#include <stdint.h>

struct reader {
	struct document document;
	struct config *config;
	const struct config_facts *facts;
	struct findings *findings;
	struct enclave_config *enclave; /* the one whose options are being read */
	bool slots_full;                /* it was said that there are too many */
	size_t compared;                /* what comparing rules has cost, of COVER_WORK */
	bool no_memory;                 /* what was read is not whole */
	bool endpoints_unsure;          /* not all of the rule's were read */
	uint32_t meant[_SECTION_MAX]; /* bit i: option i stands nearby under a wrong name or in
				       * a wrong place, which was reported */
};

_printf_(3, 4) void reader_error(struct reader *r, const yaml_node_t *at, const char *format,
				 ...);
_printf_(3, 4) void reader_warning(struct reader *r, const yaml_node_t *at, const char *format,
				   ...);

/* The value of that name in a mapping, or NULL; `map` may be NULL. */
const yaml_node_t *reader_member(const struct reader *r, const yaml_node_t *map,
				 const char *name);

/* The i-th key and value of a mapping that has them; the loader keeps the order of the file. */
const yaml_node_t *reader_pair_key(const struct reader *r, const yaml_node_t *map, size_t i);
const yaml_node_t *reader_pair_value(const struct reader *r, const yaml_node_t *map, size_t i);

/* Zeroed; NULL, with no_memory set, when there is none. */
void *reader_alloc(struct reader *r, size_t n, size_t size);
char *reader_text(struct reader *r, struct slice text);

/* Whether `node` is a list with something in it; if not, a finding says so. `name` is the
 * option's. */
bool reader_is_list(struct reader *r, const char *name, const yaml_node_t *node);

/* Whether `node` is text; if not, a finding says so. */
bool reader_is_text(struct reader *r, const char *name, const yaml_node_t *node);

/* Whether a mapping has a name that is no option of its section: what then seems to be missing
 * may be meant by it. */
bool reader_has_unknown(const struct reader *r, const yaml_node_t *map, enum section_id id);

/* Reads one option's value `node` into the section's struct `target`. */
typedef void option_reader(struct reader *r, const struct config_option *option,
			   const yaml_node_t *node, void *target);

/* load_policy.c: the options of a rule that are more than one scalar. */
option_reader read_actions;
option_reader read_keys;
option_reader read_context;
option_reader read_subset;
option_reader read_names;

/* slots.c: the CIDs of an enclave; and the slots of enclave `i`, which stands at `key` and
 * `node`, once its listeners are known. */
option_reader read_cids;
void reader_make_slots(struct reader *r, const yaml_node_t *key, const yaml_node_t *node,
		       size_t i);
void reader_check_unit(struct reader *r, const yaml_node_t *root);

/* validate.c: all that concerns more than one option. Fills in what follows from others: the
 * kind of a listener and its enclave, the host of an endpoint. */
void reader_validate(struct reader *r);

/* validate_here.c: what the file names and this machine must have. */
void reader_validate_here(struct reader *r, const yaml_node_t *root);

/* validate_enclave.c: that of the enclaves; `map` is theirs. */
void reader_validate_enclaves(struct reader *r, const yaml_node_t *map);

/* validate_tunnel.c: the proxy of an endpoint, or of a tunnel's host, whose mapping is `node`.
 */
void reader_validate_proxy(struct reader *r, const yaml_node_t *node,
			   const struct proxy_config *proxy, const char *host,
			   const char *connect_to);

/* That of one enclave's tunnel, whose mapping is `node` (NULL: none). */
void reader_validate_tunnel(struct reader *r, const yaml_node_t *node,
			    const struct tunnel_config *tunnel);
