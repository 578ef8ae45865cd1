/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAMS_MAX 4096
#define EVENTS_A_TURN 64 /* fewer than a queue holds: the host must never wait for us */
#define FIRST_SOURCE_PORT 49152
#define SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

enum state { FREE, CONNECTING, OPEN };

struct stream {
	enum state state;
	int fd;
	uint32_t port;        /* the host's */
	uint32_t source_port; /* ours */
	uint32_t watched;     /* the epoll events asked for; see WATCH_NOTHING */
	uint32_t host_window; /* the host's buffer, */
	uint32_t host_read;   /* what it has taken out of it, */
	uint32_t sent;        /* and what we have sent: all three modulo 2^32 */
	uint32_t written;     /* host's bytes that the test's socket has taken */
	uint32_t announced;   /* ... of which the host has been told */
	uint32_t shut;        /* directions the host has shut down */
	bool ended;           /* the test has shut its side down */
	unsigned char *held;  /* host's bytes not yet written: held[held_start..held_end) */
	size_t held_start, held_end, held_size;
};

#define WATCH_NOTHING UINT32_MAX /* not even that the socket hung up */

struct streams {
	struct vhost_device *device;
	uint64_t cid;
	uint32_t window;
	uint32_t next_port;
	int epoll;
	struct stream stream[STREAMS_MAX];
};

struct streams *streams_new(struct vhost_device *device, uint64_t cid, uint32_t window)
{
	struct streams *streams = calloc(1, sizeof *streams);

	if (!streams)
		die("calloc");
	streams->device = device;
	streams->cid = cid;
	streams->window = window;
	streams->next_port = FIRST_SOURCE_PORT;
	streams->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (streams->epoll < 0)
		die("epoll");
	return streams;
}

int streams_fd(const struct streams *streams)
{
	return streams->epoll;
}

static struct stream *find_port(struct streams *streams, uint32_t source_port)
{
	for (size_t i = 0; i < STREAMS_MAX; i++) {
		struct stream *stream = &streams->stream[i];

		if (stream->state != FREE && stream->source_port == source_port)
			return stream;
	}
	return NULL;
}

static struct stream *find_free(struct streams *streams)
{
	for (size_t i = 0; i < STREAMS_MAX; i++) {
		if (streams->stream[i].state == FREE)
			return &streams->stream[i];
	}
	return NULL;
}

static void send_packet(struct streams *streams, struct stream *stream, uint16_t op,
			uint32_t flags, const void *data, size_t n)
{
	struct virtio_vsock_hdr header = {
		.src_cid = streams->cid,
		.dst_cid = VMADDR_CID_HOST,
		.src_port = stream->source_port,
		.dst_port = stream->port,
		.len = (uint32_t)n,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = streams->window,
		.fwd_cnt = stream->written,
	};

	stream->announced = stream->written;
	vhost_device_send(streams->device, &header, data);
}

static void stream_drop(struct stream *stream)
{
	close(stream->fd); /* epoll forgets it too */
	free(stream->held);
	*stream = (struct stream){.state = FREE};
}

