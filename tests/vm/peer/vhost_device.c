/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define QUEUE_LENGTH 128
#define QUEUE_STUCK_MSEC                                                                       \
	20000 /* the host drains the send queue by itself; emulated, it is slow */

enum queue_index { RECEIVE, SEND, QUEUES };

/* Virtio 1.1, 2.6: the three parts of a split queue, laid one after the other. */
struct ring {
	struct vring_desc descriptors[QUEUE_LENGTH] __attribute__((aligned(16)));
	uint16_t avail_flags;
	uint16_t avail_index;
	uint16_t avail[QUEUE_LENGTH];
	uint16_t avail_event;
	uint16_t used_flags __attribute__((aligned(4096)));
	uint16_t used_index;
	struct vring_used_elem used[QUEUE_LENGTH];
	uint16_t used_event;
};

/* The memory of the pretended machine; its physical address 0 is the start of this struct. */
struct memory {
	struct ring ring[QUEUES] __attribute__((aligned(4096)));
	unsigned char packet[QUEUES][QUEUE_LENGTH][VHOST_PACKET_MAX]
		__attribute__((aligned(4096)));
};

struct queue {
	struct ring *ring;
	unsigned char (*packet)[VHOST_PACKET_MAX];
	int kick;      /* we tell the host */
	int call;      /* the host tells us */
	uint16_t seen; /* used_index up to which we have looked */
};

struct vhost_device {
	int fd;
	struct memory *memory;
	struct queue queue[QUEUES];
	uint16_t idle[QUEUE_LENGTH]; /* send buffers that hold nothing */
	unsigned n_idle;
};

_Noreturn void die(const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	fputs("vsock-guest: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(saved));
	va_end(args);
	exit(EXIT_FAILURE);
}

static void control(const struct vhost_device *device, const char *name, unsigned long request,
		    const void *argument)
{
	if (ioctl(device->fd, request, argument) < 0)
		die("%s", name);
}

#define CONTROL(device, request, argument) control(device, #request, request, argument)

static uint64_t address(const struct vhost_device *device, const void *p)
{
	return (uint64_t)((const unsigned char *)p - (const unsigned char *)device->memory);
}

static void share_memory(struct vhost_device *device)
{
	struct vhost_memory *table =
		calloc(1, sizeof *table + sizeof(struct vhost_memory_region));

	if (!table)
		die("calloc");
	device->memory = mmap(NULL, sizeof *device->memory, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (device->memory == MAP_FAILED)
		die("mmap");
	table->nregions = 1;
	table->regions[0] = (struct vhost_memory_region){
		.memory_size = sizeof *device->memory,
		.userspace_addr = (uintptr_t)device->memory,
	};
	CONTROL(device, VHOST_SET_MEM_TABLE, table);
	free(table);
}

static void open_queue(struct vhost_device *device, unsigned index)
{
	struct queue *queue = &device->queue[index];
	struct ring *ring = &device->memory->ring[index];
	struct vhost_vring_state length = {index, QUEUE_LENGTH}, base = {index, 0};
	struct vhost_vring_addr addresses = {
		.index = index,
		.desc_user_addr = (uintptr_t)ring->descriptors,
		.avail_user_addr = (uintptr_t)&ring->avail_flags,
		.used_user_addr = (uintptr_t)&ring->used_flags,
	};

	queue->ring = ring;
	queue->packet = device->memory->packet[index];
	queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->kick < 0 || queue->call < 0)
		die("eventfd");
	CONTROL(device, VHOST_SET_VRING_NUM, &length);
	CONTROL(device, VHOST_SET_VRING_BASE, &base);
	CONTROL(device, VHOST_SET_VRING_ADDR, &addresses);
	CONTROL(device, VHOST_SET_VRING_KICK, (&(struct vhost_vring_file){index, queue->kick}));
	CONTROL(device, VHOST_SET_VRING_CALL, (&(struct vhost_vring_file){index, queue->call}));
}

/* Makes a buffer available to the host. */
static void queue_offer(struct queue *queue, uint16_t buffer)
{
	struct ring *ring = queue->ring;

	ring->avail[ring->avail_index % QUEUE_LENGTH] = buffer;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&ring->avail_index, (uint16_t)(ring->avail_index + 1),
			 __ATOMIC_RELEASE);
}

