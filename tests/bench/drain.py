#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands for the journal: takes datagrams on a Unix socket, drops them, counts them.

    drain.py SOCKET COUNT    COUNT: a file of 8 bytes that always holds the number
"""

import mmap
import socket
import struct
import sys


def main():
    with open(sys.argv[2], "w+b") as f:
        f.write(bytes(8))
        f.flush()
        count = mmap.mmap(f.fileno(), 8)
    room = bytearray(65536)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)  # as journald does
        s.bind(sys.argv[1])
        n = 0
        while True:
            s.recv_into(room)
            n += 1
            struct.pack_into("=Q", count, 0, n)


if __name__ == "__main__":
    main()
