# SPDX-License-Identifier: Apache-2.0
"""Enclaves, as far as the daemon can tell: peers with CIDs of their own.

Vhost gives each enclave a process (vsock-guest) that drives /dev/vhost-vsock; it can die, and it
can do what no kernel would. Nitro is the arrangement of a parent instance, whose own CID is 3:
there the streams come from the machine's vsock device, whose back end runs on the host.
"""

import contextlib
import pathlib
import re
import socket
import subprocess
import threading

from kms.client import Client

VSOCK_GUEST = "/test/build/tests/vm/vsock-guest"
SOCKETS = pathlib.Path("/run/vm-peers")
LIMIT_SECONDS = 60
HOST_CID = 2
NITRO_COMMAND_PORT = 1      # vhost_user_vsock.py has the same
RECEIVE, SEND = 1, 2        # VIRTIO_VSOCK_SHUTDOWN_*


class Refused(ConnectionRefusedError):
    """Nobody listens at that port."""


def _say(stream, line):
    """Sends a command and returns its answer, without taking a byte that follows it."""
    stream.settimeout(LIMIT_SECONDS)
    stream.sendall(line.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        byte = stream.recv(1)
        if not byte:
            raise ConnectionError(f"{line!r}: ended after {answer!r}")
        answer += byte
    return answer.decode().strip()


def _connected(stream, line):
    answer = _say(stream, line)
    match = re.fullmatch(r"OK (\d+)", answer)
    if match:
        stream.source_port = int(match[1])
        return stream
    stream.close()
    raise Refused(answer)


class Stream(socket.socket):
    """A socket that also knows the port it has on its enclave's side."""

    source_port = None


def bytes_back(stream, data):
    """What comes back for `data` until the other side closes, which may be before it has read."""
    received = b""
    with contextlib.suppress(ConnectionError):
        stream.sendall(data)
    with contextlib.suppress(ConnectionError):
        while part := stream.recv(65536):
            received += part
    return received


class EnclaveClient(Client):
    """tests/lib's raw client, on a stream of an enclave: ask(request(...))."""

    def __init__(self, stream):     # the stream is its connection already
        self.sock = stream
        self._held = b""


class VhostEnclave:
    """One process that holds one CID."""

    def __init__(self, cid, window=None):
        self.cid = cid
        self.path = SOCKETS / f"{cid}.sock"
        SOCKETS.mkdir(exist_ok=True)
        command = [VSOCK_GUEST, "--cid", str(cid), "--socket", str(self.path)]
        if window:
            command += ["--window", str(window)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(self.process.stderr.read().strip())

    def _command(self):
        stream = Stream(socket.AF_UNIX)
        stream.connect(str(self.path))
        return stream

    def connect(self, port, source_port=0):
        return _connected(self._command(), f"CONNECT {port} {source_port}")

    def client(self, port):
        return EnclaveClient(self.connect(port))

    def reset(self, stream):
        """Ends a stream of this enclave with a reset instead of a close."""
        with self._command() as command:
            assert _say(command, f"RESET {stream.source_port}") == "OK"

    def shut(self, stream, directions):
        """The packet with which an enclave's kernel tells that a stream of it receives no more, sends
        no more, or both: RECEIVE | SEND."""
        with self._command() as command:
            assert _say(command, f"SHUTDOWN {stream.source_port} {directions}") == "OK"

    def spoof(self, cid, port):
        """Asks for a connection in another's name."""
        with self._command() as command:
            assert _say(command, f"SPOOF {cid} {port}") == "OK"

    def die(self):
        """The enclave is terminated, with all its connections; its CID is free again."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class NitroEnclave:
    def __init__(self, cid):
        self.cid = cid

    def connect(self, port):
        stream = Stream(socket.AF_VSOCK)
        stream.settimeout(LIMIT_SECONDS)
        stream.connect((HOST_CID, NITRO_COMMAND_PORT))
        return _connected(stream, f"CONNECT {self.cid} {port}")

    def client(self, port):
        return EnclaveClient(self.connect(port))


class Vhost:
    """Enclaves, started when they are first asked for and again after they died, by any thread."""

    def __init__(self):
        self.running = {}
        self._lock = threading.Lock()

    def enclave(self, cid):
        with self._lock:
            known = self.running.get(cid)
            if known is None or known.process.poll() is not None:
                known = self.running[cid] = VhostEnclave(cid)
            return known

    def stop(self):
        for enclave in self.running.values():
            if enclave.process.poll() is None:
                enclave.die()


class Nitro:
    enclave = NitroEnclave

    def stop(self):
        pass
