# SPDX-License-Identifier: Apache-2.0
"""A raw client: says exactly what a test wants, over TCP, a Unix socket or TLS, and reads answers
strictly. Signs with botocore where asked to.
"""

import base64
import datetime
import json
import socket
import ssl

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from net.bridge import connect, parse_address

CONTENT_TYPE = "application/x-amz-json-1.1"


class Answer:
    """One HTTP answer."""

    def __init__(self, version, status, headers, body):
        self.version = version
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name):
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The __type of an error answer."""
        return self.json.get("__type")

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Client:
    """A connection. address: as bridge.parse_address takes it, or (host, port).
    ca: PEM file or text of the CA, for TLS to server_name."""

    def __init__(self, address, ca=None, server_name=None, timeout=20, context=None):
        if isinstance(address, tuple):
            address = "{}:{}".format(*address)
        family, where = parse_address(address)
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        connect(self.sock, where, timeout)
        if family in (socket.AF_INET, socket.AF_INET6):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ca or context:
            context = context or tls_context(ca)
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name or where[0])
        self._held = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def ask(self, data):
        """Sends a request and reads its answer."""
        self.send(data)
        return self.read()

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"the connection ended after {self._held[:200]!r}")
        self._held += data

    def _until(self, end):
        while end not in self._held:
            self._more()
        found, self._held = self._held.split(end, 1)
        return found

    def _exactly(self, count):
        while len(self._held) < count:
            self._more()
        found, self._held = self._held[:count], self._held[count:]
        return found

    def read(self):
        """The next final answer; 1xx ones before it are read over. EOFError when there is none."""
        while True:
            line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            version, status, _ = (line + "  ").split(" ", 2)
            if not status.startswith("1"):
                break
        headers = [(n, v.strip()) for n, _, v in (one.partition(":") for one in lines)]
        lengths = [v for n, v in headers if n.lower() == "content-length"]
        if len(lengths) > 1 or any(n.lower() == "transfer-encoding" for n, _ in headers):
            raise ValueError(f"an answer we don't read: {headers}")
        body = self._exactly(int(lengths[0])) if lengths else self._rest()
        return Answer(version, int(status), headers, body)

    def _rest(self):
        try:
            while True:
                self._more()
        except EOFError:
            found, self._held = self._held, b""
            return found

    def at_end(self):
        """True when the peer closes without another byte."""
        try:
            self._more()
        except EOFError:
            return True
        return False


def tls_context(ca):
    text = ca.decode() if isinstance(ca, bytes) else str(ca)
    how = {"cadata": text} if text.startswith("-----BEGIN") else {"cafile": text}
    context = ssl.create_default_context(**how)
    context.hostname_checks_common_name = False
    return context


def _plain(value):
    """A value for JSON: bytes become base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {n: _plain(v) for n, v in value.items()}
    return value


def request(action, params=None, *, host="localhost", headers=(), body=None, method="POST",
            target="/"):
    """The bytes of an unsigned KMS request, as an enclave sends it. headers: more lines, (name,
    value); one with value None leaves a standard header out."""
    if body is None:
        body = json.dumps(_plain(params or {})).encode()
    lines = {"Host": host, "Content-Type": CONTENT_TYPE, "X-Amz-Target": f"TrentService.{action}",
             "Content-Length": str(len(body))}
    more = []
    for name, value in headers:
        if name in lines:
            lines[name] = value
        else:
            more.append((name, value))
    text = f"{method} {target} HTTP/1.1\r\n" + "".join(
        f"{n}: {v}\r\n" for n, v in (*lines.items(), *more) if v is not None)
    return text.encode("latin-1") + b"\r\n" + body


def sign(credentials, region, action, params=None, *, host, headers=(), body=None, service="kms",
         when=None, unsigned=(), leave_out=()):
    """The bytes of a signed KMS request, as the proxy sends it. headers: further signed ones;
    unsigned: ones added after signing; leave_out: names sent but not signed; when: the time of the
    signature, seconds since the epoch."""
    if body is None:
        body = json.dumps(_plain(params or {})).encode()
    signer = SigV4Auth(Credentials(credentials.access_key_id, credentials.secret_access_key,
                                   credentials.token), service, region)
    made = AWSRequest("POST", f"https://{host}/", data=body, headers={
        "Host": host, "Content-Type": CONTENT_TYPE, "X-Amz-Target": f"TrentService.{action}",
        **dict(headers)})
    now = datetime.datetime.now(datetime.timezone.utc)
    if when is not None:
        now = datetime.datetime.fromtimestamp(when, datetime.timezone.utc)
    # What SigV4Auth.add_auth does, but at the time that is asked for.
    made.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    made.headers["X-Amz-Date"] = made.context["timestamp"]
    if credentials.token:
        made.headers["X-Amz-Security-Token"] = credentials.token
    chosen = signer.headers_to_sign(made)
    for name in leave_out:
        del chosen[name]
    signer.headers_to_sign = lambda _: chosen
    to_sign = signer.string_to_sign(made, signer.canonical_request(made))
    names = signer.signed_headers(chosen)
    made.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(made)}, SignedHeaders={names}, "
        f"Signature={signer.signature(to_sign, made)}")
    lines = [*made.headers.items(), *unsigned, ("Content-Length", str(len(body)))]
    return ("POST / HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines)
            ).encode("latin-1") + b"\r\n" + body
