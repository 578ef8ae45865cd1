#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The KMS and the IMDS of the soak, one process: a KMS that is cheap enough to be kept busy.

It proves which request an answer belongs to, and nothing else: each request holds a marker, and its
answer holds what echo() makes of that. Signatures are checked by the other suites; here only the
access key that they name must be one that IMDS has handed out and that is not revoked.

Reads commands from standard input, one JSON object a line, and answers each with one line:

    {"do": "fault", "kind": "reset_mid", "count": 20}    the next 20 requests
    {"do": "down", "seconds": 0.5}                        nothing listens
    {"do": "drop", "idle": true}                          ends connections
    {"do": "rotate", "revoke": true}                      new credentials
    {"do": "imds", "kind": "status", "count": 3, ...}     a fault of the IMDS stand-in
    {"do": "watch", "fates": ["plain", "hang"], "seconds": 0.5}    what becomes of watched requests
    {"do": "watched"}                                     {key: [how often asked, the answer's id]}
    {"do": "calm"}                                        no fault any more
    {"do": "state"}

A request is watched when its key begins with WATCHED: each has a key of its own, and none of the
faults above.
"""

import asyncio
import collections
import itertools
import json
import os
import pathlib
import re
import socket
import ssl
import struct
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from local_imds import LocalImds  # noqa: E402
from server.credential_store import CredentialStore  # noqa: E402
from server.tls_certs import ServerIdentity  # noqa: E402

HOST = "kms.eu-central-1.amazonaws.com"
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")     # what a change of DNS leads to
TUNNEL = b"\r\nX-Through-Tunnel:"       # says that nobody has signed; no proxy passes it on
CONTENT_TYPE = "application/x-amz-json-1.1"
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")
TARGET = re.compile(rb"\r\nX-Amz-Target: TrentService\.(\w+)")
CREDENTIAL = re.compile(rb"Credential=([A-Z0-9]+)/")

# Where a request of this action holds its marker, and where its answer holds what echo() made of it.
MEMBERS = {"Encrypt": ("Plaintext", "CiphertextBlob"), "Decrypt": ("CiphertextBlob", "Plaintext"),
           "UpdateKeyDescription": ("Description", "Description")}
SEALED = "CiphertextForRecipient"
WATCHED = "alias/watched-"
ONCE = "UpdateKeyDescription"           # not safe to repeat: may arrive only once


def echo(marker):
    """What the answer to a request holds: base64, when the marker is."""
    return "RWNo" + marker


def request_id(body):
    """KMS's id of the request that has this answer."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, body))


def answer(status, body, more=""):
    return (f"HTTP/1.1 {status} X\r\nContent-Type: {CONTENT_TYPE}\r\nx-amzn-RequestId: {request_id(body)}\r\n"
            f"{more}Content-Length: {len(body)}\r\n\r\n{body}").encode()


def error(status, kind, marker):
    """An error of KMS; it too tells whose it is."""
    return answer(status, json.dumps({"__type": kind, "message": f"for {echo(marker)}"}))


class Connection(asyncio.Protocol):
    def __init__(self, kms):
        self.kms = kms
        self.buffer = bytearray()
        self.busy = 0

    def connection_made(self, transport):
        self.transport = transport
        self.kms.connections.add(self)
        self.kms.accepted += 1

    def connection_lost(self, _):
        self.kms.connections.discard(self)

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end])
            length = int(LENGTH.search(head)[1])
            if len(self.buffer) < end + 4 + length:
                return
            body = bytes(self.buffer[end + 4:end + 4 + length])
            del self.buffer[:end + 4 + length]
            self.kms.take(self, head, body)

    def reset(self):
        sock = self.transport.get_extra_info("socket")
        if sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def write(self, data):
        if not self.transport.is_closing():
            self.transport.write(data)


