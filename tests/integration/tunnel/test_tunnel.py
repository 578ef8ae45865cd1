# SPDX-License-Identifier: Apache-2.0
"""Enclaves that speak TLS themselves, or ask for CONNECT: what gets through, and what doesn't."""

import hashlib
import json
import os
import pathlib
import random
import ssl
import subprocess
import sys
import threading
import time

import pytest

from daemon import wait_for
from daemon.help import add_enclave, DESCRIBE
from daemon.tunnel_help import (
    NAME, SLOW, Host, allow_tunnel, ask, connect_request, enclave, open_tunnel, running, wait_ended)
from net.tls_echo import TlsEcho
from net.tls_hello import (
    DECODE_ERROR, INTERNAL_ERROR, PROTOCOL_VERSION, UNRECOGNIZED_NAME, client_hello, in_records)
from standins import Bridge

MIB = 1 << 20
AUTHORITY = f"{NAME}:443"
HELLO = client_hello(NAME)


@pytest.fixture
def host(daemon):
    """A host that the enclave's tunnel leads to."""
    with Host() as instance:
        allow_tunnel(daemon, (NAME, instance.address))
        yield instance


def clean_environment(**more):
    return {**{k: v for k, v in os.environ.items()
               if not k.startswith("AWS_") and not k.lower().endswith("_proxy")}, **more}


# Real clients.

def s_client(folder, bridge, echo, *options, data):
    """What openssl s_client sends and gets, all of it; the session's summary without -quiet."""
    (folder / "ca.crt").write_bytes(echo.ca_pem())
    process = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{bridge.port}", "-servername", NAME,
         "-CAfile", folder / "ca.crt", "-verify_return_error", "-verify_hostname", NAME, *options],
        input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60 * SLOW, check=False)
    assert process.returncode == 0, process.stderr.decode()
    return process.stdout


def test_openssl_sends_and_gets_100_mib(daemon, tmp_path):
    data = random.Random(1).randbytes(100 * MIB)
    with TlsEcho([NAME], limit=len(data)) as echo:
        allow_tunnel(daemon, (NAME, echo.address))
        with running(daemon), Bridge(f"unix:{daemon.socket_path()}") as bridge:
            back = s_client(tmp_path, bridge, echo, "-quiet", data=data)
            assert len(back) == len(data)
            assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
            record = wait_ended(daemon)
            assert int(record["BYTES_IN"]) > len(data)
            assert int(record["BYTES_OUT"]) > len(data)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_enclave_that_does_not_take_the_certificate(daemon, version):
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    with TlsEcho([NAME]) as echo:
        allow_tunnel(daemon, (NAME, echo.address))
        with running(daemon):
            with enclave(daemon) as client, pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(client, server_hostname=NAME)
            assert 'the enclave sent the TLS alert "unknown CA" (48)' in wait_ended(daemon)["MESSAGE"]


def test_a_host_that_refuses_the_handshake(daemon):
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA")
    with TlsEcho([NAME]) as echo:
        allow_tunnel(daemon, (NAME, echo.address))
        with running(daemon):
            with enclave(daemon) as client, pytest.raises(ssl.SSLError):
                context.wrap_socket(client, server_hostname=NAME)
            assert 'the host sent the TLS alert "handshake failure" (40)' in wait_ended(daemon)["MESSAGE"]


def test_100_mib_each_way_at_the_same_time_arrive_unaltered(daemon, host):
    up, down = random.Random(2).randbytes(100 * MIB), random.Random(3).randbytes(100 * MIB)
    got = {}

    def read(end, what):
        got[what] = end.rest()

    def write(end, data):
        end.sendall(data)
        end.half_close()

    with running(daemon):
        client, server = open_tunnel(daemon, host)
        work = [threading.Thread(target=t, args=a) for t, a in (
            (read, (server, "up")), (read, (client, "down")), (write, (client, up)), (write, (server, down)))]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert (len(got["up"]), len(got["down"])) == (len(up), len(down))
        assert got["up"] == up and got["down"] == down, "the bytes differ"
        record = wait_ended(daemon)
        assert int(record["BYTES_IN"]) == len(HELLO) + len(up)
        assert int(record["BYTES_OUT"]) == len(down)


def test_a_session_whose_bytes_come_one_by_one(daemon, tmp_path):
    data = random.Random(4).randbytes(2000)
    with TlsEcho([NAME], limit=len(data)) as echo:
        allow_tunnel(daemon, (NAME, echo.address))
        with running(daemon), Bridge(f"unix:{daemon.socket_path()}", piece=1) as bridge:
            assert s_client(tmp_path, bridge, echo, "-quiet", data=data) == data


