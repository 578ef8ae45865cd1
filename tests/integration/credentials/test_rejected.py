# SPDX-License-Identifier: Apache-2.0
"""KMS doesn't take our credentials or our signature: its answer may echo what was signed, with the
session token, and goes to no enclave. While it goes on, only the first request waits for others."""

import socket
import time

import pytest

from daemon import wait_for
from daemon.help import DESCRIBE, KEY, wait_taken
from kms.client import request

EXPIRED, WRONG = "ExpiredTokenException", "InvalidSignatureException"


def error_type(value):
    return ("header", {"name": "x-amzn-ErrorType", "value": value})


def echo(named="ValidationException", **how):
    return ("echo", {"error_type": named, **how})


def page(status):
    return ("status", {"status": status, "body": "<html>the token</html>"})


# What KMS answers each time, and the type that is blamed.
BLAMES = {
    "in the body": ([echo(WRONG)], WRONG),
    "in the member code": ([echo(WRONG, member="code")], WRONG),
    "in the member Code": ([echo(WRONG, member="Code")], WRONG),
    "in the header only": ([echo(member=None), error_type(WRONG)], WRONG),
    "in the header, decorated": ([echo(member=None), error_type("com.amazonaws.kms#SignatureDoesNotMatch:http://a/")],
                                 "SignatureDoesNotMatch"),
    "in the header, the first of two": ([echo(member=None), error_type("AuthFailure,ValidationException")],
                                        "AuthFailure"),
    "the header, while the body is harmless": ([echo(), error_type(WRONG)], WRONG),
    "the body, while the header is harmless": ([echo(WRONG), error_type("ValidationException")], WRONG),
    "both, and not alike": ([echo("SignatureDoesNotMatch"), error_type(EXPIRED)], EXPIRED),
    "credentials in the header only": ([echo(), error_type("UnrecognizedClientException")],
                                       "UnrecognizedClientException"),
    "status 500": ([echo(status=500), error_type(EXPIRED)], EXPIRED),
    "no JSON, status 403": ([page(403), error_type(EXPIRED)], EXPIRED),
    "no JSON, status 503": ([page(503), error_type(WRONG)], WRONG),
    "a list": ([echo(), ("body", {"text": '["the token"]'}), error_type(WRONG)], WRONG),
}


def use(kms, faults, count=None):
    for kind, how in faults:
        kms.fault(kind, count=count, **how)


def assert_no_token(kms, daemon, answer):
    token = kms.credentials.current.token
    seen = answer.body.decode("latin-1") + str(answer.headers) + daemon.log()
    for at in range(0, len(token) - 24, 24):
        assert token[at:at + 24] not in seen


@pytest.mark.parametrize("faults, blamed", BLAMES.values(), ids=BLAMES)
def test_a_type_that_blames_us_is_enough_wherever_it_stands(daemon, kms, faults, blamed):
    with daemon, daemon.client() as enclave:
        use(kms, faults)
        # The first waits for other credentials where those may help.
        for answer in (enclave.ask(DESCRIBE), enclave.ask(DESCRIBE)):
            assert (answer.status, answer.error) == (503, "ServiceUnavailableException"), answer
            assert not answer.header("x-amzn-ErrorType")
        record = daemon.record(REASON="bad-credentials", count=2)
        assert f"AWS KMS answered {blamed}" in record["MESSAGE"]
        assert_no_token(kms, daemon, answer)
        kms.clear()
        assert enclave.ask(DESCRIBE).status == 200


@pytest.mark.parametrize("faults", [
    [error_type(WRONG)], [error_type(EXPIRED)], [page(307), error_type(EXPIRED)],
    [("redirect", {"location": "https://localhost/"}), error_type(WRONG)]],
    ids=["200 signature", "200 credentials", "307 credentials", "307 signature"])
