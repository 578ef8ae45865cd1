# SPDX-License-Identifier: Apache-2.0
"""Clients that go while KMS has their request: KMS may have acted, so the journal says so; what they
held is given back, and nobody else pays for it. (On vsock: tests/vm/cases/test_vanished.py.)"""

import socket
import time

import pytest

from daemon import wait_for
from daemon.help import add_enclave, allow, DESCRIBE, KEY, KEY_ID, limits
from kms.client import request

CHANGE = request("UpdateKeyDescription", {"KeyId": KEY_ID, "Description": "x"})     # not safe to repeat
JUNK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
EIGHT = 8


def shut_down(client):
    """Both ways, the descriptor stays."""
    client.sock.shutdown(socket.SHUT_RDWR)


GO = {"close": lambda client: client.close(), "shutdown": shut_down}


def use_up_flood_limit(daemon):
    """Refusals beyond what is recorded of one enclave, so that the next ones are left out."""
    for _ in range(60):
        with daemon.client() as client:
            assert client.ask(JUNK).status == 400


def vanish(daemon, kms, count=EIGHT, go="close", data=CHANGE):
    """So many clients whose requests KMS holds, and then they go."""
    clients = [daemon.client() for _ in range(count)]
    for client in clients:
        client.send(data)
    kms.wait_for_requests(count)
    wait_for(lambda: all(r.faults for r in kms.requests[:count]))
    for client in clients:
        GO[go](client)
    return clients


def unanswered(daemon, count, **fields):
    """The records of what was sent to KMS and not answered: exactly so many."""
    daemon.record(VERDICT="allow", REASON=fields.pop("REASON", "client-gone"), count=count, **fields)
    found = [r for r in daemon.records(KMS_ACTION="UpdateKeyDescription") if "KMS_STATUS" in r]
    assert len(found) == count
    return found


@pytest.mark.parametrize("go", GO)
def test_what_kms_did_is_recorded_though_the_client_is_gone(daemon, kms, go):
    allow(daemon, "UpdateKeyDescription")
    with daemon:
        use_up_flood_limit(daemon)
        kms.fault("hang", count=EIGHT)
        clients = vanish(daemon, kms, go=go)
        assert not daemon.records(KMS_ACTION="UpdateKeyDescription")     # its outcome isn't known yet
        kms.clear()
        records = unanswered(daemon, EIGHT, KMS_STATUS=200)
        for client in clients:
            client.close()
    assert len(kms.asked("UpdateKeyDescription")) == EIGHT
    assert len({r["AWS_REQUEST_ID"] for r in records}) == EIGHT
    for record in records:
        assert record["RULE"] == "more"
        assert record["LEVEL"] == "warning"
        assert int(record["UPSTREAM_USEC"]) > 0
        assert record["BYTES_OUT"] == "0"
        assert "HTTP_STATUS" not in record
        assert "but not answered: KMS answered 200 (client-gone)" in record["MESSAGE"]


def test_an_outcome_that_is_not_known_is_recorded_at_the_deadline(daemon, kms):
    allow(daemon, "UpdateKeyDescription")
    daemon.config["endpoints"]["kms"]["reply_timeout"] = "1s"
    with daemon:
        use_up_flood_limit(daemon)
        kms.fault("hang", count=EIGHT)
        vanish(daemon, kms)
        for record in unanswered(daemon, EIGHT, KMS_STATUS="unknown"):
            assert "sent to KMS, outcome unknown (client-gone)" in record["MESSAGE"]
            assert int(record["UPSTREAM_USEC"]) >= 1000000
            assert "AWS_REQUEST_ID" not in record
        kms.clear()


def test_the_end_waits_for_nobody_who_is_gone(daemon, kms):
    allow(daemon, "UpdateKeyDescription")
    daemon.config["endpoints"]["kms"]["reply_timeout"] = "5m"
    daemon.start()
    use_up_flood_limit(daemon)
    kms.fault("hang", count=EIGHT)
    vanish(daemon, kms)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 25        # the drain's 30 s are for those who are there
    unanswered(daemon, EIGHT, KMS_STATUS="unknown")
    kms.clear()


