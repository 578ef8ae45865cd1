# SPDX-License-Identifier: Apache-2.0
"""TLS of the local KMS, good and bad, and that each fault does what it says."""

import base64
import gzip
import json
import socket
import ssl
import time
from email.utils import parsedate_to_datetime

import pytest

from kms.client import tls_context
from server.reply_faults import CHUNKED
from standins import LocalKms, VARIANTS
from standins_help import (
    ARN, boto, ca_file, call, connect, enclave, HOST, KEY, kms, OTHER_KEY, RECIPIENT_CALLS,
    recipient_params, shared_kms, signed, without_token)

# TLS.

@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_versions_and_resumption(version):
    with LocalKms(tls=version) as kms:
        context = tls_context(kms.ca_pem())
        with connect(kms, context=context) as client:
            assert client.ask(signed(kms, "ListKeys")).status == 200
            assert client.sock.version() == f"TLSv{version}"
            session = client.sock.session
        assert kms.resumptions == 0
        raw = socket.create_connection(("127.0.0.1", kms.port), timeout=10)
        with context.wrap_socket(raw, server_hostname=HOST, session=session) as again:
            again.sendall(signed(kms, "ListKeys"))
            assert again.recv(15) == b"HTTP/1.1 200 OK"
            assert again.session_reused
        assert kms.resumptions == 1 and len(kms.connections) == 2
        assert (kms.connections[-1].sni, kms.connections[-1].tls) == (HOST, f"TLSv{version}")


def test_tls_1_1_is_refused(kms):
    context = tls_context(kms.ca_pem())
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        connect(kms, context=context)
    kms.wait(lambda: kms.connections[-1].error)


@pytest.mark.parametrize("variant,reason", [
    ("wrong-name", "Hostname mismatch"), ("expired", "has expired"),
    ("not-yet-valid", "not yet valid"), ("self-signed", "self.signed certificate"),
    ("other-ca", "certificate verify failed"), ("not-a-server", "unsuitable certificate purpose"),
    ("name-in-subject", "Hostname mismatch"), ("name-in-subject-address", "Hostname mismatch")])
def test_wrong_certificates(kms, variant, reason):
    kms.fault("certificate", variant=variant)
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        connect(kms)
    assert call(kms, "ListKeys").status == 200


def test_every_certificate_variant_is_tested():
    tested = {m.args[1][i][0] for m in test_wrong_certificates.pytestmark
              for i in range(len(m.args[1]))}
    assert tested | {"good"} == set(VARIANTS)


def test_fault_tls_version(kms):
    kms.fault("tls_version", version="1.1")
    with pytest.raises(ssl.SSLError):
        connect(kms)


# Faults. What is seen on the wire is read with a raw client.

def raw_answer(kms, data=None):
    """All the bytes of an answer to a request that says close."""
    with connect(kms, timeout=5) as client:
        client.send(data or signed(kms, "DescribeKey", {"KeyId": KEY},
                                   headers=[("Connection", "close")]))
        received = b""
        while chunk := client.sock.recv(65536):
            received += chunk
        return received


def split(received):
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def test_a_fault_is_for_so_many_requests_that_match(kms):
    kms.fault("throttle", count=2, action="DescribeKey")
    kms.fault("internal", count=None, body_contains=OTHER_KEY)
    with connect(kms) as client:
        def ask(action, key):
            return client.ask(signed(kms, action, {"KeyId": key})).status
        assert [ask("GetKeyPolicy", KEY), ask("DescribeKey", KEY), ask("DescribeKey", KEY),
                ask("DescribeKey", KEY)] == [200, 400, 400, 200]
        assert [ask("DescribeKey", OTHER_KEY) for _ in range(3)] == [500] * 3
        kms.clear()
        assert ask("DescribeKey", OTHER_KEY) == 200
    assert kms.requests[-2].faults == ["internal"]


