/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The streams of a pretended enclave: each joins a Unix socket of a test with one vsock stream
 * from (our CID, source port) to (host, port). What the test writes goes out within the credit
 * that the host grants; what the host sends is held until the test reads it, so that a test
 * that never reads is an enclave that grants no credit. */

#include "vhost_device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct streams;

/* `window`: bytes the host may send ahead of a test's reading. */
struct streams *streams_new(struct vhost_device *device, uint64_t cid, uint32_t window);

/* Asks the host for a stream to its port; source_port 0: the next free one. The streams own the
 * non-blocking socket from now on. It gets "OK SOURCE-PORT\n" and then the stream's bytes, or
 * "ERR refused\n" and the end. */
void streams_connect(struct streams *streams, int fd, uint32_t port, uint32_t source_port);

/* Resets a stream as a crashing program would; its socket is closed. False: there is none. */
bool streams_reset(struct streams *streams, uint32_t source_port);

/* Tells the host that no more is received (VIRTIO_VSOCK_SHUTDOWN_RCV), sent (.._SEND), or both,
 * and changes nothing on this side: the test's socket stays, for what the host still says.
 * False: there is no such stream. */
bool streams_shutdown(struct streams *streams, uint32_t source_port, uint32_t directions);

/* Sends a connection request whose source is another CID. Nothing ever answers it. */
void streams_spoof(struct streams *streams, uint64_t cid, uint32_t port);

/* A packet came from the host: a vhost_handler, userdata is the streams. */
void streams_packet(void *streams, const struct virtio_vsock_hdr *header,
		    const unsigned char *data);

/* The descriptor that is readable while a stream's socket has work, and the doing of it. */
int streams_fd(const struct streams *streams);
void streams_dispatch(struct streams *streams);
