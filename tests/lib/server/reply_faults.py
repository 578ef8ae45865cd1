# SPDX-License-Identifier: Apache-2.0
"""The faults that every HTTP stand-in has: what goes wrong with a connection or an answer.

A function of stage `reply` changes a Reply (http_message.py); one of stage `accept` or `read`
changes a Connection
(http_connection.py).
"""

import gzip as gzip_module
import http

from server.faults import Table

TABLE = Table()


# Before a request is read.

@TABLE.kind("accept")
def certificate(connection, variant="wrong-name"):
    """Shows another certificate: a variant of tls_certs.VARIANTS."""
    connection.certificate = variant


@TABLE.kind("accept")
def tls_version(connection, version="1.1"):
    """Speaks only this TLS version: 1.0, 1.1, 1.2 or 1.3."""
    connection.tls_version = version


@TABLE.kind("accept")
def reset_at_accept(connection):
    """Resets the connection before TLS."""
    connection.doom = "reset"


@TABLE.kind("accept")
def close_at_accept(connection):
    """Closes the connection before TLS."""
    connection.doom = "close"


@TABLE.kind("accept")
def hang_at_accept(connection):
    """Accepts, then never says a word: TLS doesn't start. Until cleared."""
    connection.doom = "hang"


@TABLE.kind("read")
def reset_before_read(connection):
    """Resets the connection when a request arrives, without reading it."""
    connection.doom = "reset"


@TABLE.kind("read")
def close_before_read(connection):
    """Closes the connection when a request arrives, without reading it."""
    connection.doom = "close"


# Time.

@TABLE.kind("reply")
def delay(reply, seconds):
    """Waits before the answer."""
    reply.wait(seconds)


@TABLE.kind("reply")
def hang(reply):
    """Never answers; when the fault is cleared the answer goes out."""
    reply.wait(None)


@TABLE.kind("reply")
def stall(reply, after="body", seconds=None):
    """Stops after `after` bytes, or mid-`head` or mid-`body`, for `seconds` (None: until clear)."""
    reply.cut(after, "stall", seconds)


@TABLE.kind("reply")
def drip(reply, piece=1, interval=0.01):
    """Sends the answer in pieces of `piece` bytes, one each `interval` seconds."""
    reply.piece, reply.interval = piece, interval


# The end of the connection.

@TABLE.kind("reply")
def reset(reply, after=0):
    """Resets after `after` bytes of the answer (0: none), mid-`head` or mid-`body`."""
    reply.cut(after, "reset")


@TABLE.kind("reply")
def close(reply, after=0, notify=True):
    """Closes after `after` bytes of the answer; notify=False: without TLS close_notify."""
    reply.cut(after, "close" if notify else "truncate")


@TABLE.kind("reply")
def connection_close(reply, value="close"):
    """Sends Connection: close and closes after the answer."""
    reply.headers.append(("Connection", value))
    reply.close = True


@TABLE.kind("reply")
def close_silently(reply, after=0):
    """Answers well, then closes `after` seconds without having said so: the next request finds a
    dead connection."""
    reply.send_late(b"", after)
    reply.close = True


@TABLE.kind("reply")
def http_1_0(reply, keep_alive=False):
    """Answers as HTTP/1.0."""
    reply.version = "HTTP/1.0"
    reply.close = not keep_alive


# Framing.

@TABLE.kind("reply")
def content_length(reply, add=None, value=None, twice=False):
    """A wrong Content-Length: longer or shorter by `add`, the text `value`, or sent twice."""
    reply.length = value if value is not None else str(len(reply.body) + (add or 0))
    if twice:
        reply.headers.append(("Content-Length", str(len(reply.body))))


CHUNKED = {
    "good": lambda body: _chunks(body),
    "one-byte": lambda body: _chunks(body, 1),
    "upper-hex": lambda body: _chunks(body, 10, size=b"%X"),
    "leading-zeros": lambda body: _chunks(body, 10, size=b"0000%x"),
    "extension": lambda body: _chunks(body, 10, size=b"%x;name=value"),
    "trailer": lambda body: _chunks(body)[:-2] + b"X-Trailer: 1\r\n\r\n",
    "bad-size": lambda body: b"zz\r\n" + body + b"\r\n0\r\n\r\n",
    "empty-size": lambda body: b"\r\n" + body + b"\r\n0\r\n\r\n",
    "negative": lambda body: b"-%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
    "hex-prefix": lambda body: b"0x%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
    "huge-size": lambda body: b"fffffffffffffffff\r\n" + body + b"\r\n0\r\n\r\n",
    "space-after-size": lambda body: b"%x \r\n" % len(body) + body + b"\r\n0\r\n\r\n",
    "lf-only": lambda body: b"%x\n" % len(body) + body + b"\n0\n\n",
    "missing-crlf": lambda body: b"%x\r\n" % len(body) + body + b"0\r\n\r\n",
    "size-too-small": lambda body: b"%x\r\n" % max(len(body) - 3, 1) + body + b"\r\n0\r\n\r\n",
    "no-last-chunk": lambda body: b"%x\r\n" % len(body) + body + b"\r\n",
    "endless-size-line": lambda body: b"1;" + b"x" * 100000 + b"\r\n" + body,
}


