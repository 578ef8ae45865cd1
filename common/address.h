/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* Whether a name from DNS must not lead here: this host (0/8, 127/8, ::, ::1), link-local
 * (169.254/16, fe80::/10) and metadata (fd00:ec2::/32) addresses, multicast and broadcast, also
 * in their IPv4-mapped and -compatible forms; and any family but IPv4 and IPv6. Private
 * addresses pass: VPC endpoints have them. */
bool address_is_refused(const struct sockaddr *address, socklen_t n);

/* Whether a place to connect to is an IP address, which needs no lookup. */
bool address_is_literal(const char *host);
