# SPDX-License-Identifier: Apache-2.0
"""Faults of the world: what the endpoint, or who is in its place, may do; all but waiting
(test_world.py). Each in the frame of world_help.py: the answer, its time, its record, that the
enclave is served afterwards, and that nobody else noticed: neither who asks another endpoint nor,
where the fault is in one answer, who asks the same."""

import contextlib
import socket
import ssl
import threading

import pytest

from daemon.help import DESCRIBE, KEY
from kms.client import request
from standins import Enclave, VARIANTS
from world_help import World

MIB = 1 << 20
LOST = (503, "upstream-lost")
MALFORMED = (502, "upstream-malformed")


@pytest.fixture(scope="module")
def world(tmp_path_factory, tally):
    with contextlib.closing(World(tmp_path_factory.mktemp("world"), tally)) as made:
        made.enclave("sealed", allow=[{
            "name": "sealed", "actions": ["GenerateDataKey"], "keys": "any"}])
        with made:
            yield made


# One answer is wrong.

ANSWERS = {
    # name: faults, status, reason; 200 where it can be made good
    "reset-unanswered": ([("reset", {"after": 0})], 200, "allowed"),
    "closed-unanswered": ([("close", {"after": 0})], 200, "allowed"),
    "reset-mid-head": ([("reset", {"after": "head"})], *LOST),
    "reset-mid-body": ([("reset", {"after": "body"})], *LOST),
    "closed-mid-head": ([("close", {"after": "head"})], *LOST),
    "closed-mid-body": ([("close", {"after": "body"})], *LOST),
    "truncated-mid-body": ([("close", {"after": "body", "notify": False})], *LOST),
    "100-and-102-first": ([("informational", {"times": 2})], 200, "allowed"),
    "flood-of-1xx": ([("informational", {"times": 1000})], *MALFORMED),
    "upgrade": ([("raw", {"text": "HTTP/1.1 101 Switching Protocols\r\n\r\n"})], *MALFORMED),
    "64-kib-of-headers": ([("huge_header", {"size": 1024, "times": 60})], *MALFORMED),
    "one-header-of-64-kib": ([("huge_header", {"size": 65536})], *MALFORMED),
    "1000-headers": ([("huge_header", {"size": 1, "times": 1000})], *MALFORMED),
    "length-too-short": ([("content_length", {"add": -5})], 200, "allowed"),
    "length-too-long": ([("content_length", {"add": 5}), ("connection_close", {})], *LOST),
    "two-lengths": ([("content_length", {"twice": True, "add": 1})], *MALFORMED),
    "length-with-a-sign": ([("content_length", {"value": "+5"})], *MALFORMED),
    "length-of-20-digits": ([("content_length", {"value": "9" * 20})], *MALFORMED),
    "no-length": ([("close_delimited", {})], *MALFORMED),
    "chunked-and-length": ([("chunked", {"with_length": True})], *MALFORMED),
    "chunked-and-gzip": ([("chunked", {"coding": "gzip, chunked"})], *MALFORMED),
    "chunks-of-one-byte": ([("chunked", {"variant": "one-byte"})], 200, "allowed"),
    "chunk-bad-size": ([("chunked", {"variant": "bad-size"})], *MALFORMED),
    "chunk-huge-size": ([("chunked", {"variant": "huge-size"})], *MALFORMED),
    "chunk-negative": ([("chunked", {"variant": "negative"})], *MALFORMED),
    "chunk-lf-only": ([("chunked", {"variant": "lf-only"})], *MALFORMED),
    "chunk-without-end": ([("chunked", {"variant": "missing-crlf"})], *MALFORMED),
    "chunk-too-small": ([("chunked", {"variant": "size-too-small"})], *MALFORMED),
    "chunk-endless-line": ([("chunked", {"variant": "endless-size-line"})], *MALFORMED),
    "chunks-cut-off": ([("chunked", {"variant": "no-last-chunk"})], *LOST),
    "gzip": ([("gzip", {})], *MALFORMED),
    "gzip-bomb": ([("huge_body", {"size": 64 * MIB}), ("gzip", {})], *MALFORMED),
    "huge-answer": ([("huge_body", {"size": 2 * MIB})], *MALFORMED),
    "endless-answer": ([("raw", {"text": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
                                         ("10000\r\n" + "x" * 65536 + "\r\n") * 64})], *MALFORMED),
    "slow-but-whole": ([("drip", {"piece": 7, "interval": 0.001})], 200, "allowed"),
    "header-with-nul": ([("bad_header", {"line": "X: a\0b"})], *MALFORMED),
    "header-with-bare-cr": ([("bad_header", {"line": "X: a\rSet-Cookie: b"})], *MALFORMED),
    "header-with-bare-lf": ([("bad_header", {"line": "X: a\nContent-Length: 0"})], *MALFORMED),
    "header-folded": ([("bad_header", {"line": " folded"})], *MALFORMED),
    "header-without-colon": ([("bad_header", {"line": "nonsense"})], *MALFORMED),
    "split-by-crlf": ([("bad_header", {"line": "Date: x\r\n\r\nHTTP/1.1 200 OK"})], *MALFORMED),
    "http-2": ([("status_line", {"text": "HTTP/2.0 200 OK"})], *MALFORMED),
    "status-of-4-digits": ([("status_line", {"text": "HTTP/1.1 2000 OK"})], *MALFORMED),
    "http-0.9": ([("raw", {"text": "<html>hello</html>\r\n\r\n"})], *MALFORMED),
    "binary": ([("raw", {"text": "\0\1\2\3\r\n\r\n"})], *MALFORMED),
    "two-answers": ([("trailing", {})], 200, "allowed"),
    "closed-silently": ([("close_silently", {})], 200, "allowed"),
    "redirect-to-imds": ([("redirect", {"location": "http://169.254.169.254/latest/"})], *MALFORMED),
    "no-error-of-kms": ([("status", {"status": 404, "body": "<html>"})], *MALFORMED),
    "load-balancer-502": ([("status", {"status": 502, "body": "<html>"})], 503, "no-upstream"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer(world, name):
    faults, status, reason = ANSWERS[name]
    asked = len(world.imds.requests)
    with world.fault(reason=reason, within=5), world.client() as client:
        assert client.ask(DESCRIBE).status == 200
        made = [world.kms.fault(kind, body_contains=KEY, **how) for kind, how in faults]
        answer = client.ask(DESCRIBE)
        assert all(fault.hits == 1 for fault in made)
        assert answer.status == status, answer
        if status == 200 and name != "length-too-short":
            assert answer.json["KeyMetadata"]["KeyId"]
        answer = client.ask(DESCRIBE)       # the connection was kept, and nothing is left of it
        assert answer.status == 200 and answer.json["KeyMetadata"]["KeyId"]
    assert len(world.imds.requests) == asked


BURSTS = {
    # name: fault, status, type
    "throttled": (("throttle", {}), 400, "ThrottlingException"),
    "internal": (("internal", {}), 500, "KMSInternalException"),
    "denied": (("access_denied", {}), 400, "AccessDeniedException"),
    "limit": (("error", {"error_type": "LimitExceededException"}), 400, "LimitExceededException"),
    "429": (("status", {"status": 429, "body": '{"__type":"TooManyRequestsException"}'}), 429,
            "TooManyRequestsException"),
    "500": (("status", {"status": 500, "body": "<html>"}), 503, "ServiceUnavailableException"),
    "503": (("status", {"status": 503, "body": "<html>"}), 503, "ServiceUnavailableException"),
    "504": (("status", {"status": 504, "body": ""}), 503, "ServiceUnavailableException"),
    "signature": (("invalid_signature", {}), 503, "ServiceUnavailableException"),
}


@pytest.mark.parametrize("name", BURSTS)
def test_a_burst_of_errors(world, name):
    """Each is told, none is repeated: that is for the SDK to do."""
    (kind, how), status, error = BURSTS[name]
    fault = world.kms.fault(kind, body_contains=KEY, count=None, **how)
    with world.fault(HTTP_STATUS=status, count=20, within=5), world.client() as client:
        for _ in range(20):
            answer = client.ask(DESCRIBE)
            assert (answer.status, answer.error) == (status, error)
        assert fault.hits == 20
        world.kms.clear()


@pytest.fixture(scope="module")
def sealed():
    """A request whose answer must be for the enclave alone."""
    return request("GenerateDataKey", {
        "KeyId": KEY, "KeySpec": "AES_256", "Recipient": Enclave().recipient()})


@pytest.mark.parametrize("kind, how, reason", [
    ("leak", {}, "reply-leaks"), ("leak", {"variant": "null-then-real"}, "reply-unreadable"),
    ("not_json", {}, "reply-unreadable"), ("no_ciphertext_for_recipient", {}, "reply-no-ciphertext")])
def test_an_answer_that_is_not_sealed(world, sealed, kind, how, reason):
    fault = world.kms.fault(kind, action="GenerateDataKey", **how)
    with world.fault(reason=reason, LEVEL="critical", enclave="sealed", serves=sealed):
        assert world.ask(sealed, "sealed").status == 502
        assert fault.hits == 1


# The endpoint is out of order: the witness asks its own only.

@contextlib.contextmanager
def out_of_order(world, reason, status=503, **frame):
    """All connections are closed, and the next one meets the fault that is made inside."""
    with world.alone():
        with world.fault(reason=reason, **frame), world.client() as client:
            world.kms.drop_connections()
            yield
            answer = client.ask(DESCRIBE)
            assert (answer.status, answer.error) == (status, "ServiceUnavailableException")
            world.kms.clear()
        assert world.ask().status == 200


def test_refused(world):
    with world.alone(), world.fault(reason="no-upstream", count=3), world.client() as client:
        world.kms.stop()
        for _ in range(3):
            assert client.ask(DESCRIBE).status == 503
        world.kms.start()


@pytest.mark.parametrize("kind", ["reset_at_accept", "close_at_accept"])
def test_ended_before_tls(world, kind):
    with out_of_order(world, "no-upstream"):
        world.kms.fault(kind, count=None)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "good"])
