# SPDX-License-Identifier: Apache-2.0
"""What the daemon writes, to a journal or to stderr: every field, and what a flood leaves of it."""

import fcntl
import json
import os
import re
import signal

import pytest

from daemon import DEADLINE, ROOT, wait_for
from daemon.help import add_enclave, allow, DESCRIBE, first_client, KEY, KEY_ID, limits, NOT_ALLOWED, record_of
from daemon.journal_help import make_journal
from kms.client import request

BURST = 20      # refusals of one enclave that are recorded at once, common/limits.h


@pytest.fixture
def journal(daemon, tmp_path):
    """The daemon's journal, not yet there; the daemon not yet started."""
    made = make_journal(tmp_path / "journal")
    made.lead(daemon)
    yield made
    if made.sock:
        made.sock.close()


def catalog():
    text = (ROOT / "systemd" / "kms-vsock-proxy.catalog").read_text(encoding="utf-8")
    return set(re.findall(r"^-- ([0-9a-f]{32})$", text, re.M))


# To the journal.

def test_entries_of_the_journal(daemon, kms, journal):
    journal.open()
    daemon.start(wait=False)
    with daemon:
        journal.wait(said="credentials valid")
        with daemon.client() as client:
            answer = client.ask(DESCRIBE)
            refused = client.ask(NOT_ALLOWED)
        entry = journal.wait(REASON="allowed")
        number = {n: entry.pop(n) for n in ("DURATION_USEC", "UPSTREAM_USEC", "BYTES_IN", "BYTES_OUT")}
        assert all(v.isdigit() for v in number.values())
        assert int(number["BYTES_IN"]) == len(DESCRIBE)
        assert int(number["BYTES_OUT"]) > len(answer.body)
        assert 0 < int(number["UPSTREAM_USEC"]) <= int(number["DURATION_USEC"]) < DEADLINE * 1e6
        assert re.fullmatch(r"[0-9a-f-]{36}", entry.pop("REQUEST_ID"))
        assert re.fullmatch(r'payments: DescribeKey allowed by rule "use": 200 in .*', entry.pop("MESSAGE"))
        assert entry.pop("MESSAGE_ID") in catalog()
        assert entry == {
            "PRIORITY": "6", "SYSLOG_IDENTIFIER": "kms-vsock-proxyd", "ENCLAVE": "payments",
            "KMS_ACTION": "DescribeKey", "KMS_KEY": KEY, "ENDPOINT": "kms", "VERDICT": "allow", "RULE": "use",
            "REASON": "allowed", "HTTP_STATUS": "200", "KMS_STATUS": "200", "RECIPIENT": "none",
            "AWS_REQUEST_ID": answer.header("x-amzn-RequestId")}
        entry = journal.wait(REASON="action")
        assert entry["REQUEST_ID"] == refused.header("x-amzn-RequestId")
        assert (entry["PRIORITY"], entry["VERDICT"], entry["HTTP_STATUS"]) == ("4", "refuse", "400")
    journal.read()
    assert {e["MESSAGE_ID"] for e in journal.entries} <= catalog()
    assert daemon.log() == ""       # and nothing twice


@pytest.mark.parametrize("error, status, counter", [
    ("AccessDeniedException", 400, "KMS_DENIED"),
    ("NotFoundException", 400, "KMS_DENIED"),
    ("LimitExceededException", 400, "KMS_DENIED"),
    ("ThrottlingException", 400, "KMS_THROTTLED"),
    ("KMSInternalException", 500, "KMS_FAILED"),
    ("DependencyTimeoutException", 500, "KMS_FAILED"),
])
@pytest.mark.parametrize("audit", ["all", "refusals"])
def test_an_error_of_kms_is_a_warning_and_is_counted(daemon, kms, journal, audit, error, status, counter):
    journal.open()
    daemon.config["audit"] = audit
    daemon.start(wait=False)
    with daemon:
        journal.wait(said="credentials valid")
        with daemon.client() as client:
            kms.fault("error", error_type=error, message="because of PCR0", status=status)
            answer = client.ask(DESCRIBE)
            assert client.ask(DESCRIBE).status == 200
        assert (answer.status, answer.error) == (status, error)
        entry = journal.wait(KMS_ERROR=error)
        assert re.fullmatch(f'payments: DescribeKey allowed by rule "use" but AWS KMS refused it: {status} {error}'
                            ' in .*', entry["MESSAGE"])
        assert (entry["PRIORITY"], entry["VERDICT"], entry["REASON"], entry["KMS_STATUS"]) == (
            "4", "allow", "allowed", str(status))
        assert "because" not in str(entry)
        counters = wait_for(lambda: counters_of(daemon, journal, "payments: requests 2 (allowed 2,"))
        assert {n: counters[n] for n in KMS_COUNTERS} == {n: str(int(n == counter)) for n in KMS_COUNTERS}
    journal.read()
    assert sum("KMS_ERROR" in e for e in journal.entries) == 1
    assert sum(e.get("REASON") == "allowed" for e in journal.entries) == (2 if audit == "all" else 1)


