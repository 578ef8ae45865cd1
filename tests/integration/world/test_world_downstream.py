# SPDX-License-Identifier: Apache-2.0
"""Faults of the world: what an enclave may do to its connections, all but waiting (test_world.py).

Each in the frame of world_help.py: the answer, its time, its record, and that nobody else noticed."""

import contextlib
import random
import select
import socket
import threading
import time

import pytest

from daemon.help import DESCRIBE, ended, KEY, NOT_ALLOWED, wait_taken
from daemon.tunnel_help import NAME, connect_request
from kms.client import request
from net.tls_hello import DECODE_ERROR, UNRECOGNIZED_NAME, alert, client_hello
from world_help import World

THROTTLED = (400, "ThrottlingException")
BURST, RATE = 50, 20    # of requests, in a second, of one of FLOODS
# Of an enclave's refusals only the first 20 are recorded at once: who makes many has its own.
NOISY = ("closes", "resets", "half-closes", "pipelines", "deaf", "hail")
FLOODS = ("flood", "storm", "tls")
HEAD, _, BODY = DESCRIBE.partition(b"\r\n\r\n")
MARKED = request("DescribeKey", {"KeyId": "alias/payments", "GrantTokens": ["marked"]})


@pytest.fixture(scope="module")
def world(tmp_path_factory, tally):
    with contextlib.closing(World(tmp_path_factory.mktemp("world"), tally)) as made:
        for name in ("payments", "witness"):
            made.config["enclaves"][name]["limits"] = {
                "requests": "100000/s", "burst": 100000, "connections": 1100, "body": "1MiB"}
        for name in NOISY:
            made.enclave(name)
        for name in FLOODS:
            made.enclave(name, limits={"requests": f"{RATE}/s", "burst": BURST, "connections": 16,
                                       "in_flight": 2, "body": "1KiB"})
        enclaves = len(made.config["enclaves"])
        made.config["memory"] = f"{enclaves * 7 // 3}MiB"       # two large bodies for each
        made.config["enclaves"]["payments"]["tunnel"] = {"hosts": [f"{NAME}:443"]}
        with made:
            yield made


def what(answer):
    return answer.status, answer.error


def try_to_send(client, data):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.send(data)


# It goes away.

def test_closed_at_every_byte_of_a_request(world):
    with world.fault(reason="cut-off", count=10, within=30, enclave="closes"):
        for at in range(1, len(DESCRIBE)):
            with world.client("closes") as client:
                client.send(DESCRIBE[:at])


def test_reset_at_every_byte_of_a_request(world):
    """An answer that nobody has read turns the close into a reset."""
    with world.fault(reason="action", count=10, within=60, enclave="resets"):
        for at in range(len(DESCRIBE)):
            with world.client("resets") as client:
                client.send(NOT_ALLOWED + DESCRIBE[:at])
                wait_taken(client)
                assert select.select([client.sock], [], [], 20)[0]


def test_half_closed_at_every_byte_of_a_request(world):
    with world.fault(reason="cut-off", count=10, within=30, enclave="half-closes"):
        for at in range(len(DESCRIBE)):
            with world.client("half-closes") as client:
                client.send(DESCRIBE[:at])
                client.sock.shutdown(socket.SHUT_WR)
                assert ended(client), at


def test_half_closed_while_kms_thinks(world):
    with world.fault(reason="allowed"), world.client() as client:
        hung = world.kms.fault("hang", body_contains=KEY)
        client.send(DESCRIBE)
        world.kms.wait(lambda: hung.hits)
        client.sock.shutdown(socket.SHUT_WR)
        world.kms.clear()
        assert client.read().status == 200
        assert ended(client)


def test_half_closed_behind_a_pipeline(world):
    with world.fault(), world.client() as client:
        client.send(DESCRIBE + NOT_ALLOWED + DESCRIBE + DESCRIBE[:40])
        client.sock.shutdown(socket.SHUT_WR)
        assert [client.read().status for _ in range(3)] == [200, 400, 200]
        assert ended(client)


def test_gone_while_kms_thinks(world):
    with world.fault(reason="client-gone"):
        hung = world.kms.fault("hang", body_contains=KEY)
        with world.client() as client:
            client.send(DESCRIBE)
            world.kms.wait(lambda: hung.hits)
        world.kms.clear()       # the record comes with KMS's answer


def test_gone_while_kms_answers(world):
    with world.fault(reason="client-gone"):
        stalled = world.kms.fault("stall", after="body", body_contains=KEY)
        with world.client() as client:
            client.send(DESCRIBE)
            world.kms.wait(lambda: stalled.hits)
        world.kms.clear()


