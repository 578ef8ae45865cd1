# SPDX-License-Identifier: Apache-2.0
"""KMS doesn't take our credentials or our signature: its answer may echo what was signed, with the
session token, and goes to no enclave."""

import pytest

from kms_client import request
from proxy_help import DESCRIBE, KEY

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
        if blamed not in (EXPIRED, "UnrecognizedClientException"):
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
