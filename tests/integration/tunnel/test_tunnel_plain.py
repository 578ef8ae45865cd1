# SPDX-License-Identifier: Apache-2.0
"""Hosts that speak no TLS: by CONNECT only, and never to what would trust whoever asks. (On vsock:
tests/vm/cases/test_tunnel.py.)"""

import select
import smtplib
import socket
import subprocess

import pytest

from daemon.help import DESCRIBE
from daemon.process import program
from daemon.tunnel_help import (
    NAME, Host, allow_tunnel, ask, connect_request, enclave, needs_root, running, wait_ended, wait_open)
from net.fake_dns import FakeDns
from net.tls_hello import UNRECOGNIZED_NAME, client_hello

DB = "db.example"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def allow_plain(daemon, host, name=DB, **more):
    allow_tunnel(daemon)
    daemon.config["enclaves"]["payments"]["tunnel"]["hosts"].append(
        {"host": name, "port": 5432, "connect_to": host, "tls": False, **more})


@pytest.fixture
def host(daemon):
    with Host() as instance:
        allow_plain(daemon, instance.address)
        yield instance


def opened(daemon, host, more=b""):
    client = ask(daemon, connect_request(f"{DB}:5432") + more)
    server = host.accept()
    assert client.receive(len(CONNECTED)) == CONNECTED
    return client, server


def test_the_server_may_speak_first(daemon, host):
    with running(daemon):
        client, server = opened(daemon, host)
        server.sendall(b"220 ready\r\n")
        assert client.receive(11) == b"220 ready\r\n"
        client.sendall(b"HELO me\r\n")
        assert server.receive(9) == b"HELO me\r\n"
        record = daemon.record(TLS="no")
        assert (record["ENDPOINT"], record["VERDICT"]) == (f"{DB}:5432", "allow")
        assert "opened without TLS" in record["MESSAGE"]


def test_the_server_speaks_before_the_enclave_has_read_its_answer(daemon, host):
    with running(daemon):
        client = ask(daemon, connect_request(f"{DB}:5432"))
        server = host.accept()
        server.sendall(b"220 ready\r\n")
        server.half_close()
        assert client.rest() == CONNECTED + b"220 ready\r\n"
        client.sendall(b"bye")
        client.half_close()
        assert server.rest() == b"bye"
        assert wait_ended(daemon)["REASON"] == "closed-by-host"
        assert len(daemon.records(TLS="no")) == 1      # of its opening only


@pytest.mark.parametrize("data", [b"x", b"\x16\x03\x01", client_hello("other.example"), DESCRIBE],
                         ids=["byte", "record", "hello", "http"])
def test_the_enclave_may_send_anything_with_its_connect(daemon, host, data):
    with running(daemon):
        client, server = opened(daemon, host, data)
        assert server.receive(len(data)) == data
        client.half_close()
        assert server.rest() == b""
        server.sendall(b"answer")
        server.close()
        assert client.rest() == b"answer"


def test_a_mail_server(daemon, host):
    """A protocol of the kind, with a client of Python's own."""
    class Through(smtplib.SMTP):
        def _get_socket(self, *_):
            client, self.server = opened(daemon, host)
            self.server.sendall(b"220 mail.example ready\r\n")
            return client

    with running(daemon):
        mail = Through(timeout=20)
        assert mail.connect(DB, 5432)[0] == 220
        mail.server.sendall(b"221 bye\r\n")
        assert mail.docmd("QUIT")[0] == 221
        assert mail.server.receive(6) == b"QUIT\r\n"
        mail.close()


def test_no_server_name_leads_there(daemon, host):
    with running(daemon):
        assert ask(daemon, client_hello(DB)).alert() == UNRECOGNIZED_NAME
        assert daemon.record(REASON="tunnel-host")["VERDICT"] == "refuse"
        for authority in (f"{DB}:443", f"{DB}:5433", f"x.{DB}:5432", f"127.0.0.1:{host.port}"):
            assert ask(daemon, connect_request(authority)).rest().startswith(b"HTTP/1.1 403 ")
        assert not host.is_asked()


def test_a_name_with_tls_and_without_by_its_port(daemon, host):
    with Host() as other:
        daemon.config["enclaves"]["payments"]["tunnel"]["hosts"].append(
            {"host": DB, "port": 443, "connect_to": other.address})
        with running(daemon):
            ask(daemon, client_hello(DB))
            assert other.accept().receive(1) == b"\x16"
            opened(daemon, host)
            wait_open(daemon, 2)
            plain, held = daemon.records(TLS="no"), daemon.records(ENDPOINT=f"{DB}:443")
            assert len(plain) == 1 and len(held) == 1 and "TLS" not in held[0]


