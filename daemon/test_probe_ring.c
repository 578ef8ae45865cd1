/* SPDX-License-Identifier: Apache-2.0 */
#include "test_probe.h"

#ifdef TEST_HOOKS

#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_BYTES 4096 /* two entries of each queue need less */

static void *map(int ring, off_t what)
{
	return mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring, what);
}

/* Submits one entry and waits for what becomes of it. */
static int submit(int ring, const struct io_uring_params *p, const struct io_uring_sqe *entry)
{
	char *sq = map(ring, IORING_OFF_SQ_RING), *cq = map(ring, IORING_OFF_CQ_RING);
	struct io_uring_sqe *entries = map(ring, IORING_OFF_SQES);
	int r = -ENOMEM;

	if (sq != MAP_FAILED && cq != MAP_FAILED && entries != MAP_FAILED) {
		entries[0] = *entry;
		((uint32_t *)(void *)(sq + p->sq_off.array))[0] = 0;
		__atomic_store_n((uint32_t *)(void *)(sq + p->sq_off.tail), 1,
				 __ATOMIC_RELEASE);
		r = (int)syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL,
				 0);
		r = r < 0 ? -errno
			  : ((struct io_uring_cqe *)(void *)(cq + p->cq_off.cqes))[0].res;
	}
	if (sq != MAP_FAILED)
		munmap(sq, RING_BYTES);
	if (cq != MAP_FAILED)
		munmap(cq, RING_BYTES);
	if (entries != MAP_FAILED)
		munmap(entries, RING_BYTES);
	return r;
}

int test_probe_ring_socket(int family, int type)
{
	struct io_uring_sqe entry = {
		.opcode = IORING_OP_SOCKET,
		.fd = family,
		.off = (unsigned)type,
	};
	struct io_uring_params p = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 2, &p);
	int r;

	if (ring < 0)
		return -errno;
	r = submit(ring, &p, &entry);
	close(ring);
	return r;
}

#endif