def test_an_answer_that_is_no_error_and_blames_us_is_not_relayed(daemon, kms, faults):
    """Nor is it tried again: the first may have been done."""
    with daemon, daemon.client() as enclave:
        use(kms, faults)
        answer = enclave.ask(DESCRIBE)
        assert (answer.status, answer.error) == (502, "KMSInternalException")
        daemon.record(REASON="upstream-malformed")
        assert len(kms.requests) == 1


def test_a_type_that_blames_nobody_is_relayed_from_either_place(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.fault("error", error_type="ValidationException", message="no")
        use(kms, [error_type("a#NotFoundException:b")], 1)
        answer = enclave.ask(DESCRIBE)
        assert (answer.status, answer.json["message"]) == (400, "no")
        assert answer.header("x-amzn-ErrorType") == "a#NotFoundException:b"
        assert "ValidationException" in daemon.record(REASON="allowed")["MESSAGE"]
        kms.fault("body", text='{"message":"no"}')
        use(kms, [("error", {"error_type": "x"}), error_type("a#NotFoundException:b")], 1)
        assert enclave.ask(DESCRIBE).json == {"message": "no"}
        assert "NotFoundException" in daemon.record(REASON="allowed", count=2)["MESSAGE"]


@pytest.mark.parametrize("named", ["RequestTimeTooSkewed", "SignatureDoesNotMatch"])
@pytest.mark.parametrize("text", ["{}", "<html>"])
def test_a_clock_that_is_blamed_in_the_header_only_is_corrected(daemon, kms, named, text):
    kms.clock_offset = 3600
    with daemon, daemon.client() as enclave:
        use(kms, [("body", {"text": text}), error_type(named)], 1)
        assert enclave.ask(DESCRIBE).status == 200
        assert [r.verdict for r in kms.requests] == [WRONG, "ok"]


# An error that blames nobody, and holds the token all the same.

@pytest.mark.parametrize("faults", [
    [echo()], [echo(status=500)], [echo(member=None)], [echo("AccessDeniedException")], [echo("NewInYear2030")],
    [echo(start=100, end=200)], [echo(start=-80)], [echo(end=120)]],
    ids=["400", "500", "no type", "AccessDenied", "unknown", "a middle", "the end", "the beginning"])
def test_no_error_that_holds_the_session_token_is_relayed(daemon, kms, faults):
    with daemon, daemon.client() as enclave:
        use(kms, faults)
        answer = enclave.ask(DESCRIBE)
        assert (answer.status, answer.error) == (502, "KMSInternalException"), answer
        record = daemon.record(REASON="reply-leaks")
        assert record["LEVEL"] == "critical" and "session token" in record["MESSAGE"]
        assert_no_token(kms, daemon, answer)
        kms.clear()
        assert enclave.ask(DESCRIBE).status == 200


def test_no_escape_hides_the_session_token_in_an_error(daemon, kms):
    with daemon, daemon.client() as enclave:
        token = "".join("\\/" if c == "/" else f"\\u{ord(c):04x}" if c in "+=x" else c for c in kms.credentials.current.token)
        kms.fault("error", error_type="ValidationException")
        kms.fault("body", text='{"Error":{"Code":"Other","Message":["x-amz-security-token:%s"]}}' % token)
        assert enclave.ask(DESCRIBE).status == 502
        daemon.record(REASON="reply-leaks")


def test_no_header_of_an_error_that_holds_the_session_token_is_relayed(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.fault("error", error_type="ValidationException")
        use(kms, [error_type(f"ValidationException:http://a/{kms.credentials.current.token}")], 1)
        answer = enclave.ask(DESCRIBE)
        assert (answer.status, answer.error) == (502, "KMSInternalException")
        daemon.record(REASON="reply-leaks")
        assert_no_token(kms, daemon, answer)


def test_an_access_key_id_in_an_error_is_no_leak(daemon, kms):
    """An enclave that knows it would otherwise have records of an incident written at will."""
    with daemon, daemon.client() as enclave:
        kms.fault("error", error_type="NotFoundException", message=f"Invalid keyId {kms.credentials.current.access_key_id}")
        assert enclave.ask(request("DescribeKey", {"KeyId": KEY})).error == "NotFoundException"


# While KMS rejects the credentials.

WAIT = 3            # seconds that the first rejection waits for others
AT_ONCE = WAIT / 2
REJECTS, ACCEPTS = "AWS KMS rejects the credentials", "AWS KMS accepts the credentials again"


def said(daemon, what):
    return [r for r in daemon.records() if what in r["MESSAGE"]]


def rejected(enclave):
    """How long it took until the answer."""
    start = time.monotonic()
    answer = enclave.ask(DESCRIBE)
    assert (answer.status, answer.error) == (503, "ServiceUnavailableException"), answer
    return time.monotonic() - start


def test_only_the_first_rejection_waits_and_recovery_is_noticed(daemon, kms, imds):
    with daemon, daemon.client() as enclave, daemon.client() as another:
        assert enclave.ask(DESCRIBE).status == 200
        fault = kms.fault("expired_token", count=None)
        asked = len(imds.requests)
        assert rejected(enclave) > WAIT - 0.1
        before = len(kms.requests)
        for client in (enclave, another) * 5:
            assert rejected(client) < AT_ONCE
        assert len(kms.requests) == before + 10     # each was signed and sent
        [record] = said(daemon, REJECTS)
        assert record["LEVEL"] == "error" and "ExpiredTokenException" in record["MESSAGE"]
        assert (record["ENDPOINT"], record["ACCESS_KEY_ID"]) == ("kms", kms.credentials.current.access_key_id)
        assert not said(daemon, ACCEPTS)
        assert [r.action for r in imds.requests[asked:]] == ["ListRoles", "GetCredentials"]
        kms.clear(fault.number)
        for _ in range(5):      # with the same credentials
            assert another.ask(DESCRIBE).status == 200
        daemon.wait_log(ACCEPTS)
        [record] = said(daemon, ACCEPTS)
        assert record["LEVEL"] == "notice"
        assert (record["ENDPOINT"], record["ACCESS_KEY_ID"]) == ("kms", kms.credentials.current.access_key_id)
        kms.fault("unrecognized_client", count=None)
        assert rejected(enclave) < AT_ONCE          # the same credentials have had their wait
        wait_for(lambda: len(said(daemon, REJECTS)) == 2)
        assert len(said(daemon, ACCEPTS)) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_rejected_while_the_first_waits_waits_as_long(daemon, kms, workers):
    daemon.config["workers"] = workers
    with daemon:
        clients = [daemon.client() for _ in range(8)]
        kms.fault("expired_token", count=None)
        start = time.monotonic()
        clients[0].send(DESCRIBE)
        daemon.wait_log(REJECTS)
        wait_for(lambda: time.monotonic() > start + WAIT * 0.8)
        for client in clients[1:]:
            client.send(DESCRIBE)
        for client in clients:
            assert client.read().status == 503
        # All at the end of the first one's wait (the sweep is every 250 ms), not at their own.
        assert WAIT - 0.1 < time.monotonic() - start < WAIT * 1.8 - 0.3
        for client in clients:
            assert rejected(client) < AT_ONCE
            client.close()
        assert len(said(daemon, REJECTS)) == 1


def test_those_that_wait_go_on_with_new_credentials(daemon, kms, imds):
    with daemon, daemon.client() as first, daemon.client() as second:
        old = kms.credentials.current.access_key_id
        imds.fault("delay", seconds=1)
        kms.credentials.revoke(old)
        imds.rotate()
        first.send(DESCRIBE)
        daemon.wait_log(REJECTS)
        second.send(DESCRIBE)
        assert (first.read().status, second.read().status) == (200, 200)
        daemon.wait_log(ACCEPTS)
        assert (len(said(daemon, REJECTS)), len(said(daemon, ACCEPTS))) == (1, 1)
        assert said(daemon, ACCEPTS)[0]["ACCESS_KEY_ID"] == kms.credentials.current.access_key_id != old


def test_new_credentials_begin_anew(daemon, kms, tmp_path):
    def write():
        current = kms.credentials.rotate()
        (tmp_path / "new").write_text(f"[default]\naws_access_key_id = {current.access_key_id}\naws_secret_access_key ="
                                      f" {current.secret_access_key}\naws_session_token = {current.token}\n")
        (tmp_path / "new").chmod(0o600)
        (tmp_path / "new").replace(tmp_path / "own")
        return current.access_key_id

    keys = [write()]
    daemon.config["credentials"] = {"source": "file", "file": str(tmp_path / "own")}
    fault = kms.fault("expired_token", count=None)
    with daemon, daemon.client() as enclave:
        assert rejected(enclave) > WAIT - 0.1
        assert rejected(enclave) < AT_ONCE
        keys.append(write())
        daemon.wait_log(rf"credentials valid.*{keys[1]}")
        assert rejected(enclave) > WAIT - 0.1
        assert rejected(enclave) < AT_ONCE
        assert [r["ACCESS_KEY_ID"] for r in said(daemon, REJECTS)] == keys
        kms.clear(fault.number)
        assert enclave.ask(DESCRIBE).status == 200
        daemon.wait_log(ACCEPTS)
        assert [r["ACCESS_KEY_ID"] for r in said(daemon, ACCEPTS)] == keys[1:]


def test_two_workers_tell_of_a_change_once(daemon, kms):
    daemon.config["workers"] = 2
    with daemon:
        clients = [daemon.client() for _ in range(20)]
        fault = kms.fault("expired_token", count=None)
        for turn in range(2):
            for client in clients:
                client.send(DESCRIBE)
            assert {client.read().status for client in clients} == {503}
        kms.clear(fault.number)
        for client in clients:
            client.send(DESCRIBE)
        assert {client.read().status for client in clients} == {200}
        daemon.wait_log(ACCEPTS)
        for client in clients:
            assert client.ask(DESCRIBE).status == 200
            client.close()
        assert (len(said(daemon, REJECTS)), len(said(daemon, ACCEPTS))) == (1, 1)


def test_an_endpoint_that_rejects_what_another_takes_is_told_once(daemon, kms):
    """As a region does that the account hasn't enabled; both Hosts lead to the one local KMS."""
    daemon.config["endpoints"]["off"] = {**daemon.config["endpoints"]["kms"], "host": "localhost"}
    daemon.config["enclaves"]["payments"]["endpoints"] = ["kms", "off"]
    here, off = (request("DescribeKey", {"KeyId": KEY}, host=h) for h in (next(iter(kms.hosts)), "localhost"))
    with daemon, daemon.client() as enclave:
        statuses = []
        for _ in range(6):
            statuses.append(enclave.ask(here).status)
            kms.fault("unrecognized_client")
            statuses.append(enclave.ask(off).status)
        assert statuses == [200, 503] * 6
        assert [r["ENDPOINT"] for r in said(daemon, REJECTS)] == ["off"]
        assert not said(daemon, ACCEPTS)
        assert enclave.ask(off).status == 200
        daemon.wait_log(ACCEPTS)
        assert [r["ENDPOINT"] for r in said(daemon, ACCEPTS)] == ["off"]


def test_what_comes_for_a_client_that_has_gone_counts_too(daemon, kms):
    def ask_and_go():
        kms.fault("delay", seconds=0.5)
        before = len(kms.requests)
        with daemon.client() as gone:
            gone.send(DESCRIBE)
            kms.wait_for_requests(before + 1)
        daemon.record(REASON="client-gone", count=before + 1)

    with daemon:
        kms.fault("expired_token")
        ask_and_go()
        daemon.wait_log(REJECTS)
        ask_and_go()
        daemon.wait_log(ACCEPTS)
        assert len(kms.requests) == 2       # nobody waits for what others would bring


def test_a_reload_forgets_nothing(daemon, kms):
    with daemon, daemon.client() as enclave:
        fault = kms.fault("invalid_signature", count=None)
        assert rejected(enclave) < AT_ONCE      # others would not help
        daemon.config["endpoints"]["kms"]["reply_timeout"] = "7s"
        daemon.reload()
        with daemon.client() as another:
            rejected(another)
            kms.clear(fault.number)
            assert another.ask(DESCRIBE).status == 200
        daemon.wait_log(ACCEPTS)
        assert (len(said(daemon, REJECTS)), len(said(daemon, ACCEPTS))) == (1, 1)


def test_a_kms_that_wavers_fills_no_journal(daemon, kms):
    with daemon, daemon.client() as enclave:
        for _ in range(30):
            kms.fault("invalid_signature")
            rejected(enclave)
            assert enclave.ask(DESCRIBE).status == 200
        daemon.record(REASON="bad-credentials", count=20)      # the flood limit's burst
        wait_for(lambda: len(said(daemon, ACCEPTS)) == len(said(daemon, REJECTS)))
        assert 1 <= len(said(daemon, REJECTS)) <= 5


def test_the_status_line_says_so(daemon, kms, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        daemon.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}

        def await_status(wanted):
            def look():
                lines = notify.recv(4096).decode().splitlines()     # the watchdog's come all the time
                return any(line.startswith("STATUS=Serving") and wanted(line) for line in lines)
            wait_for(look)

        with daemon, daemon.client() as enclave:
            await_status(lambda s: "; credentials valid until" in s)
            fault = kms.fault("invalid_signature", count=None)
            rejected(enclave)
            await_status(lambda s: "; endpoint kms rejects the credentials; credentials valid until" in s)
            kms.clear(fault.number)
            assert enclave.ask(DESCRIBE).status == 200
            await_status(lambda s: "rejects" not in s and "; credentials valid until" in s)


def test_a_clock_that_was_wrong_is_no_rejection(daemon, kms):
    """Nor where nothing can be signed again, since the client has gone."""
    kms.clock_offset = 3600
    with daemon:
        kms.fault("delay", seconds=0.8)
        client = daemon.client()
        client.send(DESCRIBE)
        kms.wait_for_requests(1)
        client.close()
        daemon.record(REASON="client-gone", KMS_STATUS=400)
        with daemon.client() as other:
            assert other.ask(DESCRIBE).status == 200
    assert not said(daemon, "rejects the credentials")


def test_an_error_of_the_request_s_own_shows_that_they_are_accepted(daemon, kms):
    with daemon, daemon.client() as client:
        kms.fault("invalid_signature")
        assert client.ask(DESCRIBE).status == 503
        wait_for(lambda: said(daemon, "rejects the credentials"))
        answer = client.ask(request("DescribeKey", {"KeyId": "alias/none"}))
        assert (answer.status, answer.error) == (400, "NotFoundException")
        wait_for(lambda: said(daemon, "accepts the credentials again"))


def test_a_second_try_that_sends_nothing_keeps_what_kms_said(daemon, kms, imds):
    """The new token is longer, and the memory for it is in use."""
    daemon.config.update(memory="4MiB", workers=1)
    with daemon:
        holders = []
        for size in [500 << 10] * 8 + [29000]:
            holders.append(daemon.client())
            holders[-1].send(request("Encrypt", body=b"x" * size)[:-1])
            wait_taken(holders[-1])
        imds.rotate(token_length=15000, revoke_old=True)
        with daemon.client() as client:
            answer = client.ask(DESCRIBE)
            assert (answer.status, answer.error) == (400, "ThrottlingException")
        record = daemon.record(KMS_ACTION="DescribeKey")
        assert (record["KMS_STATUS"], record["REASON"]) == ("400", "memory")
        assert "AWS_REQUEST_ID" in record
        for holder in holders:
            holder.close()