class Kms:
    def __init__(self, store, context):
        self.store = store
        self.context = context
        self.connections = set()
        self.servers = []
        self.port = 0
        self.faults = collections.deque()       # [kind, how many more]
        self.accepted = self.requests = self.mixed = self.unsigned = self.rejected = 0
        self.applied = collections.Counter()
        self.once = {}                          # sender: its last markers in the action ONCE
        self.twice = 0
        self.watched = {}                       # key: [how often asked, the id of the answer]
        self.fates = itertools.cycle(["plain"])     # of watched requests
        self.lag = 0                            # seconds, before each of their answers

    async def listen(self):
        for address in ADDRESSES:
            server = await asyncio.get_running_loop().create_server(
                lambda: Connection(self), address, self.port, ssl=self.context, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
            self.servers.append(server)

    async def down(self, seconds):
        servers, self.servers = self.servers, []
        for server in servers:
            server.close()
        self.drop(idle=False)
        await asyncio.sleep(seconds)
        await self.listen()

    def drop(self, idle):
        for connection in list(self.connections):
            if not (idle and connection.busy):
                connection.reset() if not idle else connection.transport.close()

    def next_fault(self):
        if not self.faults:
            return None
        fault = self.faults[0]
        fault[1] -= 1
        if fault[1] <= 0:
            self.faults.popleft()
        self.applied[fault[0]] += 1
        return fault[0]

    def refusal(self, head):
        """The error type with which KMS refuses the credentials, None if it takes them."""
        if TUNNEL in head:
            return None
        named = CREDENTIAL.search(head)
        if not named:
            self.unsigned += 1
            return "MissingAuthenticationTokenException"
        found = self.store.lookup(named[1].decode())
        if found is None or found.revoked:
            self.rejected += 1
            return "ExpiredTokenException"
        return None

    def take(self, connection, head, body):
        self.requests += 1
        action, members = TARGET.search(head)[1].decode(), json.loads(body)
        asked, answered = MEMBERS[action]
        marker = members[asked]
        if members.get("EncryptionContext", {}).get("marker", marker) != marker:
            self.mixed += 1
        refused = self.refusal(head)
        if refused:
            connection.write(error(400, refused, marker))
            return
        if action == ONCE:
            self.note_once(marker)
        if "Recipient" in members:
            answered = SEALED
        if members["KeyId"].startswith(WATCHED):
            self.take_watched(connection, marker, json.dumps({answered: echo(marker), "KeyId": members["KeyId"]}),
                              members["KeyId"])
            return
        # Through a tunnel a client meets the KMS's faults itself: what that shows is nothing of ours.
        fault = None if TUNNEL in head else self.next_fault()
        text = json.dumps({answered: echo(marker), "KeyId": members["KeyId"]})
        getattr(self, fault or "plain")(connection, marker, text)

    def take_watched(self, connection, marker, text, key):
        noted = self.watched.setdefault(key, [0, request_id(text)])
        noted[0] += 1
        if not self.lag:
            getattr(self, next(self.fates))(connection, marker, text)
            return
        connection.busy += 1

        def late():
            connection.busy -= 1
            getattr(self, next(self.fates))(connection, marker, text)
        asyncio.get_running_loop().call_later(self.lag, late)

    def note_once(self, marker):
        seen = self.once.setdefault(marker.partition("-")[0], collections.deque(maxlen=64))
        self.twice += marker in seen
        seen.append(marker)

    # The ways to answer.

    def plain(self, connection, _marker, text):
        connection.write(answer(200, text))

    def later(self, connection, seconds, data):
        connection.busy += 1

        def write():
            connection.busy -= 1
            connection.write(data)
        asyncio.get_running_loop().call_later(seconds, write)

    def slow(self, connection, _marker, text):
        self.later(connection, 0.1, answer(200, text))

    def reset_before(self, connection, _marker, _text):
        connection.reset()

    def cut(self, connection, text, then):
        data = answer(200, text)
        connection.write(data[:len(data) - len(text) // 2])
        asyncio.get_running_loop().call_later(0.01, then)

    def reset_mid(self, connection, _marker, text):
        self.cut(connection, text, connection.reset)

    def close_mid(self, connection, _marker, text):
        self.cut(connection, text, connection.transport.close)

    def stall_mid(self, connection, _marker, text):
        connection.busy += 1
        self.cut(connection, text, lambda: None)

    def hang(self, connection, _marker, _text):
        connection.busy += 1

    def drip(self, connection, _marker, text):
        data = answer(200, text)
        for i, at in enumerate(range(0, len(data), len(data) // 8)):
            self.later(connection, 0.02 * i, data[at:at + len(data) // 8])

    def throttle(self, connection, marker, _text):
        connection.write(error(429, "ThrottlingException", marker))

    def unavailable(self, connection, marker, _text):
        connection.write(error(503, "KMSInternalException", marker))

    def front_end(self, connection, _marker, _text):
        connection.write(b"HTTP/1.1 502 X\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<html>502")

    def garbage(self, connection, _marker, _text):
        connection.write(b"\x00\x01 what\r\n\r\n")

    def close_after(self, connection, _marker, text):
        connection.write(answer(200, text, "Connection: close\r\n"))
        connection.transport.close()

    def close_unsaid(self, connection, _marker, text):
        connection.write(answer(200, text))
        connection.transport.close()

    def trailing(self, connection, _marker, text):
        """A second answer that nobody has asked for."""
        connection.write(answer(200, text) + answer(200, json.dumps({"Plaintext": echo("nobody's")})))

    def trailing_late(self, connection, _marker, text):
        connection.write(answer(200, text))
        self.later(connection, 0.05, b"HTTP")      # a whole answer would be that to the next request

    def chunked(self, connection, _marker, text):
        half = len(text) // 2
        pieces = "".join(f"{len(p):x}\r\n{p}\r\n" for p in (text[:half], text[half:]))
        connection.write((f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
                          f"{pieces}0\r\n\r\n").encode())

    def interim(self, connection, _marker, text):
        connection.write(b"HTTP/1.1 102 Processing\r\n\r\n" + answer(200, text))

    def leak(self, connection, marker, text):
        """A secret in clear, also where it was asked for sealed."""
        connection.write(answer(200, text[:-1] + f', "Plaintext": "{echo(marker)}"}}'))

    def state(self):
        return {"port": self.port, "connections": len(self.connections), "accepted": self.accepted,
                "requests": self.requests, "mixed": self.mixed, "unsigned": self.unsigned,
                "rejected": self.rejected, "twice": self.twice, "applied": dict(self.applied)}


def obey(kms, imds, command):
    what = command.pop("do")
    if what == "fault":
        kms.faults.append([command["kind"], command["count"]])
    elif what == "down":
        kms.task = asyncio.ensure_future(kms.down(command["seconds"]))
    elif what == "drop":
        kms.drop(command["idle"])
    elif what == "rotate":
        imds.rotate(revoke_old=command["revoke"])
    elif what == "imds":
        imds.fault(**command)
    elif what == "forget_tokens":
        imds.invalidate_tokens()
    elif what == "watch":
        kms.fates, kms.lag = itertools.cycle(command["fates"]), command["seconds"]
    elif what == "watched":
        return kms.watched
    elif what == "calm":
        kms.faults.clear()
        imds.clear()
    return kms.state()


async def serve(folder):
    store = CredentialStore()
    identity = ServerIdentity([HOST])
    (folder / "ca.pem").write_bytes(identity.authority.pem())
    context = identity.context()
    kms = Kms(store, context)
    await kms.listen()
    with LocalImds(store) as imds:
        loop = asyncio.get_running_loop()
        commands = asyncio.Queue()

        def read():
            for line in sys.stdin:
                loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))
            loop.call_soon_threadsafe(commands.put_nowait, None)
        threading.Thread(target=read, daemon=True).start()
        print(json.dumps({**kms.state(), "imds": imds.url}), flush=True)
        while (command := await commands.get()) is not None:
            print(json.dumps(obey(kms, imds, command)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(pathlib.Path(sys.argv[1])))
