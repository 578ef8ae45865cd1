# SPDX-License-Identifier: Apache-2.0
"""A name server on a loopback address of its own, and a name space in which a program asks it.

    with FakeDns({"kms.test": ["127.0.0.2"]}) as dns, Daemon(..., wrapper=dns.wrapper(folder)):
        dns.names["kms.test"] = ["127.0.0.3"]
        dns.mode = "silent"             # or "fails" (SERVFAIL), "refuses", "empty", "garbage",
                                        # "answers"
        dns.modes["kms.test"] = "fails"     # of one name

Needs root: for port 53, and for the mounts over /etc/resolv.conf and its like.
"""

import os
import random
import socket
import struct
import threading

A, NXDOMAIN, SERVFAIL, REFUSED = 1, 3, 2, 5
CODES = {"fails": SERVFAIL, "refuses": REFUSED}


class FakeDns:
    def __init__(self, names=()):
        self.names = dict(names)
        self.mode, self.modes = "answers", {}
        self.asked = []             # the names, as often as they were asked for
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = "127.{}.{}.53".format(random.randrange(1, 255), random.randrange(1, 255))
        self._socket.bind((self.address, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.sendto(b"", (self.address, 53))    # the end, to itself
        self._thread.join()
        self._socket.close()

    def wrapper(self, folder, timeout=30):
        """The command to put in front of a program that is to ask this server; timeout: how many
        seconds it waits for an answer."""
        files = {
            "resolv.conf": f"nameserver {self.address}\noptions timeout:{timeout} attempts:1\n",
            "hosts": "127.0.0.1 localhost\n",
            "nsswitch.conf": "hosts: files dns\n",
        }
        mounts = []
        for name, text in files.items():
            (folder / name).write_text(text)
            if os.path.exists(f"/etc/{name}"):
                mounts.append(f"mount --bind '{folder / name}' /etc/{name}")
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                " && ".join(mounts) + ' && exec "$@"', "sh"]

    def _serve(self):
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            self._answer(query, peer)

    def _answer(self, query, peer):
        name, kind, end = _question(query)
        self.asked.append(name)
        mode = self.modes.get(name, self.mode)
        if mode == "silent":
            return
        if mode == "garbage":
            self._socket.sendto(query[:2] + b"\xff" * 40, peer)
            return
        found = self.names.get(name, ())
        addresses = found if kind == A and mode != "empty" else ()
        code = CODES.get(mode, 0 if found else NXDOMAIN)
        records = [] if code else [
            b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 0, 4) + socket.inet_aton(a) for a in addresses]
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        self._socket.sendto(head + query[12:end] + b"".join(records), peer)


def _question(query):
    """The name, its type, and where the question ends."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])[0], at + 5
