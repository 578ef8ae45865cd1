# SPDX-License-Identifier: Apache-2.0
"""Clients that go while their request is on its way, over a real vsock, where no event tells of it
(test_machine.py): what they held is given back, what KMS was asked is recorded, the rest isn't asked."""

import contextlib
import pathlib
import socket
import threading

import journal
import pytest
import service
from kms.client import request
from net.fake_dns import FakeDns
from net.tls_hello import client_hello
from vanishing import (
    ACTION, allow_updates, Asked, assert_in_flight_is_full, at_kms, client, DESCRIBE, DOOMED_KEY, NOT_ALLOWED, records,
    SECONDS, sent, SLOW_KMS, unanswered, update, vanish, WAYS)

NAME = "kms.eu-central-1.amazonaws.com"
SOON = 15           # seconds until a place is free again: a second, on a machine that isn't emulated
MARKS = {"close": [pytest.mark.nitro, pytest.mark.sanitize], "shutdown": pytest.mark.nitro,
         "destroyed": pytest.mark.sanitize}
FOUR = ["one", "two", "three", "four"]


@pytest.fixture
def asked(unit, aws):
    """What KMS is asked; alpha may ask for more than four_enclaves() says, four at a time."""
    allow_updates(unit, in_flight=4)
    return Asked(aws)


def warm(unit, enclaves):
    unit.start()
    with client(enclaves) as one:
        assert one.ask(DESCRIBE).status == 200


@pytest.mark.parametrize("way", [pytest.param(way, marks=MARKS.get(way, ())) for way in WAYS])
def test_who_has_gone_gives_the_place_in_flight_back_at_once(unit, enclaves, aws, asked, way):
    warm(unit, enclaves)
    place = journal.cursor()
    aws.ask(fault=SLOW_KMS)
    streams = sent(enclaves(16), FOUR)
    asked.wait(4)
    assert_in_flight_is_full(enclaves)
    vanish(way, enclaves, streams)

    def is_answered():
        with client(enclaves) as other:
            return other.ask(DESCRIBE).status == 200
    service.wait(is_answered, SOON, "the places of clients that have gone are still taken")
    assert asked.answered() == 0        # it was not KMS's answer that gave them back
    assert unanswered(place) == []      # nor is anything recorded before it is known

    aws.ask(clear=True)
    found = at_kms(place, 4, ENCLAVE="alpha")
    assert {(r["VERDICT"], r["RULE"], r["REASON"], r["KMS_STATUS"]) for r in found} == \
        {("allow", "describe", "client-gone", "200")}
    assert all("KMS answered 200" in r["MESSAGE"] for r in found)
    assert all(int(r["UPSTREAM_USEC"]) > 0 for r in found)
    assert len({r["AWS_REQUEST_ID"] for r in found}) == 4
    assert asked.texts() == sorted(FOUR)
    for stream in streams:
        stream.close()


@pytest.mark.nitro
@pytest.mark.sanitize
def test_who_only_sends_no_more_gets_the_answer(unit, enclaves, aws, asked):
    """Half-closed, which poll() can't tell from closed, for some rounds of whatever looks for the gone."""
    warm(unit, enclaves)
    place = journal.cursor()
    aws.ask(fault={**SLOW_KMS, "seconds": 3})
    with enclaves(16).client(service.PORT) as half:
        half.send(update("half"))
        half.sock.shutdown(socket.SHUT_WR)
        assert half.read().status == 200
    record, = journal.wait_for(after=place, KMS_ACTION=ACTION)
    assert (record["REASON"], record["KMS_STATUS"]) == ("allowed", "200")
    assert asked.texts() == ["half"]


@pytest.mark.parametrize("way", ["close", "reset"])
def test_the_queued_request_of_who_has_gone_is_never_sent(unit, enclaves, aws, asked, way):
    del unit.config["enclaves"]["beta"], unit.config["enclaves"]["gamma"], unit.config["enclaves"]["delta"]
    unit.config["endpoints"]["kms"].update(connections=1, queue_timeout="60s")
    warm(unit, enclaves)
    place = journal.cursor()
    aws.ask(fault=SLOW_KMS)
    with enclaves(16).client(service.PORT) as first, enclaves(16).client(service.PORT) as last:
        first.send(update("first"))
        asked.wait(1)
        ghosts = sent(enclaves(16), ["ghost", "spectre"])
        last.send(update("last"))
        assert_in_flight_is_full(enclaves)
        vanish(way, enclaves, ghosts)
        found = service.wait(lambda: len(r := records(place, REASON="client-gone")) >= 2 and r, SOON,
                             "queued requests of clients that have gone are still queued")
        assert not any("KMS_STATUS" in r for r in found)
        assert asked.answered() == 0
        aws.ask(clear=True)
        assert (first.read().status, last.read().status) == (200, 200)
    assert asked.texts() == ["first", "last"]
    for ghost in ghosts:
        ghost.close()


