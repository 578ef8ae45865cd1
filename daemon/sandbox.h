/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The daemon's own filter of system calls. The unit's must allow what systemd and the start
 * need; this one holds for a daemon that runs, and only what it does then: no program, no
 * process, no listening, no name for a socket, no file opened for writing, no family of sockets
 * but IPv4, IPv6 and Unix. What is refused gets EPERM, or ENOSYS where the C library knows an
 * older call.
 *
 * Left out of a build with -Dseccomp=disabled, as sanitizers and valgrind need it:
 * sandbox_off.c. */

#include "macro.h"

/* Control thread, once, when the listeners are bound and the threads run: holds for all
 * threads, those too that are made later, and can't be taken back. -ENOMEM: no memory; else
 * -errno: this kernel or container has no filters, and nothing has changed. */
_must_check_ int sandbox_enter(void);
