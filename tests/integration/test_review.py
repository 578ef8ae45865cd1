# SPDX-License-Identifier: Apache-2.0
"""Moments that a peer can choose: what comes while the daemon looks elsewhere. A daemon that is
stopped for a while (SIGSTOP) finds all of it at once."""

import contextlib
import time

from daemon.help import DESCRIBE, NOT_ALLOWED, ended, stopped


def test_requests_that_wait_for_their_turn_are_not_late(daemon):
    """They are here; that nobody looked at them in 5 seconds is not their fault."""
    count, each = 40, 150
    daemon.config["enclaves"]["payments"]["limits"] = {
        "requests": "100000/s", "burst": 200000, "connections": count, "in_flight": count}
    with daemon, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(daemon.client()) for _ in range(count)]
        with stopped(daemon):
            for client in clients:
                client.send(NOT_ALLOWED * each)
        for client in clients:
            assert client.read().status == 400
        with stopped(daemon):
            time.sleep(5.5)
        for client in clients:
            assert [client.read().status for _ in range(each - 1)] == [400] * (each - 1)


def test_a_head_begun_behind_a_request_must_come_in_time_too(daemon, kms):
    kms.fault("hang")
    with daemon, daemon.client() as client:
        client.send(DESCRIBE)
        kms.wait_for_requests(1)
        client.send(DESCRIBE[:20])      # read when the answer has gone
        kms.clear()
        assert client.read().status == 200
        start = time.monotonic()
        assert client.read().status == 408
        assert ended(client)
        assert 4 < time.monotonic() - start < 15


def test_an_answer_nobody_asked_for_is_given_to_nobody(daemon, kms):
    """It comes when the next request is here but has not been sent on."""
    with daemon, daemon.client() as client:
        kms.fault("trailing", after=0.5)
        assert client.ask(DESCRIBE).status == 200
        with stopped(daemon):
            client.send(DESCRIBE)
            time.sleep(1)
        answer = client.read()
        assert answer.status == 200 and answer.json["KeyMetadata"]


def test_an_answer_read_ahead_with_the_one_before_is_given_to_nobody(daemon, kms):
    """A TLS record of its own, that OpenSSL takes from the socket with the answer's."""
    with daemon, daemon.client() as client:
        kms.fault("delay", seconds=0.5)
        kms.fault("trailing", after=0)
        client.send(DESCRIBE)
        kms.wait_for_requests(1)
        with stopped(daemon):
            time.sleep(1)
        assert client.read().status == 200
        answer = client.ask(DESCRIBE)
        assert answer.status == 200 and answer.json["KeyMetadata"]


def test_a_request_that_was_accepted_before_the_end_is_answered(daemon):
    """The worker hears of the connections and of the end at once, and has read nothing yet, nor accepted
    all of them: so many come not in one turn of the loop."""
    with daemon.start(), contextlib.ExitStack() as stack:
        with stopped(daemon):
            clients = [stack.enter_context(daemon.client()) for _ in range(60)]
            for client in clients:
                client.send(DESCRIBE)
            daemon.process.terminate()
        for client in clients:
            answer = client.read()
            assert (answer.status, answer.header("Connection")) == (200, "close")
            assert ended(client)
        assert daemon.process.wait(20) == 0
