/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What connection.c (a connection's life) and connection_io.c (what it reads and writes) share;
 * nobody else includes this. */

#include "config.h"
#include "connection.h"
#include "refusal.h"

/* ---- connection.c, for reading and writing ---- */

struct enclave_config *connection_config(const struct connection *c);

void connection_set_state(struct connection *c, enum connection_state state, usec_t deadline);

/* Between two requests, with nothing of the next. */
void connection_become_idle(struct connection *c, usec_t now);

/* Bytes of the current answer that have left. */
size_t connection_written(const struct connection *c);

/* Frees a connection that has neither request nor tunnel, without a record. */
void connection_free(struct connection *c);

/* The same with a record. It costs a token, as a request does: opening and closing connections
 * is no way round the rate. */
void connection_end_without_request(struct connection *c, const char *reason,
				    const char *detail, usec_t now);

/* Answers the request with a refusal, reads no more of what comes, and ends the connection.
 * `message`: see request_refuse(). May free the connection. */
void connection_refuse_unread(struct connection *c, enum refusal refusal, const char *message,
			      usec_t now);

/* The peer ended its side, or was silent for too long, where a head may begin or is begun. */
void connection_peer_ended(struct connection *c, usec_t now);

/* ---- connection_io.c, for a connection's events; each may free it ---- */

/* Reads until the socket is empty: events are edge-triggered. */
void connection_read(struct connection *c, usec_t now);

/* Goes on with the answer. */
void connection_write(struct connection *c, usec_t now);

/* Answers a head that can't be taken, and ends the connection. `fault`: see request_refuse().
 */
void connection_refuse_head(struct connection *c, enum refusal refusal, const char *fault,
			    usec_t now);
