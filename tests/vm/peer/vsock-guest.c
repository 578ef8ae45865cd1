/* SPDX-License-Identifier: Apache-2.0 */

/* vsock-guest: an enclave's side of vsock, without an enclave. It drives /dev/vhost-vsock, so
 * that the kernel sees a machine with the given CID, and its programs are the tests:
 *
 *   vsock-guest --cid 16 --socket /run/cid16.sock [--window BYTES]
 *
 * A test connects to the Unix socket and says one line. The first is Firecracker's:
 *
 *   CONNECT PORT [SOURCE-PORT]   a stream to the host's port: "OK SOURCE-PORT", then bytes in
 *                                both directions, half close included; or "ERR refused"
 *   RESET SOURCE-PORT            resets that stream: "OK" or "ERR no such stream"
 *   SHUTDOWN SOURCE-PORT FLAGS   one packet of that stream: 1 no more is received, 2 no more is
 *                                sent, 3 both: "OK" or "ERR no such stream"
 *   SPOOF CID PORT               asks for a stream in the name of another CID: "OK" once sent
 *
 * --window is the credit granted to the host a stream (default 262144). "ready" on stdout says
 * that the CID is taken. Killing the process is the enclave's end: the kernel resets its
 * streams and gives the CID to the next who asks. */

#include "stream.h"
#include "vhost_device.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024
#define COMMAND_MSEC 20000 /* a test says its line at once; emulated, that takes a while */

struct options {
	uint64_t cid;
	const char *socket;
	uint32_t window;
};

static _Noreturn void usage(void)
{
	fputs("usage: vsock-guest --cid CID --socket PATH [--window BYTES]\n", stderr);
	exit(2);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end)
		usage();
	return value;
}

static struct options parse_options(int argc, char **argv)
{
	static const struct option table[] = {
		{"cid", required_argument, NULL, 'c'},
		{"socket", required_argument, NULL, 's'},
		{"window", required_argument, NULL, 'w'},
		{NULL, 0, NULL, 0},
	};
	struct options options = {.window = 262144};
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'c')
			options.cid = number(optarg);
		else if (option == 's')
			options.socket = optarg;
		else if (option == 'w')
			options.window = (uint32_t)number(optarg);
		else
			usage();
	}
	if (!options.cid || !options.socket || optind != argc)
		usage();
	return options;
}

static int listen_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		die("socket");
	errno = ENAMETOOLONG;
	if (strlen(path) >= sizeof address.sun_path)
		die("%s", path);
	memcpy(address.sun_path, path, strlen(path));
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(fd, BACKLOG) < 0)
		die("%s", path);
	return fd;
}

/* Reads a line byte by byte: what follows it belongs to the stream. */
static bool read_line(int fd, char *line, size_t size)
{
	for (size_t n = 0; n < size; n++) {
		struct pollfd wait = {fd, POLLIN, 0};

		if (poll(&wait, 1, COMMAND_MSEC) <= 0 || recv(fd, line + n, 1, 0) != 1)
			return false;
		if (line[n] == '\n') {
			line[n] = '\0';
			return true;
		}
	}
	return false;
}

static void answer(int fd, const char *text)
{
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
	close(fd);
}

static void answer_found(int fd, bool found)
{
	answer(fd, found ? "OK\n" : "ERR no such stream\n");
}

static void run_command(struct streams *streams, int fd)
{
	char line[64];
	uint32_t port, source_port = 0, flags;
	uint64_t cid;

	if (!read_line(fd, line, sizeof line)) {
		close(fd);
	} else if (sscanf(line, "CONNECT %" SCNu32 " %" SCNu32, &port, &source_port) >= 1) {
		streams_connect(streams, fd, port, source_port);
	} else if (sscanf(line, "RESET %" SCNu32, &source_port) == 1) {
		answer_found(fd, streams_reset(streams, source_port));
	} else if (sscanf(line, "SHUTDOWN %" SCNu32 " %" SCNu32, &source_port, &flags) == 2) {
		answer_found(fd, streams_shutdown(streams, source_port, flags));
	} else if (sscanf(line, "SPOOF %" SCNu64 " %" SCNu32, &cid, &port) == 2) {
		streams_spoof(streams, cid, port);
		answer(fd, "OK\n");
	} else {
		answer(fd, "ERR unknown command\n");
	}
}

int main(int argc, char **argv)
{
	struct options options = parse_options(argc, argv);
	struct vhost_device *device = vhost_device_open(options.cid);
	struct streams *streams = streams_new(device, options.cid, options.window);
	int listener = listen_unix(options.socket);
	struct pollfd wait[] = {
		{vhost_device_fd(device), POLLIN, 0},
		{streams_fd(streams), POLLIN, 0},
		{listener, POLLIN, 0},
	};

	puts("ready");
	fflush(stdout);
	for (;;) {
		if (poll(wait, 3, -1) < 0 && errno != EINTR)
			die("poll");
		if (wait[0].revents)
			vhost_device_receive(device, streams_packet, streams);
		if (wait[1].revents)
			streams_dispatch(streams);
		if (wait[2].revents) {
			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

			if (fd >= 0)
				run_command(streams, fd);
		}
	}
}
