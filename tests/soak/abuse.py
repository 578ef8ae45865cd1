#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One enclave at full abuse, in one of the ways of KINDS, as fast as it can.

    abuse.py KIND SOCKET SECONDS

Prints how much of it there was as JSON: {"kind": ..., "done": ...}.
"""

import collections
import json
import os
import pathlib
import random
import resource
import select
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from net.tls_hello import client_hello  # noqa: E402

HOST = "kms.eu-central-1.amazonaws.com"
MANY = 1024         # connections: the daemon's limit for an enclave
SMALL = 2304        # the least that the kernel gives a socket buffer


def request(action, body):
    return (f"POST / HTTP/1.1\r\nHost: {HOST}\r\nX-Amz-Target: TrentService.{action}\r\n"
            f"Content-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()


def encrypt(size):
    return request("Encrypt", json.dumps({"KeyId": "alias/soak", "Plaintext": "A" * size}))


REFUSED = request("ListKeys", "{}")
ALLOWED = encrypt(100)
LARGE = encrypt(100_000)


class Abuser:
    def __init__(self, path, seconds):
        self.path = path
        self.end = time.monotonic() + seconds
        self.done = 0
        self.dice = random.Random(1)

    def going(self):
        return time.monotonic() < self.end

    def open(self, receive_buffer=None):
        """A connection, or None where the daemon's backlog is full."""
        sock = socket.socket(socket.AF_UNIX)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            sock.connect(self.path)
        except BlockingIOError:
            sock.close()
            time.sleep(0.0005)
            return None
        return sock

    def send(self, sock, data):
        """How much was taken; None: the connection is gone."""
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return None

    def drop_answers(self, sock):
        """False when the connection has ended."""
        try:
            while data := sock.recv(65536):
                self.done += data.count(b"HTTP/1.1 ")
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    # Connections of a moment.

    def once(self, act):
        """A connection, one act on it, its end; over and over, some of them open at a time."""
        held = collections.deque()
        while self.going():
            if sock := self.open():
                act(sock)
                held.append(sock)
                self.done += 1
            if len(held) > 16:
                held.popleft().close()

    def arbitrary_bytes(self):
        self.once(lambda sock: self.send(sock, self.dice.randbytes(self.dice.choice([1, 40, 4000, 40000]))))

    def reopened(self):
        """As many as it gets, each replaced at once when the daemon has had enough of it."""
        held = collections.deque()
        while self.going():
            if sock := self.open():
                held.append(sock)
                self.done += 1
            if len(held) > 2 * MANY:
                held.popleft().close()

    def half_closed(self):
        def act(sock):
            self.send(sock, self.dice.choice([b"", ALLOWED, ALLOWED[:100], REFUSED]))
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:     # over the limit of connections: it has ended
                pass
        self.once(act)

    def reset(self):
        """Gone with an answer unread, which is a Unix socket's reset."""
        def act(sock):
            self.send(sock, REFUSED)
            select.select([sock], [], [], 0.01)
            sock.close()
        while self.going():
            if sock := self.open():
                act(sock)
                self.done += 1

    def refused_connections(self):
        self.once(lambda sock: self.send(sock, REFUSED))

    # Connections that stay.

    def stay(self, count, act, receive_buffer=None):
        """Goes round so many connections; act() is False when one is to be replaced."""
        held = []
        while self.going():
            if len(held) < count and (sock := self.open(receive_buffer)):
                held.append(sock)
            if not held:
                continue
            waiting = select.poll()
            for sock in held:
                waiting.register(sock, select.POLLIN | select.POLLOUT)
            ready = {fd for fd, _ in waiting.poll(10)}
            for sock in list(held):
                if sock.fileno() in ready and not act(sock):
                    held.remove(sock)
                    sock.close()

    def never_reading(self):
        """Asks for large answers and takes no byte of them: no credit."""
        def act(sock):
            taken = self.send(sock, LARGE * 4)
            self.done += bool(taken)
            return taken is not None
        self.stay(MANY, act, SMALL)

    def refused_requests(self):
        self.stay(8, lambda sock: self.send(sock, REFUSED * 50) is not None and self.drop_answers(sock))

    def pipelined(self):
        self.stay(8, lambda sock: self.send(sock, ALLOWED * 50) is not None and self.drop_answers(sock))

    def dripped(self):
        """Large bodies that come in small pieces."""
        head = LARGE[:LARGE.index(b"\r\n\r\n") + 4]

        def act(sock):
            if sock not in started:
                started.add(sock)
                return self.send(sock, head) is not None
            self.done += 1
            return self.send(sock, b"A" * 10) is not None and self.drop_answers(sock)
        started = set()
        self.stay(MANY, act)

    def hellos(self):
        """TLS: hosts that are allowed, ones that aren't, halves of a hello, and CONNECT."""
        allowed, other = client_hello(HOST), client_hello("kms.example")
        heads = [allowed, other, allowed[:50], f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode(),
                 b"CONNECT kms.example:443 HTTP/1.1\r\nHost: kms.example:443\r\n\r\n", allowed + b"\x16" * 20000]
        self.once(lambda sock: self.send(sock, self.dice.choice(heads)))


KINDS = ("arbitrary_bytes", "reopened", "half_closed", "reset", "refused_connections", "never_reading",
         "refused_requests", "pipelined", "dripped", "hellos")


def main():
    kind, path, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if os.geteuid() != 0:       # else those that are measured come first in another way
        os.nice(19)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    abuser = Abuser(path, seconds)
    getattr(abuser, kind)()
    print(json.dumps({"kind": kind, "done": abuser.done}), flush=True)


if __name__ == "__main__":
    main()