# Tunnels whose host isn't there yet.

@contextlib.contextmanager
def deaf_host():
    """Answers no SYN: its queue of connections is full, and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield "127.0.0.1:{}".format(listener.getsockname()[1])


@contextlib.contextmanager
def silent_names(tmp_path):
    """A name server that says nothing, as the machine's."""
    with FakeDns() as dns, contextlib.ExitStack() as stack:
        dns.mode = "silent"
        for name, text in {"resolv.conf": f"nameserver {dns.address}\noptions timeout:60 attempts:1\n",
                           "nsswitch.conf": "hosts: files dns\n"}.items():
            file = pathlib.Path("/etc", name)
            before = file.read_bytes() if file.exists() else b""
            stack.callback(file.write_bytes, before)
            file.write_text(text, encoding="ascii")
        yield "slow.example:443"


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("stage", ["connect", "lookup"])
def test_a_tunnel_whose_client_has_gone_ends_before_it_is_open(unit, enclaves, tmp_path, stage, way):
    with deaf_host() if stage == "connect" else silent_names(tmp_path) as address:
        unit.config["enclaves"]["alpha"]["tunnel"] = {
            "hosts": [{"host": NAME, "port": 443, "connect_to": address}], "connections": 2}
        warm(unit, enclaves)
        place = journal.cursor()
        enclave = enclaves(16)
        streams = [enclave.connect(service.PORT) for _ in range(2)]
        for stream in streams:
            stream.sendall(client_hello(NAME))
        with enclave.connect(service.PORT) as third:    # both places are taken: they are under way
            third.sendall(client_hello(NAME))
            journal.wait_for(after=place, REASON="tunnel-connections")
        vanish(way, enclaves, streams)
        # By itself a tunnel to nowhere ends too, for another reason.
        found = service.wait(lambda: len(r := tunnels(place)) >= 2 and r, SECONDS)
        assert [r["REASON"] for r in found] == ["client-gone"] * 2
        unit.stop()


def tunnels(place):
    return [r for r in journal.records(place, ENCLAVE="alpha", VERDICT="refuse")
            if "tunnel" in r["MESSAGE"] and r["REASON"] != "tunnel-connections"]


# KMS acts, and the journal says so.

@contextlib.contextmanager
def junk(enclaves, cid=16):
    """Refusals of this enclave, without pause: its share of the journal is used up."""
    over = threading.Event()

    def send():
        while not over.is_set():
            with contextlib.suppress(OSError, EOFError), client(enclaves, cid) as bad:
                while not over.is_set():
                    bad.ask(NOT_ALLOWED)
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(SECONDS)


EIGHT = [f"{n} of 8" for n in range(8)]


@pytest.mark.parametrize("way", [pytest.param("close", marks=pytest.mark.nitro), "destroyed"])
@pytest.mark.parametrize("audit", [pytest.param("all", marks=pytest.mark.sanitize), "refusals"])
def test_what_kms_has_done_is_recorded_whoever_floods_the_journal(unit, enclaves, aws, asked, way, audit):
    unit.config["enclaves"]["alpha"]["limits"]["in_flight"] = 64
    unit.config["audit"] = audit
    warm(unit, enclaves)
    place = journal.cursor()
    aws.ask(fault=SLOW_KMS)
    with junk(enclaves):
        # 20 at once and 10 a second are recorded, then they are only counted
        service.wait(lambda: [r for r in journal.records(place) if "SUPPRESSED" in r], SECONDS)
        streams = sent(enclaves(16), EIGHT)
        asked.wait(8)
        vanish(way, enclaves, streams)
        aws.ask(clear=True)
        found = at_kms(place, 8, ENCLAVE="alpha")
    assert {(r["VERDICT"], r["REASON"], r["KMS_STATUS"]) for r in found} == {("allow", "client-gone", "200")}
    with client(enclaves) as other:     # after whatever else there was to write
        assert other.ask(NOT_ALLOWED).status == 400
    unit.stop()
    assert len(records(place, ENCLAVE="alpha")) == 8
    assert asked.texts() == EIGHT
    for stream in streams:
        stream.close()


