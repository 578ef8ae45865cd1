/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether this machine has what a configuration names, as the daemon would find it that runs as
 * this user: for --check-config. Opens and reads; changes nothing. */

#include "config.h"

config_look here_look;

/* config_load(), after IMDS was asked for the region where the configuration needs it: what it
 * says, or why it says nothing, is put into the facts. Makes the heap for secrets. */
_must_check_ int here_load(const char *path, struct config_facts *facts,
			   struct config **ret_config, struct findings *findings);
