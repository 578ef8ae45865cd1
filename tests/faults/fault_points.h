/* SPDX-License-Identifier: Apache-2.0 */
/* What the preloaded library and the test that drives it share: one page of a file that both
 * map. tests/faults/fault_points.py knows this layout, and reads the enums of this file by
 * name. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define FAULT_PAGE_VARIABLE                                                                    \
	"KMS_VSOCK_PROXY_FAULT_PAGE" /* the file's path, in the environment */
#define FAULT_FRAMES 40
#define FAULT_FRAME_SIZE 160

/* What can be made to fail. */
enum fault_kind {
	FAULT_ALLOCATION, /* malloc() and all its kin */
	FAULT_SECURE,     /* of OpenSSL's secure heap */
	FAULT_ACCEPT,
	FAULT_SOCKET,
	FAULT_CONNECT,
	FAULT_SEND, /* send, sendto, sendmsg, write, writev */
	FAULT_RECV, /* recv, recvfrom, recvmsg, read, readv */
	FAULT_EPOLL_WAIT,
	FAULT_EPOLL_CTL,
	FAULT_POLL,
	FAULT_RANDOM, /* getrandom, getentropy */
	FAULT_EVENTFD_WRITE,
	FAULT_EVENTFD_READ,
	FAULT_DESCRIPTOR, /* eventfd, socketpair, pipe */
	FAULT_OPEN,       /* open, openat, fopen */
	FAULT_SOCKET_OPTION,
	FAULT_SOCKET_NAME, /* getsockname, getpeername */
	FAULT_THREAD,
	_FAULT_KIND_MAX,
};

/* Whose calls: bits of `threads`. */
enum fault_thread {
	FAULT_CONTROL,
	FAULT_WORKER,
	FAULT_AUDIT,
	FAULT_RESOLVER, /* every other thread */
	_FAULT_THREAD_MAX,
};

#define FAULT_SHORT (-1) /* as an error: the call is made, with one byte */

/* The test writes what is not atomic while `armed` is 0. */
struct fault_page {
	_Atomic uint32_t ready; /* set by the library when it has mapped the page */
	_Atomic uint32_t armed;
	uint32_t kind;
	uint32_t threads;
	int32_t error;        /* an errno, or FAULT_SHORT */
	uint32_t times;       /* so many calls in a row fail */
	_Atomic int64_t left; /* calls until the one that fails: 1 is the next */
	_Atomic uint32_t fired;
	_Atomic uint32_t n_frames; /* of the first that failed; set when the frames are there */
	_Atomic int64_t live;      /* allocations that are not freed */
	_Atomic int64_t live_bytes;
	_Atomic uint64_t calls[_FAULT_THREAD_MAX][_FAULT_KIND_MAX];
	char frames[FAULT_FRAMES][FAULT_FRAME_SIZE];
};
