/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Every number that bounds what a peer can make us hold or do. Each is in the man page too. */

#include "clock.h"

/* One line a limit, as a table. */
/* clang-format off */

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)

/* An enclave's request. */
#define LIMIT_HEAD (16 * KIB)                   /* SDKs send under 3 KiB, token included */
#define LIMIT_FIELDS 64                         /* SDKs send under 20 */
#define LIMIT_BODY_DEFAULT (512 * KIB)          /* the largest request of cryptography is 350 KiB */
#define LIMIT_BODY_MAX (1 * MIB)                /* ceiling of the option `body` */
#define LIMIT_JSON_DEPTH 8                      /* CreateGrant's Constraints are on level 3 */
#define LIMIT_JSON_MEMBERS 256                  /* and elements, of a body, on all levels */
#define LIMIT_ATTESTATION (256 * KIB)           /* attestation document, decoded: the limit of KMS */
#define LIMIT_JSON_NUMBER 64                    /* bytes; the longest of KMS is a time */

/* Deadlines of a connection, absolute: a byte doesn't reset them. */
#define LIMIT_HEAD_TIME (5 * USEC_PER_SEC)      /* from its first byte to the end of a head */
#define LIMIT_BODY_TIME (10 * USEC_PER_SEC)     /* from the end of the head to the end of the body */
#define LIMIT_WRITE_TIME (10 * USEC_PER_SEC)    /* an answer: a peer that grants no credit blocks */
#define LIMIT_IDLE_TIME (60 * USEC_PER_SEC)     /* between two requests */
#define LIMIT_SURPLUS_TIME (1 * USEC_PER_SEC)   /* to the first byte, of a connection over limits.connections */
#define LIMIT_PLACE_TIME (2 * USEC_PER_SEC)     /* in line for a place in flight: under what SDKs wait */
#define LIMIT_LINGER_TIME (1 * USEC_PER_SEC)    /* reading and dropping after a closing answer */
#define LIMIT_LINGER_BYTES (LIMIT_BODY_MAX + 64 * KIB) /* the whole of what one may send */

/* Connections over limits.connections that are told so: a descriptor each, beyond them none. */
#define LIMIT_SURPLUS 256                       /* the whole process */
#define LIMIT_SURPLUS_EACH 64                   /* an enclave: three bad ones leave some to the others */

/* A tunnel; HELLO is the ClientHello with its record headers. */
#define LIMIT_HELLO (16 * KIB)                  /* 2 KiB with a post-quantum key */
#define LIMIT_TUNNEL_CONNECT (10 * USEC_PER_SEC)/* to look its host up and connect, together */
#define LIMIT_TUNNEL_LOOKUP (1 * USEC_PER_SEC)  /* a lookup; then the last good addresses serve */
#define LIMIT_TUNNEL_ADDRESSES 16               /* of its host */
#define LIMIT_DIAL_SOCKETS 4                    /* of a host that is connected to; then the oldest goes */
#define LIMIT_TUNNEL_STALL (30 * USEC_PER_SEC)  /* bytes that one end doesn't take, not one of them */

/* The reply of an upstream. */
#define LIMIT_REPLY_HEAD (16 * KIB)             /* KMS sends under 1 KiB */
#define LIMIT_REPLY_FIELDS 64
#define LIMIT_REPLY_BODY (1 * MIB)              /* the largest KMS answer is a key policy or a list */
#define LIMIT_REPLY_INTERIM 4                   /* 1xx answers before the real one */
#define LIMIT_REPLY_CHUNKS 1024                 /* a byte a chunk can't stretch a body */

/* The pool of upstream connections. */
#define LIMIT_UPSTREAM_IDLE (50 * USEC_PER_SEC) /* front ends of AWS close at about 60 s */
#define LIMIT_LOOKUPS 4                         /* name lookups in flight, whole process */

/* An HTTP proxy on the way out. Its head has LIMIT_REPLY_HEAD. */
#define LIMIT_PROXY_CREDENTIALS (1 * KIB)       /* user and password */

/* Where credentials come from: IMDS, a container endpoint, a file. */
#define LIMIT_CREDENTIALS_TEXT (16 * KIB)       /* 1 to 2 KiB, token included */
#define LIMIT_CREDENTIALS_HEAD (16 * KIB)       /* of an answer: under 1 KiB */

/* The journal. */
#define LIMIT_LOG_VALUE 256                     /* bytes of one value that came from a wire */
#define LIMIT_AUDIT_QUEUE 1024                  /* records that wait for the writer thread */
#define LIMIT_AUDIT_BURST 20                    /* of an enclave at once, then counted */
#define LIMIT_AUDIT_REFUSALS_PER_SEC 10

/* Names given by the operator; they also stand in records and tables. */
#define LIMIT_NAME 64

/* Of a file. A slot has a share of the memory, and of each endpoint's connections, for itself. */
#define LIMIT_SLOTS 64

/* LimitNOFILE= and MemoryMax= of the unit: what all may take together, else --check-config
 * warns. */
#define LIMIT_DESCRIPTORS 131072
#define LIMIT_UNIT_MEMORY (768 * MIB)

/* What the kernel keeps of a vsock connection that nobody has read yet; else it is 256 KiB. */
#define LIMIT_VSOCK_BUFFER (64 * KIB)

/* clang-format on */
