/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The context of one data thread, for tests of what reads from enclaves: a configuration in
 * force, sockets as the acceptor hands them over, and the audit records that were submitted,
 * taken by their struct. The test needs the link arguments -Wl,--wrap=audit_submit and
 * -Wl,--wrap=calloc. */

#include "audit.h"
#include "context.h"
#include "generation.h"
#include "slice.h"

#define WORLD_PATIENCE (20 * USEC_PER_SEC) /* on a busy machine */

#define RUN_UNTIL(condition)                                                                   \
	do {                                                                                   \
		usec_t end_ = clock_monotonic() + WORLD_PATIENCE;                              \
		while (!(condition)) {                                                         \
			ck_assert_msg(clock_monotonic() < end_, "not in time: %s",             \
				      #condition);                                             \
			world_turn();                                                          \
		}                                                                              \
	} while (0)

/* An enclave that may do one thing; more of its mapping may follow. */
#define WORLD_ENCLAVE(cid)                                                                     \
	"cid: " cid ", endpoints: [kms], "                                                     \
	"allow: [{name: look, actions: [DescribeKey], keys: any}]"

#define WORLD_ONE "one: {" WORLD_ENCLAVE("4") "}"
#define WORLD_TWO "two: {" WORLD_ENCLAVE("5") "}"

extern struct context world;

/* With the configuration of WORLD_ONE and WORLD_TWO, without credentials: what is allowed waits
 * for them. */
void world_begin(void);

/* Closes what is open. That nothing is held then, and that each record was looked at, is
 * asserted. */
void world_end(void);

/* `enclaves`, the inside of a YAML mapping, is in force from now on; nobody is told. The memory
 * is 4 MiB for all of them. */
void world_configure(const char *enclaves);

struct enclave *world_enclave(const char *name);
struct identity world_identity(const char *name);

/* A connection of that enclave as the acceptor hands it over, with the gauges taken. Its other
 * end is *ret_peer, non-blocking, the caller's. */
int world_accept(const char *name, int *ret_peer);

/* One look at the events, and (world_turn) what comes after it. */
void world_loop(void);
void world_turn(void);

/* Turns of the loop in which nothing more may happen. */
void world_stay_quiet(void);

/* So much later than now. */
struct instant world_later(usec_t after);

/* That connections, memory, places of tunnels and of requests are all given back. */
void world_assert_nothing_held(void);

bool world_has_record(void);

/* Called with each record as it is submitted; NULL: nobody. */
extern void (*world_on_record)(void);

/* The next record, which has to be there already. */
const struct audit_record *world_record(void);
void world_assert_record(enum event_kind event, enum reason reason);
void world_assert_no_record(void);

/* The `nth` call of calloc() from now on (1 is the next) returns NULL, once. */
void world_fail_calloc(unsigned nth);

/* ---- the other end ---- */

void peer_send(int fd, struct slice bytes);

/* Fills what the kernel takes towards the other end, which doesn't read. Returns how much. */
size_t peer_fill(int fd);

/* Whether the connection has ended, without another byte. */
bool peer_at_end(int fd);
