/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the texts of a configuration may look like. Pure. */

#include "slice.h"

#include <stdbool.h>

bool syntax_name(struct slice s);   /* an enclave, endpoint or rule */
bool syntax_host(struct slice s);   /* RFC 1123 2.1, lower case, no IP address */
bool syntax_region(struct slice s); /* letters, digits and dashes; ends in a digit */
bool syntax_region_or_instance(struct slice s);
bool syntax_path(struct slice s);      /* absolute */
bool syntax_unix_path(struct slice s); /* the same, and fits struct sockaddr_un */
bool syntax_fd_name(struct slice s);   /* sd_listen_fds_with_names(3) */
bool syntax_group(struct slice s);
bool syntax_role(struct slice s); /* of IAM: [A-Za-z0-9_+=,.@-]{1,64} */
bool syntax_credentials_file(
	struct slice s);              /* a path, or a name under $CREDENTIALS_DIRECTORY */
bool syntax_kms_name(struct slice s); /* of an action or a member: [A-Z][A-Za-z0-9]{0,63} */
bool syntax_proxy(struct slice s, struct slice *ret_host,
		  unsigned *ret_port);     /* http://HOST:PORT; as syntax_host_port() */
bool syntax_imds_endpoint(struct slice s); /* http://HOST[:PORT] */
bool syntax_container_uri(struct slice s); /* as the AWS SDKs allow it */

/* Splits NAME:PORT, ADDRESS:PORT or [IPV6]:PORT; *ret_host is without brackets. False, with
 * both untouched, when it is none of them. */
_must_check_ bool syntax_host_port(struct slice s, struct slice *ret_host, unsigned *ret_port);

/* An address as inet_pton(3) takes it, without brackets. */
bool syntax_is_ip(struct slice s);

enum key_form {
	KEY_BAD = 0,
	KEY_ID, /* UUID or mrk-... */
	KEY_ARN,
	KEY_ALIAS, /* alias/NAME */
	KEY_ALIAS_ARN,
};

/* How a key is named; for an ARN also its partition and region. */
enum key_form syntax_key(struct slice s, struct slice *ret_partition, struct slice *ret_region);