def _chunks(body, size_of_chunk=100, size=b"%x"):
    pieces = [body[i:i + size_of_chunk] for i in range(0, len(body), size_of_chunk)]
    return b"".join(size % len(p) + b"\r\n" + p + b"\r\n" for p in pieces) + b"0\r\n\r\n"


@TABLE.kind("reply")
def chunked(reply, variant="good", coding="chunked", with_length=False):
    """A chunked answer: a variant of CHUNKED, another coding, a Content-Length beside it."""
    reply.headers.append(("Transfer-Encoding", coding))
    if with_length:
        reply.headers.append(("Content-Length", str(len(reply.body))))
    reply.body = CHUNKED[variant](reply.body)
    reply.framing = "none"
    if variant not in ("good", "one-byte", "upper-hex", "leading-zeros", "extension", "trailer"):
        reply.close = True


@TABLE.kind("reply")
def close_delimited(reply):
    """No Content-Length: the end of the connection ends the answer."""
    reply.framing = "none"
    reply.close = True


@TABLE.kind("reply")
def trailing(reply, text="HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", after=None):
    """Bytes after the answer (by default a whole second answer): at once, or `after` seconds."""
    if after is None:
        reply.suffix += text.encode("latin-1")
    else:
        reply.send_late(text.encode("latin-1"), after)


@TABLE.kind("reply")
def informational(reply, status=102, times=1):
    """1xx answers before the final one."""
    phrase = http.HTTPStatus(status).phrase
    reply.prefix += f"HTTP/1.1 {status} {phrase}\r\n\r\n".encode() * times


# The head.

@TABLE.kind("reply")
def header(reply, name, value):
    """One more header; characters up to U+00FF go out as bytes, so CR, LF and NUL are possible."""
    reply.headers.append((name, value))


@TABLE.kind("reply")
def drop_header(reply, name):
    """Leaves a header out, such as Date."""
    reply.headers = [h for h in reply.headers if h[0].lower() != name.lower()]
    if name.lower() == "date":
        reply.dated = False
    if name.lower() == "content-length":
        reply.framing = "none"


@TABLE.kind("reply")
def date(reply, offset=0, text=None):
    """Another Date: off by `offset` seconds from the stand-in's clock, or any text."""
    reply.date_offset, reply.date_text = offset, text


@TABLE.kind("reply")
def huge_header(reply, size=100000, times=1):
    """Headers of this size."""
    reply.headers += [(f"X-Huge-{n}", "h" * size) for n in range(times)]


@TABLE.kind("reply")
def bad_header(reply, line="X-Bad: a\x00b"):
    """A header line with what no header may hold (NUL, bare CR, no colon, leading space, ...)."""
    reply.bad_lines.append(line)


@TABLE.kind("reply")
def set_cookie(reply, value="session=1"):
    """A Set-Cookie header."""
    reply.headers.append(("Set-Cookie", value))


@TABLE.kind("reply")
def redirect(reply, location, status=307):
    """A redirect."""
    reply.status, reply.body = status, b""
    reply.headers.append(("Location", location))


@TABLE.kind("reply")
def status_line(reply, text):
    """Another status line, such as `HTTP/2 200` or `HTTP/1.1 999 X`."""
    reply.status_line = text


# The body.

@TABLE.kind("reply")
def status(reply, status, body="", content_type="text/html"):
    """A plain answer that isn't the service's own, as a load balancer gives with 502 or 503."""
    reply.status, reply.body = status, body.encode()
    reply.set_header("Content-Type", content_type)


@TABLE.kind("reply")
def body(reply, text):
    """Another body with the same status and headers; characters up to U+00FF go out as bytes."""
    reply.body = text.encode("latin-1")


@TABLE.kind("reply")
def huge_body(reply, size=1 << 20, json=True):
    """A body of exactly `size` bytes."""
    filler = b'{"Filler":"' + b"f" * (size - 13) + b'"}'
    reply.body = filler if json else b"f" * size


@TABLE.kind("reply")
def gzip(reply):
    """A gzipped body, which nobody asked for."""
    reply.body = gzip_module.compress(reply.body)
    reply.headers.append(("Content-Encoding", "gzip"))


@TABLE.kind("reply")
def raw(reply, text, close=True):
    """Exactly these bytes in place of the answer (characters up to U+00FF)."""
    reply.raw = text.encode("latin-1")
    reply.close = close