/* Takes a buffer that the host is done with. */
static bool queue_take(struct queue *queue, uint16_t *ret_buffer)
{
	if (queue->seen == __atomic_load_n(&queue->ring->used_index, __ATOMIC_ACQUIRE))
		return false;
	*ret_buffer = (uint16_t)queue->ring->used[queue->seen++ % QUEUE_LENGTH].id;
	return true;
}

static void queue_kick(const struct queue *queue)
{
	uint64_t one = 1;

	if (write(queue->kick, &one, sizeof one) != sizeof one)
		die("kick");
}

static void queue_clear_call(const struct queue *queue)
{
	uint64_t count;

	if (read(queue->call, &count, sizeof count) < 0 && errno != EAGAIN)
		die("call");
}

static void fill_queues(struct vhost_device *device)
{
	struct queue *receive = &device->queue[RECEIVE];

	for (uint16_t i = 0; i < QUEUE_LENGTH; i++) {
		receive->ring->descriptors[i] = (struct vring_desc){
			.addr = address(device, receive->packet[i]),
			.len = VHOST_PACKET_MAX,
			.flags = VRING_DESC_F_WRITE,
		};
		queue_offer(receive, i);
		device->idle[device->n_idle++] = i;
	}
}

struct vhost_device *vhost_device_open(uint64_t cid)
{
	struct vhost_device *device = calloc(1, sizeof *device);
	uint64_t features = 0;

	if (!device)
		die("calloc");
	device->fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
	if (device->fd < 0)
		die("/dev/vhost-vsock");
	CONTROL(device, VHOST_SET_OWNER, NULL);
	CONTROL(device, VHOST_GET_FEATURES, &features);
	features &= 1ULL << VIRTIO_F_VERSION_1;
	CONTROL(device, VHOST_SET_FEATURES, &features);
	share_memory(device);
	for (unsigned i = 0; i < QUEUES; i++)
		open_queue(device, i);
	fill_queues(device);
	CONTROL(device, VHOST_VSOCK_SET_GUEST_CID, &cid);
	CONTROL(device, VHOST_VSOCK_SET_RUNNING, (&(int){1}));
	queue_kick(&device->queue[RECEIVE]);
	return device;
}

int vhost_device_fd(const struct vhost_device *device)
{
	return device->queue[RECEIVE].call;
}

static uint16_t idle_buffer(struct vhost_device *device)
{
	struct queue *queue = &device->queue[SEND];

	for (;;) {
		while (queue_take(queue, &device->idle[device->n_idle]))
			device->n_idle++;
		if (device->n_idle > 0)
			return device->idle[--device->n_idle];

		struct pollfd wait = {queue->call, POLLIN, 0};

		if (poll(&wait, 1, QUEUE_STUCK_MSEC) == 0) {
			errno = ETIMEDOUT;
			die("send queue");
		}
		queue_clear_call(queue);
	}
}

void vhost_device_send(struct vhost_device *device, const struct virtio_vsock_hdr *header,
		       const void *data)
{
	struct queue *queue = &device->queue[SEND];
	uint16_t buffer = idle_buffer(device);
	unsigned char *packet = queue->packet[buffer];

	memcpy(packet, header, sizeof *header);
	if (header->len > 0)
		memcpy(packet + sizeof *header, data, header->len);
	queue->ring->descriptors[buffer] = (struct vring_desc){
		.addr = address(device, packet),
		.len = (uint32_t)sizeof *header + header->len,
	};
	queue_offer(queue, buffer);
	queue_kick(queue);
}

void vhost_device_receive(struct vhost_device *device, vhost_handler handler, void *userdata)
{
	struct queue *queue = &device->queue[RECEIVE];
	uint16_t buffer;

	queue_clear_call(queue);
	while (queue_take(queue, &buffer)) {
		struct virtio_vsock_hdr header;

		memcpy(&header, queue->packet[buffer], sizeof header);
		handler(userdata, &header, queue->packet[buffer] + sizeof header);
		queue_offer(queue, buffer);
		queue_kick(queue);
	}
}
