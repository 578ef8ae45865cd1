# SPDX-License-Identifier: Apache-2.0
"""HTTP messages as the stand-ins see them: a Request with what became of it, and a Reply with
everything that may be wrong with it.
"""

import base64
import datetime
import email.utils
import http


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
        return (f"<{self.number} {self.method} {self.target} {self.action}: "
                f"{self.verdict} {self.status}>")


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
        self.fault = None           # the one that is being applied
        self.waits = []             # before the answer: (seconds, fault)
        self.cuts = []              # (where, what, seconds, fault)
        self.late = []              # after the answer: (bytes, seconds, fault)
        self.piece, self.interval = None, 0

    def set_header(self, name, value):
        self.headers = [h for h in self.headers if h[0].lower() != name.lower()]
        self.headers.append((name, value))

    # Faults call these; a wait ends early when the fault is cleared, None is until then.

    def wait(self, seconds):
        self.waits.append((seconds, self.fault))

    def cut(self, where, what, seconds=None):
        """After some bytes of the answer (a number, or the middle of "head" or "body") comes a
        "stall", "reset", "close" or "truncate"."""
        self.cuts.append((where, what, seconds, self.fault))

    def send_late(self, data, seconds):
        self.late.append((data, seconds, self.fault))

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
            length = len(self.body) if self.length is None else self.length
            lines.append(f"Content-Length: {length}")
        lines += self.bad_lines
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def render(self, clock, with_body=True):
        """The bytes of the answer and the offsets of its cuts, in order."""
        head = self.prefix + self._head(clock)
        data = head + (self.body if with_body else b"") + self.suffix
        if self.raw is not None:
            data = self.raw
        named = {"head": len(head) // 2, "body": len(head) + len(self.body) // 2}
        cuts = [(min(named.get(where, where), len(data)), *rest) for where, *rest in self.cuts]
        return data, sorted(cuts, key=lambda cut: cut[0])


def iso_time(seconds):
    """2026-01-02T03:04:05Z"""
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
