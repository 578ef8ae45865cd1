#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps connections busy, in a process of its own: sends on the first half of the descriptors that
are its arguments whenever there is room, and drops what comes on the others. Says "busy" when
64 MiB have come, and goes on until it is killed.
"""

import select
import socket
import sys


def main():
    ends = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
    senders = {e.fileno() for e in ends[:len(ends) // 2]}
    by_fd = {e.fileno(): e for e in ends}
    poller = select.epoll()
    for fd, end in by_fd.items():
        end.setblocking(False)
        if fd in senders:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        poller.register(fd, select.EPOLLOUT if fd in senders else select.EPOLLIN)
    data, buffer, left = bytes(1 << 18), bytearray(1 << 20), 64 << 20
    while True:
        for fd, _ in poller.poll():
            try:
                if fd in senders:
                    by_fd[fd].send(data)
                    continue
                before, left = left, left - by_fd[fd].recv_into(buffer)
                if before > 0 >= left:
                    print("busy", flush=True)
            except BlockingIOError:
                pass


if __name__ == "__main__":
    main()