FAILURES = {
    "upstream-timeout": ("hang", {}, 504, "unknown"),
    "upstream-lost": ("close", {}, 503, "unknown"),
    "upstream-malformed": ("bad_header", {}, 502, "unknown"),
    "memory": ("huge_body", {"size": 1 << 20}, 400, "unknown"),
    "bad-credentials": ("invalid_signature", {}, 503, "400"),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_what_was_sent_and_failed_escapes_the_flood_limit(daemon, kms, reason):
    kind, how, status, outcome = FAILURES[reason]
    allow(daemon, "UpdateKeyDescription")
    daemon.config["endpoints"]["kms"]["reply_timeout"] = "1s"
    daemon.config["audit"] = "refusals"
    if reason == "memory":
        daemon.config["memory"] = "4MiB"
    with daemon:
        use_up_flood_limit(daemon)
        holders = hold_memory(daemon) if reason == "memory" else []
        with daemon.client() as client:
            kms.fault(kind, **how)
            answer = client.ask(CHANGE)
            assert answer.status == status, answer
        record, = unanswered(daemon, 1, REASON=reason)
        assert (record["KMS_STATUS"], record["HTTP_STATUS"]) == (outcome, str(status))
        assert int(record["UPSTREAM_USEC"]) > 0
        for holder in holders:
            holder.close()
        kms.clear()


def hold_memory(daemon):
    """Bodies that don't come: what is left of 4 MiB has room for a request, not for an answer of 1 MiB."""
    clients = [daemon.client() for _ in range(7)]
    for client in clients:
        client.send(request("Encrypt", body=b"x" * (500 << 10))[:-1])
    return clients


def test_audit_refusals_keeps_what_was_not_relayed_whole(daemon, kms):
    allow(daemon, "UpdateKeyDescription")
    daemon.config["audit"] = "refusals"
    with daemon:
        with daemon.client() as client:
            assert client.ask(CHANGE).status == 200
        kms.fault("hang", count=1)
        client = daemon.client()
        client.send(CHANGE)
        kms.wait_for_requests(2)
        client.close()
        time.sleep(0.6)     # not for an event: the daemon has noticed it after this, and says nothing yet
        kms.clear()
        daemon.record(KMS_ACTION="UpdateKeyDescription", REASON="client-gone")
    assert len(daemon.records(KMS_ACTION="UpdateKeyDescription")) == 1


def test_a_place_in_flight_is_given_back_at_once(daemon, kms):
    limits(daemon, requests="10000/s", burst=10000, in_flight=4)
    daemon.config["endpoints"]["kms"]["reply_timeout"] = "5m"
    with daemon:
        kms.fault("hang", count=4)
        vanish(daemon, kms, 4, data=DESCRIBE)
        with daemon.client() as client:     # while KMS still has the four
            wait_for(lambda: client.ask(DESCRIBE).status == 200)
        assert not daemon.records(REASON="client-gone")
        kms.clear()
        daemon.record(REASON="client-gone", KMS_STATUS=200, count=4)


def test_who_cancels_costs_others_no_connection(daemon, kms):
    """The connection of a call whose client went serves the next one."""
    daemon.config["workers"] = 1        # each has connections of its own
    other = add_enclave(daemon)
    with daemon, daemon.client(other) as quick:
        kms.fault("delay", seconds=0.05, count=None, body_contains="slow")
        for turn in range(20):
            client = daemon.client()
            client.send(request("DescribeKey", {"KeyId": "alias/slow"}))
            kms.wait_for_requests(2 * turn + 1)
            client.close()
            assert quick.ask(DESCRIBE).status == 200
            daemon.record(REASON="client-gone", KMS_STATUS=400, count=turn + 1)
        assert len({r.connection for r in kms.requests}) == 2


def test_who_waited_and_went_is_not_sent(daemon, kms):
    daemon.config["endpoints"]["kms"].update(connections=1, reply_timeout="1m", queue_timeout="1m")
    daemon.config["workers"] = 1
    allow(daemon, "UpdateKeyDescription")
    with daemon:
        kms.fault("hang", count=1)
        first = daemon.client()
        first.send(DESCRIBE)
        kms.wait_for_requests(1)
        ghosts = [daemon.client() for _ in range(4)]
        for ghost in ghosts:
            ghost.send(CHANGE)
        time.sleep(0.3)     # not for an event: they wait in the daemon, which says nothing of it
        for ghost in ghosts:
            ghost.close()
        kms.clear()
        assert first.read().status == 200
        daemon.record(REASON="client-gone", count=4)
        assert first.ask(DESCRIBE).status == 200
        first.close()
    assert not kms.asked("UpdateKeyDescription")
    assert all("KMS_STATUS" not in r for r in daemon.records(REASON="client-gone"))


def test_an_answer_that_leaks_is_critical_also_when_nobody_waits_for_it(daemon, kms):
    daemon.config["enclaves"]["payments"]["allow"][0]["plaintext"] = "refuse"
    data = request("GenerateDataKey", {
        "KeyId": KEY, "KeySpec": "AES_256",
        "Recipient": {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": b"x" * 100}})
    with daemon:
        kms.fault("body", text='{"Plaintext": "c2VjcmV0", "CiphertextForRecipient": "eA=="}')
        kms.fault("delay", seconds=0.8)
        client = daemon.client()
        client.send(data)
        kms.wait_for_requests(1)
        client.close()
        record = daemon.record(REASON="reply-leaks")
        assert record["LEVEL"] == "critical"
        assert "HTTP_STATUS" not in record


def test_rejected_credentials_are_noticed_though_the_client_is_gone(daemon, kms, imds):
    with daemon:
        kms.fault("expired_token", count=1)
        kms.fault("delay", seconds=0.8, count=1)
        client = daemon.client()
        client.send(DESCRIBE)
        kms.wait_for_requests(1)
        asked = len(imds.requests)
        client.close()
        daemon.record(REASON="client-gone", KMS_STATUS=400)
        imds.wait(lambda: len(imds.requests) > asked)       # new ones are asked for
        assert len(kms.asked("DescribeKey")) == 1           # and it wasn't signed again
