/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The other ends of connections that speak HTTP, in the world of connection_world.h: what they
 * ask, and what they must be told. */

#include "connection_world.h"
#include "counter.h"

#define HEAD(action, length, more)                                                             \
	"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"                                               \
	"Content-Type: application/x-amz-json-1.1\r\n"                                         \
	"X-Amz-Target: TrentService." action "\r\n"                                            \
	"Content-Length: " length "\r\n" more "\r\n"
#define BODY "{\"KeyId\":\"alias/a\"}"
#define REFUSED HEAD("ListKeys", "2", "") "{}"
#define WAITING HEAD("DescribeKey", "19", "") BODY

#define PLACES 64 /* limits.in_flight, by default */

struct peer {
	int fd;          /* -1: closed */
	int other;       /* the daemon's end */
	char got[16384]; /* and not yet looked at */
	size_t n;
};

extern struct peer peers[4];
extern struct peer *const peer; /* the first, of those tests that need only one */
extern struct instant begun;    /* when that was there */

/* A fixture: `peer` is connected as enclave `one`. */
void setup(void);
void teardown(void);

void open_peer(struct peer *p, const char *enclave);
void close_peer(struct peer *p);

/* Of `peer`: sends, and lets the thread look once. */
void say(const char *text);

/* Takes what has come. */
void receive(struct peer *p);

/* The next answer has this status, and this word in it; `close`: it says that it is the last.
 */
void expect_answer(struct peer *p, int status, const char *word, bool close);

/* `peer` is told that no rule allows it, and that is recorded. */
void expect_refused(bool close);

/* The daemon closes the connection: not with a reset, and without another byte. */
void expect_end(void);

/* It ended its side of writing, and waits for us to end ours. */
void expect_end_of_writing(void);

void expect_open_and_idle(void);

/* Others have all of the enclave's places in flight; one of them gives one back; all do. */
void fill_places(void);
void get_place(void);
void empty_places(void);

/* Bytes that `peer` sent and nobody has read. */
int unread(void);

/* The daemon's. */
struct connection *connection(void);
uint64_t counted(const char *enclave, enum counter counter);
