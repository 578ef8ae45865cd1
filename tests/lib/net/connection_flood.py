#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Opens connections to a Unix socket as fast as it can, in a process of its own.

  connection_flood.py SOCKET HELD COUNT
  connection_flood.py --serve SOCKET       answers as the daemon does, for comparison; prints "held"

Opens HELD at once and keeps them, then COUNT more one after another, each with a request, some of
them open at a time. Prints two lines: "held", and JSON that says what became of the COUNT:
{"throttled": answered so, "closed": ended without a whole answer, "other": answered otherwise}.
"""

import collections
import json
import resource
import select
import socket
import sys

REQUEST = (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.1\r\n"
           b"X-Amz-Target: TrentService.ListKeys\r\nContent-Length: 2\r\n\r\n{}")
OPEN = 16       # at a time


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)      # waits while the backlog is full
    return sock


def outcome(sock):
    said = b""
    try:
        while data := sock.recv(65536):
            said += data
    except ConnectionError:
        pass
    sock.close()
    if b'"ThrottlingException"' in said and b"\r\nConnection: close\r\n" in said:
        return "throttled"
    return "other" if said else "closed"


def serve(path):
    """Who has no limit and does nothing else: keeps what says nothing, answers the rest."""
    answer = (b'HTTP/1.1 400 Bad Request\r\nContent-Length: 32\r\nConnection: close\r\n\r\n'
              b'{"__type":"ThrottlingException"}')
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4096)
    poll, socks = select.poll(), {listener.fileno(): listener}
    poll.register(listener, select.POLLIN)
    print("held", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                sock = listener.accept()[0]
                socks[sock.fileno()] = sock
                poll.register(sock, select.POLLIN)
                continue
            if socks[fd].recv(65536):
                socks[fd].sendall(answer)
            poll.unregister(fd)
            socks.pop(fd).close()


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    path, held, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    kept = [connect(path) for _ in range(held)]
    print("held", flush=True)
    seen, under_way = collections.Counter(throttled=0, closed=0, other=0), collections.deque()
    for _ in range(count):
        under_way.append(connect(path))
        try:
            under_way[-1].sendall(REQUEST)
        except ConnectionError:
            pass            # closed already: outcome() sees that
        if len(under_way) >= OPEN:
            seen[outcome(under_way.popleft())] += 1
    while under_way:
        seen[outcome(under_way.popleft())] += 1
    print(json.dumps(seen), flush=True)
    del kept


if __name__ == "__main__":
    main()
