/* SPDX-License-Identifier: Apache-2.0 */
/* Stands for the journal: takes the datagrams of a Unix socket, drops and counts them.
 *
 *   bench-journal COUNTS SOCKET
 *   bench-journal COUNTS SOCKET nap
 *   bench-journal COUNTS            lines of standard input instead
 *
 * COUNTS is a file of two numbers of 8 bytes: records and bytes so far. The socket lives in a
 * network namespace of its own, where a queue is as long as systemd makes it: what the machine
 * has set may be a fiftieth of that, and then records are lost that in production are not.
 *
 * It waits for records as journald does: who sends one pays for waking it, unless it is awake.
 * With `nap` it looks each millisecond instead, as if always awake, and nothing keeps it from
 * that. */
#include "macro.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define QUEUE_FILE "/proc/sys/net/unix/max_dgram_qlen"
#define QUEUE "512" /* systemd's 50-default.conf and journald count on it */
#define RECEIVE_BUFFER (8 * 1024 * 1024) /* journald's */
#define RECORD_MAX 4096
#define AT_ONCE 64
#define NAP_NSEC (1000 * 1000)

struct counts {
	_Atomic uint64_t records, bytes;
};

static int failed(const char *what)
{
	fprintf(stderr, "bench-journal: %s: %s\n", what, strerror(errno));
	return 1;
}

static struct counts *counts_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	void *p = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, sizeof(struct counts)) == 0)
		p = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static void count(struct counts *counts, uint64_t records, uint64_t bytes)
{
	counts->bytes += bytes;
	counts->records += records;
}

/* A queue's length is decided where and when its socket is made. */
static int set_queue(void)
{
	int fd, r = 0;

	if (unshare(CLONE_NEWNET) < 0)
		return failed("a network namespace");
	fd = open(QUEUE_FILE, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, QUEUE, strlen(QUEUE)) < 0)
		r = failed(QUEUE_FILE);
	if (fd >= 0)
		close(fd);
	return r;
}

static int socket_new(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int size = RECEIVE_BUFFER, fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Ahead of all else on its core, or records would be lost that a reader with a core takes.
 * Where that isn't allowed, its count says whether it mattered. */
static void set_turn(void)
{
	const struct sched_param first = {.sched_priority = sched_get_priority_min(SCHED_FIFO)};

	(void)sched_setscheduler(0, SCHED_FIFO, &first);
}

static void nap(void)
{
	const struct timespec time = {.tv_nsec = NAP_NSEC};

	(void)nanosleep(&time, NULL);
}

/* Takes what is queued, AT_ONCE at most; waits for the first if told to. Returns how many, or
 * -1. */
static int take_queued(int fd, int flags, struct counts *counts)
{
	static char room[RECORD_MAX]; /* nobody reads it, so that one does for all */
	struct iovec bytes = {room, sizeof(room)};
	struct mmsghdr messages[AT_ONCE];
	uint64_t sum = 0;
	int n;

	for (size_t i = 0; i < AT_ONCE; i++)
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &bytes, .msg_iovlen = 1}};
	n = recvmmsg(fd, messages, AT_ONCE, flags, NULL);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	for (int i = 0; i < n; i++)
		sum += messages[i].msg_len;
	count(counts, (uint64_t)n, sum);
	return n;
}

static int take_datagrams(const char *path, bool naps, struct counts *counts)
{
	int fd, n;

	if (set_queue() != 0)
		return 1;
	if (naps)
		set_turn();
	fd = socket_new(path);
	if (fd < 0)
		return failed(path);
	while ((n = take_queued(fd, naps ? MSG_DONTWAIT : MSG_WAITFORONE, counts)) >= 0)
		if (naps && n < AT_ONCE)
			nap();
	close(fd);
	return failed("receiving");
}

static int take_lines(struct counts *counts)
{
	static char room[64 * 1024];
	ssize_t n;

	while ((n = read(STDIN_FILENO, room, sizeof(room))) > 0) {
		uint64_t lines = 0;

		for (ssize_t i = 0; i < n; i++)
			lines += room[i] == '\n';
		count(counts, lines, (uint64_t)n);
	}
	return n < 0 ? failed("reading") : 0;
}

int main(int argc, char **argv)
{
	bool naps = argc == 4 && strcmp(argv[3], "nap") == 0;
	struct counts *counts;

	if (argc != 2 && argc != 3 && !naps) {
		fputs("usage: bench-journal COUNTS [SOCKET [nap]]\n", stderr);
		return 2;
	}
	counts = counts_map(argv[1]);
	if (!counts)
		return failed(argv[1]);
	return argc > 2 ? take_datagrams(argv[2], naps, counts) : take_lines(counts);
}