static void stream_reset(struct streams *streams, struct stream *stream)
{
	send_packet(streams, stream, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	stream_drop(stream);
}

static uint32_t stream_credit(const struct stream *stream)
{
	uint32_t in_flight = stream->sent - stream->host_read;

	return stream->host_window > in_flight ? stream->host_window - in_flight : 0;
}

/* What to wait for follows from the state alone. A socket that is watched for nothing else is
 * still watched for having hung up, but while its bytes can't go anywhere that would spin. */
static uint32_t stream_wants(const struct stream *stream)
{
	uint32_t events = stream->held_end > stream->held_start ? EPOLLOUT : 0;

	if (stream->state != OPEN)
		return WATCH_NOTHING;
	if (stream->ended)
		return events;
	if (stream_credit(stream) > 0 && !(stream->shut & VIRTIO_VSOCK_SHUTDOWN_RCV))
		return events | EPOLLIN;
	return events ? events : WATCH_NOTHING;
}

static void stream_watch(struct streams *streams, struct stream *stream)
{
	struct epoll_event event = {.data.ptr = stream};
	uint32_t wanted;
	int op = EPOLL_CTL_MOD;

	if (stream->state == FREE)
		return;
	wanted = stream_wants(stream);
	if (wanted == stream->watched)
		return;
	if (wanted == WATCH_NOTHING)
		op = EPOLL_CTL_DEL;
	else if (stream->watched == WATCH_NOTHING)
		op = EPOLL_CTL_ADD;
	event.events = wanted;
	if (epoll_ctl(streams->epoll, op, stream->fd, &event) < 0)
		die("epoll_ctl");
	stream->watched = wanted;
}

void streams_connect(struct streams *streams, int fd, uint32_t port, uint32_t source_port)
{
	struct stream *stream = find_free(streams);

	if (!source_port)
		source_port = streams->next_port++;
	if (!stream || find_port(streams, source_port)) {
		(void)!send(fd, "ERR in use\n", 11, MSG_NOSIGNAL);
		close(fd);
		return;
	}
	*stream = (struct stream){
		.state = CONNECTING,
		.fd = fd,
		.port = port,
		.source_port = source_port,
		.watched = WATCH_NOTHING,
	};
	send_packet(streams, stream, VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
}

bool streams_reset(struct streams *streams, uint32_t source_port)
{
	struct stream *stream = find_port(streams, source_port);

	if (!stream)
		return false;
	stream_reset(streams, stream);
	return true;
}

bool streams_shutdown(struct streams *streams, uint32_t source_port, uint32_t directions)
{
	struct stream *stream = find_port(streams, source_port);

	if (!stream)
		return false;
	send_packet(streams, stream, VIRTIO_VSOCK_OP_SHUTDOWN, directions & SHUTDOWN_BOTH, NULL,
		    0);
	return true;
}

void streams_spoof(struct streams *streams, uint64_t cid, uint32_t port)
{
	struct virtio_vsock_hdr header = {
		.src_cid = cid,
		.dst_cid = VMADDR_CID_HOST,
		.src_port = streams->next_port++,
		.dst_port = port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = VIRTIO_VSOCK_OP_REQUEST,
		.buf_alloc = streams->window,
	};

	vhost_device_send(streams->device, &header, NULL);
}

/* Gives the test what is held, as far as its socket takes it. May drop the stream. */
static void stream_flush(struct streams *streams, struct stream *stream)
{
	while (stream->held_start < stream->held_end) {
		ssize_t n = send(stream->fd, stream->held + stream->held_start,
				 stream->held_end - stream->held_start,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			stream_reset(streams, stream);
			return;
		}
		stream->held_start += (size_t)n;
		stream->written += (uint32_t)n;
		if (stream->written - stream->announced >= streams->window / 4)
			send_packet(streams, stream, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	}
	stream->held_start = stream->held_end = 0;
	if (stream->shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		shutdown(stream->fd, SHUT_WR);
	/* The host has closed: a guest's kernel confirms with a reset. */
	if (stream->shut == SHUTDOWN_BOTH)
		stream_reset(streams, stream);
}

static void stream_hold(struct stream *stream, const unsigned char *data, size_t n)
{
	if (stream->held_end + n > stream->held_size) {
		stream->held_size = stream->held_end + n + VHOST_PACKET_MAX;
		stream->held = realloc(stream->held, stream->held_size);
		if (!stream->held)
			die("realloc");
	}
	memcpy(stream->held + stream->held_end, data, n);
	stream->held_end += n;
}

static void stream_opened(struct streams *streams, struct stream *stream)
{
	char text[32];
	int n = snprintf(text, sizeof text, "OK %u\n", stream->source_port);

	stream->state = OPEN;
	if (send(stream->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		stream_reset(streams, stream);
}

static void stream_refused(struct streams *streams, struct stream *stream)
{
	if (stream->state == CONNECTING)
		(void)!send(stream->fd, "ERR refused\n", 12, MSG_NOSIGNAL);
	else
		stream_flush(streams, stream);
	if (stream->state != FREE)
		stream_drop(stream);
}

static void reject(struct streams *streams, const struct virtio_vsock_hdr *packet)
{
	struct stream nobody = {.port = packet->src_port, .source_port = packet->dst_port};

	if (packet->op != VIRTIO_VSOCK_OP_RST)
		send_packet(streams, &nobody, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
}

void streams_packet(void *userdata, const struct virtio_vsock_hdr *header,
		    const unsigned char *data)
{
	struct streams *streams = userdata;
	struct stream *stream = find_port(streams, header->dst_port);

	if (!stream || stream->port != header->src_port) {
		reject(streams, header);
		return;
	}
	stream->host_window = header->buf_alloc;
	stream->host_read = header->fwd_cnt;
	switch (header->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		stream_opened(streams, stream);
		break;
	case VIRTIO_VSOCK_OP_RST:
		stream_refused(streams, stream);
		break;
	case VIRTIO_VSOCK_OP_RW:
		stream_hold(stream, data, header->len);
		stream_flush(streams, stream);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		stream->shut |= header->flags & SHUTDOWN_BOTH;
		stream_flush(streams, stream);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		send_packet(streams, stream, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
		break;
	default:
		break;
	}
	stream_watch(streams, stream);
}

/* Sends on what the test wrote, one packet. May drop the stream. is_closed: the test's socket
 * is, so that its end will be told as a close. */
static void stream_forward(struct streams *streams, struct stream *stream, bool is_closed)
{
	unsigned char data[VHOST_DATA_MAX];
	size_t room = stream_credit(stream);
	ssize_t n;

	n = recv(stream->fd, data, room < sizeof data ? room : sizeof data, MSG_DONTWAIT);
	if (n > 0) {
		stream->sent += (uint32_t)n;
		send_packet(streams, stream, VIRTIO_VSOCK_OP_RW, 0, data, (size_t)n);
	} else if (n == 0) {
		stream->ended = true;
		if (!is_closed)
			send_packet(streams, stream, VIRTIO_VSOCK_OP_SHUTDOWN,
				    VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	} else if (errno != EAGAIN && errno != EINTR) {
		stream_reset(streams, stream);
	}
}

static void stream_event(struct streams *streams, struct stream *stream, uint32_t events)
{
	if (events & EPOLLOUT)
		stream_flush(streams, stream);
	if (stream->state == OPEN && !stream->ended && stream_credit(stream) > 0)
		stream_forward(streams, stream, events & EPOLLHUP);
	/* The test closed its socket, or shut both directions of it down, and all of its bytes
	 * are out: a kernel says so in one packet. What the host still says gets a reset. */
	if (stream->state == OPEN && stream->ended && (events & EPOLLHUP)) {
		send_packet(streams, stream, VIRTIO_VSOCK_OP_SHUTDOWN, SHUTDOWN_BOTH, NULL, 0);
		stream_drop(stream);
	}
	stream_watch(streams, stream);
}

void streams_dispatch(struct streams *streams)
{
	struct epoll_event events[EVENTS_A_TURN];
	int n = epoll_wait(streams->epoll, events, EVENTS_A_TURN, 0);

	for (int i = 0; i < n; i++) {
		struct stream *stream = events[i].data.ptr;

		/* Dropped by an earlier event of this turn; a new one isn't watched yet. */
		if (stream->state == OPEN && stream->watched != WATCH_NOTHING)
			stream_event(streams, stream, events[i].events);
	}
}
