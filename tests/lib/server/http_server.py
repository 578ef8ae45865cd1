# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server for the stand-ins: strict in what it reads, free in what it sends.

One thread a connection, keep-alive, optional TLS. It records every request before it answers,
and applies the faults of its board. The service behind it is an object with

  action(request) -> str      what the request asks for, for faults and records
  answer(request) -> Reply
"""

import collections
import socket
import threading
import time
import traceback

from server.faults import FaultBoard
from server.http_connection import Connection
from server.http_message import Reply, Request
from server.reply_faults import TABLE as REPLY_FAULTS

# A benchmark must not eat the machine: the oldest records go.
RECORDS_MAX = 50000
RECORDED_BYTES_MAX = 128 << 20


class HttpServer:
    """Accepts, records, answers. identity: a tls_certs.ServerIdentity, or None for plain HTTP."""

    def __init__(self, service, host="127.0.0.1", port=0, identity=None, tls=None, tables=()):
        self.service = service
        self.host, self.port = host, port
        self.identity = identity
        self.tls = tls
        self.certificate = "good"
        self.clock_offset = 0
        self.faults = FaultBoard(REPLY_FAULTS, *tables)
        self.stopping = threading.Event()
        self.requests = collections.deque()
        self._recorded_bytes = 0
        self.connections = collections.deque(maxlen=RECORDS_MAX)
        self.request_count = self.connection_count = 0
        self._live = set()
        self._changed = threading.Condition(threading.RLock())
        self._listener = None
        self._acceptor = None

    def clock(self):
        """This server's idea of the time, in seconds since the epoch."""
        return time.time() + self.clock_offset

    # Life.

    def start(self):
        """Listens; on the same port as before when it was stopped."""
        self.stopping.clear()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.host, self.port))
        self._listener.listen(512)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()

    def stop(self):
        """Refuses connections and ends those there are."""
        if self._listener is None:
            return
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self._listener = None
        self.drop_connections()

    def drop_connections(self):
        """Ends all connections there are; waits until their threads are done."""
        with self._changed:
            deadline = time.monotonic() + 10
            connections = set(self._live)
            while connections := connections & self._live:
                if time.monotonic() > deadline:
                    raise TimeoutError("a connection's thread doesn't end")
                # More than once: one that is about to start TLS is changing its socket.
                for connection in connections:
                    connection.abort()
                self._changed.wait(0.05)

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.connection_count += 1
                connection = Connection(self, sock, self.connection_count)
                self.connections.append(connection)
                self._live.add(connection)
                self._changed.notify_all()
            threading.Thread(target=connection.run, daemon=True).start()

    # Records.

    def new_request(self, connection):
        with self._changed:
            self.request_count += 1
            connection.requests += 1
            return Request(self.request_count, connection, time.time())

    def record(self, request):
        with self._changed:
            self.requests.append(request)
            self._recorded_bytes += len(request.body)
            while len(self.requests) > RECORDS_MAX or self._recorded_bytes > RECORDED_BYTES_MAX:
                self._recorded_bytes -= len(self.requests.popleft().body)
            self._changed.notify_all()

    def forget_requests(self):
        with self._changed:
            self.requests.clear()
            self._recorded_bytes = 0

    def completed(self, request, status):
        with self._changed:
            request.status = status
            self._changed.notify_all()

    def connection_ended(self, connection):
        with self._changed:
            self._live.discard(connection)
            self._changed.notify_all()

    def answer(self, request):
        """The service's answer; a fault of ours becomes a 500 that nobody can overlook."""
        try:
            return self.service.answer(request)
        except Exception:
            traceback.print_exc()
            reply = Reply(500, b'{"__type":"InternalFailure","message":"the stand-in is broken"}')
            reply.verdict = "broken"
            return reply

    def snapshot(self, records):
        with self._changed:
            return list(records)

    def open_connections(self):
        with self._changed:
            return len(self._live)

    def wait(self, condition, timeout=10):
        """Waits until condition() is true; it is tried at every request, answer and connection."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"nothing of the kind within {timeout} s; "
                                   f"requests: {list(self.requests)}")
