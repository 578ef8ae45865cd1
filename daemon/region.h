/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `region: instance`: the region that IMDS says this instance is in. It is asked for at the
 * start, until it is known, and never again: an instance stays where it is. */

#include "config.h"
#include "error.h"
#include "macro.h"

#include <event2/event.h>

#define REGION_SIZE 33

enum region_state {
	REGION_IDLE = 0, /* not asked for, or known */
	REGION_WAITING,
	REGION_REREAD, /* the file may be another */
	REGION_STOPPED,
};

/* The control thread's. Zeroed at first; nothing to be freed between calls. */
struct region {
	char text[REGION_SIZE]; /* "": not known */
	enum region_state state;
	struct event_base *base; /* while it is asked for */
};

/* If *config needs the region, runs the loop until it is known; tells systemd and the journal
 * why it waits. Then *config is the file read anew with it, and its findings are reported. 0;
 * 1: a signal ended it; negative errno, reported. */
_must_check_ int region_settle(struct region *region, struct event_base *base, const char *path,
			       struct config **config);

/* A signal that came. True while region_settle() runs, which sees to it: SIGHUP has it read the
 * file again, SIGTERM and SIGINT end it. */
_must_check_ bool region_take_signal(struct region *region, int number);

/* For a reload: what is known, and never asked for again. */
struct config_facts region_facts(const struct region *region);

/* Asks once, on a loop of its own: some seconds at most. 0 or negative errno with an error. */
_must_check_ int region_ask(const struct credentials_config *config, char *ret_region,
			    struct error *error);
