# SPDX-License-Identifier: Apache-2.0
"""What an enclave or the operator does while a call fails, from the first byte to the answer.

Each is a class: configure() changes the configuration before the start, before() prepares what must
not fail, run() does it.
"""

import signal
import socket
import threading

from daemon.help import DESCRIBE, KEY, NOT_ALLOWED
from kms.client import request
from subject import CLOSED, DEADLINE, SLOW
from daemon.tunnel_help import NAME, connect_request
from net.tls_hello import client_hello

ENCRYPT = request("Encrypt", {"KeyId": KEY, "Plaintext": b"p" * 4096})
SWEPT = 0.3 * SLOW      # seconds, until a worker has let go of what was in force before
LOST = r"records could not be written to the journal"   # another of its sentences
BY_REQUEST = ["control", "worker"]


class Signed:
    """On an upstream connection that is there."""

    threads = BY_REQUEST

    def configure(self, subject):
        pass

    def before(self, subject):
        pass

    def run(self, subject):
        subject.ask(DESCRIBE)


class Refused(Signed):
    """By policy."""

    def run(self, subject):
        assert subject.ask(NOT_ALLOWED) in (400, 500, CLOSED)


class RefusedHead(Signed):
    def run(self, subject):
        assert subject.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") in (400, CLOSED)


class InPieces(Signed):
    """Head and body come in many pieces."""

    def run(self, subject):
        subject.ask(ENCRYPT, pieces=150)


def three_times(subject, data):
    with subject.daemon.client(timeout=DEADLINE) as client:
        try:
            client.send(data * 3)
        except BrokenPipeError:
            return
        for _ in range(3):
            if subject.read(client) == CLOSED:
                return


class Pipelined(Signed):
    """Three at once: the second and third wait for their turns."""

    def run(self, subject):
        three_times(subject, DESCRIBE)


class PipelinedRefused(Signed):
    """The same, of what no upstream is needed for."""

    def run(self, subject):
        three_times(subject, NOT_ALLOWED)


class BigReply(Signed):
    def configure(self, subject):
        subject.kms.fault("huge_body", size=300000, action="Encrypt", count=None)

    def run(self, subject):
        subject.ask(ENCRYPT)


class BigChunkedReply(BigReply):
    def configure(self, subject):
        super().configure(subject)
        subject.kms.fault("chunked", action="Encrypt", count=None)


class Cold(Signed):
    """TCP and the TLS handshake come first."""

    def configure(self, subject):
        subject.kms.fault("connection_close", count=None)


class Stale(Signed):
    """KMS has closed the upstream connection, so it is repeated on a fresh one."""

    def before(self, subject):
        subject.kms.clear()
        subject.kms.fault("close_before_read")


class Tunnel(Signed):
    """To a name that is looked up, and to the first bytes."""

    threads = ["control", "worker", "resolver"]

    def configure(self, subject):
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        where = f"localhost:{listener.getsockname()[1]}"
        subject.daemon.config["enclaves"]["payments"]["tunnel"] = {
            "hosts": [{"host": NAME, "port": 443, "connect_to": where}]}

    def run(self, subject):
        with subject.daemon.client(timeout=DEADLINE) as client:
            check_echo(client, client_hello(NAME))


class Connect(Tunnel):
    def run(self, subject):
        with subject.daemon.client(timeout=DEADLINE) as client:
            head = b""
            try:
                client.send(connect_request(f"{NAME}:443"))
                while b"\r\n\r\n" not in head and (more := client.sock.recv(4096)):
                    head += more
                if not head.startswith(b"HTTP/1.1 200 "):
                    assert head.startswith(b"HTTP/1.1 50") or b"HTTP/1.1 200 ".startswith(head), head
                    return
            except (ConnectionResetError, BrokenPipeError):
                return
            check_echo(client, client_hello(NAME))


def check_echo(client, hello):
    """All of it comes back, or the end does, perhaps after an alert."""
    data = b""
    try:
        client.send(hello)
        while len(data) < len(hello) and (more := client.sock.recv(65536)):
            data += more
    except (ConnectionResetError, BrokenPipeError):
        pass
    assert hello.startswith(data) or data[:1] == b"\x15" and len(data) == 7, data


def echo(listener):
    """Sends back what comes, a connection after the other; each ends with its peer."""
    def serve(peer):
        with peer:
            try:
                while data := peer.recv(65536):
                    peer.sendall(data)
            except OSError:
                pass

    with listener:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


class Reload(Signed):
    """SIGHUP, then the first request, which looks the endpoint up anew. What was said to be loaded
    is in force, what wasn't is not."""

    threads = ["control", "worker", "resolver"]
    allowed = ["Encrypt", "Decrypt", "DescribeKey", "GenerateDataKey"]

    def configure(self, subject):
        endpoint = subject.daemon.config["endpoints"]["kms"]
        endpoint["connect_to"] = f"localhost:{subject.kms.port}"
        subject.encrypts = True
        subject.rest = SWEPT

    def before(self, subject):
        actions = self.allowed if not subject.encrypts else self.allowed[1:]
        enclave = subject.daemon.config["enclaves"]["payments"]
        enclave["allow"] = [{**enclave["allow"][0], "actions": actions}]
        subject.daemon.write_config()

    def run(self, subject):
        start = subject.said_so_far()
        subject.daemon.process.send_signal(signal.SIGHUP)
        said = subject.wait_said(r"(not loaded); the configuration|: (loaded), \d+ enclaves", start)
        if said[2]:
            subject.encrypts = not subject.encrypts
        subject.wait_in_force(lambda: subject.may(ENCRYPT) == subject.encrypts)
        subject.ask(DESCRIBE)


class Refresh(Reload):
    """Other credentials settings, so that new credentials are fetched at once. They come, if not
    at the first try, and KMS sees them."""

    threads = ["control"]

    def configure(self, subject):
        subject.toggled = False
        subject.rest = SWEPT

    def before(self, subject):
        subject.fresh = subject.kms.credentials.rotate().access_key_id
        self.toggle(subject)
        subject.daemon.write_config()

    def toggle(self, subject):
        """The role as it is listed, and pinned."""
        subject.toggled = not subject.toggled
        subject.daemon.config["credentials"]["imds"] = {
            "endpoint": subject.imds.url, **({"role": subject.imds.role} if subject.toggled else {})}

    def run(self, subject):
        start, asked = subject.said_so_far(), subject.imds.server.request_count
        subject.daemon.process.send_signal(signal.SIGHUP)
        said = subject.wait_said(rf"(not loaded); the configuration|{LOST}|: loaded, \d+", start)
        if said[1]:
            self.toggle(subject)        # still the settings before
            return
        subject.wait_said(rf"credentials valid.*ACCESS_KEY_ID={subject.fresh}|{LOST}", start)
        subject.wait_in_force(lambda: subject.signs_with() == subject.fresh)
        assert subject.imds.server.request_count - asked <= 9, "IMDS is asked over and over"


class Container(Refresh):
    def configure(self, subject):
        subject.toggled = False
        subject.rest = SWEPT
        subject.container = subject.stack.enter_context(
            subject.container_type(subject.kms.credentials))
        token = subject.daemon.folder / "token"
        token.write_text(subject.container.token)
        subject.daemon.config["credentials"] = {"source": "container", "container": {
            "uri": subject.container.credentials_url, "token_file": str(token)}}

    def toggle(self, subject):
        subject.toggled = not subject.toggled
        token = subject.daemon.folder / ("token-2" if subject.toggled else "token")
        token.write_text(subject.container.token)
        subject.daemon.config["credentials"]["container"]["token_file"] = str(token)
