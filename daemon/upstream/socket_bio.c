/* SPDX-License-Identifier: Apache-2.0 */
#include "socket_bio.h"

#include <errno.h>
#include <sys/socket.h>

static int socket_of(BIO *bio)
{
	return *(const int *)BIO_get_data(bio);
}

static int on_read(BIO *bio, char *p, size_t n, size_t *ret_n)
{
	ssize_t got;

	do
		got = recv(socket_of(bio), p, n, 0);
	while (got < 0 && errno == EINTR);
	BIO_clear_retry_flags(bio);
	if (got < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	if (got == 0)
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
	*ret_n = got > 0 ? (size_t)got : 0;
	return got > 0;
}

static int on_write(BIO *bio, const char *p, size_t n, size_t *ret_n)
{
	ssize_t put;

	do
		put = send(socket_of(bio), p, n, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	BIO_clear_retry_flags(bio);
	if (put < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	*ret_n = put > 0 ? (size_t)put : 0;
	return put > 0;
}

/* What TLS asks of it: nothing is kept back that could be flushed, and the end is told apart
 * from an error. */
static long on_control(BIO *bio, int what, long number, void *p)
{
	(void)number;
	(void)p;
	switch (what) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
	default:
		return 0;
	}
}

BIO_METHOD *socket_bio_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "socket");

	if (!method || !BIO_meth_set_read_ex(method, on_read) ||
	    !BIO_meth_set_write_ex(method, on_write) ||
	    !BIO_meth_set_ctrl(method, on_control)) {
		BIO_meth_free(method);
		return NULL;
	}
	return method;
}

BIO *socket_bio_new(const BIO_METHOD *method, int *fd)
{
	BIO *bio = BIO_new(method);

	if (!bio)
		return NULL;
	BIO_set_data(bio, fd);
	BIO_set_init(bio, 1);
	return bio;
}