def test_a_drip_of_single_bytes_both_ways(daemon, host):
    with running(daemon):
        client, server = open_tunnel(daemon, host)
        for value in range(256):
            client.sendall(bytes([value]))
            assert server.receive(1)[0] == value
            server.sendall(bytes([value]))
            assert client.receive(1)[0] == value


@pytest.mark.parametrize("version, option", [("1.2", "-tls1_2"), ("1.3", "-tls1_3")])
def test_tls_versions_and_a_resumed_session(daemon, tmp_path, version, option):
    session = tmp_path / "session"
    with TlsEcho([NAME], version=version, limit=5) as echo:
        allow_tunnel(daemon, (NAME, echo.address))
        with running(daemon), Bridge(f"unix:{daemon.socket_path()}") as bridge:
            first = s_client(tmp_path, bridge, echo, option, "-ign_eof", "-sess_out", session, data=b"hello")
            second = s_client(tmp_path, bridge, echo, option, "-ign_eof", "-sess_in", session, data=b"again")
    assert b"New, TLSv" + version.encode() in first and b"hello" in first
    assert b"Reused, TLSv" + version.encode() in second and b"again" in second
    assert [(s.version, s.name, s.resumed) for s in echo.sessions] == [
        (f"TLSv{version}", NAME, False), (f"TLSv{version}", NAME, True)]