def counters_of(daemon, journal, said):
    """An answer may be read before its request is counted: then None, to be asked for again."""
    daemon.process.send_signal(signal.SIGUSR1)
    journal.read()
    return next((e for e in journal.entries if said in e["MESSAGE"]), None)


KMS_COUNTERS = ("KMS_DENIED", "KMS_THROTTLED", "KMS_FAILED")


def test_what_is_no_error_of_kms_is_counted_as_its_failure(daemon, kms, journal):
    journal.open()
    daemon.start(wait=False)
    with daemon:
        journal.wait(said="credentials valid")
        with daemon.client() as client:
            kms.fault("status", status=503, body="<html>")
            assert client.ask(DESCRIBE).status == 503
        entry = journal.wait(REASON="no-upstream")
        assert "KMS_ERROR" not in entry and entry["KMS_STATUS"] == "503"
        daemon.process.send_signal(signal.SIGUSR1)
        counters = journal.wait(said="payments: requests 1 (allowed 0, refused 0, throttled 0, failed 1)")
        assert [counters[n] for n in KMS_COUNTERS] == ["0", "0", "1"]
        assert counters["MESSAGE"] == (
            "payments: requests 1 (allowed 0, refused 0, throttled 0, failed 1), waited 0; errors of AWS KMS: "
            "denied 0, throttled 0, failed 1; connections 1 (refused 0); tunnels 0; "
            f"bytes in {counters['BYTES_IN']}, out {counters['BYTES_OUT']}")


def test_rejected_credentials_are_said_once_and_not_with_each_request(daemon, kms, journal):
    journal.open()
    daemon.start(wait=False)
    with daemon:
        journal.wait(said="credentials valid")
        kms.fault("error", error_type="InvalidSignatureException", count=None)
        with daemon.client() as client:
            client.ask(DESCRIBE)
            journal.wait(said="rejects the credentials")
            client.ask(DESCRIBE)
            client.ask(DESCRIBE)
        entries = wait_for(lambda: journal.read() or (
            (found := [e for e in journal.entries if e.get("REASON") == "bad-credentials"]) and
            len(found) == 3 and found))
        assert [(e["KMS_ERROR"], e["PRIORITY"]) for e in entries] == [
            ("InvalidSignatureException", priority) for priority in "466"]


