# SPDX-License-Identifier: Apache-2.0
"""What one enclave may use up, and that the others notice nothing of it."""

import contextlib
import select
import threading
import time

import pytest

from daemon import DEADLINE, wait_for
from daemon.help import (
    add_enclave, DESCRIBE, ended, KEY, limits, NOT_ALLOWED, record_of, sanitized, wait_taken)
from kms.client import request

MIB = 1 << 20


def throttled(answer):
    """Whether it is that; then it says how long to wait, too."""
    if (answer.status, answer.error) != (400, "ThrottlingException"):
        return False
    wait = int(answer.header("x-amz-retry-after"))
    assert 1 <= wait <= 3600 * 1000 and (b"may come in %d ms" % wait in answer.body or 100 <= wait < 200)
    return True


def big(size, key=KEY):
    """A request with a body of so many bytes."""
    body = b'{"KeyId":"%s"}' % key.encode()
    return request("DescribeKey", body=body + b" " * (size - len(body)))


# Rate.

def test_the_rate_of_one_enclave_is_its_own(daemon, kms):
    limits(daemon, requests="1/h", burst=5)
    other = add_enclave(daemon)
    with daemon, daemon.client() as client, daemon.client(other) as quick:
        assert [client.ask(DESCRIBE).status for _ in range(5)] == [200] * 5
        for _ in range(3):
            answer = client.ask(DESCRIBE)       # on the same connection: it stays open
            assert throttled(answer)
            assert answer.header("Connection") is None
        record = record_of(daemon, answer)
        assert (record["REASON"], record["VERDICT"]) == ("rate", "refuse")
        assert "limits.requests" in answer.json["message"] and "payments" in answer.json["message"]
        with daemon.client() as second:         # another connection has no tokens of its own
            assert throttled(second.ask(DESCRIBE))
        assert [quick.ask(DESCRIBE).status for _ in range(5)] == [200] * 5
    assert len(kms.requests) == 10


def test_tokens_come_back(daemon):
    limits(daemon, requests="20/s", burst=2)
    allowed = []
    with daemon, daemon.client() as client:
        start = time.monotonic()
        while time.monotonic() - start < 1:
            allowed.append(client.ask(DESCRIBE).status == 200)
        took = time.monotonic() - start
    assert 5 < sum(allowed) <= 2 + 20 * took + 1
    assert not all(allowed)


def test_a_throttled_request_is_dropped_with_its_body(daemon, kms):
    limits(daemon, requests="1/h", burst=1)
    with daemon, daemon.client() as client:
        assert client.ask(big(100000)).status == 200
        for _ in range(3):
            assert throttled(client.ask(big(200000)))
    assert len(kms.requests) == 1


def test_the_rate_is_shared_by_the_workers(daemon, kms):
    daemon.config["workers"] = 3
    limits(daemon, requests="1/h", burst=20)
    with daemon:
        clients = [daemon.client() for _ in range(6)]
        answers = [client.ask(DESCRIBE) for _ in range(5) for client in clients]
        for client in clients:
            client.close()
    assert sum(a.status == 200 for a in answers) == 20
    assert all(a.status == 200 or throttled(a) for a in answers)


def test_malformed_requests_spend_tokens(daemon):
    limits(daemon, requests="1/h", burst=6)
    with daemon:
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"POST / HTTP/1.1\r\nX y\r\n"):
            with daemon.client() as client:
                assert client.ask(sent).error == "SerializationException"
        with daemon.client() as client:
            assert client.ask(request("DescribeKey", body=b"{")).error == "SerializationException"
            assert client.ask(NOT_ALLOWED).error == "AccessDeniedException"
            assert client.ask(DESCRIBE).status == 200
            assert throttled(client.ask(DESCRIBE))


def test_connections_without_a_request_spend_tokens(daemon):
    limits(daemon, requests="1/h", burst=4)
    with daemon:
        for sent in (b"", b"", b"\x16\x03\x01", b"POST / HT"):
            with daemon.client() as client:
                client.send(sent)
        daemon.record(VERDICT="refuse", count=4)
        with daemon.client() as client:
            assert throttled(client.ask(DESCRIBE))


def test_the_end_of_a_used_connection_costs_nothing(daemon):
    limits(daemon, requests="1/h", burst=10)
    with daemon:
        for _ in range(10):
            with daemon.client() as client:
                assert client.ask(DESCRIBE).status == 200


