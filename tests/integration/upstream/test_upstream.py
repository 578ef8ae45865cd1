# SPDX-License-Identifier: Apache-2.0
"""The way to KMS and back: what goes wrong there, and that it harms nobody else."""

import base64
import socket
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from daemon import ROOT
from daemon.help import add_enclave, allow, stopped, wait_taken
from kms.client import request
from standins import VARIANTS

KEY = "alias/payments"
DESCRIBE = request("DescribeKey", {"KeyId": KEY})
CREATE = request("CreateKey", {})


BAD_ANSWERS = [
    ("bad_header", {}), ("chunked", {"variant": "bad-size"}), ("chunked", {"variant": "negative"}),
    ("chunked", {"variant": "huge-size"}), ("chunked", {"variant": "lf-only"}),
    ("chunked", {"variant": "trailer"}), ("chunked", {"with_length": True}),
    ("close_delimited", {}), ("content_length", {"twice": True}), ("content_length", {"value": "+5"}),
    ("gzip", {}), ("huge_body", {"size": 2 << 20}), ("huge_header", {}),
    ("informational", {"times": 20}), ("redirect", {"location": "http://169.254.169.254/"}),
    ("status_line", {"text": "HTTP/2.0 200 OK"}), ("raw", {"text": "hello\r\n\r\n"}),
]


@pytest.mark.parametrize("kind, how", BAD_ANSWERS, ids=[f"{k}-{'-'.join(map(str, h.values()))[:20]}".strip("-") for k, h in BAD_ANSWERS])
def test_an_answer_that_is_not_strict_http_is_not_relayed(daemon, kms, kind, how):
    with daemon, daemon.client() as enclave:
        kms.fault(kind, **how)
        answer = enclave.ask(DESCRIBE)
        assert answer.status == 502, answer
        assert answer.error == "KMSInternalException"
        assert daemon.record(REASON="upstream-malformed")["VERDICT"] == "allow"
        assert enclave.ask(DESCRIBE).status == 200  # on the same connection, and a fresh one to KMS


@pytest.mark.parametrize("variant", ["good", "one-byte", "upper-hex"])
def test_a_chunked_answer_arrives_whole(daemon, kms, variant):
    with daemon, daemon.client() as enclave:
        plain = enclave.ask(DESCRIBE)
        kms.fault("chunked", variant=variant)
        answer = enclave.ask(DESCRIBE)
        assert answer.status == 200
        assert answer.json == plain.json
        assert answer.header("Content-Length") == str(len(answer.body))