def test_unknown_faults_are_errors(kms):
    for wrong in ({"kind": "throtle"}, {"kind": "throttle", "seconds": 1}, {"kind": "delay"},
                  {"kind": "reset_before_read", "action": "Decrypt"}):
        with pytest.raises(ValueError):
            kms.fault(**wrong)
    assert call(kms, "ListKeys").status == 200


@pytest.mark.parametrize("kind,error,status", [
    ("throttle", "ThrottlingException", 400), ("expired_token", "ExpiredTokenException", 400),
    ("unrecognized_client", "UnrecognizedClientException", 400),
    ("internal", "KMSInternalException", 500),
    ("invalid_signature", "InvalidSignatureException", 400),
    ("access_denied", "AccessDeniedException", 400)])
def test_error_faults_come_after_the_signature(kms, kind, error, status):
    kms.fault(kind, count=1)
    wrong = call(kms, "DescribeKey", {"KeyId": KEY}, **without_token(kms))
    assert wrong.error == "UnrecognizedClientException"
    assert wrong.json["message"].endswith("is invalid.")
    answer = call(kms, "DescribeKey", {"KeyId": KEY})
    assert (answer.error, answer.status) == (error, status)
    assert kms.requests[-1].verdict == error
    assert ("Message" in answer.json) == (kind == "access_denied")
    if kind == "invalid_signature":
        assert kms.credentials.current.token in answer.json["message"]


def test_error_fault_of_any_type(kms):
    kms.fault("error", error_type="KeyUnavailableException", message="m", status=503)
    answer = call(kms, "ListKeys")
    assert (answer.status, answer.json) == (503,
                                            {"__type": "KeyUnavailableException", "message": "m"})


@pytest.mark.parametrize("variant,text", [
    ("real", '"Plaintext":"c2VjcmV0"'), ("null", '"Plaintext":null'), ("empty", '"Plaintext":""'),
    ("number", '"Plaintext":1'), ("object", '"Plaintext":{"a":"c2VjcmV0"}'),
    ("null-then-real", '"Plaintext":null,"Plaintext":"c2VjcmV0"'),
    ("real-then-null", '"Plaintext":"c2VjcmV0","Plaintext":null'),
    ("escaped-name", '"\\u0050laintext":"c2VjcmV0"'),
    ("nested", '"Extra":{"Plaintext":"c2VjcmV0"}'),
    ("other-case", '"plaintext":"c2VjcmV0"')])
def test_leaks(kms, enclave, variant, text):
    params = {**recipient_params(kms, "Decrypt"), "Recipient": enclave.recipient()}
    kms.fault("leak", variant=variant)
    answer = call(kms, "Decrypt", params)
    assert answer.status == 200 and text in answer.body.decode()
    assert enclave.open(answer.json) == b"secret"
    assert "Plaintext" not in call(kms, "Decrypt", params).json


@pytest.mark.parametrize("action,member", RECIPIENT_CALLS)
def test_leak_of_each_action(kms, enclave, action, member):
    kms.fault("leak", keep_ciphertext=False)
    answer = call(kms, action, {**recipient_params(kms, action), "Recipient": enclave.recipient()})
    assert answer.json[member] and "CiphertextForRecipient" not in answer.json


@pytest.mark.parametrize("variant", ["missing", "null", "empty"])
def test_no_ciphertext_for_recipient(kms, enclave, variant):
    kms.fault("no_ciphertext_for_recipient", variant=variant)
    answer = call(kms, "GenerateRandom", {"NumberOfBytes": 8,
                                          "Recipient": enclave.recipient()}).json
    assert answer == {"missing": {}, "null": {"CiphertextForRecipient": None},
                      "empty": {"CiphertextForRecipient": ""}}[variant]