def curl(tmp_path, *options):
    process = subprocess.run(
        ["curl", "-sS", "--max-time", str(30 * SLOW), "--cacert", tmp_path / "ca.pem", "-w", "\n%{http_code} %{http_connect}",
         "--data", "{}", "-H", "Content-Type: application/x-amz-json-1.1", "-H", "X-Amz-Target: TrentService.ListKeys",
         *options, f"https://{NAME}/"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(), check=False)
    body, _, codes = process.stdout.rpartition("\n")
    return process, body, codes


def test_curl_speaks_tls_through_a_bridge(daemon, kms, tmp_path):
    allow_tunnel(daemon, (NAME, kms.address))
    with running(daemon), Bridge(f"unix:{daemon.socket_path()}") as bridge:
        process, body, codes = curl(tmp_path, "--connect-to", f"{NAME}:443:127.0.0.1:{bridge.port}")
        assert (process.returncode, codes) == (0, "400 000"), process
        assert json.loads(body)["__type"] == "MissingAuthenticationTokenException"    # of KMS itself
        assert kms.requests[-1].header("User-Agent").startswith("curl/")


@pytest.mark.parametrize("options", [[], ["--proxy1.0"]], ids=["http-1.1", "http-1.0"])
def test_curl_asks_for_connect(daemon, kms, tmp_path, options):
    allow_tunnel(daemon, (NAME, kms.address))
    with running(daemon), Bridge(f"unix:{daemon.socket_path()}") as bridge:
        process, body, codes = curl(tmp_path, *(options or ["--proxy"]), bridge.url)
        assert (process.returncode, codes) == (0, "400 200"), process
        assert json.loads(body)["__type"] == "MissingAuthenticationTokenException"
        assert daemon.record(HTTP_STATUS=200)["ENDPOINT"] == AUTHORITY


def test_curl_is_told_that_a_host_is_not_allowed(daemon, kms, tmp_path):
    allow_tunnel(daemon, ("other.example", kms.address))
    with running(daemon), Bridge(f"unix:{daemon.socket_path()}") as bridge:
        process, _, codes = curl(tmp_path, "--proxy", bridge.url)
        assert process.returncode != 0 and codes == "000 403"
        assert "403" in process.stderr
    assert not kms.connections


BOTO3 = """
import boto3, json
kms = boto3.client("kms", region_name="eu-central-1")
sealed = kms.encrypt(KeyId="alias/payments", Plaintext=b"the secret")
print(kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"])["Plaintext"].decode())
"""


def test_boto3_by_https_proxy_beside_an_enclave_that_is_signed_for(daemon, kms, tmp_path):
    allow_tunnel(daemon, (NAME, kms.address))
    keys = kms.credentials.current
    with running(daemon), Bridge(f"unix:{daemon.socket_path()}") as bridge, daemon.client() as plain:
        assert plain.ask(DESCRIBE).status == 200
        process = subprocess.run(
            [sys.executable, "-c", BOTO3], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            check=False, timeout=60 * SLOW, env=clean_environment(
                HTTPS_PROXY=bridge.url, AWS_CA_BUNDLE=str(tmp_path / "ca.pem"), AWS_EC2_METADATA_DISABLED="true",
                AWS_ACCESS_KEY_ID=keys.access_key_id, AWS_SECRET_ACCESS_KEY=keys.secret_access_key,
                AWS_SESSION_TOKEN=keys.token))
        assert process.stdout == "the secret\n", process.stderr
        assert plain.ask(DESCRIBE).status == 200
        assert [r.action for r in kms.requests] == ["DescribeKey", "Encrypt", "Decrypt", "DescribeKey"]
        daemon.record(ENDPOINT=AUTHORITY, VERDICT="allow", HTTP_STATUS=200)


# What leads where.

def test_two_names_lead_to_two_hosts(daemon):
    with Host() as one, Host() as two:
        allow_tunnel(daemon, ("one.example", one.address), ("two.example", two.address))
        with running(daemon):
            for name, host in (("two.example", two), ("one.example", one), ("TWO.Example", two)):
                client, server = open_tunnel(daemon, host, name)
                server.sendall(name.encode())
                assert client.receive(len(name)) == name.encode()
            assert not one.is_asked() and not two.is_asked()


def test_the_enclaves_on_one_daemon_have_their_own_hosts(daemon, host):
    with Host() as other:
        ledger = add_enclave(daemon)
        allow_tunnel(daemon, ("ledger.example", other.address), enclave=ledger)
        with running(daemon):
            open_tunnel(daemon, host)
            open_tunnel(daemon, other, "ledger.example", ledger)
            assert ask(daemon, client_hello("ledger.example")).alert() == UNRECOGNIZED_NAME
            assert ask(daemon, HELLO, ledger).alert() == UNRECOGNIZED_NAME


def keepalive_timers(port):
    """How many connections to that port wait for the time of a keepalive probe."""
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return sum(fields[2].endswith(f":{port:04X}") and fields[5].startswith("02:") for fields in lines)


def test_a_tunnel_that_lasts_is_kept_alive(daemon, host):
    with running(daemon):
        open_tunnel(daemon, host)
        wait_for(lambda: keepalive_timers(host.port) == 1)


def test_a_first_byte_that_comes_late(daemon, host):
    with running(daemon):
        tls, by_connect, plain = enclave(daemon), enclave(daemon), daemon.client()
        time.sleep(1)
        tls.sendall(HELLO)
        assert host.accept().receive(len(HELLO)) == HELLO
        by_connect.sendall(connect_request(AUTHORITY))
        assert by_connect.receive(12) == b"HTTP/1.1 200"
        by_connect.close()
        assert plain.ask(DESCRIBE).status == 200


# The ClientHello.

@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_hello_in_pieces(daemon, host, size):
    with running(daemon):
        client = enclave(daemon)
        for i in range(0, len(HELLO), size):
            client.sendall(HELLO[i:i + size])
            if i % 50 == 0:     # so that some arrive by themselves
                time.sleep(0.001)
        assert host.accept().receive(len(HELLO)) == HELLO


@pytest.mark.parametrize("size", [1, 3, 64, 400])
def test_a_hello_over_several_records(daemon, host, size):
    hello = in_records(HELLO, size)
    with running(daemon):
        client = ask(daemon, hello + b"early data")
        server = host.accept()
        assert server.receive(len(hello) + 10) == hello + b"early data"
        server.sendall(b"answer")
        assert client.receive(6) == b"answer"


@pytest.mark.parametrize("size", [1500, 4096, 16383, 16384])
def test_a_large_hello_up_to_the_limit(daemon, host, size):
    hello = client_hello(NAME, size)
    with running(daemon):
        ask(daemon, hello)
        assert host.accept().receive(size) == hello


def test_a_hello_above_the_limit(daemon, host):
    with running(daemon):
        assert ask(daemon, client_hello(NAME, 16385)).alert() == DECODE_ERROR
        assert "16 KiB" in daemon.record(REASON="client-hello")["MESSAGE"]
        assert not host.is_asked()


def changed(at, value):
    """The hello with one byte of it changed."""
    return HELLO[:at] + bytes([value]) + HELLO[at + 1:]


REFUSED_HELLOS = {
    "no-name": (client_hello(None), UNRECOGNIZED_NAME, "no-server-name"),
    "not-listed": (client_hello("kms.eu-central-1.amazonaws.com.evil.example"), UNRECOGNIZED_NAME, "tunnel-host"),
    "a-subdomain": (client_hello("x." + NAME), UNRECOGNIZED_NAME, "tunnel-host"),
    "a-parent": (client_hello("amazonaws.com"), UNRECOGNIZED_NAME, "tunnel-host"),
    "an-address-in-text": (HELLO.replace(NAME.encode(), b"127.0.0.1".ljust(len(NAME), b"1")), UNRECOGNIZED_NAME, "tunnel-host"),
    "a-wildcard": (HELLO.replace(NAME.encode(), b"*" + NAME.encode()[1:]), UNRECOGNIZED_NAME, "client-hello"),
    "a-nul-in-it": (HELLO.replace(NAME.encode(), NAME.encode()[:-1] + b"\0"), UNRECOGNIZED_NAME, "client-hello"),
    "a-newline-in-it": (HELLO.replace(NAME.encode(), b"\nVERDICT=allow".ljust(len(NAME), b"x")), UNRECOGNIZED_NAME, "client-hello"),
    "not-a-hello": (changed(5, 2), DECODE_ERROR, "client-hello"),
    "a-wrong-length": (changed(8, HELLO[8] - 1), DECODE_ERROR, "client-hello"),
    "ssl-3-record": (changed(2, 0), DECODE_ERROR, "client-hello"),
    "tls-1.1": (changed(10, 2), PROTOCOL_VERSION, "client-hello"),
    "an-empty-record": (b"\x16\x03\x01\x00\x00" + HELLO, DECODE_ERROR, "client-hello"),
    "an-alert-in-between": (in_records(HELLO, 100)[:105] + b"\x15\x03\x01\x00\x02\x01\x00", DECODE_ERROR, "client-hello"),
    "zeroes": (b"\x16" + bytes(2000), DECODE_ERROR, "client-hello"),
    "a-longer-message": (changed(6, 1), DECODE_ERROR, "client-hello"),
}


@pytest.mark.parametrize("hello, code, reason", REFUSED_HELLOS.values(), ids=REFUSED_HELLOS)
def test_a_hello_that_is_refused(daemon, host, hello, code, reason):
    with running(daemon):
        assert ask(daemon, hello).alert() == code
        record = daemon.record(REASON=reason)
        assert record["VERDICT"] == "refuse" and record["LEVEL"] == "warning"
        assert record["ENCLAVE"] == "payments"
        assert "HTTP_STATUS" not in record
        assert len(daemon.records(VERDICT="refuse")) == 1
        assert "\nVERDICT=allow" not in daemon.log()
        assert not host.is_asked()
        open_tunnel(daemon, host)   # the next one is served


def test_an_enclave_without_a_tunnel(daemon):
    with running(daemon):
        assert ask(daemon, HELLO).is_cut()
        assert daemon.record(REASON="tls")["VERDICT"] == "refuse"
        with daemon.client() as client:
            assert client.ask(connect_request(AUTHORITY)).status == 400
            daemon.record(REASON="framing")


# CONNECT.

@pytest.mark.parametrize("head", [
    connect_request(AUTHORITY), connect_request(AUTHORITY, "1.0"), connect_request(AUTHORITY.upper()),
    f"CONNECT {AUTHORITY} HTTP/1.0\r\n\r\n".encode(),
], ids=["1.1", "1.0", "upper-case", "bare"])
def test_connect(daemon, host, head):
    with running(daemon):
        client = ask(daemon, head)
        server = host.accept()      # before the hello
        answer = client.receive(len(b"HTTP/1.1 200 Connection established\r\n\r\n"))
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n")
        client.sendall(HELLO)
        assert server.receive(len(HELLO)) == HELLO
        server.sendall(b"from the host")
        assert client.receive(13) == b"from the host"
        assert daemon.record(HTTP_STATUS=200)["ENDPOINT"].lower() == AUTHORITY


def test_connect_with_the_hello_in_the_same_packet(daemon, host):
    with running(daemon):
        client = ask(daemon, connect_request(AUTHORITY) + HELLO + b"more")
        assert host.accept().receive(len(HELLO) + 4) == HELLO + b"more"
        assert client.receive(12) == b"HTTP/1.1 200"


def test_connect_byte_by_byte(daemon, host):
    with running(daemon):
        client = enclave(daemon)
        for byte in connect_request(AUTHORITY) + HELLO:
            client.sendall(bytes([byte]))
        assert host.accept().receive(len(HELLO)) == HELLO


REFUSED_CONNECTS = {
    "another-host": connect_request("evil.example:443"),
    "another-port": connect_request(f"{NAME}:8443"),
    "port-of-connect_to": connect_request(f"{NAME}:80"),
    "an-address": connect_request("127.0.0.1:443"),
    "metadata": connect_request("169.254.169.254:80"),
    "metadata-by-ipv6": connect_request("[fd00:ec2::254]:80"),
    "http-1.0": connect_request("evil.example:443", "1.0"),
}


@pytest.mark.parametrize("head", REFUSED_CONNECTS.values(), ids=REFUSED_CONNECTS)
def test_a_connect_to_what_is_not_listed(daemon, host, head):
    with running(daemon), daemon.client() as client:
        answer = client.ask(head)
        assert answer.status == 403
        assert answer.header("Connection") == "close"
        assert answer.body == b"it is not in tunnel.hosts of the enclave\n"
        assert client.at_end()
        record = daemon.record(REASON="tunnel-host", HTTP_STATUS=403)
        assert record["VERDICT"] == "refuse"
        assert record["ENDPOINT"] in head.decode()
        assert not host.is_asked()


def test_connect_to_a_host_that_refuses(daemon, host):
    host.close()
    with running(daemon), daemon.client() as client:
        answer = client.ask(connect_request(AUTHORITY))
        assert answer.status == 502
        assert answer.body == b"the host can't be reached\n"     # the parent's network is not its business
        assert daemon.record(REASON="no-upstream", HTTP_STATUS=502)["ENDPOINT"] == AUTHORITY
        assert ask(daemon, HELLO).alert() == INTERNAL_ERROR
        assert daemon.record(count=2, REASON="no-upstream")["ENDPOINT"] == AUTHORITY


@pytest.mark.parametrize("inner, code, reason", [
    (client_hello("other.example"), UNRECOGNIZED_NAME, "server-name"),
    (b"GET / HTTP/1.1\r\n\r\n", DECODE_ERROR, "client-hello"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", DECODE_ERROR, "client-hello"),
    (b"\x80\x2e\x01\x03\x01", DECODE_ERROR, "client-hello"),
], ids=["other-name", "http", "ssh", "ssl-2"])
def test_what_comes_behind_connect_must_be_a_hello_for_its_host(daemon, host, inner, code, reason):
    other = add_other_host(daemon, host)
    with running(daemon):
        client = ask(daemon, connect_request(AUTHORITY))
        assert client.receive(39) == b"HTTP/1.1 200 Connection established\r\n\r\n"
        client.sendall(inner)
        assert client.alert() == code
        assert daemon.record(REASON=reason)["VERDICT"] == "refuse"
        assert host.accept().is_cut()   # and not one byte came
        assert other not in daemon.log() or reason == "server-name"


def add_other_host(daemon, host):
    """A second host that is allowed; the authority counts all the same."""
    daemon.config["enclaves"]["payments"]["tunnel"]["hosts"].append(
        {"host": "other.example", "connect_to": host.address})
    return "other.example"


# Records.

def test_a_tunnel_leaves_a_record_when_it_opens_and_one_when_it_ends(daemon, host):
    with running(daemon):
        started = time.monotonic()
        client, server = open_tunnel(daemon, host)
        opened = daemon.record(VERDICT="allow", REASON="allowed")
        assert opened["LEVEL"] == "info"
        assert opened["MESSAGE"] == f"payments: tunnel to {AUTHORITY} opened"
        assert (opened["ENCLAVE"], opened["ENDPOINT"]) == ("payments", AUTHORITY)
        assert "BYTES_IN" not in opened
        client.sendall(b"x" * 1000)
        server.receive(1000)
        server.sendall(b"y" * 70000)
        client.receive(70000)
        client.half_close()
        assert server.rest() == b""
        server.close()
        record = wait_ended(daemon)
        assert record["MESSAGE"].startswith(f"payments: tunnel to {AUTHORITY} ended after ")
        assert record["REASON"] == "closed-by-enclave"
        assert (record["BYTES_IN"], record["BYTES_OUT"]) == (str(len(HELLO) + 1000), "70000")
        assert 0 < int(record["DURATION_USEC"]) < 1e6 * (time.monotonic() - started)
        assert client.is_cut()
        assert len(daemon.records(ENDPOINT=AUTHORITY)) == 2


def test_only_refusals_are_recorded_when_the_configuration_says_so(daemon, host):
    daemon.config["audit"] = "refusals"
    with running(daemon):
        client, server = open_tunnel(daemon, host)
        client.close()
        assert server.is_cut()
        assert ask(daemon, client_hello("other.example")).alert() == UNRECOGNIZED_NAME
        daemon.record(REASON="tunnel-host")
        assert not daemon.records(VERDICT="allow")


def test_refusals_can_not_flood_the_journal(daemon, host):
    with running(daemon):
        for _ in range(100):
            with ask(daemon, client_hello("other.example")) as client:
                assert client.alert() == UNRECOGNIZED_NAME
        daemon.record(REASON="tunnel-host")
        assert len(daemon.records(REASON="tunnel-host")) < 80
        with daemon.client() as plain:
            assert plain.ask(DESCRIBE).status == 200
        daemon.record(REASON="allowed")