def test_a_reload_that_asks_for_tls_ends_it(daemon, host):
    with running(daemon):
        client, _ = opened(daemon, host)
        wait_open(daemon)
        daemon.config["enclaves"]["payments"]["tunnel"]["hosts"][0]["tls"] = True
        daemon.reload()
        assert client.is_cut()
        assert wait_ended(daemon)["REASON"] == "no-longer-allowed"


def check(daemon):
    daemon.write_config()
    found = subprocess.run([program(), "--config", daemon.config_path, "--check-config"],
                           capture_output=True, text=True, check=False)
    return found.returncode, found.stderr + found.stdout


def test_check_config_warns(daemon, host):
    status, text = check(daemon)
    assert status == 0 and "warning: tls: nothing verifies who answers" in text


@pytest.mark.parametrize("place", [
    "169.254.169.254:80", "169.254.170.2:80", "169.254.170.23:80", "[fd00:ec2::254]:80", "[fe80::1]:80",
    "[::ffff:169.254.169.254]:80", "[64:ff9b::169.254.169.254]:80", "[2002:a9fe:a9fe::]:80"])
def test_check_config_refuses_a_place_that_trusts_whoever_asks(daemon, place):
    allow_plain(daemon, place)
    status, text = check(daemon)
    assert status != 0 and "link-local or metadata" in text


def test_loopback_by_connect_to_only(daemon, kms):
    """A name that leads there is not followed."""
    allow_tunnel(daemon)
    daemon.config["enclaves"]["payments"]["tunnel"]["hosts"].append(
        {"host": "localhost", "port": kms.port, "tls": False})
    with running(daemon):
        assert ask(daemon, connect_request(f"localhost:{kms.port}")).rest().startswith(b"HTTP/1.1 502 ")
        assert "loopback, link-local or metadata" in daemon.record(REASON="no-upstream")["MESSAGE"]
    assert not kms.connections


@needs_root
@pytest.mark.parametrize("by_connect_to", [False, True], ids=["host", "connect_to"])
@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "169.254.170.23"])
def test_a_name_never_leads_to_a_place_that_trusts_whoever_asks(daemon, address, by_connect_to):
    with FakeDns() as dns:
        daemon.wrapper = dns.wrapper(daemon.folder)
        dns.names = {DB: [address], "inside.example": [address]}
        allow_plain(daemon, "inside.example:80")
        if not by_connect_to:
            del daemon.config["enclaves"]["payments"]["tunnel"]["hosts"][0]["connect_to"]
        with running(daemon):
            answer = ask(daemon, connect_request(f"{DB}:5432")).rest()
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert "loopback, link-local or metadata" in daemon.record(REASON="no-upstream")["MESSAGE"]


# With TLS.

def test_a_hello_without_a_name_behind_connect(daemon):
    """As clients send that were given an address; its authority was listed."""
    hello = client_hello(None)
    with Host() as host:
        allow_tunnel(daemon, (NAME, host.address))
        with running(daemon):
            client = ask(daemon, connect_request(f"{NAME}:443"))
            server = host.accept()
            assert client.receive(len(CONNECTED)) == CONNECTED
            client.sendall(hello)
            assert server.receive(len(hello)) == hello
            server.sendall(b"welcome")
            assert client.receive(7) == b"welcome"
            assert "TLS" not in daemon.record(HTTP_STATUS=200)


def test_openssl_without_a_name_behind_connect(daemon, kms, tmp_path):
    allow_tunnel(daemon, (NAME, kms.address))
    with running(daemon):
        end = enclave(daemon)
        end.sendall(connect_request(f"{NAME}:443"))
        assert end.receive(len(CONNECTED)) == CONNECTED
        with socket.create_server(("127.0.0.1", 0)) as listener:
            process = subprocess.Popen(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-noservername",
                 "-CAfile", tmp_path / "ca.pem", "-verify_return_error", "-verify_hostname", NAME, "-brief"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            local, _ = listener.accept()
        local.settimeout(20)
        relay(local, end, process)
        assert b"CONNECTION ESTABLISHED" in process.stdout.read()
        assert process.wait() == 0


def relay(local, end, process):
    """Passes bytes between the two until the program has ended."""
    with local:
        while True:
            for ready in select.select([local, end], [], [], 20)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (end if ready is local else local).sendall(data)
