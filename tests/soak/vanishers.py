#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The clients of one enclave that go before they have their answers, at each stage of STAGES.

    vanishers.py SOCKET RATE        so many connections a second

Reads commands from standard input, {"seconds": 2}, and answers each with how many went at which
stage: {"nothing": 12, ...}. Each request names a key of its own, which begins with WATCHED.
"""

import collections
import heapq
import itertools
import json
import os
import random
import select
import socket
import sys
import time

from abuse import HOST
from echo_kms import ONCE, WATCHED

# How often, of all; a request that was sent whole may be queued or upstream when its client goes.
STAGES = {"nothing": 5, "inside the head": 10, "inside the body": 15, "sent": 40, "answered": 20, "answer unread": 10}
LINGER = 0.3            # seconds, at most, for which who has sent all stays
PATIENCE = 1.5          # seconds, at most, to wait for an answer
OPEN = 100              # at a time; the enclave's limit is above
LARGE = 250_000         # bytes: more than a socket holds, there and back


class Client:
    """One connection until it goes."""

    numbers = itertools.count()

    def __init__(self, path, dice, now):
        self.stage, = dice.choices(list(STAGES), STAGES.values())
        self.dice = dice
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.until = now + (PATIENCE if self.stage.startswith("answer") else dice.uniform(0, LINGER))
        self.sock.connect(path)
        head, body = self.request()
        data = {"nothing": b"", "inside the head": head[:dice.randrange(1, len(head))],
                "inside the body": head + body[:dice.randrange(len(body))]}.get(self.stage, head + body)
        self.unsent = memoryview(data)
        self.send()

    def __lt__(self, other):
        return self.until < other.until

    def request(self):
        """An action that isn't safe to repeat, or one that is; a few are large."""
        once = self.dice.random() < 0.5
        text = "A" * (LARGE if self.stage == "answer unread" and self.dice.random() < 0.05 else 20)
        members = {"KeyId": f"{WATCHED}{next(self.numbers)}", ("Description" if once else "Plaintext"): text}
        body = json.dumps(members).encode()
        return (f"POST / HTTP/1.1\r\nHost: {HOST}\r\nX-Amz-Target: TrentService.{ONCE if once else 'Encrypt'}\r\n"
                f"Content-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n").encode(), body

    def send(self):
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent):]
        except BlockingIOError:
            pass

    def events(self):
        return (select.POLLOUT if self.unsent else 0) | (select.POLLIN if self.stage.startswith("answer") else 0)

    def act(self):
        """True when it is time to go: the answer is there, or the connection has ended."""
        try:
            self.send()
            if not select.select([self.sock], [], [], 0)[0]:
                return False
            if self.stage == "answered":
                self.sock.recv(1 << 20)
            return self.stage.startswith("answer")
        except OSError:
            return True

    def go(self):
        """Closes; a Unix socket with unread bytes is reset by that. Or half-closes first, or both ways."""
        how = self.dice.choice([None, socket.SHUT_WR, socket.SHUT_RDWR])
        try:
            if how is not None:
                self.sock.shutdown(how)
        except OSError:     # it has ended
            pass
        self.sock.close()


class Vanishers:
    def __init__(self, path, rate):
        self.path, self.rate = path, rate
        self.dice = random.Random(1)

    def run(self, seconds):
        held, went = [], collections.Counter()
        poll = select.poll()
        by_descriptor = {}

        def drop(client):
            poll.unregister(client.sock)
            del by_descriptor[client.sock.fileno()]
            client.go()
            went[client.stage] += 1
            client.stage = None

        start = due = time.monotonic()
        while (now := time.monotonic()) < start + seconds or by_descriptor:
            while due <= now < start + seconds:
                due += 1 / self.rate
                if len(by_descriptor) < OPEN and (client := self.open(now)):
                    heapq.heappush(held, client)
                    by_descriptor[client.sock.fileno()] = client
                    poll.register(client.sock, client.events())
            for fd, _ in poll.poll(5):
                if by_descriptor[fd].act():
                    drop(by_descriptor[fd])
                else:
                    poll.modify(fd, by_descriptor[fd].events())
            while held and (held[0].stage is None or held[0].until <= now):
                client = heapq.heappop(held)
                if client.stage:
                    drop(client)
        return went

    def open(self, now):
        try:
            return Client(self.path, self.dice, now)
        except OSError:         # the daemon's backlog is full, or it is no more
            return None


def main():
    if os.geteuid() != 0:       # else those that are measured come first in another way
        os.nice(19)
    vanishers = Vanishers(sys.argv[1], float(sys.argv[2]))
    for line in sys.stdin:
        print(json.dumps(vanishers.run(json.loads(line)["seconds"])), flush=True)


if __name__ == "__main__":
    main()