def test_limits_at_top_level_are_each_enclaves_default(daemon):
    daemon.config["limits"] = {"requests": "1/h", "burst": 3}
    other, more = add_enclave(daemon), add_enclave(daemon, "more")
    limits(daemon, burst=1)
    del daemon.config["enclaves"][other]["limits"]
    daemon.config["enclaves"][more]["limits"] = {"requests": "1000/s"}
    with daemon:
        for name, count in (("payments", 1), (other, 3)):
            with daemon.client(name) as client:
                statuses = [client.ask(DESCRIBE).status for _ in range(5)]
                assert statuses == [200] * count + [400] * (5 - count), name
        with daemon.client(more) as client:
            assert client.ask(DESCRIBE).status == 200


# In flight.

def test_requests_in_flight_are_limited(daemon, kms):
    limits(daemon, requests="10000/s", burst=1000, in_flight=2)
    other = add_enclave(daemon)
    hog = request("DescribeKey", {"KeyId": "alias/hog"})
    kms.fault("hang", body_contains="hog", count=None)
    with daemon, daemon.client() as client, daemon.client(other) as quick:
        hogs = [daemon.client(), daemon.client()]
        for one in hogs:
            one.send(hog)
        kms.wait_for_requests(2)
        answer = client.ask(DESCRIBE)
        assert throttled(answer)
        assert record_of(daemon, answer)["REASON"] == "in-flight"
        assert "in_flight (2)" in answer.json["message"]
        assert quick.ask(DESCRIBE).status == 200
        kms.clear()
        assert [one.read().status for one in hogs] == [400, 400]    # no such key
        assert client.ask(DESCRIBE).status == 200
        for one in hogs:
            one.close()


def test_a_request_whose_body_is_on_its_way_is_in_flight(daemon):
    limits(daemon, requests="10000/s", burst=1000, in_flight=1)
    with daemon, daemon.client() as slow, daemon.client() as client:
        slow.send(DESCRIBE[:-1])
        wait_taken(slow)
        assert throttled(client.ask(DESCRIBE))
        slow.send(DESCRIBE[-1:])
        assert slow.read().status == 200
        assert client.ask(DESCRIBE).status == 200


def test_whoever_has_its_answer_has_its_place_again(daemon):
    """The other connection is another worker's, which may be faster than the one that answered."""
    limits(daemon, requests="10000/s", burst=1000, in_flight=1)
    daemon.config["workers"] = 2
    with daemon, daemon.client() as one, daemon.client() as other:
        for _ in range(300):
            assert [client.ask(DESCRIBE).status for client in (one, other)] == [200, 200]


# Connections.

def test_connections_are_limited(daemon):
    limits(daemon, requests="10000/s", burst=1000, connections=3)
    other = add_enclave(daemon)
    with daemon, daemon.client(other) as quick:
        held = [daemon.client() for _ in range(3)]
        assert [c.ask(DESCRIBE).status for c in held] == [200] * 3
        with daemon.client() as client:
            assert ended(client)
        record = daemon.record(REASON="connections")
        assert (record["ENCLAVE"], record["VERDICT"]) == ("payments", "refuse")
        assert [c.ask(DESCRIBE).status for c in held] == [200] * 3
        assert quick.ask(DESCRIBE).status == 200
        held.pop().close()

        def one_more():
            try:
                with daemon.client() as client:
                    return client.ask(DESCRIBE).status == 200
            except (EOFError, BrokenPipeError, ConnectionResetError):
                return False
        wait_for(one_more)
        for client in held:
            client.close()


def test_a_flood_of_connections_leaves_no_place_taken(daemon):
    limits(daemon, requests="100000/s", burst=10000, connections=4)
    with daemon:
        for _ in range(300):
            daemon.client().close()

        def all_of_them():
            held = [daemon.client() for _ in range(4)]
            try:
                return all(c.ask(DESCRIBE).status == 200 for c in held)
            except (EOFError, OSError):
                return False
            finally:
                for one in held:
                    one.close()
        wait_for(all_of_them)


# Memory: the least that two enclaves with such bodies may have. Two of these bodies fit at once.

SHARE = 5 * MIB // 2


@pytest.fixture
def small(daemon):
    daemon.config["memory"] = "5MiB"
    limits(daemon, requests="10000/s", burst=10000, body="1MiB", connections=300, in_flight=300)
    add_enclave(daemon)
    return daemon


