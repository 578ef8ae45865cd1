# SPDX-License-Identifier: Apache-2.0
"""One accepted connection of a stand-in: TLS, strict reading of requests, answers with faults."""

import re
import select
import socket
import ssl
import struct
import time

from server.http_message import Reply

HEAD_MAX = 64 * 1024
BODY_MAX = 2 * 1024 * 1024      # above every legal KMS request
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
        version = self.tls_version or self.server.tls
        context = self.server.identity.context(self.certificate, version)
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
            return self._send(request, reply)
        request.action = self.server.service.action(request)
        self.server.record(request)
        reply = self.server.answer(request)
        request.verdict = reply.verdict
        for fault in self.server.faults.take("reply", request):
            request.faults.append(fault.name)
            reply.fault = fault
            fault.apply(reply)
        wants_close = "close" in (request.header("Connection") or "").lower()
        reply.close = reply.close or wants_close or request.version == "HTTP/1.0"
        return self._send(request, reply)

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

    def _send(self, request, reply):
        """Sends an answer as its faults want it; false when the connection is to end."""
        for seconds, fault in reply.waits:
            self._wait(seconds, fault)
        data, cuts = reply.render(self.server.clock, request.method != "HEAD")
        sent = 0
        for offset, what, seconds, fault in cuts:
            self._transmit(data[sent:offset], reply)
            sent = offset
            if what == "stall":
                self._wait(seconds, fault)
            else:
                # What is recorded is what was sent: none, when it ends before the first byte.
                self.server.completed(request, reply.status if sent else None)
                self._end(what)
        # Completed before the last byte leaves: who has the answer finds it in the record.
        self.server.completed(request, reply.status)
        self._transmit(data[sent:], reply)
        for late, seconds, fault in reply.late:
            self._wait(seconds, fault)
            self._transmit(late, reply)
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
        poll.register(self.sock, select.POLLIN | select.POLLRDHUP)
        while until is None or time.monotonic() < until:
            if fault.cleared.is_set():
                return
            if self.server.stopping.is_set():
                raise Gone
            left = 0.02 if until is None else max(0, min(0.02, until - time.monotonic()))
            for _, event in poll.poll(left * 1000):
                self._notice(event)

    def _notice(self, event):
        """Something came while we waited: keeps it for later, or finds that the peer is gone."""
        if self.server.identity is not None and self.tls is None:
            # Before TLS its bytes aren't ours to take.
            if event != select.POLLIN:
                raise Gone
            self.server.stopping.wait(0.02)
            return
        self.sock.settimeout(0)
        try:
            self._held += self._receive(Gone)
        except (ssl.SSLWantReadError, BlockingIOError):
            pass    # a TLS record without data
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
