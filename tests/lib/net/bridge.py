#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A byte bridge from TCP (or a Unix socket) to a Unix socket (or vsock, or TCP), as socat is in an
enclave. Each direction ends by itself: end of file on one side becomes a half-close on the other.

  bridge.py --listen 127.0.0.1:8000 --to unix:/run/kms-vsock-proxy/dev.sock

Addresses: HOST:PORT or tcp:HOST:PORT, unix:PATH, vsock:CID:PORT.
"""

import argparse
import os
import signal
import socket
import struct
import threading


def parse_address(text):
    """(family, address) of an address as above."""
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return socket.AF_UNIX, rest
    if kind == "vsock":
        cid, _, port = rest.partition(":")
        return socket.AF_VSOCK, (int(cid), int(port))
    host, _, port = (rest if kind == "tcp" else text).rpartition(":")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host.strip("[]"), int(port))


def connect(sock, address, seconds):
    """Connects, and leaves a socket with this timeout. It blocks for it: of a Unix socket with a full
    backlog one that blocks waits for room, as an enclave does, and one that doesn't is told EAGAIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), 0))
    sock.settimeout(None)
    sock.connect(address)
    sock.settimeout(seconds)


class Passage:
    """One bridged connection: the two sockets and, with record, the bytes of each direction."""

    def __init__(self, number):
        self.number = number
        self.sent = bytearray()         # from the client to the target
        self.received = bytearray()     # from the target to the client
        self.failed = None              # why the target couldn't be reached
        self.open = True
        self.sockets = []

    def abort(self):
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Bridge:
    """to: where connections go. piece: what arrives is written in pieces of so many bytes, each
    with its own send. record: keep the bytes in `passages`."""

    def __init__(self, to, *, listen="127.0.0.1:0", piece=None, record=False):
        self.target = parse_address(to if ":" in str(to) else f"unix:{to}")
        self.family, self.listen_address = parse_address(listen)
        self.piece = piece
        self.record = record
        self.passages = []
        self._changed = threading.Condition()
        self._listener = None
        self._acceptor = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens; on the same port as before when it was stopped."""
        self._listener = socket.socket(self.family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(self.listen_address)
        self._listener.listen(512)
        self.listen_address = self._listener.getsockname()
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()
        return self

    def stop(self):
        if self._listener is None:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self._listener = None
        if self.family == socket.AF_UNIX:
            os.unlink(self.listen_address)
        with self._changed:
            while any(p.open for p in self.passages):
                # More than once: one may just be connecting to the target.
                for passage in self.passages:
                    passage.abort()
                self._changed.wait(0.05)

    @property
    def port(self):
        return self.listen_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait(self, condition, timeout=10):
        """Waits until condition() is true; it is tried at each connection's begin and end."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"nothing of the kind within {timeout} s")

    def state(self):
        return {"url": self.url, "port": self.port, "to": str(self.target[1])}

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._changed:
                passage = Passage(len(self.passages) + 1)
                self.passages.append(passage)
                self._changed.notify_all()
            threading.Thread(target=self._carry, args=(passage, client), daemon=True).start()

    def _carry(self, passage, client):
        family, address = self.target
        target = socket.socket(family, socket.SOCK_STREAM)
        passage.sockets = [client, target]
        try:
            target.connect(address)
            for sock in (client, target):
                if sock.family in (socket.AF_INET, socket.AF_INET6):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=self._pump, args=(target, client, passage.received),
                                    daemon=True)
            back.start()
            self._pump(client, target, passage.sent)
            back.join()
        except OSError as error:
            passage.failed = str(error)
        finally:
            client.close()
            target.close()
            with self._changed:
                passage.open = False
                self._changed.notify_all()

    def _pump(self, source, sink, record):
        """Copies until the end of file, which it passes on; a reset is passed on as a reset."""
        try:
            while data := source.recv(65536):
                if self.record:
                    record += data
                for i in range(0, len(data), self.piece or len(data)):
                    sink.sendall(data[i:i + (self.piece or len(data))])
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for sock in (source, sink):
                _reset(sock)


def _reset(sock):
    """Both directions end at once; the peer sees a reset where the family has one."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:8000", help="HOST:PORT or unix:PATH")
    parser.add_argument("--to", required=True, help="unix:PATH, vsock:CID:PORT or HOST:PORT")
    parser.add_argument("--piece", type=int, help="write in pieces of so many bytes")
    options = parser.parse_args()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with Bridge(options.to, listen=options.listen, piece=options.piece) as bridge:
        print(f"{bridge.listen_address} -> {options.to}", flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