def test_the_same_identity_comes_again_in_the_middle_of_a_request(world):
    """An enclave that was started anew: what the old one asked for is not given to the new one."""
    with world.fault(reason="client-gone"):
        hung = world.kms.fault("hang", body_contains="marked")
        old = world.client()
        old.send(MARKED)
        world.kms.wait(lambda: hung.hits)
        with world.client() as new:
            assert new.ask(NOT_ALLOWED).error == "AccessDeniedException"
            assert new.ask(DESCRIBE).status == 200
            old.close()
            world.kms.clear()
            assert new.ask(NOT_ALLOWED).error == "AccessDeniedException"
            assert new.ask(DESCRIBE).status == 200
            assert not select.select([new.sock], [], [], 0)[0]


# It asks too much.

def test_1000_requests_in_a_pipeline(world):
    with world.fault(reason="allowed", count=1000, within=20), world.client() as client:
        sender = threading.Thread(target=try_to_send, args=(client, DESCRIBE * 1000))
        began = time.monotonic()
        sender.start()
        for _ in range(1000):
            assert client.read().status == 200
        sender.join()


def test_1000_refused_requests_in_a_pipeline(world):
    with (world.fault(reason="action", count=10, within=20, enclave="pipelines"),
          world.client("pipelines") as client):
        sender = threading.Thread(target=try_to_send, args=(client, NOT_ALLOWED * 1000))
        sender.start()
        for _ in range(1000):
            assert what(client.read()) == (400, "AccessDeniedException")
        sender.join()


def test_1000_requests_beyond_its_rate(world):
    with world.fault(reason="rate", within=20, enclave="flood"), world.client("flood") as client:
        sender = threading.Thread(target=try_to_send, args=(client, DESCRIBE * 1000))
        began = time.monotonic()
        sender.start()
        answers = [what(client.read()) for _ in range(1000)]
        assert set(answers) == {THROTTLED, (200, None)}
        assert BURST <= answers.count((200, None)) <= BURST + 1 + RATE * (time.monotonic() - began)
        sender.join()


def test_a_flood_of_connections(world):
    with (world.fault(reason="connections", within=20, enclave="storm"),
          contextlib.ExitStack() as stack):
        clients = [stack.enter_context(world.client("storm")) for _ in range(400)]
        kept = 0
        for client in clients:
            with contextlib.suppress(EOFError, ConnectionError):
                kept += client.ask(NOT_ALLOWED).error == "AccessDeniedException"
        assert 1 <= kept <= 16


def test_connections_that_come_and_go(world):
    with world.fault(reason="no-request", within=20, enclave="hail"):
        for _ in range(1000):
            world.client("hail").close()


def test_1000_idle_connections(world):
    with world.fault(within=20), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(world.client()) for _ in range(1000)]
        for client in clients[::100]:
            assert client.ask(DESCRIBE).status == 200


def test_more_requests_in_flight_than_it_may_have(world):
    with world.fault(reason="in-flight", enclave="tls"), contextlib.ExitStack() as stack:
        hung = world.kms.fault("hang", body_contains=KEY, count=2)
        clients = [stack.enter_context(world.client("tls")) for _ in range(3)]
        for client in clients[:2]:
            client.send(DESCRIBE)
        world.kms.wait(lambda: hung.hits == 2)
        assert what(clients[2].ask(DESCRIBE)) == THROTTLED
        world.kms.clear()
        assert [c.read().status for c in clients[:2]] == [200, 200]


def test_bodies_that_use_up_its_memory(world):
    whole = request("DescribeKey", body=BODY + b" " * ((1 << 20) - len(BODY)))
    with world.fault(reason="memory"), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(world.client()) for _ in range(3)]
        for client in clients[:-1]:
            client.send(whole[:-1000])
            wait_taken(client)
        assert what(clients[-1].ask(whole)) == THROTTLED
        for client in clients[:-1]:
            if select.select([client.sock], [], [], 0)[0]:
                continue        # refused too
            client.send(whole[-1000:])
            assert client.read().status == 200


def test_answers_that_nobody_reads(world):
    with (world.fault(reason="action", count=10, within=10, enclave="deaf"),
          world.client("deaf") as client):
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            while True:
                client.send(NOT_ALLOWED * 100)


# What it says makes no sense.

