/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The socket under TLS. OpenSSL's own BIO for sockets calls read() and write(), which cost the
 * kernel more than recv() and send(), and raise SIGPIPE. */

#include "macro.h"

#include <openssl/bio.h>

/* Must outlive the BIOs that are made with it. NULL: no memory. To be freed by BIO_meth_free().
 */
BIO_METHOD *socket_bio_method(void);

/* On a connected, non-blocking socket, which stays its owner's; *fd must outlive the BIO. NULL:
 * no memory. */
BIO *socket_bio_new(const BIO_METHOD *method, int *fd);
