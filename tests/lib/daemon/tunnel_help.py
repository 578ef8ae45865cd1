# SPDX-License-Identifier: Apache-2.0
"""What the tests of the tunnel share: hosts that hold still, raw ends, and what they see."""

import contextlib
import os
import socket
import struct

import pytest

from daemon.process import DEADLINE, wait_for
from net.bridge import connect
from net.tls_hello import alert, client_hello

NAME = "kms.eu-central-1.amazonaws.com"     # of the local KMS
SLOW = 4 if os.environ.get("KMS_VSOCK_PROXY_SLOW") else 1

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount name space")


def connect_request(authority, version="1.1"):
    return f"CONNECT {authority} HTTP/{version}\r\nHost: {authority}\r\n\r\n".encode()


def allow_tunnel(daemon, *hosts, enclave="payments", **more):
    """hosts: (name, where to connect) each."""
    hosts = [{"host": n, "port": 443, **({"connect_to": to} if to else {})} for n, to in hosts]
    daemon.config["enclaves"][enclave]["tunnel"] = {"hosts": hosts, **more}


class End(socket.socket):
    """One end of a tunnel."""

    opened = []
    sock = property(lambda self: self)      # as kms.client.Client has one

    def __init__(self, *how, **more):
        super().__init__(*how, **more)
        self.settimeout(DEADLINE)
        End.opened.append(self)

    def receive(self, count):
        """Exactly so many bytes."""
        data = bytearray()
        while len(data) < count:
            more = self.recv(min(count - len(data), 1 << 20))
            assert more, f"the end after {len(data)} of {count} bytes: {bytes(data[:200])}"
            data += more
        return bytes(data)

    def rest(self):
        """All bytes up to the end."""
        data = bytearray()
        while more := self.recv(1 << 20):
            data += more
        return bytes(data)

    def is_cut(self):
        """Whether it has ended, without another byte: closed, or by a reset."""
        try:
            return self.recv(1) == b""
        except ConnectionResetError:
            return True

    def alert(self):
        """The alert that is all the rest."""
        return alert(self.rest())

    def half_close(self):
        self.shutdown(socket.SHUT_WR)

    def reset(self):
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class Host:
    """A TCP server whose connections the test accepts itself."""

    def __init__(self, address="127.0.0.1", port=0, backlog=128):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, port))
        self._listener.listen(backlog)
        self._listener.settimeout(DEADLINE)
        self.ip, self.port = address, self._listener.getsockname()[1]
        self.address = f"{address}:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._listener.close()

    def accept(self):
        accepted, _ = self._listener.accept()
        return End(fileno=accepted.detach())

    def is_asked(self, within=0):
        """Whether somebody has connected, or does within so many seconds."""
        self._listener.settimeout(within)
        try:
            self._listener.accept()[0].close()
            return True
        except (BlockingIOError, TimeoutError):
            return False
        finally:
            self._listener.settimeout(DEADLINE)


@contextlib.contextmanager
def deaf_host():
    """A host that answers no SYN: its queue of connections is full, and nobody accepts."""
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(Host(backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", host.port))
        yield host


@contextlib.contextmanager
def running(daemon):
    """The daemon, started; at the end all ends are closed first, so that it has nothing to wait for."""
    with daemon:
        try:
            yield daemon
        finally:
            while End.opened:
                End.opened.pop().close()


def enclave(daemon, name="payments"):
    """A fresh connection to the daemon."""
    end = End(socket.AF_UNIX, socket.SOCK_STREAM)
    connect(end, daemon.socket_path(name), DEADLINE)
    return end


def ask(daemon, data, name="payments"):
    """A connection that has sent these bytes."""
    end = enclave(daemon, name)
    end.sendall(data)
    return end


def open_tunnel(daemon, host, name=NAME, enclave_name="payments"):
    """Both ends of a tunnel whose ClientHello has arrived."""
    hello = client_hello(name)
    client = ask(daemon, hello, enclave_name)
    server = host.accept()
    assert server.receive(len(hello)) == hello
    return client, server


def wait_ended(daemon, count=1, **fields):
    """The record of the last of `count` tunnels that have ended."""
    def look():
        found = [r for r in daemon.records(**fields) if " ended after " in r["MESSAGE"]]
        return len(found) >= count and found[-1]
    return wait_for(look, message=lambda: f"no {count} ends of {fields} in:\n{daemon.log()[-3000:]}")


def wait_open(daemon, count=1, deadline=DEADLINE):
    wait_for(lambda: daemon.log().count(" opened ") >= count, deadline,
             lambda: f"no {count} opened in:\n{daemon.log()[-3000:]}")


def wait_descriptors(daemon, count):
    """Waits until it has no more of them open than that."""
    wait_for(lambda: daemon.descriptors() <= count,
             message=lambda: f"{daemon.descriptors()} descriptors, not {count}")