def test_what_kms_never_answered_is_recorded_at_its_deadline(unit, enclaves, aws, asked):
    unit.config["endpoints"]["kms"]["reply_timeout"] = "4s"
    warm(unit, enclaves)
    place = journal.cursor()
    aws.ask(fault={"kind": "hang", "action": ACTION, "count": None})
    with enclaves(16).client(service.PORT) as waiting, junk(enclaves):
        gone, = sent(enclaves(16), ["gone"])
        waiting.send(update("waits"))
        asked.wait(2)
        vanish("close", enclaves, [gone])
        found = at_kms(place, 2)
        assert waiting.read().status == 504
    assert {(r["REASON"], r["KMS_STATUS"], r["VERDICT"]) for r in found} == \
        {("client-gone", "unknown", "allow"), ("upstream-timeout", "unknown", "allow")}
    assert all("sent to KMS, outcome unknown" in r["MESSAGE"] for r in found)
    assert all(int(r["UPSTREAM_USEC"]) > 3_000_000 for r in found)
    assert not any("AWS_REQUEST_ID" in r for r in found)


def test_a_stop_waits_for_no_abandoned_call_but_records_it(unit, enclaves, aws, asked):
    """It would wait for 25 s, as long as KMS takes: then they were answered."""
    warm(unit, enclaves)
    place = journal.cursor()
    aws.ask(fault=SLOW_KMS)
    streams = sent(enclaves(16), FOUR)
    asked.wait(4)
    vanish("close", enclaves, streams)

    def are_given_back():
        with client(enclaves) as other:
            return other.ask(DESCRIBE).status == 200
    service.wait(are_given_back, SOON)
    service.systemctl("stop", service.SOCKET, service.UNIT)
    assert asked.answered() == 0
    found = at_kms(place, 4)
    assert {(r["REASON"], r["KMS_STATUS"]) for r in found} == {("client-gone", "unknown")}


# Reloads.

DELETE = "ScheduleKeyDeletion"
FIVE = range(5)


@pytest.mark.nitro
@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_a_body_that_ends_behind_a_reload_is_decided_under_its_rules(unit, enclaves, asked, workers):
    unit.config["workers"] = workers
    unit.config["enclaves"]["alpha"]["limits"]["in_flight"] = 5
    rules = unit.config["enclaves"]["alpha"]["allow"]
    rules.append(service.rule("delete", DELETE))
    unit.start()
    place = journal.cursor()
    data = request(DELETE, {"KeyId": DOOMED_KEY, "PendingWindowInDays": 30})
    clients = [client(enclaves) for _ in FIVE]
    for one in clients:
        assert one.ask(DESCRIBE).status == 200      # each on its worker
        one.send(data[:-1])
    assert_in_flight_is_full(enclaves)
    rules.pop()
    unit.write()
    unit.reload()
    for one in clients:
        one.send(data[-1:])
    answers = [one.read() for one in clients]
    assert [(a.status, a.error) for a in answers] == [(400, "AccessDeniedException")] * 5
    assert asked.requests(DELETE) == []
    found = journal.wait_for(5, after=place, KMS_ACTION=DELETE)
    assert [(r["VERDICT"], r["REASON"]) for r in found] == [("refuse", "action")] * 5
    assert not any("KMS_STATUS" in r for r in found)
    for one in clients:
        one.close()


@pytest.mark.parametrize("changes", [True, False], ids=["changed", "unchanged"])
def test_a_queued_request_outlives_only_a_reload_that_is_not_about_it(unit, enclaves, aws, asked, changes):
    del unit.config["enclaves"]["beta"], unit.config["enclaves"]["gamma"], unit.config["enclaves"]["delta"]
    unit.config["endpoints"]["kms"].update(connections=1, queue_timeout="60s")
    unit.config["enclaves"]["alpha"]["limits"]["in_flight"] = 2
    warm(unit, enclaves)
    place = journal.cursor()
    aws.ask(fault=SLOW_KMS)
    with enclaves(16).client(service.PORT) as first, enclaves(16).client(service.PORT) as queued:
        first.send(update("first"))
        asked.wait(1)
        queued.send(update("queued"))
        assert_in_flight_is_full(enclaves)
        if changes:
            unit.config["enclaves"]["alpha"]["limits"]["in_flight"] = 3
        unit.write()
        unit.reload()
        if changes:
            assert queued.read().status == 503
            record, = journal.wait_for(after=place, REASON="reloaded")
            assert "KMS_STATUS" not in record
        aws.ask(clear=True)
        assert first.read().status == 200
        assert changes or queued.read().status == 200
    assert asked.texts() == (["first"] if changes else ["first", "queued"])
