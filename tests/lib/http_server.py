# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server for the stand-ins: strict in what it reads, free in what it sends.

One thread a connection, keep-alive, optional TLS. It records every request before it answers,
and applies the faults of its board. The service behind it is an object with

  action(request) -> str      what the request asks for, for faults and records
  answer(request) -> Reply
"""

import base64
import collections
import datetime
import email.utils
import http
import re
import select
import socket
import ssl
import struct
import threading
import time
import traceback

from faults import FaultBoard
from reply_faults import TABLE as REPLY_FAULTS

HEAD_MAX = 64 * 1024
BODY_MAX = 2 * 1024 * 1024      # above every legal KMS request
RECORDS_MAX = 50000             # a benchmark must not eat the machine
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-~]+) (HTTP/\d\.\d)")
SINGLE = ("host", "content-length", "content-type", "authorization", "transfer-encoding")


class BadRequest(Exception):
    """What arrived isn't a request; `status` is the answer, after which the connection ends."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


class Gone(Exception):
    """The connection is over: the peer closed it, or a fault or stop() did."""


class Request:
    """One request, and what became of it."""

    def __init__(self, number, connection, received):
        self.number = number
        self.connection = connection
        self.time = received
        self.method = self.target = self.version = ""
        self.headers = []
        self.body = b""
        self.action = None          # "Decrypt", "PutToken", ...
        self.json = None            # the parsed body of a KMS request
        self.access_key_id = None
        self.signed_headers = None
        self.verdict = None         # "ok", or the error's type
        self.status = None          # of the answer; None while there is none
        self.faults = []            # names of the faults applied
        self.raw_head = b""

    def header(self, name):
        """The value of a header, None if there is none; several are joined as RFC 9110 5.3."""
        values = self.header_values(name)
        return ", ".join(values) if values else None

    def header_values(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def as_dict(self):
        """For the control socket; the body's bytes are base64."""
        return {
            "number": self.number, "time": self.time, "connection": self.connection.number,
            "method": self.method, "target": self.target, "action": self.action,
            "headers": [list(h) for h in self.headers],
            "body": base64.b64encode(self.body).decode(), "json": self.json,
            "access_key_id": self.access_key_id, "signed_headers": self.signed_headers,
            "verdict": self.verdict, "status": self.status, "faults": self.faults,
            "resumed": self.connection.resumed, "tls": self.connection.tls,
            "sni": self.connection.sni,
        }

    def __repr__(self):
        return f"<{self.number} {self.method} {self.target} {self.action}: {self.verdict} {self.status}>"


class Reply:
    """An answer, and everything that may be wrong with it."""

    def __init__(self, status, body=b"", content_type=None, headers=()):
        self.status = status
        self.body = body
        self.headers = list(headers)
        if content_type:
            self.headers.append(("Content-Type", content_type))
        self.verdict = "ok"
        self.version = "HTTP/1.1"
        self.status_line = None
        self.framing = "length"     # or "none": no Content-Length is made
        self.length = None          # text in place of the true length
        self.dated, self.date_offset, self.date_text = True, 0, None
        self.bad_lines = []
        self.prefix = self.suffix = b""
        self.raw = None
        self.close = False
        self.delay = 0              # None: until the fault is cleared
        self.cuts = []              # (where, "stall" | "reset" | "close" | "truncate", seconds)
        self.piece, self.interval = None, 0

    def set_header(self, name, value):
        self.headers = [h for h in self.headers if h[0].lower() != name.lower()]
        self.headers.append((name, value))

    def cut(self, where, what, seconds=None):
        self.cuts.append((where, what, seconds))

    def _head(self, clock):
        try:
            phrase = http.HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [self.status_line or f"{self.version} {self.status} {phrase}"]
        lines += [f"{n}: {v}" for n, v in self.headers]
        if self.dated:
            date = email.utils.formatdate(clock() + self.date_offset, usegmt=True)
            lines.append(f"Date: {self.date_text or date}")
        if self.framing == "length":
            lines.append(f"Content-Length: {self.length if self.length is not None else len(self.body)}")
        lines += self.bad_lines
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def render(self, clock, with_body=True):
        """The bytes of the answer and the offsets of its cuts, in order."""
        head = self.prefix + self._head(clock)
        data = self.raw if self.raw is not None else head + (self.body if with_body else b"") + self.suffix
        named = {"head": len(head) // 2, "body": len(head) + len(self.body) // 2}
        cuts = [(min(named.get(where, where), len(data)), what, s) for where, what, s in self.cuts]
        return data, sorted(cuts, key=lambda cut: cut[0])


class Connection:
    """One accepted connection; runs in its own thread."""

    def __init__(self, server, sock, number):
        self.server = server
        self.sock = sock
        self.number = number
        self.opened = time.time()
        self.closed = None
        self.requests = 0
        self.resumed = None
        self.tls = None
        self.sni = None
        self.alpn = None
        self.error = None           # why TLS failed
        self.certificate = server.certificate
        self.tls_version = None
        self.doom = None            # what a fault wants: "reset", "close", "hang"
        self._held = b""            # received, not yet read

    def as_dict(self):
        return {k: getattr(self, k) for k in ("number", "opened", "closed", "requests", "resumed",
                                              "tls", "sni", "alpn", "error")}

    def run(self):
        try:
            self._meet(self.server.faults.take("accept"))
            self._handshake()
            while self._one_request():
                pass
            self._finish(notify=True)
        except (Gone, OSError) as error:
            if isinstance(error, ssl.SSLError) and self.tls is None:
                self.error = str(error)
        finally:
            self.sock.close()
            self.closed = time.time()
            self.server.connection_ended(self)

    def _meet(self, faults):
        """Applies faults of the stages accept and read."""
        for fault in faults:
            fault.apply(self)
            if self.doom == "hang":
                self._wait(None, fault)
                self.doom = None
            elif self.doom:
                self._end(self.doom)

    def _handshake(self):
        if self.server.identity is None:
            return
        context = self.server.identity.context(self.certificate, self.tls_version or self.server.tls)
        self.sock.settimeout(10)
        self.sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        try:
            self.sock.do_handshake()
        finally:
            self.sni = getattr(self.sock, "sni", None)
        self.sock.settimeout(None)
        self.tls = self.sock.version()
        self.resumed = self.sock.session_reused
        self.alpn = self.sock.selected_alpn_protocol()

    def _one_request(self):
        """Reads and answers one request; false when the connection is to end."""
        if not self._held:
            self._held = self._receive(Gone)
        self._meet(self.server.faults.take("read"))
        request = self.server.new_request(self)
        try:
            self._read(request)
        except BadRequest as error:
            self.server.record(request)
            request.verdict = f"malformed: {error}"
            reply = Reply(error.status, f"{error}\n".encode(), "text/plain")
            reply.close = True
            return self._send(request, reply, [])
        request.action = self.server.service.action(request)
        self.server.record(request)
        reply = self.server.answer(request)
        faults = self.server.faults.take("reply", request)
        for fault in faults:
            request.faults.append(fault.name)
            fault.apply(reply)
        wants_close = "close" in (request.header("Connection") or "").lower()
        reply.close = reply.close or wants_close or request.version == "HTTP/1.0"
        return self._send(request, reply, faults)

    # Reading.

    def _receive(self, at_end):
        data = self.sock.recv(65536)
        if not data:
            raise at_end
        return data

    def _read(self, request):
        while (end := self._held.find(b"\r\n\r\n")) < 0 and len(self._held) <= HEAD_MAX:
            self._held += self._receive(BadRequest(400, "the connection ended inside a head"))
        if not 0 <= end <= HEAD_MAX:
            raise BadRequest(431, "head too large")
        head, self._held = self._held[:end], self._held[end + 4:]
        request.raw_head = head
        self._read_head(request, head)
        self._read_body(request)

    @staticmethod
    def _read_head(request, head):
        lines = head.split(b"\r\n")
        if any(c in line for line in lines for c in (b"\r", b"\n", b"\0")):
            raise BadRequest(400, "bare CR, bare LF or NUL in the head")
        match = REQUEST_LINE.fullmatch(lines[0])
        if not match:
            raise BadRequest(400, "bad request line")
        request.method, request.target, request.version = (g.decode() for g in match.groups())
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.fullmatch(name):
                raise BadRequest(400, "bad header line")
            request.headers.append((name.decode(), value.strip(b" \t").decode("latin-1")))
        names = [n.lower() for n, _ in request.headers]
        twice = [n for n in names if names.count(n) > 1 and (n in SINGLE or n.startswith("x-am"))]
        if twice:
            raise BadRequest(400, f"{twice[0]} given more than once")
        if request.version != "HTTP/1.0" and "host" not in names:
            raise BadRequest(400, "no Host")

    def _read_body(self, request):
        if request.header("Transfer-Encoding") is not None:
            # KMS may take chunked requests; no client of ours sends one, and the daemon must not.
            raise BadRequest(501, "Transfer-Encoding is not implemented")
        length = request.header("Content-Length") or "0"
        if not re.fullmatch(r"[0-9]{1,10}", length):
            raise BadRequest(400, "bad Content-Length")
        if int(length) > BODY_MAX:
            raise BadRequest(413, "body too large")
        if (request.header("Expect") or "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._held) < int(length):
            self._held += self._receive(BadRequest(400, "the connection ended inside a body"))
        request.body, self._held = self._held[:int(length)], self._held[int(length):]

    # Answering.

    def _send(self, request, reply, faults):
        if reply.delay is None:
            hanging = next(f for f in faults if f.name == "hang")
            self._wait(None, hanging)
        elif reply.delay:
            self._wait(reply.delay, faults[0])
        # What is recorded is what was sent, so a reset before the first byte has no status.
        data, cuts = reply.render(self.server.clock, request.method != "HEAD")
        request.verdict = request.verdict or reply.verdict
        sent = 0
        for offset, what, seconds in cuts:
            self._transmit(data[sent:offset], reply)
            sent = offset
            if what == "stall":
                stalling = next(f for f in faults if f.name == "stall")
                self._wait(seconds, stalling)
            else:
                self.server.completed(request, reply.status if sent else None)
                self._end(what)
        # Completed before the last byte leaves: who has the answer finds it in the record.
        self.server.completed(request, reply.status)
        self._transmit(data[sent:], reply)
        return not reply.close

    def _transmit(self, data, reply):
        if not reply.piece:
            self.sock.sendall(data)
            return
        for i in range(0, len(data), reply.piece):
            self.sock.sendall(data[i:i + reply.piece])
            if self.server.stopping.wait(reply.interval):
                raise Gone

    def _wait(self, seconds, fault):
        """Waits for the time, the fault's end or the peer's; the last raises Gone."""
        until = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        while until is None or time.monotonic() < until:
            if fault.cleared.is_set():
                return
            if self.server.stopping.is_set():
                raise Gone
            left = 0.02 if until is None else max(0, min(0.02, until - time.monotonic()))
            if poll.poll(left * 1000):
                self._held += self._receive_waiting()

    def _receive_waiting(self):
        """Bytes that came while we waited; a TLS record without data is none."""
        self.sock.settimeout(0)
        try:
            return self._receive(Gone)
        except (ssl.SSLWantReadError, BlockingIOError):
            return b""
        finally:
            self.sock.settimeout(None)

    def _end(self, how):
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self._finish(notify=how == "close")
        raise Gone

    def _finish(self, notify):
        """Ends our side in order: close_notify, then FIN, then waits shortly for the peer's end,
        since closing with unread bytes would turn into a reset."""
        if notify and isinstance(self.sock, ssl.SSLSocket):
            self.sock.settimeout(0)
            try:
                self.sock = self.sock.unwrap()
            except (OSError, ValueError):
                pass
        if self.sock.fileno() < 0:
            return
        socket.socket.shutdown(self.sock, socket.SHUT_WR)
        deadline = time.monotonic() + 1
        self.sock.settimeout(0.2)
        try:
            while time.monotonic() < deadline and socket.socket.recv(self.sock, 65536):
                pass
        except OSError:
            pass

    def abort(self):
        """From another thread: wakes the connection's thread with an end of file."""
        try:
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except OSError:
            pass


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
        self.requests = collections.deque(maxlen=RECORDS_MAX)
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
        """Ends all connections; waits until their threads are done."""
        with self._changed:
            for connection in self._live:
                connection.abort()
            if not self._changed.wait_for(lambda: not self._live, 10):
                raise TimeoutError("a connection's thread doesn't end")

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
            self._changed.notify_all()

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

    def open_connections(self):
        with self._changed:
            return len(self._live)

    def wait(self, condition, timeout=10):
        """Waits until condition() is true; it is tried at every request, answer and connection."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"nothing of the kind within {timeout} s; requests: {list(self.requests)}")


def iso_time(seconds):
    """2026-01-02T03:04:05Z"""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