def test_bodies_are_held_against_the_share_of_memory(small, kms):
    whole = big(MIB)
    with small, small.client() as third, small.client("ledger") as quick:
        held = [small.client(), small.client()]
        for client in held:
            client.send(whole[:MIB // 2])
            wait_taken(client)
        answer = third.ask(whole)
        assert throttled(answer)
        record = record_of(small, answer)
        assert record["REASON"] == "memory" and "`memory`" in answer.json["message"]
        assert third.ask(big(MIB // 4)).status == 200       # the connection stays, and less fits
        assert quick.ask(whole).status == 200
        for client in held:
            client.send(whole[MIB // 2:])
            assert client.read().status == 200
            client.close()
        assert third.ask(whole).status == 200


def test_replies_are_held_against_it_too(small, kms):
    with small, small.client() as first, small.client() as second, small.client("ledger") as quick:
        kms.fault("huge_body", size=MIB, count=2)
        # Nobody reads them: what the socket doesn't hold stays in the daemon.
        for client in (first, second):
            client.send(DESCRIBE)
            assert select.select([client.sock], [], [], DEADLINE)[0]    # its answer is on the way
        third = small.client()
        kms.fault("huge_body", size=MIB, count=None, action="Encrypt")
        answer = wait_for(lambda: _full(third))
        assert record_of(small, answer)["REASON"] == "memory"
        assert quick.ask(DESCRIBE).status == 200
        for client in (first, second):
            assert len(client.read().body) == MIB
        assert third.ask(request("Encrypt", {"KeyId": KEY, "Plaintext": b"x"})).status == 200
        third.close()


def test_a_reply_counts_with_the_length_it_announces(small, kms):
    """Its buffer is allocated whole, long before its bytes come."""
    with small, contextlib.ExitStack() as stack:
        kms.fault("huge_body", size=MIB, count=None)
        kms.fault("stall", after=1000, count=None)
        clients = [stack.enter_context(small.client()) for _ in range(3)]
        for client in clients:
            client.send(DESCRIBE)
        small.record(REASON="memory")
        kms.clear()
        answers = [client.read() for client in clients]
        assert sorted(answer.status for answer in answers) == [200, 200, 400]
        assert wait_for(lambda: _works(small))


def _full(client):
    """An answer that says that memory is used up, or None."""
    answer = client.ask(request("Encrypt", {"KeyId": KEY, "Plaintext": b"x"}))
    return answer if throttled(answer) else None


def test_unfinished_heads_are_held_against_it_too(small):
    with small, small.client("ledger") as quick:
        clients = [small.client() for _ in range(200)]
        for client in clients:
            client.send(b"POST / HTTP/1.1\r\nX: y")
        small.record(REASON="memory")
        assert quick.ask(DESCRIBE).status == 200
        refused = 0
        for client in clients:
            wait_taken(client)
            client.sock.settimeout(0)
            try:
                refused += throttled(client.read())
            except BlockingIOError:
                pass
            client.close()
        assert refused == 200 - SHARE // (16 << 10)
        # and all of it is given back
        wait_for(lambda: _works(small))


def _works(daemon):
    with daemon.client() as client:
        return client.ask(big(MIB)).status == 200


def test_memory_is_given_back_whatever_becomes_of_a_request(small, kms):
    """Each of these would use up the share if it kept what it took."""
    whole = big(MIB)
    with small:
        for _ in range(4):
            with small.client() as client:      # gone in the middle of its body
                client.send(whole[:MIB // 2])
                wait_taken(client)
            with small.client() as client:      # gone while KMS thinks
                kms.fault("hang", count=1)
                before = len(kms.requests)
                client.send(whole)
                kms.wait_for_requests(before + 1)
            kms.clear()
            wait_for(lambda: _works(small))
            with small.client() as client:      # no JSON
                assert client.ask(whole.replace(b"{", b"[")).status == 400
            kms.fault("huge_body", size=2 * MIB)
            with small.client() as client:
                assert client.ask(DESCRIBE).status == 502
            assert _works(small)


def test_a_storm_keeps_memory_and_descriptors_bounded(small):
    """All at once, whatever comes of each."""
    def storm():
        for _ in range(5):
            try:
                with small.client() as client:
                    client.ask(big(MIB))
            except (EOFError, OSError):
                pass

    with small:
        assert _works(small)
        descriptors, resident = small.descriptors(), small.resident()
        threads = [threading.Thread(target=storm) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: small.descriptors() <= descriptors + 5)    # and those kept to KMS
        if not sanitized(small):        # which keeps what was freed
            assert small.resident() - resident < 32 * MIB
        assert _works(small)
