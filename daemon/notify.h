/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What we tell the service manager (sd_notify(3)). Without one all of it does nothing. The
 * control thread's. */

#include "clock.h"

/* Started, or a reload is over. `status` is the line that `systemctl status` shows. */
void notify_ready(const char *status);

/* A reload begins; notify_ready() ends it, also when it failed. */
void notify_reloading(void);

void notify_stopping(const char *status);
void notify_status(const char *status);

/* The daemon is alive: at least twice in the unit's WatchdogSec=. */
void notify_watchdog(void);

/* What comes may keep the daemon from that for `time`, where the manager has a watchdog at all;
 * notify_watchdog_again() ends it. */
void notify_watchdog_wait(usec_t time);
void notify_watchdog_again(void);

/* What goes on now, start or stop, may take `more` from now on. */
void notify_extend_timeout(usec_t more);
