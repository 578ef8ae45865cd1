# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy on the way out: what it is asked, what it may answer, and that TLS goes on to the
host. (Its credentials in memory: tests/integration/credentials/test_secrets.py.)"""

import contextlib
import socket
import subprocess
import threading
import time

import pytest

from daemon import wait_for
from daemon.help import DESCRIBE, stopped
from daemon.process import program
from daemon.tunnel_help import (
    NAME, SLOW, Host, allow_tunnel, ask, connect_request, needs_root, open_tunnel, running, wait_ended)
from net.fake_dns import FakeDns
from net.http_proxy import ESTABLISHED, HttpProxy
from net.tls_echo import TlsEcho
from net.tls_hello import INTERNAL_ERROR, client_hello
from standins import LocalContainer

AUTHORITY = f"{NAME}:443"
CREDENTIALS = "outbound:pass:w\u00f6rd with blanks"
HELLO = client_hello(NAME)
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture
def proxy(kms):
    with HttpProxy({AUTHORITY: kms.address}) as instance:
        yield instance
        assert not instance.faults


def through(daemon, proxy, text=None, **more):
    """The endpoint is reached by the proxy, without an address of its own."""
    endpoint = daemon.config["endpoints"]["kms"]
    endpoint.pop("connect_to", None)
    endpoint.update(proxy=proxy.url, **more)
    if text is not None:
        path = daemon.folder / "proxy-credentials"
        path.write_text(text)
        endpoint["proxy_credentials_file"] = str(path)
    return endpoint


# Requests.

def test_requests_go_through_it_and_tls_is_the_hosts(daemon, kms, proxy):
    through(daemon, proxy)
    daemon.config["workers"] = 1
    with daemon, daemon.client() as client:
        for _ in range(3):
            assert client.ask(DESCRIBE).status == 200
        assert proxy.asked == [AUTHORITY]       # one connection, in the pool
        assert kms.requests[-1].header("Host") == NAME


@pytest.mark.parametrize("environment", [{"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1",
                                          "ALL_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}])
def test_no_proxy_comes_from_the_environment(daemon, kms, environment):
    daemon.environment = environment
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200


@pytest.mark.parametrize("source", ["imds", "container"])
def test_credentials_are_never_asked_for_through_it(daemon, kms, proxy, imds, source):
    through(daemon, proxy)
    with LocalContainer(kms.credentials) as container:
        if source == "container":
            daemon.config["credentials"] = {"source": source}
            daemon.environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": container.credentials_url,
                                  "AWS_CONTAINER_AUTHORIZATION_TOKEN": container.token}
        with daemon, daemon.client() as client:
            assert client.ask(DESCRIBE).status == 200
            assert (container if source == "container" else imds).requests
            assert proxy.asked == [AUTHORITY]


def test_a_name_in_connect_to_is_what_it_is_asked_for(daemon, kms, proxy):
    proxy.places = {"vpce.inside.example:8443": kms.address}
    through(daemon, proxy, connect_to="vpce.inside.example:8443")
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        assert proxy.asked == ["vpce.inside.example:8443"]
        assert kms.requests[-1].header("Host") == NAME


@pytest.mark.parametrize("place", ["10.1.2.3:443", "[2001:db8::7]:443"])
def test_an_address_in_connect_to_is_what_it_is_asked_for(daemon, kms, proxy, place):
    proxy.places = {place: kms.address}
    through(daemon, proxy, connect_to=place)
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        assert proxy.asked == [place]


@needs_root
def test_only_the_proxys_own_name_is_looked_up(daemon, kms, proxy):
    with FakeDns() as dns:
        daemon.wrapper = dns.wrapper(daemon.folder)
        dns.names["proxy.inside.example"] = ["127.0.0.1"]
        through(daemon, proxy)["proxy"] = "http://proxy.inside.example:" + proxy.address.split(":")[1]
        with daemon, daemon.client() as client:
            assert client.ask(DESCRIBE).status == 200
            assert "proxy.inside.example" in dns.asked and NAME not in dns.asked


@needs_root
def test_the_proxys_name_never_leads_to_metadata(daemon, kms, proxy):
    with FakeDns() as dns:
        daemon.wrapper = dns.wrapper(daemon.folder)
        dns.names["proxy.inside.example"] = ["169.254.169.254"]
        through(daemon, proxy)["proxy"] = "http://proxy.inside.example:80"
        with daemon, daemon.client() as client:
            assert client.ask(DESCRIBE).status == 503
            daemon.record(REASON="proxy-unreachable")
            daemon.wait_log("loopback, link-local or metadata")


@needs_root
def test_a_proxy_whose_name_is_not_found(daemon, kms, proxy):
    with FakeDns() as dns:
        daemon.wrapper = dns.wrapper(daemon.folder)
        through(daemon, proxy)["proxy"] = "http://proxy.inside.example:3128"
        with daemon, daemon.client() as client:
            assert client.ask(DESCRIBE).status == 503
            assert daemon.record(REASON="proxy-unreachable")["VERDICT"] == "allow"
            daemon.wait_log(f"can't connect to {NAME} port 443 by the proxy proxy.inside.example port 3128: ")


# Its credentials.

@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["none", "lf", "crlf"])
def test_user_and_password(daemon, kms, proxy, end):
    proxy.credentials = CREDENTIALS
    through(daemon, proxy, CREDENTIALS + end)
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200


def test_a_credential_of_the_unit(daemon, kms, proxy):
    proxy.credentials = CREDENTIALS
    folder = daemon.folder / "credentials"
    folder.mkdir()
    (folder / "outbound").write_text(CREDENTIALS)
    daemon.environment = {"CREDENTIALS_DIRECTORY": str(folder)}
    through(daemon, proxy)["proxy_credentials_file"] = "outbound"
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200


def test_it_is_asked_without_them_and_the_operator_told(daemon, kms, proxy):
    proxy.credentials = CREDENTIALS
    through(daemon, proxy)
    with daemon, daemon.client() as client:
        answer = client.ask(DESCRIBE)
        assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        assert b"407" not in answer.body and b"proxy" not in answer.body.lower()
        assert daemon.record(REASON="proxy-refused")["VERDICT"] == "allow"
        daemon.wait_log("it answered CONNECT with status 407: see proxy_credentials_file")
    assert not kms.connections


BAD_FILES = {
    "no-colon": ("secret-without-colon", "no colon"), "no-user": (":secret", "no user"),
    "two-lines": ("user:secret\nmore\n", "more than one line"), "nul": ("user:se\0cret", "control character"),
    "empty": ("", "no colon"), "large": ("user:" + "secret" * 200, "larger than 1024 bytes"),
}


@pytest.mark.parametrize("text, message", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_not_one_line_of_user_and_password(daemon, kms, proxy, text, message):
    through(daemon, proxy, text)
    daemon.start(wait=False)
    assert daemon.process.wait(20) != 0
    assert message in daemon.log() and "proxy-credentials" in daemon.log()
    assert "secret" not in daemon.log()
    daemon.process = None


def test_a_reload_reads_the_file_again(daemon, kms, proxy):
    proxy.credentials = "user:old"
    endpoint = through(daemon, proxy, "user:old")
    kms.fault("connection_close", count=None)
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        proxy.credentials = "user:new"
        with open(endpoint["proxy_credentials_file"], "w", encoding="utf-8") as f:
            f.write("no colon")
        daemon.reload(expect="proxy_credentials_file .* has no colon")
        with open(endpoint["proxy_credentials_file"], "w", encoding="utf-8") as f:
            f.write("user:new")
        daemon.reload()
        assert client.ask(DESCRIBE).status == 200


def test_a_reload_to_another_proxy_uses_no_connection_of_the_old_one(daemon, kms, proxy):
    through(daemon, proxy)
    daemon.config["workers"] = 1
    with HttpProxy({AUTHORITY: kms.address}) as other:
        with daemon:
            with daemon.client() as client:
                assert client.ask(DESCRIBE).status == 200
            daemon.config["endpoints"]["kms"]["proxy"] = other.url
            daemon.reload()
            with daemon.client() as client:
                assert client.ask(DESCRIBE).status == 200
            assert (len(proxy.asked), len(other.asked)) == (1, 1)
            del daemon.config["endpoints"]["kms"]["proxy"]
            daemon.config["endpoints"]["kms"]["connect_to"] = kms.address
            daemon.reload()
            with daemon.client() as client:
                assert client.ask(DESCRIBE).status == 200
            assert (len(proxy.asked), len(other.asked)) == (1, 1)


# What it answers.

GOOD = {
    "1.0": b"HTTP/1.0 200 Connection established\r\nProxy-agent: small/1\r\n\r\n",
    "no-phrase": b"HTTP/1.1 200 \r\n\r\n",
    "other-2xx": b"HTTP/1.1 299 Yes\r\n\r\n",
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + ESTABLISHED,
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",      # RFC 9110 9.3.6: ignored
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "large": b"HTTP/1.1 200 OK\r\nX: " + b"x" * (16384 - 24) + b"\r\n\r\n",
}
BAD = {
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\n\r\n", "proxy-refused", "status 403"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", "proxy-refused", "status 302"),
    "gateway": (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1000000\r\n\r\n", "proxy-refused", "status 502"),
    "upgrade": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "proxy-broken", "status is none"),
    "http-2": (b"HTTP/2 200 OK\r\n\r\n", "proxy-broken", "version"),
    "lf-only": (b"HTTP/1.1 200 OK\n\n", "proxy-broken", "LF"),
    "not-http": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "proxy-broken", "version"),
    "tls": (b"\x15\x03\x03\x00\x02\x02\x28", "proxy-broken", "its answer: "),
    "folded": (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "proxy-broken", "its answer: "),
    "too-large": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 16384 + b"\r\n\r\n", "proxy-broken", "head above the limit"),
    "endless-interim": (b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + ESTABLISHED, "proxy-broken", "interim"),
    "bytes-behind": (ESTABLISHED + b"x", "proxy-broken", "bytes came behind its answer"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "proxy-broken", "bytes came behind"),
}


@pytest.mark.parametrize("piece", [None, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD)
def test_an_answer_that_leads_through(daemon, kms, proxy, answer, piece):
    proxy.answer, proxy.piece = answer, piece
    through(daemon, proxy)
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200


@pytest.mark.parametrize("answer, reason, message", BAD.values(), ids=BAD)
def test_an_answer_that_does_not(daemon, kms, proxy, answer, reason, message):
    proxy.answer = answer
    through(daemon, proxy)
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 503
        assert daemon.record(REASON=reason)["VERDICT"] == "allow"
        daemon.wait_log(f"can't connect to {NAME} port 443 by the proxy 127.0.0.1 port [0-9]+: .*{message}")
        proxy.answer = ESTABLISHED
        wait_for(lambda: client.ask(DESCRIBE).status == 200)
        daemon.wait_log("connected again")


def test_it_closes_without_an_answer(daemon, kms, proxy):
    proxy.answer, proxy.closes = b"", True
    through(daemon, proxy)
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 503
        daemon.record(REASON="proxy-broken")
        daemon.wait_log("it closed before its answer")


def test_it_can_not_be_reached(daemon, kms, proxy):
    through(daemon, proxy)
    address = proxy.address
    proxy.stop()
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 503
        daemon.record(REASON="proxy-unreachable")
        daemon.wait_log(f"by the proxy 127.0.0.1 port {address.split(':')[1]}: .*Connection refused")


def test_it_does_not_answer_in_time(daemon, kms, proxy):
    proxy.answer = None
    through(daemon, proxy, connect_timeout="1s")
    with daemon, daemon.client() as client:
        start = time.monotonic()
        assert client.ask(DESCRIBE).status == 503
        assert 0.9 < time.monotonic() - start < 6 * SLOW
        daemon.record(REASON="proxy-broken")
        daemon.wait_log("it did not answer in time")
        before = daemon.descriptors()
        assert proxy.ended.acquire(timeout=20)      # the connection was closed
        assert daemon.descriptors() <= before


def test_the_host_does_not_answer_in_time(daemon, kms, proxy):
    kms.fault("hang_at_accept", count=None)
    through(daemon, proxy, connect_timeout="1s")
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 503
        daemon.record(REASON="no-upstream")
        kms.clear()


def test_a_proxy_that_is_the_host_itself_is_seen(daemon, kms):
    """TLS is verified end to end."""
    with TlsEcho([NAME]) as echo, HttpProxy({AUTHORITY: echo.address}) as proxy:
        through(daemon, proxy)
        with daemon, daemon.client() as client:
            assert client.ask(DESCRIBE).status == 503
            daemon.record(REASON="no-upstream")
            daemon.wait_log("can't connect to .*certificate")


# Tunnels.

def tunnel_through(daemon, proxy, host, **more):
    proxy.places = {AUTHORITY: host.address}
    allow_tunnel(daemon, (NAME, None))
    daemon.config["enclaves"]["payments"]["tunnel"]["hosts"][0].update(proxy=proxy.url, **more)


@pytest.mark.parametrize("way", ["server-name", "connect"])
def test_a_tunnel_goes_through_it(daemon, proxy, way):
    with Host() as host:
        tunnel_through(daemon, proxy, host)
        with running(daemon):
            if way == "connect":
                client = ask(daemon, connect_request(AUTHORITY))
                assert client.receive(len(CONNECTED)) == CONNECTED
                client.sendall(HELLO)
                server = host.accept()
                assert server.receive(len(HELLO)) == HELLO
            else:
                client, server = open_tunnel(daemon, host)
            client.sendall(b"question")
            client.half_close()
            assert server.rest() == b"question"
            server.sendall(b"answer")
            server.close()
            assert client.rest() == b"answer"
            assert wait_ended(daemon)["REASON"] == "closed-by-enclave"
        assert proxy.asked == [AUTHORITY]


def test_a_tunnels_proxy_is_shown_its_credentials(daemon, proxy):
    proxy.credentials = CREDENTIALS
    path = daemon.folder / "proxy-credentials"
    path.write_text(CREDENTIALS)
    with Host() as host:
        tunnel_through(daemon, proxy, host, proxy_credentials_file=str(path))
        with running(daemon):
            open_tunnel(daemon, host)


@pytest.mark.parametrize("data", [HELLO, connect_request(AUTHORITY)], ids=["tls", "connect"])
@pytest.mark.parametrize("what, reason, message", [
    (b"HTTP/1.1 403 Forbidden\r\n\r\n", "proxy-refused", "it answered CONNECT with status 403"),
    (ESTABLISHED + b"x", "proxy-broken", "bytes came behind its answer"),
    ("stop", "proxy-unreachable", "Connection refused"),
], ids=["refused", "broken", "unreachable"])
def test_a_tunnel_that_gets_no_way(daemon, proxy, data, what, reason, message):
    with Host() as host:
        tunnel_through(daemon, proxy, host)
        if what == "stop":
            proxy.stop()
        else:
            proxy.answer = what
        with running(daemon):
            answer = ask(daemon, data).rest()
            if data == HELLO:
                assert answer[-1] == INTERNAL_ERROR
            else:
                assert answer.startswith(b"HTTP/1.1 502 ") and b"proxy" not in answer.lower()
            record = daemon.record(REASON=reason)
            assert message in record["MESSAGE"] and record["ENDPOINT"] == AUTHORITY


def test_a_tunnel_whose_proxy_does_not_answer(daemon, proxy):
    with Host() as host:
        tunnel_through(daemon, proxy, host)
        proxy.answer = None
        with running(daemon):
            start = time.monotonic()
            assert ask(daemon, HELLO).alert() == INTERNAL_ERROR
            assert 9.9 < time.monotonic() - start < 15 * SLOW
            assert daemon.record(REASON="proxy-broken")["ENDPOINT"] == AUTHORITY
            assert proxy.ended.acquire(timeout=20)


def test_a_proxy_that_speaks_before_the_hello_of_a_connect(daemon, proxy):
    """Only the host may answer, and it has nothing to answer to yet."""
    with Host() as host:
        tunnel_through(daemon, proxy, host)
        with running(daemon):
            client = ask(daemon, connect_request(AUTHORITY))
            server = host.accept()
            assert client.receive(len(CONNECTED)) == CONNECTED
            server.sendall(b"220 not TLS")
            wait_for(lambda: proxy.to_clients == len(b"220 not TLS"))
            with stopped(daemon):
                client.sendall(HELLO)
            assert client.alert() == INTERNAL_ERROR
            assert "before the ClientHello" in daemon.record(REASON="proxy-broken")["MESSAGE"]
            assert server.is_cut()


def test_a_reload_in_the_middle_of_its_answer(daemon, proxy):
    with Host() as host:
        tunnel_through(daemon, proxy, host)
        proxy.answer, answer = ESTABLISHED[:10], ESTABLISHED[10:]
        with running(daemon):
            client = ask(daemon, HELLO)
            relayed = host.accept()         # the proxy has been asked
            daemon.reload()                 # without a change: it goes on
            relayed.sendall(answer)         # its relay passes on the rest, as if it were its own
            assert relayed.receive(len(HELLO)) == HELLO
            relayed.sendall(b"hello")
            assert client.receive(5) == b"hello"
            daemon.config["enclaves"]["payments"]["tunnel"]["hosts"][0]["proxy"] = "http://127.0.0.1:1"
            daemon.reload()
            assert client.is_cut()
            assert wait_ended(daemon)["REASON"] == "no-longer-allowed"


def test_an_enclave_that_goes_while_the_proxy_is_asked(daemon, proxy):
    with Host() as host:
        tunnel_through(daemon, proxy, host)
        proxy.answer = None
        with running(daemon):
            client = ask(daemon, HELLO)
            wait_for(lambda: proxy.asked)
            client.close()
            daemon.record(REASON="client-gone")
            assert proxy.ended.acquire(timeout=20)


# --check-config.

def check(daemon, **endpoint):
    daemon.config["endpoints"]["kms"].pop("connect_to")
    daemon.config["endpoints"]["kms"].update(endpoint)
    daemon.write_config()
    found = subprocess.run([program(), "--config", daemon.config_path, "--check-config"],
                           capture_output=True, text=True, check=False)
    return found.returncode, found.stderr + found.stdout


def test_a_password_in_the_url_is_an_error_that_does_not_show_it(daemon):
    status, text = check(daemon, proxy="http://user:hunter2@10.0.0.3:3128")
    assert status != 0 and "proxy_credentials_file" in text and "hunter2" not in text


@pytest.mark.parametrize("url", ["http://169.254.169.254:80", "http://[fe80::1]:3128", "http://[fd00:ec2::254]:80"])
def test_a_proxy_is_never_link_local(daemon, url):
    status, text = check(daemon, proxy=url)
    assert status != 0 and "link-local or metadata" in text


@pytest.mark.parametrize("place", ["169.254.169.254:80", "127.0.0.1:443", "[::1]:443", "localhost:443",
                                   "[::ffff:169.254.170.2]:80", "[2002:a9fe:a9fe::1]:80"])
def test_a_proxy_is_not_asked_for_what_is_refused_here(daemon, place):
    status, text = check(daemon, proxy="http://127.0.0.1:3128", connect_to=place)
    assert status != 0 and "which no proxy is asked for" in text
