# SPDX-License-Identifier: Apache-2.0
"""Tunnels over a real vsock: bytes both ways, half-close, refusals, an enclave that takes nothing."""

import hashlib
import random
import re
import socket
import ssl
import threading

import journal
import peers
import pytest
import service
from kms.client import request
from net.http_proxy import HttpProxy
from net.tls_echo import TlsEcho
from net.tls_hello import UNRECOGNIZED_NAME, alert, client_hello

NAME = "kms.eu-central-1.amazonaws.com"
OTHER = "kms.us-east-1.amazonaws.com"
MIB = 1 << 20
SIZE = 4 * MIB
SECONDS = 120       # of one read or write
STALL = 30          # LIMIT_TUNNEL_STALL
WRITE = 10          # LIMIT_WRITE_TIME


class Host:
    """Takes one connection: reads it to its end, then sends `down`, then closes."""

    def __init__(self, down):
        self.down, self.received = down, b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        self.address = "127.0.0.1:{}".format(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with self._listener, self._listener.accept()[0] as end:
            end.settimeout(SECONDS)
            self.received = rest(end)
            end.sendall(self.down)

    def wait(self):
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


def rest(end):
    data = bytearray()
    while more := end.recv(1 << 18):
        data += more
    return bytes(data)


def allow(unit, address, enclave="alpha"):
    unit.config["enclaves"][enclave]["tunnel"] = {"hosts": [{"host": NAME, "port": 443, "connect_to": address}]}


def ended(after, **fields):
    """The record of a tunnel's end."""
    return service.wait(lambda: [r for r in journal.records(after, **fields) if " ended after " in r["MESSAGE"]])[0]


def connect_through(stream, authority):
    stream.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        assert byte, answer
        answer += byte
    return answer


@pytest.mark.nitro
@pytest.mark.sanitize
@pytest.mark.parametrize("way", ["server-name", "CONNECT"])
def test_bytes_pass_both_ways_and_each_ends_by_itself(unit, enclaves, way):
    make = random.Random(way)
    up, down = client_hello(NAME) + make.randbytes(SIZE), make.randbytes(SIZE)
    host = Host(down)
    allow(unit, host.address)
    unit.start()
    place = journal.cursor()
    with enclaves(16).connect(service.PORT) as stream:
        stream.settimeout(SECONDS)
        if way == "CONNECT":
            assert connect_through(stream, f"{NAME}:443").startswith(b"HTTP/1.1 200 ")
        stream.sendall(up)
        stream.shutdown(socket.SHUT_WR)     # the other way stays open
        got = rest(stream)
    host.wait()
    assert (len(host.received), len(got)) == (len(up), len(down))
    assert hashlib.sha256(host.received).digest() == hashlib.sha256(up).digest()
    assert hashlib.sha256(got).digest() == hashlib.sha256(down).digest()
    end = ended(place, ENCLAVE="alpha")
    assert (end["ENCLAVE_CID"], end["REASON"]) == ("16", "closed-by-enclave")
    assert (int(end["BYTES_IN"]), int(end["BYTES_OUT"])) == (len(up), len(down))


class FirstWord(Host):
    """Speaks first; then ends first, or reads to the enclave's end and says a last word."""

    def __init__(self, greeting, ends_first):
        self.greeting, self.ends_first = greeting, ends_first
        super().__init__(b"221 bye")

    def _serve(self):
        with self._listener, self._listener.accept()[0] as end:
            end.settimeout(SECONDS)
            end.sendall(self.greeting)
            if self.ends_first:
                end.shutdown(socket.SHUT_WR)
            self.received = rest(end)
            if not self.ends_first:
                end.sendall(self.down)


@pytest.mark.nitro
@pytest.mark.sanitize
@pytest.mark.parametrize("host_ends", [True, False], ids=["host-ends-first", "enclave-ends-first"])
def test_without_tls_the_server_speaks_first_and_either_ends_first(unit, enclaves, host_ends):
    greeting = b"220 ready\r\n" + random.Random(2).randbytes(300000)
    up = random.Random(3).randbytes(300000)
    host = FirstWord(greeting, host_ends)
    allow(unit, host.address)
    unit.config["enclaves"]["alpha"]["tunnel"]["hosts"] = [
        {"host": "db.example", "port": 5432, "connect_to": host.address, "tls": False}]
    unit.start()
    place = journal.cursor()
    with enclaves(16).connect(service.PORT) as stream:
        stream.settimeout(SECONDS)
        assert connect_through(stream, "db.example:5432").startswith(b"HTTP/1.1 200 ")
        got = bytearray()
        while len(got) < len(greeting):     # before the enclave has said anything
            got += stream.recv(len(greeting) - len(got))
        assert bytes(got) == greeting
        if host_ends:
            assert stream.recv(1) == b""
        stream.sendall(up)
        stream.shutdown(socket.SHUT_WR)
        assert rest(stream) == (b"" if host_ends else host.down)
    host.wait()
    assert host.received == up
    opened = journal.records(place, ENCLAVE="alpha", TLS="no")
    assert len(opened) == 1 and opened[0]["ENDPOINT"] == "db.example:5432"
    assert ended(place, ENCLAVE="alpha")["REASON"] == ("closed-by-host" if host_ends else "closed-by-enclave")


@pytest.mark.parametrize("way", ["server-name", "CONNECT"])
def test_bytes_pass_by_an_outbound_proxy(unit, enclaves, way):
    make = random.Random(way)
    up, down = client_hello(NAME) + make.randbytes(SIZE), make.randbytes(SIZE)
    host = Host(down)
    with HttpProxy({f"{NAME}:443": host.address}) as proxy:
        allow(unit, host.address)
        unit.config["enclaves"]["alpha"]["tunnel"]["hosts"] = [{"host": NAME, "proxy": proxy.url}]
        unit.start()
        place = journal.cursor()
        with enclaves(16).connect(service.PORT) as stream:
            stream.settimeout(SECONDS)
            if way == "CONNECT":
                assert connect_through(stream, f"{NAME}:443").startswith(b"HTTP/1.1 200 ")
            stream.sendall(up)
            stream.shutdown(socket.SHUT_WR)
            got = rest(stream)
        host.wait()
        assert host.received == up and got == down
        assert ended(place, ENCLAVE="alpha")["REASON"] == "closed-by-enclave"
        assert proxy.asked == [f"{NAME}:443"] and not proxy.faults


@pytest.mark.nitro
def test_tls_passes_and_is_the_hosts_own(unit, enclaves):
    with TlsEcho([NAME]) as echo:
        allow(unit, echo.address)
        unit.start()
        context = ssl.create_default_context(cadata=echo.ca_pem().decode())
        stream = enclaves(16).connect(service.PORT)
        stream.settimeout(SECONDS)
        data = random.Random(1).randbytes(50000)
        with context.wrap_socket(stream, server_hostname=NAME) as tls:
            for _ in range(10):
                tls.sendall(data)
                back = bytearray()
                while len(back) < len(data):
                    back += tls.recv(65536)
                assert back == data
        assert echo.sessions[-1].name == NAME


@pytest.mark.nitro
def test_a_host_that_is_not_listed_is_refused(unit, enclaves):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        allow(unit, "127.0.0.1:{}".format(listener.getsockname()[1]))
        unit.start()
        place = journal.cursor()
        with enclaves(16).connect(service.PORT) as stream:
            stream.sendall(client_hello(OTHER))
            assert alert(rest(stream)) == UNRECOGNIZED_NAME
        with enclaves(16).connect(service.PORT) as stream:
            assert connect_through(stream, f"{OTHER}:443").startswith(b"HTTP/1.1 403 ")
        with enclaves(17).connect(service.PORT) as stream:      # whose enclave has no tunnel
            stream.sendall(client_hello(NAME))
            assert rest(stream) == b""
        records = journal.wait_for(2, after=place, REASON="tunnel-host", ENCLAVE="alpha")
        assert {OTHER in r["MESSAGE"] for r in records} == {True}
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()       # nobody was asked


def test_an_enclave_that_grants_no_credit_is_ended_at_its_deadline(fast_unit):
    """It takes 4 KiB into its socket and reads nothing: neither an answer nor a tunnel waits for ever."""
    fast_unit.config["enclaves"]["stingy"] = service.enclave(21)
    ask = request("DescribeKey", {"KeyId": "alias/payments"})
    hello = client_hello(NAME)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        allow(fast_unit, "127.0.0.1:{}".format(listener.getsockname()[1]), "stingy")
        fast_unit.start()
        stingy = peers.VhostEnclave(21, window=4096)
        try:
            with stingy.client(service.PORT) as warm:
                assert warm.ask(ask).status == 200
            descriptors = fast_unit.descriptors()
            place = journal.cursor()
            tunnel, asker = stingy.connect(service.PORT), stingy.connect(service.PORT)
            tunnel.sendall(hello)
            listener.settimeout(SECONDS)
            host, _ = listener.accept()
            host.setblocking(False)
            with tunnel, asker, host:
                threading.Thread(target=fill, args=(asker, ask * 50), daemon=True).start()
                fill(host, bytes(MIB))
                end, = service.wait(lambda: of_tunnel(place, True), STALL + SECONDS)
                answer, = service.wait(lambda: of_tunnel(place, False), WRITE + SECONDS)
            assert int(end["DURATION_USEC"]) >= STALL * 1000000
            assert int(answer["DURATION_USEC"]) >= WRITE * 1000000
            service.wait(lambda: fast_unit.descriptors() <= descriptors, message="descriptors are left over")
        finally:
            stingy.die()


def fill(end, data):
    """Sends until nothing more is taken."""
    try:
        while True:
            end.send(data)
    except OSError:
        pass


def of_tunnel(place, is_tunnel):
    return [r for r in journal.records(place, ENCLAVE="stingy", REASON="client-too-slow")
            if bool(re.search(": tunnel to ", r["MESSAGE"])) == is_tunnel]
