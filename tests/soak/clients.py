#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The clients of the soak, in a process of their own: 200 in 4 enclaves, each with its habits.

    clients.py PLAN     a JSON file: see Plan

Each request carries a marker, and its answer has to hold what echo_kms.echo() makes of it. Writes
what became of all requests as JSON to standard output when standard input ends.
"""

import asyncio
import base64
import collections
import dataclasses
import json
import mmap
import pathlib
import random
import ssl
import struct
import sys
import time

from echo_kms import HOST, MEMBERS, ONCE, SEALED, echo

KEY = "alias/soak"
DEADLINE = 25       # seconds, for an answer or the end, once its turn has come; the daemon's come to 12
NOTES = 50
DEFECTS = ("crossed", "leaked", "wrongly refused", "closed without a reason")
DOCUMENT = base64.b64encode(b"an attestation document" * 20).decode()


@dataclasses.dataclass
class Plan:
    name: str               # what all markers begin with; another in each run against one KMS
    sockets: dict           # enclave: path
    ca: str                 # of the KMS, for tunnels
    seed: int
    reloads: str            # a file with two doubles: see Reloads
    pause: float            # seconds between two requests of a client, on the average
    kinds: dict             # kind of client: how many in each enclave


class Reloads:
    """When the last reload began and when it was over: connections may be closed then."""
    FORM = struct.Struct("=dd")
    GRACE = 5.0     # a client may come to read the end of its connection late

    def __init__(self, path):
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), self.FORM.size)

    def begin(self):
        self.FORM.pack_into(self.map, 0, time.monotonic(), float("inf"))

    def end(self):
        self.FORM.pack_into(self.map, 0, self.FORM.unpack_from(self.map)[0], time.monotonic())

    def excuse(self, opened, sent):
        """Whether a connection opened then may be closed before it answers a request sent then."""
        _, end = self.FORM.unpack_from(self.map)
        return opened < end and sent < end + self.GRACE

    def ago(self):
        return time.monotonic() - self.FORM.unpack_from(self.map)[1]


class Request:
    """One that was sent, until it is answered or its connection has ended."""
    __slots__ = ("marker", "expect", "sealed", "sent", "done", "result")

    def __init__(self, marker, expect, sealed=False):
        self.marker = marker
        self.expect = expect        # "echo", or the __type of a refusal
        self.sealed = sealed
        self.sent = time.monotonic()
        self.done = asyncio.get_running_loop().create_future()


class Connection(asyncio.Protocol):
    def __init__(self, tally, tunnel=False):
        self.tally = tally
        self.tunnel = tunnel
        self.pending = collections.deque()
        self.buffer = b""
        self.is_open = True
        self.is_announced = False   # the end, by the answer before it
        self.is_gone = False        # by the client's own will
        self.opened = self.moved = time.monotonic()

    def connection_made(self, transport):
        self.transport = transport
        self.tally.connections.add(self)

    def connection_lost(self, _):
        self.is_open = False
        self.tally.connections.discard(self)
        while self.pending:
            request = self.pending.popleft()
            self.finish(request, self.why_closed(request))

    def why_closed(self, request):
        if self.tunnel:
            return "tunnel ended"
        if self.is_announced:
            return "closed as announced"
        if self.tally.reloads.excuse(self.opened, request.sent):
            return "closed by a reload"
        return "closed without a reason"

    def finish(self, request, what, text=""):
        self.tally.outcomes[what] += 1
        if what in DEFECTS:
            self.tally.note(what, self, request, text)
        if not request.done.done():
            request.done.set_result(what)

    def send(self, requests, data):
        for request in requests:
            self.tally.requests += 1
            self.pending.append(request)
        self.transport.write(data)

    def vanish(self, reset):
        """Goes without waiting for what it has asked for."""
        self.is_gone = True
        while self.pending:
            self.finish(self.pending.popleft(), "the client went")
        if reset:
            self.transport.abort()
        else:
            self.transport.close()

    def data_received(self, data):
        self.moved = time.monotonic()
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].decode("latin-1")
            length = int(head.lower().partition("\r\ncontent-length: ")[2].split("\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4:end + 4 + length]
            self.buffer = self.buffer[end + 4 + length:]
            if "\r\nconnection: close" in head.lower():
                self.is_open, self.is_announced = False, True
            self.answered(int(head[9:12]), body)

    def answered(self, status, body):
        if self.is_gone:
            return
        if not self.pending:
            self.tally.duplicated += 1
            return
        request = self.pending.popleft()
        text = body.decode()
        if status == 200:
            self.finish(request, self.judge(request, text), text)
        elif "for " + echo("") in text:         # an error of KMS: it too says whose it is
            right = f'for {echo(request.marker)}"' in text
            self.finish(request, f"KMS {status}" if right else "crossed", text)
        else:
            self.finish(request, self.refused(request, status, json.loads(text)), text)

    def judge(self, request, text):
        if request.expect != "echo" or f'"{echo(request.marker)}"' not in text:
            return "crossed"
        if request.sealed and '"Plaintext"' in text:
            return "leaked"
        return "answered"

    def refused(self, request, status, members):
        """A refusal of the daemon; one that was to be refused must be so by policy or a limit."""
        kind = members["__type"]
        if request.expect == kind:
            return f"as expected {kind}"
        if kind == "ThrottlingException":
            return "throttled: " + members["message"].split(" ")[0]
        if request.expect != "echo":
            return "wrongly refused"
        return f"{status} {' '.join(members['message'].split()[:7])}"


class Tally:
    def __init__(self, plan):
        self.outcomes = collections.Counter()
        self.requests = self.duplicated = self.lost = self.opened = self.not_opened = 0
        self.connections = set()
        self.reloads = Reloads(plan.reloads)
        self.tls = ssl.create_default_context(cafile=plan.ca)
        self.slowest = 0.0
        self.is_over = False
        self.notes = []

    def note(self, what, connection, request, text):
        """What went wrong, for whoever looks for the reason."""
        now = time.monotonic()
        if len(self.notes) < NOTES:
            self.notes.append(f"{what}: {request.marker[:30]} ({len(request.marker)} bytes, expects {request.expect}), "
                              f"sent {now - request.sent:.2f} s ago, connection {now - connection.opened:.2f} s old, "
                              f"tunnel {connection.tunnel}, reload {self.reloads.ago():.2f} s ago, "
                              f"{len(connection.pending)} after it, "
                              f"unread {connection.buffer[:50]!r}, answer {text[:200]}")

    def look(self):
        """Counts what has had neither an answer nor an end by its deadline."""
        now = time.monotonic()
        for connection in list(self.connections):
            if connection.pending and now - max(connection.moved, connection.pending[0].sent) > DEADLINE:
                self.lost += len(connection.pending)
                self.note("lost", connection, connection.pending[0], "")
                connection.vanish(True)

    def report(self):
        return {"requests": self.requests, "outcomes": self.outcomes, "duplicated": self.duplicated,
                "lost": self.lost, "notes": self.notes, "opened": self.opened, "not_opened": self.not_opened,
                "slowest": self.slowest}


class Client:
    def __init__(self, plan, tally, number, enclave):
        self.plan, self.tally = plan, tally
        self.path = plan.sockets[enclave]
        self.app = enclave
        self.name = f"{plan.name}{number}"
        self.n = 0
        self.dice = random.Random(f"{plan.seed} {number}")

    # Requests.

    def request(self, allowed=True, tunnel=False):
        """A Request and its bytes. allowed: of the kinds that policy always lets through."""
        self.n += 1
        size = 0 if self.dice.random() < 0.98 else self.dice.choice([2000, 20000, 100000])
        marker = f"{self.name}-{self.n}" + "A" * size
        draw = self.dice.random()
        if not allowed and draw < 0.04:
            action, members, request = "ListKeys", {"Limit": 3}, Request(marker, "AccessDeniedException")
        elif not allowed and draw < 0.05:
            action, members, request = "Encrypt", "{", Request(marker, "SerializationException")
        else:
            action = ONCE if draw < 0.1 else "Decrypt" if draw < 0.5 else "Encrypt"
            sealed = action == "Decrypt" and self.dice.random() < 0.5
            members = {"KeyId": KEY, MEMBERS[action][0]: marker}
            if action != ONCE:
                members["EncryptionContext"] = {"app": self.app, "marker": marker}
            if sealed:
                members["Recipient"] = {"AttestationDocument": DOCUMENT,
                                        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
            request = Request(marker, "echo", sealed)
        body = members if members == "{" else json.dumps(members)
        more = "X-Through-Tunnel: yes\r\n" if tunnel else ""
        return request, (f"POST / HTTP/1.1\r\nHost: {HOST}\r\nX-Amz-Target: TrentService.{action}\r\nContent-Type: "
                         f"application/x-amz-json-1.1\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}").encode()

    # Connections.

    async def open(self, tunnel=False):
        loop = asyncio.get_running_loop()
        how = {"ssl": self.tally.tls, "server_hostname": HOST} if tunnel else {}
        try:
            _, connection = await asyncio.wait_for(
                loop.create_unix_connection(lambda: Connection(self.tally, tunnel), self.path, **how), DEADLINE)
        except (OSError, asyncio.TimeoutError):
            self.tally.not_opened += 1
            await asyncio.sleep(0.1)
            return None
        self.tally.opened += 1
        return connection

    async def ask(self, connection, count=1, tunnel=False):
        """Sends requests in one go and waits for all answers, or goes before they are there."""
        if self.tally.is_over:
            await asyncio.Event().wait()
        made = [self.request(allowed=tunnel, tunnel=tunnel) for _ in range(count)]
        data = b"".join(d for _, d in made)
        if self.dice.random() < 0.005:
            connection.is_gone = self.dice.random() < 0.5
            if connection.is_gone:                  # before it has said all
                connection.transport.write(data[:self.dice.randrange(1, len(data))])
            else:
                connection.send([r for r, _ in made], data)
            await asyncio.sleep(self.dice.random() * 0.02)
            connection.vanish(self.dice.random() < 0.5)
            return
        connection.send([r for r, _ in made], data)
        for request, _ in made:
            await request.done
            self.tally.slowest = max(self.tally.slowest, time.monotonic() - request.sent)

    async def pause(self):
        await asyncio.sleep(self.dice.random() * 2 * self.plan.pause)

    # Habits.

    async def each(self, requests, batch=(1, 1), tunnel=False):
        """Over and over: a connection for up to so many rounds of so many requests."""
        while True:
            connection = await self.open(tunnel)
            for _ in range(self.dice.randint(*requests)):
                if connection is None or not connection.is_open:
                    break
                count = self.dice.randint(*batch)
                await self.ask(connection, count, tunnel)
                for _ in range(count):
                    await self.pause()
            if connection:
                connection.transport.close()

    def kept(self):
        return self.each((50, 500))

    def fresh(self):
        return self.each((1, 1))

    def pipelined(self):
        return self.each((5, 50), batch=(2, 8))

    def tunnelled(self):
        return self.each((1, 100), tunnel=True)


async def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        plan = Plan(**json.load(f))
    tally = Tally(plan)
    kinds = [k for k, n in plan.kinds.items() for _ in range(n)]
    clients = [(Client(plan, tally, f"{e}{i}", e), kind) for e in plan.sockets for i, kind in enumerate(kinds)]
    tasks = [asyncio.ensure_future(getattr(client, kind)()) for client, kind in clients]
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.add_reader(0, lambda: over.done() or over.set_result(None))
    while not over.done():
        await asyncio.wait([over], timeout=1)
        tally.look()
        for task in tasks:
            if task.done():
                task.result()       # a client never ends by itself: this raises what ended it
    await finish(tally, tasks)
    print(json.dumps(tally.report()), flush=True)


async def finish(tally, tasks):
    """Nobody asks any more; what was asked is still awaited."""
    tally.is_over = True
    end = time.monotonic() + DEADLINE + 1
    while any(c.pending for c in tally.connections) and time.monotonic() < end:
        tally.look()
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    for connection in list(tally.connections):
        connection.transport.abort()
    await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