HELLO = client_hello("elsewhere.example")
CLOSING = {
    # name: bytes, status, reason
    "huge-head": (b"POST / HTTP/1.1\r\nX: " + b"y" * 20000, 431, "head-too-large"),
    "endless-head": (b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 8000, 431, "head-too-large"),
    "huge-body-announced": (HEAD.replace(b"Content-Length: 27", b"Content-Length: 99999999999") +
                            b"\r\n\r\n", 413, "body-too-large"),
    "body-above-the-limit": (request("DescribeKey", body=b" " * ((1 << 20) + 1))[:1000], 413,
                             "body-too-large"),
    "more-digits-than-a-number": (HEAD.replace(b"Content-Length: 27", b"Content-Length: " + b"9" * 40)
                                  + b"\r\n\r\n", 413, "body-too-large"),
    "chunked": (HEAD + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "framing"),
    "two-lengths": (HEAD + b"\r\nContent-Length: 2\r\n\r\n" + BODY, 400, "framing"),
    "http2-preface-that-is-none": (b"PRI * HTTP/2.0\r\n\r\nHM\r\n\r\n", 400, "framing"),
    "get": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "framing"),
    "nul": (HEAD + b"\r\nX: \0\r\n\r\n" + BODY, 400, "framing"),
    "no-http": (bytes(random.Random(1).choices(range(32, 127), k=400)), 400, "framing"),
    "expectation": (HEAD + b"\r\nExpect: rain\r\n\r\n" + BODY, 417, "expectation"),
}


@pytest.mark.parametrize("name", CLOSING)
def test_a_head_that_is_refused(world, name):
    data, status, reason = CLOSING[name]
    assert b"Content-Length: 27" in HEAD
    with world.fault(reason=reason, HTTP_STATUS=status), world.client() as client:
        try_to_send(client, data)
        assert client.read().status == status
        assert ended(client)


def test_http2_with_prior_knowledge(world):
    with world.fault(reason="http2"), world.client() as client:
        try_to_send(client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + bytes(1000))
        got = b""
        while more := client.sock.recv(1000):
            got += more
        settings, goaway = got[:9], got[9:]
        assert settings == b"\0\0\0\4\0\0\0\0\0"
        assert goaway[3] == 7 and goaway[:3] == (len(goaway) - 9).to_bytes(3, "big")
        assert goaway[13:17] == b"\0\0\0\x0d" and b"HTTP/1.1" in goaway[17:]
        assert ended(client)


REFUSED = {
    "deep": (b'{"GrantTokens":' + b"[" * 100000, "json"),
    "long": (b'{"KeyId":"' + b"x" * 500000, "json"),
    "many": (b'{"GrantTokens":[' + b'"t",' * 100000 + b'"t"]}', "json"),
    "twice": (b'{"KeyId":"a","KeyId":"b"}', "json"),
    "binary": (bytes(range(256)) * 100, "json"),
    "numbers": (b'{"KeyId":' + b"1" * 400000 + b"}", "json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_that_is_refused(world, name):
    body, reason = REFUSED[name]
    with world.fault(reason=reason), world.client() as client:
        assert what(client.ask(request("DescribeKey", body=body))) == (400, "SerializationException")
        assert client.ask(DESCRIBE).status == 200       # the connection was kept


TLS = {
    # name: bytes, answer, reason
    "a-host-that-is-not-allowed": (HELLO, UNRECOGNIZED_NAME, "tunnel-host"),
    "no-server-name": (client_hello(None), UNRECOGNIZED_NAME, "no-server-name"),
    "garbage-in-the-hello": (HELLO[:60] + b"\xff" * 200 + HELLO[260:], DECODE_ERROR, "client-hello"),
    "garbage-in-the-record": (b"\x16\x03\x01\x00\x10" + b"\xff" * 16, DECODE_ERROR, "client-hello"),
}


@pytest.mark.parametrize("name", TLS)
def test_a_hello_that_is_refused(world, name):
    data, code, reason = TLS[name]
    with world.fault(reason=reason), world.client() as client:
        client.send(data)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while more := client.sock.recv(100):
                got += more
        assert alert(got) == code


def test_a_hello_that_is_cut(world):
    with world.fault(reason="cut-off"), world.client() as client:
        client.send(HELLO[:-10])
        client.sock.shutdown(socket.SHUT_WR)
        assert ended(client)


def test_tls_from_an_enclave_without_a_tunnel(world):
    with world.fault(reason="tls", enclave="tls"), world.client("tls") as client:
        try_to_send(client, HELLO)
        assert ended(client)


@pytest.mark.parametrize("authority", ["169.254.169.254:80", f"{NAME}:22", "elsewhere.example:443"])
def test_connect_to_what_is_not_allowed(world, authority):
    with world.fault(reason="tunnel-host"), world.client() as client:
        client.send(connect_request(authority))
        assert client.read().status == 403
        assert ended(client)
