/* SPDX-License-Identifier: Apache-2.0 */
#include "pump.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void pump_init(struct pump *p, int enclave_fd, int host_fd)
{
	*p = (struct pump){0};
	p->ends[0] = (struct pump_end){enclave_fd, true, true};
	p->ends[1] = (struct pump_end){host_fd, true, true};
	for (unsigned i = 0; i < ELEMENTSOF(p->ways); i++)
		p->ways[i].held = BUF_INIT(PUMP_READ);
}

void pump_done(struct pump *p)
{
	for (unsigned i = 0; i < ELEMENTSOF(p->ways); i++)
		buf_done(&p->ways[i].held);
}

int pump_prepend(struct pump *p, unsigned i, struct slice bytes)
{
	return buf_append(&p->ways[i].held, bytes);
}

/* Bytes written; -EAGAIN when there is no room; another negative errno when the end broke. */
static ssize_t end_write(struct pump_end *e, struct slice bytes)
{
	ssize_t n;

	do
		n = send(e->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		e->writable = false;
	return n < 0 ? -errno : n;
}

static ssize_t end_read(struct pump_end *e, char *p, size_t n)
{
	ssize_t got;

	do
		got = recv(e->fd, p, n, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		e->readable = false;
	return got < 0 ? -errno : got;
}

/* What one step of a way came to. */
enum step { STEP_BROKEN, STEP_NO_MEMORY, STEP_MOVED, STEP_STUCK };

static enum step write_held(struct pump_way *way, struct pump_end *sink, usec_t now)
{
	ssize_t n = end_write(sink, buf_slice(&way->held));

	if (n == -EAGAIN) {
		way->held_since = way->held_since ?: now;
		return STEP_STUCK;
	}
	if (n < 0)
		return STEP_BROKEN;
	way->bytes += (uint64_t)n;
	buf_consume(&way->held, (size_t)n);
	way->held_since = way->held.n ? now : 0;
	if (way->held.n == 0)
		buf_done(&way->held);
	return STEP_MOVED;
}

/* The sink has taken all there was. */
static enum step tell_end(struct pump_way *way, struct pump_end *sink)
{
	if (way->told)
		return STEP_STUCK;
	way->told = true;
	/* ENOTCONN: it has gone already, which its own way will find out. */
	(void)shutdown(sink->fd, SHUT_WR);
	return STEP_MOVED;
}

/* Of a whole record of TLS 1.0 to 1.2, or of what comes before the keys of 1.3; one that is
 * encrypted ends in these bytes by an accident that no record is worth. */
static int alert_at_end(const char *p, size_t n)
{
	enum { RECORD = 7 };
	static const unsigned char head[] = {0x15, 0x03}, rest[] = {0x00, 0x02, 0x02};

	if (n < RECORD)
		return 0;
	p += n - RECORD;
	if (memcmp(p, head, sizeof(head)) != 0 || memcmp(p + 3, rest, sizeof(rest)) != 0)
		return 0;
	return (unsigned char)p[RECORD - 1] + 1;
}

/* One read, written on at once as far as there is room. *ret_end is the end to blame. */
static enum step move(struct pump *p, unsigned i, char *scratch, size_t *budget, usec_t now,
		      unsigned *ret_end)
{
	struct pump_way *way = &p->ways[i];
	struct pump_end *sink = &p->ends[1 - i];
	ssize_t n, written = 0;
	int r;

	*ret_end = i;
	n = end_read(&p->ends[i], scratch, MIN(*budget, (size_t)PUMP_READ));
	if (n == -EAGAIN)
		return STEP_STUCK;
	if (n < 0)
		return STEP_BROKEN;
	if (n == 0) {
		way->ended = true;
		return STEP_MOVED;
	}
	*budget -= (size_t)n;
	way->alert = alert_at_end(scratch, (size_t)n);

	*ret_end = 1 - i;
	if (sink->writable)
		written = end_write(sink, (struct slice){scratch, (size_t)n});
	if (written < 0 && written != -EAGAIN)
		return STEP_BROKEN;
	written = MAX(written, (ssize_t)0);
	way->bytes += (uint64_t)written;
	if (written == n)
		return STEP_MOVED;
	r = buf_append(&way->held, (struct slice){scratch + written, (size_t)(n - written)});
	way->held_since = now;
	return r < 0 ? STEP_NO_MEMORY : STEP_MOVED;
}

/* Everything that decides what a way does next stands here. */
static enum step step(struct pump *p, unsigned i, char *scratch, size_t *budget, usec_t now,
		      unsigned *ret_end)
{
	struct pump_way *way = &p->ways[i];
	struct pump_end *source = &p->ends[i], *sink = &p->ends[1 - i];

	*ret_end = 1 - i;
	if (way->held.n)
		return sink->writable ? write_held(way, sink, now) : STEP_STUCK;
	if (way->ended)
		return tell_end(way, sink);
	if (!source->readable || *budget == 0)
		return STEP_STUCK;
	return move(p, i, scratch, budget, now, ret_end);
}

enum pump_result pump_run(struct pump *p, char *scratch, size_t *budget, usec_t now,
			  unsigned *ret_end)
{
	bool moved;

	do {
		moved = false;
		for (unsigned i = 0; i < ELEMENTSOF(p->ways); i++) {
			switch (step(p, i, scratch, budget, now, ret_end)) {
			case STEP_BROKEN:
				return PUMP_BROKEN;
			case STEP_NO_MEMORY:
				return PUMP_NO_MEMORY;
			case STEP_MOVED:
				moved = true;
				break;
			case STEP_STUCK:
				break;
			}
		}
	} while (moved);

	if (p->ways[0].told && p->ways[1].told)
		return PUMP_DONE;
	if (*budget == 0)
		return PUMP_AGAIN;
	return PUMP_WAIT;
}

size_t pump_held(const struct pump *p)
{
	return p->ways[0].held.n + p->ways[1].held.n;
}