def test_each_kind_of_entry_has_its_priority_and_id(daemon, kms, journal):
    journal.open()
    daemon.config["enclaves"]["payments"]["allow"][0].update(plaintext="refuse")
    daemon.start(wait=False)
    with daemon:
        journal.wait(said="credentials valid")
        with daemon.client() as client:
            kms.fault("body", text="<html>", action="GenerateDataKey")
            client.ask(request("GenerateDataKey", {"KeyId": KEY, "KeySpec": "AES_256", "Recipient": {
                "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "eA=="}}))
        with daemon.client() as client:
            client.send(b"\x16")
        entry = journal.wait(REASON="tls")
        assert "REQUEST_ID" not in entry and entry["PRIORITY"] == "5"
        kms.stop()
        with daemon.client() as client:
            assert client.ask(DESCRIBE).status == 503
        down = journal.wait(said="can't connect")
        assert down["PRIORITY"] == "3"
        failed = journal.wait(REASON="no-upstream")
        assert failed["VERDICT"] == "allow"
        kms.start()
        with daemon.client() as client:
            wait_for(lambda: client.ask(DESCRIBE).status == 200)
        journal.wait(said="connected again")
    journal.read()
    kinds = {e["MESSAGE_ID"] for e in journal.entries}
    assert kinds <= catalog() and len(kinds) >= 8, len(kinds)
    assert all(e["PRIORITY"] in "234567" for e in journal.entries)


def test_a_journal_that_comes_late_gets_all(daemon, journal):
    daemon.start(wait=False)
    with daemon, first_client(daemon) as client:
        wait_for(lambda: client.ask(DESCRIBE).status == 200)
        for _ in range(50):
            assert client.ask(DESCRIBE).status == 200
        journal.open()
        journal.wait(count=51, REASON="allowed")
        lost = journal.wait(said="could not be written")    # the daemon's own first messages
        assert int(lost["LOST"]) >= 1


def test_a_journal_that_is_started_anew_is_found(daemon, journal):
    journal.open()
    daemon.start(wait=False)
    journal.wait(said="credentials valid")
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        journal.wait(REASON="allowed")
        journal.close()
        for _ in range(10):
            assert client.ask(DESCRIBE).status == 200
        journal.open()
        journal.wait(count=11, REASON="allowed")
    assert not journal.found(LOST="1")


def test_a_journal_that_takes_nothing_delays_nothing_and_loss_is_counted(daemon, kms, journal):
    journal.open()
    daemon.start(wait=False)
    journal.wait(said="credentials valid")
    with daemon, daemon.client() as client:
        count = 1024 + 300
        for _ in range(count // 50):
            client.send(DESCRIBE * 50)
            assert all(client.read().status == 200 for _ in range(50))
        asked = count // 50 * 50
        lost = journal.wait(said="could not be written")    # it reads now
        journal.wait(count=asked - int(lost["LOST"]), REASON="allowed")
        assert 0 < int(lost["LOST"]) <= 300
        assert client.ask(DESCRIBE).status == 200
        journal.wait(count=asked - int(lost["LOST"]) + 1, REASON="allowed")
    journal.read()
    total = sum(int(e["LOST"]) for e in journal.entries if "LOST" in e)
    assert len(journal.found(REASON="allowed")) + total == asked + 1


# To stderr.

def test_text_where_the_journal_is_not_stderr(daemon):
    daemon.environment["JOURNAL_STREAM"] = "0:0"
    with daemon, daemon.client() as client:
        client.ask(DESCRIBE)
        line = daemon.wait_log(r"(?m)^info: payments: DescribeKey allowed by rule .* REASON=allowed .*$")[0]
    assert "MESSAGE_ID" not in line and "PRIORITY" not in line


@pytest.fixture
def pipe_stderr(daemon, tmp_path):
    """The read end of what the daemon writes, unread so far."""
    path = tmp_path / "stderr"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    daemon.wrapper = ["sh", "-c", f'exec "$@" 2>{path}', "sh"]
    yield reader
    os.close(reader)


def test_a_stderr_that_nobody_reads_delays_nothing(daemon, pipe_stderr):
    daemon.start(wait=False)
    text = b""

    def read():
        nonlocal text
        try:
            while more := os.read(pipe_stderr, 65536):
                text += more
        except BlockingIOError:
            pass
        return text

    with daemon, first_client(daemon) as client:
        wait_for(lambda: client.ask(DESCRIBE).status == 200)
        for _ in range(200):
            assert client.ask(DESCRIBE).status == 200
        wait_for(lambda: read().count(b"REASON=allowed") >= 201)
    assert all(line.count(b"MESSAGE_ID") == 0 and b": " in line for line in text.splitlines())


def test_a_stderr_that_is_gone_ends_nothing(daemon, pipe_stderr):
    daemon.start(wait=False)
    with daemon, first_client(daemon) as client:
        os.dup2(os.open(os.devnull, os.O_RDONLY), pipe_stderr)      # the pipe's last reader goes
        for _ in range(50):
            wait_for(lambda: client.ask(DESCRIBE).status == 200)


def test_a_stderr_that_was_closed_is_nobody_elses_descriptor(daemon):
    daemon.wrapper = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    daemon.start(wait=False)
    with daemon, first_client(daemon) as client:
        wait_for(lambda: client.ask(DESCRIBE).status == 200)
        assert [os.readlink(f"/proc/{daemon.pid}/fd/{n}") for n in range(3)] == [os.devnull] * 3


# What comes from the wire.

NASTY = [
    "a b", 'a" VERDICT=allow REASON="x', "a\nVERDICT=allow", "\u001b[31mred", "a\\nb", "\u202eabc", "\u00e9\u4e2d",
    "\u007f", "x" * 2000, "=", "a\r\nPRIORITY=0", "\u0000"]


def plain(value):
    return len(value) <= 256 and all(" " <= c <= "~" for c in value)


@pytest.mark.parametrize("to_journal", [False, True])
def test_values_from_the_wire_are_escaped_and_clipped(daemon, request, to_journal):
    journal = request.getfixturevalue("journal") if to_journal else None
    if journal:
        journal.open()
    daemon.config["enclaves"]["payments"]["allow"][0]["keys"] = [KEY]
    daemon.start(wait=False)
    with daemon, first_client(daemon) as client:
        for key in NASTY:
            answer = client.ask(_describe(key))
            assert answer.error == "AccessDeniedException", key
            if journal:
                record = journal.wait(REQUEST_ID=answer.header("x-amzn-RequestId"))
            else:
                record = record_of(daemon, answer)
            assert record["VERDICT"] == "refuse" and record["REASON"] == "key", key
            assert plain(record["KMS_KEY"]), record
            assert all(" " <= c <= "~" for c in record["MESSAGE"]), record
            assert len(record["MESSAGE"]) < 1024
    if not journal:
        assert all(re.match(r"(info|notice|warning|error|critical): ", line)
                   for line in daemon.log().splitlines())


def _describe(key):
    return request("DescribeKey", {"KeyId": key})


# What an enclave can't do to the journal.

HAND = "arn:aws:iam::444455556666:role/other"
LONG = "x" * 300


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "refused"])
@pytest.mark.parametrize("action, params, grantee", [
    ("CreateGrant", {"KeyId": KEY_ID, "GranteePrincipal": HAND, "Operations": ["Decrypt"]}, HAND),
    ("CreateGrant", {"KeyId": KEY_ID, "GranteeServicePrincipal": "ec2.amazonaws.com"}, "ec2.amazonaws.com"),
    ("CreateGrant", {"GranteeServicePrincipal": "s", "GranteePrincipal": "p"}, "p,s"),
    ("CreateGrant", {"GranteePrincipal": "\x07\u00fc VERDICT=allow"}, "\\x5cu0007\\xc3\\xbc VERDICT=allow"),
    ("CreateGrant", {"GranteePrincipal": LONG}, LONG[:253] + "..."),
    ("CreateGrant", {"KeyId": KEY_ID}, None),
    ("PutKeyPolicy", {"KeyId": KEY_ID, "Policy": "{}"}, "policy"),
    ("ReplicateKey", {"KeyId": KEY_ID, "ReplicaRegion": "us-east-1", "Policy": "{}"}, "policy"),
    ("CreateKey", {"Policy": "{}"}, "policy"),
    ("CreateKey", {}, None),
    ("ListGrants", {"KeyId": KEY_ID, "GranteePrincipal": HAND}, None),      # hands nothing to it
])
def test_to_whom_a_key_is_handed(daemon, kms, allowed, action, params, grantee):
    if allowed:
        allow(daemon, action)
    with daemon, daemon.client() as client:
        answer = client.ask(request(action, body=json.dumps(params, ensure_ascii=False).encode()))
        record = record_of(daemon, answer)
        assert (record["KMS_ACTION"], record["VERDICT"]) == (action, "allow" if allowed else "refuse")
        assert record.get("KMS_GRANTEE") == grantee


def test_a_flood_of_refusals_is_recorded_up_to_a_rate_and_counted(daemon):
    other, quiet = add_enclave(daemon), add_enclave(daemon, "quiet")
    limits(daemon, requests="100000/s", burst=10000)
    count = 1000
    with daemon:
        with daemon.client() as client:
            for _ in range(count // 50):
                client.send(NOT_ALLOWED * 50)
                assert all(client.read().status == 400 for _ in range(50))
        for _ in range(count):
            daemon.client(other).close()
        with daemon.client(quiet) as client:        # its refusals are all there
            for _ in range(BURST):
                record_of(daemon, client.ask(NOT_ALLOWED))

        def left_out(enclave):
            return sum(int(r["SUPPRESSED"]) for r in daemon.records(ENCLAVE=enclave) if "SUPPRESSED" in r)

        for enclave in ("payments", other):
            wait_for(lambda: left_out(enclave) + len(daemon.records(ENCLAVE=enclave, VERDICT="refuse")) == count)
            assert BURST <= len(daemon.records(ENCLAVE=enclave, VERDICT="refuse")) < count // 2
        assert not left_out(quiet)
        with daemon.client() as client:             # and afterwards it is recorded again
            record_of(daemon, client.ask(NOT_ALLOWED))
            client.ask(DESCRIBE)                    # what is allowed always was
            daemon.record(ENCLAVE="payments", REASON="allowed")


def test_what_a_flood_left_out_is_counted_before_the_end(daemon):
    """Also what comes in the seconds between the last such record and the stop."""
    count = 100
    with daemon, daemon.client() as client:
        for _ in range(count):
            assert client.ask(NOT_ALLOWED).status == 400
    left_out = sum(int(r["SUPPRESSED"]) for r in daemon.records(ENCLAVE="payments") if "SUPPRESSED" in r)
    recorded = len(daemon.records(ENCLAVE="payments", VERDICT="refuse"))
    assert left_out > 0 and left_out + recorded == count


def test_refusals_only(daemon, kms):
    daemon.config["audit"] = "refusals"
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        answer = client.ask(NOT_ALLOWED)
        assert record_of(daemon, answer)["REASON"] == "action"
        kms.fault("gzip")
        answer = client.ask(DESCRIBE)       # allowed, and failed
        assert record_of(daemon, answer)["REASON"] == "upstream-malformed"
        daemon.config["audit"] = "all"
        daemon.reload()
        assert client.ask(DESCRIBE).status == 200
        daemon.record(REASON="allowed")
    assert len(daemon.records(REASON="allowed")) == 1
