/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether this machine has what a configuration names, as the daemon would find it that runs as
 * this user: for --check-config. Opens and reads; changes nothing. */

#include "config.h"

config_look here_look;