def test_bodies_that_are_no_plain_answer(kms):
    kms.fault("not_json")
    assert call(kms, "ListKeys").body == b"<html>It works</html>"
    kms.fault("duplicate_member", member="Truncated", value=True)
    assert call(kms, "ListKeys").body.count(b'"Truncated"') == 2
    kms.fault("extra_member")
    assert call(kms, "ListKeys").json["Extra"] == "e"
    kms.fault("body", text="caf\xe9")
    assert call(kms, "ListKeys").body == b"caf\xe9"
    kms.fault("huge_body", size=3 << 20)
    answer = call(kms, "ListKeys")
    assert len(answer.body) == 3 << 20 and answer.json
    kms.fault("gzip")
    answer = call(kms, "ListKeys")
    assert answer.header("Content-Encoding") == "gzip" and json.loads(gzip.decompress(answer.body))
    kms.fault("status", status=503, body="busy")
    assert (call(kms, "ListKeys").status, kms.requests[-1].status) == (503, 503)
    kms.fault("redirect", location="https://example.com/")
    answer = call(kms, "ListKeys")
    assert (answer.status, answer.header("Location")) == (307, "https://example.com/")


# Fault, its parameters, what the head then has, what it then hasn't.
HEADS = [
    ("set_cookie", {}, b"\r\nSet-Cookie: session=1", b"nothing"),
    ("huge_header", {"size": 20000}, b"\r\nX-Huge-0: " + b"h" * 20000, b"nothing"),
    ("bad_header", {}, b"\r\nX-Bad: a\0b", b"nothing"),
    ("bad_header", {"line": " folded"}, b"\r\n folded", b"nothing"),
    ("header", {"name": "X-A", "value": "b\rc"}, b"\r\nX-A: b\rc", b"nothing"),
    ("drop_header", {"name": "Date"}, b"HTTP/1.1 200 OK", b"\r\nDate:"),
    ("drop_header", {"name": "Content-Type"}, b"HTTP/1.1 200 OK", b"Content-Type"),
    ("drop_header", {"name": "Content-Length"}, b"HTTP/1.1 200 OK", b"Content-Length"),
    ("close_delimited", {}, b"HTTP/1.1 200 OK", b"Content-Length"),
    ("date", {"text": "yesterday"}, b"\r\nDate: yesterday", b"GMT"),
    ("http_1_0", {}, b"HTTP/1.0 200 OK", b"HTTP/1.1"),
    ("status_line", {"text": "HTTP/1.1 200"}, b"HTTP/1.1 200\r\n", b"OK"),
    ("connection_close", {}, b"\r\nConnection: close", b"nothing"),
    ("informational", {"times": 2}, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102", b"nothing"),
    ("content_length", {"value": "abc"}, b"\r\nContent-Length: abc", b"nothing"),
    ("content_length", {"twice": True}, b"\r\nContent-Length: ", b"nothing"),
]


@pytest.mark.parametrize("kind,params,has,lacks", HEADS)
def test_heads(kms, kind, params, has, lacks):
    kms.fault(kind, **params)
    received = raw_answer(kms)
    head, _ = split(received)
    assert has in (received if kind == "informational" else head + b"\r\n")
    assert lacks not in head
    if params.get("twice"):
        assert head.count(b"Content-Length") == 2
    assert received.endswith(b"}")


def test_date_offset(kms):
    kms.fault("date", offset=-7200)
    answer = call(kms, "ListKeys")
    date = parsedate_to_datetime(answer.header("Date")).timestamp()
    assert -7210 < date - time.time() < -7190


@pytest.mark.parametrize("add", [5, -5])
def test_wrong_content_length(kms, add):
    kms.fault("content_length", add=add)
    head, body = split(raw_answer(kms))
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    assert int(length.split()[1]) == len(body) + add


def test_trailing_bytes(kms):
    kms.fault("trailing")
    assert raw_answer(kms).endswith(b"}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def test_late_bytes_come_after_the_answer(kms):
    kms.fault("trailing", text="late", after=0.2)
    with connect(kms) as client:
        assert client.ask(signed(kms, "ListKeys")).status == 200
        begin = time.monotonic()
        assert client.sock.recv(100) == b"late" and time.monotonic() - begin > 0.1


def test_raw_bytes(kms):
    kms.fault("raw", text="\0\xff SSH-2.0")
    assert raw_answer(kms) == b"\0\xff SSH-2.0"


@pytest.mark.parametrize("variant", ["good", "one-byte", "upper-hex", "leading-zeros", "extension",
                                     "trailer"])
def test_chunked_well_formed(kms, boto, variant):
    # botocore is the judge of what is well formed.
    kms.fault("chunked", variant=variant)
    assert boto.describe_key(KeyId=KEY)["KeyMetadata"]["Arn"] == ARN
    kms.fault("chunked", variant=variant)
    head, body = split(raw_answer(kms))
    assert b"Transfer-Encoding: chunked" in head and b"Content-Length" not in head
    assert body.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("variant", sorted(set(CHUNKED) - {
    "good", "one-byte", "upper-hex", "leading-zeros", "extension", "trailer"}))
def test_chunked_garbage(kms, variant):
    kms.fault("chunked", variant=variant)
    head, body = split(raw_answer(kms))
    assert b"Transfer-Encoding: chunked" in head
    well_formed = b"%x\r\n" % (body.find(b"}}") + 2 - body.find(b"{"))
    assert not (body.startswith(well_formed) and body.endswith(b"}}\r\n0\r\n\r\n"))


def test_chunked_with_a_length_and_other_codings(kms):
    kms.fault("chunked", with_length=True)
    assert b"Content-Length" in split(raw_answer(kms))[0]
    kms.fault("chunked", coding="gzip, chunked")
    assert b"Transfer-Encoding: gzip, chunked" in split(raw_answer(kms))[0]


def test_delay_and_its_end_by_clearing(kms):
    kms.fault("delay", seconds=0.3)
    begin = time.monotonic()
    assert call(kms, "ListKeys").status == 200
    assert time.monotonic() - begin >= 0.3
    kms.forget_requests()
    kms.fault("hang")
    with connect(kms) as client:
        client.send(signed(kms, "ListKeys"))
        waiting = kms.wait_for_requests(1)[0]
        assert waiting.status is None
        kms.clear()
        assert client.read().status == waiting.status == 200


def test_a_client_that_leaves_is_noticed(kms):
    kms.forget_requests()
    kms.fault("hang", count=None)
    client = connect(kms)
    client.send(signed(kms, "ListKeys"))
    kms.wait_for_requests(1)
    client.close()
    kms.wait(lambda: kms.connections[-1].closed)
    assert kms.requests[-1].status is None


@pytest.mark.parametrize("after", [1, 20, "head", "body"])
def test_stall(kms, after):
    kms.fault("stall", after=after)
    with connect(kms) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        received = client.sock.recv(65536)      # what was sent before the stall is one TLS record
        client.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sock.recv(65536)
        if isinstance(after, int):
            assert len(received) == after
        assert (b"\r\n\r\n" in received) == (after == "body")
        assert received and not received.endswith(b"}}")
        kms.clear()
        client.sock.settimeout(10)
        while not received.endswith(b"}}"):
            received += client.sock.recv(65536)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_drip(kms):
    kms.fault("drip", piece=10, interval=0)
    with connect(kms) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        pieces = [client.sock.recv(65536)]
        while not pieces[-1].endswith(b"}}"):
            pieces.append(client.sock.recv(65536))
    # TLS gives one record at a time: each piece is seen.
    assert len(pieces) > 40 and {len(p) for p in pieces[:-1]} == {10}


@pytest.mark.parametrize("kind,how", [
    ("reset", {}), ("reset", {"after": 7}), ("reset", {"after": "head"}),
    ("reset", {"after": "body"}),
    ("reset_before_read", {})])
def test_resets(kms, kind, how):
    kms.forget_requests()
    kms.fault(kind, **how)
    with connect(kms) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        # Below TLS: Python's ssl takes a reset for an end of file.
        with pytest.raises(ConnectionResetError):
            while socket.socket.recv(client.sock, 65536):
                pass
    statuses = [] if kind == "reset_before_read" else [200 if how else None]
    assert [r.status for r in kms.requests] == statuses


@pytest.mark.parametrize("kind,how,count", [
    ("close", {}, 0), ("close", {"after": 7}, 7), ("close", {"after": "body"}, None),
    ("close_before_read", {}, 0)])
def test_closes(kms, kind, how, count):
    kms.fault(kind, **how)
    with connect(kms) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        received = b""
        while chunk := client.sock.recv(65536):
            received += chunk
    if count is not None:
        assert len(received) == count
    assert not received.endswith(b"}}")


@pytest.mark.parametrize("notify", [True, False])
def test_close_with_and_without_close_notify(kms, notify):
    kms.fault("close", after=30, notify=notify)
    raw = socket.create_connection(("127.0.0.1", kms.port), timeout=10)
    context = tls_context(kms.ca_pem())
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    with context.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False) as client:
        client.sendall(signed(kms, "ListKeys"))
        assert len(client.recv(1000)) == 30
        if notify:
            assert client.recv(1000) == b""
        else:
            with pytest.raises(ssl.SSLError, match="UNEXPECTED_EOF"):
                client.recv(1000)


@pytest.mark.parametrize("kind", ["reset_at_accept", "close_at_accept"])
def test_ends_before_tls(kms, kind):
    kms.fault(kind)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        connect(kms)
    assert call(kms, "ListKeys").status == 200


def test_hang_before_tls(kms):
    kms.fault("hang_at_accept")
    with pytest.raises(TimeoutError):
        connect(kms, timeout=0.3)
    kms.wait(lambda: kms.connections[-1].closed)
    assert call(kms, "ListKeys").status == 200


def test_close_silently_kills_the_next_request(kms):
    kms.fault("close_silently")
    with connect(kms) as client:
        answer = client.ask(signed(kms, "ListKeys"))
        assert answer.status == 200 and answer.header("Connection") is None
        assert client.at_end()


def test_close_silently_after_a_while(kms):
    kms.fault("close_silently", after=0.2)
    with connect(kms) as client:
        assert client.ask(signed(kms, "ListKeys")).status == 200
        begin = time.monotonic()
        assert client.at_end() and time.monotonic() - begin > 0.1


def test_stop_refuses_and_start_takes_the_same_port():
    with LocalKms() as kms:
        port, client = kms.port, connect(kms)
        kms.stop()
        assert client.at_end()
        with pytest.raises(ConnectionRefusedError):
            connect(kms)
        kms.start()
        assert kms.port == port and call(kms, "ListKeys").status == 200


def test_keep_alive_pipelining_and_split_requests(kms):
    kms.forget_requests()
    before = len(kms.connections)
    with connect(kms) as client:
        data = signed(kms, "DescribeKey", {"KeyId": KEY})
        client.send(data * 3)
        assert [client.read().status for _ in range(3)] == [200] * 3
        for i in range(0, len(data), 100):
            client.send(data[i:i + 100])
        assert client.read().status == 200
        client.send(data.replace(b"\r\n", b"\r\nExpect: 100-continue\r\n", 1))
        assert client.read().status == 200
    assert len(kms.requests) == 5 and len(kms.connections) == before + 1
    assert {r.connection.number for r in kms.requests} == {before + 1}


def test_what_a_record_holds(kms):
    call(kms, "DescribeKey", {"KeyId": KEY})
    record = kms.requests[-1].as_dict()
    assert base64.b64decode(record["body"]) == json.dumps({"KeyId": KEY}).encode()
    assert record["json"] == {"KeyId": KEY} and record["action"] == "DescribeKey"
    assert (record["verdict"], record["status"], record["sni"]) == ("ok", 200, HOST)
    assert ["Host", HOST] in record["headers"] and record["tls"] in ("TLSv1.2", "TLSv1.3")
    assert abs(record["time"] - time.time()) < 60
    json.dumps(record)