def test_a_certificate(world, variant):
    with out_of_order(world, "no-upstream"):
        world.kms.fault("certificate", variant=variant, count=None)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_tls(world, version):
    with out_of_order(world, "no-upstream"):
        world.kms.fault("tls_version", version=version, count=None)


@pytest.mark.parametrize("kind", ["reset_before_read", "close_before_read"])
def test_ended_before_a_request_is_read(world, kind):
    with out_of_order(world, "upstream-lost"):
        world.kms.fault(kind, count=None)


class Instead:
    """In the place of the endpoint: says `words` to each connection's hello, and ends it."""

    def __init__(self, world, words, talk=None):
        self.world, self.words, self.talk = world, words, talk
        self.met = 0

    def __enter__(self):
        self.world.kms.stop()
        self.listener = socket.create_server(("127.0.0.1", self.world.kms.port))
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def _run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.settimeout(10)
            self.met += 1
            with peer, contextlib.suppress(OSError):
                if self.talk:
                    self.talk(peer)
                else:
                    assert peer.recv(65536)[:1] == b"\x16"
                    peer.sendall(self.words)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        pass

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        self.world.kms.start()


SERVER_HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(40)
WORDS = {
    "alert": b"\x15\x03\x03\x00\x02\x02\x28",           # fatal, handshake_failure
    "alert-internal": b"\x15\x03\x03\x00\x02\x02\x50",
    "close-mid-handshake": SERVER_HELLO,
    "close-at-once": b"",
    "plain-http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "garbage": bytes(range(256)) * 16,
    "huge-record": b"\x16\x03\x03\xff\xff" + bytes(70000),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_it_says_is_no_tls(world, name):
    with world.alone(), world.fault(reason="no-upstream"), world.client() as client:
        with Instead(world, WORDS[name]) as instead:
            answer = client.ask(DESCRIBE)
            assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
            assert instead.met


def test_an_answer_before_the_request_is_whole(world):
    """An error at the first byte, and the rest is not read: the answer is relayed all the same."""
    body = b'{"message":"no","__type":"ThrottlingException"}'
    whole = request("Encrypt", body=b'{"KeyId":"alias/payments","Plaintext":"eA=="' +
                    b" " * 400000 + b"}")

    def talk(peer):
        context = world.kms.server.identity.context()
        with context.wrap_socket(peer, server_side=True) as tls:
            tls.recv(100)
            tls.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1\r\n"
                        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
            with contextlib.suppress(ssl.SSLError):
                while tls.recv(65536):
                    pass

    with world.alone(), world.fault(HTTP_STATUS=400), world.client() as client:
        with Instead(world, b"", talk):
            answer = client.ask(whole)
            assert (answer.status, answer.error) == (400, "ThrottlingException")


def test_an_answer_that_nobody_asked_for(world):
    """It comes while the connection is idle, and ends it."""
    with world.alone(), world.fault(reason="allowed"), world.client() as client:
        world.kms.fault("trailing", after=0.1)
        assert client.ask(DESCRIBE).status == 200
        used = world.kms.requests[-1].connection
        world.kms.wait(lambda: used not in world.kms.server._live)
        assert client.ask(DESCRIBE).json["KeyMetadata"]
        assert world.kms.requests[-1].connection is not used


# Credentials that it refuses.

def test_credentials_expired_and_new_ones_there(world):
    """Refreshed and sent once more; of the others too, nobody sees an error."""
    with world.fault(reason="allowed", within=5), world.client() as client:
        before = world.kms.requests[-1].access_key_id
        world.imds.rotate()
        world.kms.credentials.revoke(before)
        assert client.ask(DESCRIBE).status == 200
        assert world.kms.requests[-1].access_key_id != before


def test_credentials_refused_for_one_request(world):
    fault = world.kms.fault("expired_token", body_contains=KEY, count=None)
    with world.fault(reason="bad-credentials", within=6), world.client() as client:
        assert client.ask(DESCRIBE).status == 503
        assert fault.hits
        world.kms.clear()
