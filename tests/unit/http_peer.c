/* SPDX-License-Identifier: Apache-2.0 */
#include "http_peer.h"

#include "connection.h"
#include "enclave.h"
#include "http.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer peers[4];
struct peer *const peer = &peers[0];

struct instant begun;

void open_peer(struct peer *p, const char *enclave)
{
	struct identity identity = world_identity(enclave);

	p->other = world_accept(enclave, &p->fd);
	p->n = 0;
	http_accept(&world, p->other, &identity, clock_now());
}

void setup(void)
{
	world_begin();
	for (size_t i = 0; i < ELEMENTSOF(peers); i++)
		peers[i].fd = -1;
	begun = clock_now();
	open_peer(peer, "one");
}

void close_peer(struct peer *p)
{
	if (p->fd >= 0)
		close(TAKE_FD(p->fd));
}

void teardown(void)
{
	empty_places();
	world_end();
	for (size_t i = 0; i < ELEMENTSOF(peers); i++)
		close_peer(&peers[i]);
}

void say(const char *text)
{
	peer_send(peer->fd, slice_from(text));
	world_turn();
}

struct connection *connection(void)
{
	return LIST_FIRST(&world.connections);
}

uint64_t counted(const char *enclave, enum counter counter)
{
	return world_enclave(enclave)->counters[counter];
}

/* ---- answers ---- */

void receive(struct peer *p)
{
	ssize_t n = recv(p->fd, p->got + p->n, sizeof(p->got) - 1 - p->n, 0);

	if (n > 0)
		p->n += (size_t)n;
	p->got[p->n] = '\0';
}

/* How long the answer is that begins there; 0: it isn't whole yet. */
static size_t answer_length(const struct peer *p)
{
	const char *length = strstr(p->got, "\r\nContent-Length: "),
		   *end = strstr(p->got, "\r\n\r\n");
	size_t n;

	if (!length || !end || length > end)
		return 0;
	n = (size_t)(end + 4 - p->got) + strtoul(length + 18, NULL, 10);
	return n <= p->n ? n : 0;
}

/* The next answer has this status, and this word in it; `close`: it says that it is the last.
 */
void expect_answer(struct peer *p, int status, const char *word, bool close)
{
	char start[32], answer[sizeof(p->got)];
	size_t n;

	RUN_UNTIL((receive(p), answer_length(p)));
	n = answer_length(p);
	memcpy(answer, p->got, n);
	answer[n] = '\0';
	memmove(p->got, p->got + n, p->n - n + 1);
	p->n -= n;
	snprintf(start, sizeof(start), "HTTP/1.1 %d ", status);
	ck_assert_msg(strncmp(answer, start, strlen(start)) == 0, "%s", answer);
	ck_assert_msg(strstr(answer, word), "no %s: %s", word, answer);
	ck_assert_msg(!strstr(answer, "\r\nConnection: close\r\n") == !close, "%s", answer);
}

void expect_refused(bool close)
{
	expect_answer(peer, 400, "AccessDeniedException", close);
	world_assert_record(EVENT_REFUSED, REASON_ACTION);
}

/* ---- the end ---- */

/* The daemon closes the connection: not with a reset, and without another byte. */
void expect_end(void)
{
	RUN_UNTIL((receive(peer), world.n_connections == 0));
	ck_assert_uint_eq(peer->n, 0);
	ck_assert(peer_at_end(peer->fd));
	world_assert_nothing_held();
	world_assert_no_record();
}

/* It ended its side of writing, and waits for us to end ours. */
void expect_end_of_writing(void)
{
	ck_assert(peer_at_end(peer->fd));
	shutdown(peer->fd, SHUT_WR);
	expect_end();
}

void expect_open_and_idle(void)
{
	world_stay_quiet();
	ck_assert_uint_eq(world.n_connections, 1);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->memory), 0);
	ck_assert_uint_eq(gauge_read(&world_enclave("one")->in_flight), 0);
	world_assert_no_record();
}

static unsigned n_filled;

/* Others have all places in flight. */
void fill_places(void)
{
	struct place_waiter none = {0};

	for (; n_filled < PLACES; n_filled++)
		ck_assert(place_take(&world, world_enclave("one"), &none, PLACES));
}

void empty_places(void)
{
	for (; n_filled; n_filled--)
		place_return(&world, world_enclave("one"));
}

/* Bytes that the peer sent and nobody has read. */
int unread(void)
{
	int n = -1;

	ck_assert_int_eq(ioctl(peer->other, FIONREAD, &n), 0);
	return n;
}

void get_place(void)
{
	place_return(&world, world_enclave("one"));
	n_filled--;
}