def test_http_1_0_with_a_length_is_read_and_its_connection_not_used_again(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.fault("http_1_0", keep_alive=True)
        assert enclave.ask(DESCRIBE).status == 200
        assert enclave.ask(DESCRIBE).status == 200
        assert len({r.connection for r in kms.requests}) == 2


def test_headers_that_are_not_listed_stay_behind(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.fault("set_cookie")
        answer = enclave.ask(DESCRIBE)
        assert answer.status == 200
        assert {n.lower() for n, _ in answer.headers} <= {
            "content-type", "x-amzn-requestid", "date", "cache-control", "pragma", "expires",
            "retry-after", "content-length"}


@pytest.mark.parametrize("kind, how", [
    ("reset_before_read", {}), ("close_before_read", {}), ("reset", {"after": 0}), ("close", {"after": 0})])
def test_a_request_that_died_unanswered_is_sent_once_more(daemon, kms, kind, how):
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        kms.fault(kind, **how)
        assert enclave.ask(DESCRIBE).status == 200
        assert len(daemon.records(REASON="allowed")) <= 2


def test_it_is_sent_once_more_and_not_twice(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.fault("close_before_read", count=None)
        answer = enclave.ask(DESCRIBE)
        assert answer.status == 503
        daemon.record(REASON="upstream-lost")
        kms.clear()
        assert enclave.ask(DESCRIBE).status == 200


def test_what_is_not_safe_to_repeat_is_not_repeated(daemon, kms):
    allow(daemon, "CreateKey")
    with daemon, daemon.client() as enclave:
        assert enclave.ask(CREATE).status == 200
        kms.fault("reset", after=0, action="CreateKey")
        assert enclave.ask(CREATE).status == 503
        assert len([r for r in kms.requests if r.action == "CreateKey"]) == 2


def test_an_answer_cut_off_in_the_middle_is_not_repeated(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.fault("close", after=40)
        assert enclave.ask(DESCRIBE).status == 503
        assert daemon.record(REASON="upstream-lost")["HTTP_STATUS"] == "503"


def test_bytes_behind_an_answer_end_the_connection_and_reach_nobody(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.fault("trailing")
        first = enclave.ask(DESCRIBE)
        second = enclave.ask(DESCRIBE)
        assert (first.status, second.status) == (200, 200)
        assert second.json["KeyMetadata"]
        assert len({r.connection for r in kms.requests}) == 2


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


def test_a_connection_that_closed_silently_costs_nothing(daemon, kms):
    allow(daemon, "CreateKey")
    with daemon, daemon.client() as enclave:
        kms.fault("close_silently")
        assert enclave.ask(DESCRIBE).status == 200
        kms.wait_closed()
        assert enclave.ask(CREATE).status == 200


def test_a_client_that_wants_to_close_closes_nothing_upstream(daemon, kms):
    wish = request("DescribeKey", {"KeyId": KEY}, headers=[("Connection", "close")])
    daemon.config["workers"] = 1        # each has connections of its own
    with daemon:
        for _ in range(20):
            with daemon.client() as enclave:
                answer = enclave.ask(wish)
                assert answer.status == 200
                assert answer.header("Connection") == "close"
        assert len({r.connection for r in kms.requests}) == 1


def test_a_stall_delays_only_who_waits_for_it(daemon, kms):
    daemon.config["endpoints"]["kms"]["reply_timeout"] = "2s"
    other = add_enclave(daemon)
    with daemon, daemon.client() as slow, daemon.client(other) as quick:
        assert quick.ask(DESCRIBE).status == 200
        kms.fault("stall", after="head")
        start = time.monotonic()
        slow.send(DESCRIBE)
        kms.wait_for_requests(2)
        for _ in range(20):
            assert quick.ask(DESCRIBE).status == 200
        assert time.monotonic() - start < 1.9
        answer = slow.read()
        assert answer.status == 504
        assert 1.9 < time.monotonic() - start < 8
        daemon.record(REASON="upstream-timeout")
        assert slow.ask(DESCRIBE).status == 200


def test_a_host_that_refuses_is_said_at_once_and_recovers(daemon, kms):
    with daemon, daemon.client() as enclave:
        kms.stop()
        for _ in range(3):
            answer = enclave.ask(DESCRIBE)
            assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        daemon.record(REASON="no-upstream", count=3)
        assert len([r for r in daemon.records() if "can't connect" in r["MESSAGE"]]) == 1
        kms.start()
        deadline = time.monotonic() + 10
        while enclave.ask(DESCRIBE).status != 200:
            assert time.monotonic() < deadline
        daemon.wait_log("connected again")


def test_a_host_that_never_speaks_tls_ends_in_its_timeout(daemon, kms):
    daemon.config["endpoints"]["kms"]["connect_timeout"] = "1s"
    kms.fault("hang_at_accept", count=None)
    with daemon, daemon.client() as enclave:
        start = time.monotonic()
        answer = enclave.ask(DESCRIBE)
        assert answer.status == 503
        assert 0.9 < time.monotonic() - start < 6
        kms.clear()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "good"])
def test_a_certificate_that_does_not_verify_is_refused(daemon, kms, variant):
    kms.fault("certificate", variant=variant, count=None)
    with daemon, daemon.client() as enclave:
        answer = enclave.ask(DESCRIBE)
        assert answer.status == 503
        assert not kms.requests
        daemon.wait_log("can't connect to .*(certificate|SSL|subject)")


AMAZON_ROOTS = ROOT / "config" / "examples" / "amazon-roots"


def amazon_roots(*arguments):
    found = subprocess.run([AMAZON_ROOTS, *arguments], capture_output=True, check=False)
    return found.returncode, found.stdout, found.stderr.decode()


def test_a_ca_file_of_amazons_roots(daemon, kms):
    """It is made out of the system's, the daemon reads it, and trusts no other CA then."""
    status, pem, said = amazon_roots()
    assert (status, said) == (0, "")
    certificates = [x509.load_pem_x509_certificate(b"-----BEGIN" + one) for one in pem.split(b"-----BEGIN")[1:]]
    assert sorted(c.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value for c in certificates) == [
        *(f"Amazon Root CA {i}" for i in range(1, 5)), "Starfield Services Root Certificate Authority - G2"]
    roots = daemon.folder / "amazon-roots.pem"
    roots.write_bytes(pem)
    daemon.config["endpoints"]["kms"]["ca_file"] = str(roots)
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 503
        daemon.wait_log("can't connect to .*(unable to get local issuer|self-signed) certificate")
        # The local CA beside them: that all of the file is read.
        roots.write_bytes(pem + kms.ca_pem())
        daemon.reload()
        assert enclave.ask(DESCRIBE).status == 200


def test_no_ca_file_with_some_of_amazons_roots(tmp_path):
    """One is missing, or all; none is printed then."""
    _, pem, _ = amazon_roots()
    some = tmp_path / "some.pem"
    some.write_bytes(pem.rpartition(b"-----BEGIN")[0])
    assert amazon_roots(some) == (1, b"", f"amazon-roots: {some} has no Starfield Services Root CA - G2\n")
    some.write_bytes(b"")
    assert amazon_roots(some) == (1, b"", f"amazon-roots: {some} has no Amazon Root CA 1\n")
    status, printed, said = amazon_roots(tmp_path / "none.pem")
    assert status != 0 and not printed and "none.pem" in said


def test_old_tls_is_refused(daemon, kms):
    kms.fault("tls_version", version="1.1", count=None)
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 503
    assert not kms.requests


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_next_connection_resumes_the_session(daemon, kms, version):
    kms.fault("tls_version", version=version, count=None)
    kms.fault("connection_close")
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        assert enclave.ask(DESCRIBE).status == 200
        assert len({r.connection for r in kms.requests}) == 2
        assert kms.resumptions == 1


def test_a_name_that_leads_to_loopback_is_not_followed(daemon, kms):
    endpoint = daemon.config["endpoints"]["kms"]
    del endpoint["connect_to"]
    endpoint.update(host="localhost", port=kms.port)
    with daemon, daemon.client() as enclave:
        answer = enclave.ask(DESCRIBE)
        assert answer.status == 503
        daemon.wait_log("loopback, link-local or metadata")
    assert not kms.connections


def test_a_name_that_is_not_found_is_said(daemon):
    endpoint = daemon.config["endpoints"]["kms"]
    del endpoint["connect_to"]
    endpoint["host"] = "kms.no-such-region.invalid"
    with daemon, daemon.client() as enclave:
        answer = enclave.ask(request("DescribeKey", {"KeyId": KEY}))
        assert answer.status == 503
        daemon.wait_log(r"endpoint kms: can't connect to kms.no-such-region.invalid port 443: ")


@pytest.mark.parametrize("connections, hogging", [(4, 1), (8, 2)])
def test_enclaves_can_not_hold_all_connections(daemon, kms, connections, hogging):
    """Neither one nor several together: the last is for one that holds none."""
    daemon.config["endpoints"]["kms"].update(connections=connections, reply_timeout="20s")
    daemon.config["workers"] = 1        # each has connections of its own
    others = [add_enclave(daemon, name) for name in ("quick", "second")[:hogging]]
    with daemon:
        kms.fault("hang", count=None, body_contains="hog")
        hogs = [daemon.client(name) for name in ("payments", *others[1:]) for _ in range(10)]
        for hog in hogs:
            hog.send(request("DescribeKey", {"KeyId": "alias/hog"}))
        kms.wait_for_requests(connections - 1)
        with daemon.client("quick") as quick:
            assert quick.ask(DESCRIBE).status == 200
        assert len([r for r in kms.requests if b"hog" in r.body]) == connections - 1
        kms.clear()
        for hog in hogs:
            assert hog.read().status == 400
            hog.close()


def test_with_fewer_connections_than_enclaves_each_gets_one_in_turn(daemon, kms):
    daemon.config["endpoints"]["kms"].update(connections=1, queue_timeout="20s")
    daemon.config["workers"] = 1        # each has connections of its own
    names = ["payments", add_enclave(daemon, "second"), add_enclave(daemon, "third")]
    with daemon:
        hung = kms.fault("hang", count=1)
        clients = [(name, daemon.client(name)) for name in names for _ in range(3)]
        clients[0][1].send(request("DescribeKey", {"KeyId": "alias/payments-0"}))
        kms.wait(lambda: hung.hits)
        for name, client in clients[1:]:
            client.send(request("DescribeKey", {"KeyId": f"alias/{name}"}))
        for _, client in clients[1:]:
            wait_taken(client)
        kms.clear()
        for _, client in clients:
            assert client.read().status in (200, 400)
            client.close()
        asked = [r.json["KeyId"][6:].partition("-")[0] for r in kms.requests]
        assert all(set(asked[i:i + 3]) == set(names) for i in (0, 3, 6)), asked
        assert len({r.connection for r in kms.requests}) == 1


def test_who_waits_too_long_for_a_connection_is_told(daemon, kms):
    daemon.config["endpoints"]["kms"].update(connections=1, queue_timeout="500ms", reply_timeout="20s")
    daemon.config["workers"] = 1        # each has connections of its own
    with daemon, daemon.client() as first, daemon.client() as second:
        kms.fault("hang", count=1)
        first.send(DESCRIBE)
        kms.wait_for_requests(1)
        answer = second.ask(DESCRIBE)
        assert answer.status == 503
        daemon.record(REASON="queue-timeout")
        kms.clear()
        assert first.read().status == 200


def test_a_client_that_vanishes_leaves_its_connection_to_the_next(daemon, kms):
    daemon.config["workers"] = 1        # each has connections of its own
    with daemon:
        kms.fault("hang", count=1)
        enclave = daemon.client()
        enclave.send(DESCRIBE)
        kms.wait_for_requests(1)
        enclave.close()
        kms.clear()
        daemon.record(REASON="client-gone")
        with daemon.client() as second:
            assert second.ask(DESCRIBE).status == 200
        assert len({r.connection for r in kms.requests}) == 1


def test_a_client_that_half_closed_gets_its_answer(daemon):
    with daemon, daemon.client() as enclave:
        enclave.send(DESCRIBE)
        enclave.sock.shutdown(socket.SHUT_WR)
        assert enclave.read().status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_each_of_64_clients_gets_its_own_answer(daemon, kms, workers):
    daemon.config["workers"] = workers
    daemon.config["enclaves"]["payments"]["limits"].update(connections=100, in_flight=100)
    wrong = []

    def run(number):
        with daemon.client() as enclave:
            for turn in range(10):
                plain = f"{number}-{turn}".encode()
                sealed = enclave.ask(request("Encrypt", {"KeyId": KEY, "Plaintext": plain}))
                opened = enclave.ask(request("Decrypt", {"KeyId": KEY, "CiphertextBlob": sealed.json["CiphertextBlob"]}))
                if base64.b64decode(opened.json["Plaintext"]) != plain:
                    wrong.append((number, turn, opened))

    with daemon:
        clients = [threading.Thread(target=run, args=(i,)) for i in range(64)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert not wrong
        daemon.record(REASON="allowed", count=64 * 20)
        assert len({r.connection for r in kms.requests}) <= 64 * workers


def test_hundreds_of_calls_share_one_connection(daemon, kms):
    with daemon, daemon.client() as enclave:
        for _ in range(300):
            assert enclave.ask(DESCRIBE).status == 200
        assert len({r.connection for r in kms.requests}) == 1
