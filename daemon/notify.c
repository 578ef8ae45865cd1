/* SPDX-License-Identifier: Apache-2.0 */
#include "notify.h"

#include <inttypes.h>
#include <systemd/sd-daemon.h>

/* Failures are ignored on purpose: there is nothing left to do about them, and what systemd
 * doesn't hear it treats as a failure by itself. */

void notify_ready(const char *status)
{
	(void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

/* The time tells systemd 253 and newer that a READY=1 sent before this is not the end of the
 * reload; 252 ignores it. */
void notify_reloading(void)
{
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIi64, clock_monotonic());
}

void notify_stopping(const char *status)
{
	(void)sd_notifyf(0, "STOPPING=1\nSTATUS=%s", status);
}

void notify_status(const char *status)
{
	(void)sd_notifyf(0, "STATUS=%s", status);
}

void notify_watchdog(void)
{
	(void)sd_notify(0, "WATCHDOG=1");
}

void notify_watchdog_wait(usec_t time)
{
	if (sd_watchdog_enabled(0, NULL) > 0)
		(void)sd_notifyf(0, "WATCHDOG=1\nWATCHDOG_USEC=%" PRIi64, time);
}

void notify_watchdog_again(void)
{
	uint64_t usec;

	if (sd_watchdog_enabled(0, &usec) > 0)
		(void)sd_notifyf(0, "WATCHDOG=1\nWATCHDOG_USEC=%" PRIu64, usec);
}

void notify_extend_timeout(usec_t more)
{
	(void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIi64, more);
}
