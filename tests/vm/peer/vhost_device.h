/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A virtio-vsock device without a machine behind it: we play the driver's side of
 * /dev/vhost-vsock, so the kernel takes us for a virtual machine with a CID, and an ordinary
 * AF_VSOCK listener of this host sees peers with that CID. Virtio 1.1, 2.6 (split queues) and
 * 5.10 (socket device); feature VIRTIO_F_VERSION_1 only.
 *
 * A tool of the tests: a machine failure ends the program with a sentence on stderr. */

#include <linux/virtio_vsock.h>
#include <stdint.h>

#define VHOST_PACKET_MAX 16384 /* of one packet, its header included */
#define VHOST_DATA_MAX (VHOST_PACKET_MAX - sizeof(struct virtio_vsock_hdr))

struct vhost_device;

/* Takes the CID until the process ends; one that is taken is a failure. */
struct vhost_device *vhost_device_open(uint64_t cid);

/* Readable when packets have arrived. Edge: call vhost_device_receive to the end. */
int vhost_device_fd(const struct vhost_device *device);

/* Sends one packet; the header is taken as it is, also a source that isn't ours (the kernel is
 * to drop it). Waits while the queue is full. data holds header->len bytes. */
void vhost_device_send(struct vhost_device *device, const struct virtio_vsock_hdr *header,
		       const void *data);

/* Calls the handler with each packet that has arrived; it may send. */
typedef void (*vhost_handler)(void *userdata, const struct virtio_vsock_hdr *header,
			      const unsigned char *data);
void vhost_device_receive(struct vhost_device *device, vhost_handler handler, void *userdata);

/* Says the sentence with the text of errno and ends the program. */
_Noreturn __attribute__((format(printf, 1, 2))) void die(const char *format, ...);
