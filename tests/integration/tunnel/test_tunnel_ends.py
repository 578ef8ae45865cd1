# SPDX-License-Identifier: Apache-2.0
"""How tunnels end: by either side, at every stage, by a reload, by a stop, by a deadline."""

import contextlib
import select
import signal
import threading
import time

import pytest

from daemon.help import add_enclave, DESCRIBE, wait_taken
from daemon.tunnel_help import (
    NAME, SLOW, Host, allow_tunnel, ask, connect_request, deaf_host, enclave, open_tunnel, running,
    wait_descriptors, wait_ended, wait_open)
from net.tls_hello import INTERNAL_ERROR, UNRECOGNIZED_NAME, client_hello

AUTHORITY = f"{NAME}:443"
HELLO = client_hello(NAME)
KIB = 1 << 10


@pytest.fixture
def host(daemon):
    """A host that the enclave's tunnel leads to."""
    with Host() as instance:
        allow_tunnel(daemon, (NAME, instance.address))
        yield instance


@contextlib.contextmanager
def nothing_is_left(daemon):
    """Whatever happens within costs no descriptor, and others don't notice."""
    with daemon.client() as other:
        assert other.ask(DESCRIBE).status == 200
        before = daemon.descriptors()
        yield
        wait_descriptors(daemon, before)
        assert other.ask(DESCRIBE).status == 200


# One side ends.

def test_the_enclave_closes_first(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        client.close()
        assert server.is_cut()
        server.close()
        assert wait_ended(daemon)["REASON"] == "closed-by-enclave"


def test_the_host_closes_first(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        server.sendall(b"last words")
        server.close()
        assert client.rest() == b"last words"
        client.close()
        assert wait_ended(daemon)["REASON"] == "closed-by-host"


def test_a_half_closed_enclave_still_gets_its_answer(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        client.sendall(b"question")
        client.half_close()
        assert server.rest() == b"question"
        answer = bytes(range(256)) * 4 * KIB
        server.sendall(answer)
        server.close()
        assert client.rest() == answer
        assert wait_ended(daemon)["REASON"] == "closed-by-enclave"


def test_a_half_closed_host_still_gets_the_rest(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        server.half_close()
        assert client.rest() == b""
        rest = bytes(range(256)) * 4 * KIB
        client.sendall(rest)
        client.close()
        assert server.rest() == rest
        assert wait_ended(daemon)["REASON"] == "closed-by-host"


def test_an_enclave_that_ends_right_behind_its_hello(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client = ask(daemon, HELLO)
        client.half_close()
        with host.accept() as server:
            assert server.rest() == HELLO
            server.sendall(b"answer")
        assert client.rest() == b"answer"


# The enclave goes away at every stage.

ENCLAVE_GOES = {
    "accepted": (b"", "no-request"),
    "one-byte": (HELLO[:1], "cut-off"),
    "record-header": (HELLO[:5], "cut-off"),
    "mid-hello": (HELLO[:-1], "cut-off"),
    "mid-connect": (connect_request(AUTHORITY)[:20], "cut-off"),
}


@pytest.mark.parametrize("data, reason", ENCLAVE_GOES.values(), ids=ENCLAVE_GOES)
def test_the_enclave_goes_before_it_has_said_where_to(daemon, host, data, reason):
    with running(daemon), nothing_is_left(daemon):
        ask(daemon, data).close()
        assert daemon.record(REASON=reason)["VERDICT"] == "refuse"
        assert not host.is_asked()


def test_a_piece_of_a_hello_costs_a_token(daemon, host):
    daemon.config["enclaves"]["payments"]["limits"] = {"requests": "1/h", "burst": 3}
    with running(daemon), daemon.client() as other:
        for count in (1, 2):
            ask(daemon, HELLO[:10]).close()
            daemon.record(REASON="cut-off", count=count)
        assert other.ask(DESCRIBE).status == 200    # the third and last
        assert ask(daemon, HELLO).alert() == INTERNAL_ERROR
        assert daemon.record(REASON="rate")["VERDICT"] == "refuse"


@pytest.mark.parametrize("data", [HELLO, connect_request(AUTHORITY)], ids=["tls", "connect"])
def test_the_enclave_goes_while_its_host_is_connected(daemon, data):
    with deaf_host() as deaf:
        allow_tunnel(daemon, (NAME, deaf.address))
        with running(daemon), nothing_is_left(daemon):
            client = ask(daemon, data)
            wait_taken(client)
            client.close()
            assert daemon.record(REASON="client-gone")["ENDPOINT"] == AUTHORITY


def test_the_enclave_goes_before_the_hello_inside_its_connect(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        with ask(daemon, connect_request(AUTHORITY)) as client:
            server = host.accept()
            assert client.receive(12) == b"HTTP/1.1 200"
        assert daemon.record(REASON="cut-off")["ENDPOINT"] == AUTHORITY
        assert server.is_cut()


def test_the_enclave_goes_in_the_middle(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        server.sendall(b"x" * 100 * KIB)
        client.receive(1)
        select.select([client], [], [], 20)
        client.close()      # with bytes unread: a reset
        assert wait_ended(daemon)["REASON"] == "reset-by-enclave"
        assert server.is_cut()


def test_the_enclave_goes_while_it_is_sent_to(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        stop = threading.Event()

        def send():
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    server.sendall(b"x" * 64 * KIB)

        sender = threading.Thread(target=send)
        sender.start()
        client.receive(1000 * KIB)
        client.close()
        record = wait_ended(daemon)
        stop.set()
        sender.join()
        assert record["REASON"] == "reset-by-enclave"
        assert int(record["BYTES_OUT"]) >= 1000 * KIB


# The host goes away at every stage.

@pytest.mark.parametrize("data", [HELLO, connect_request(AUTHORITY)], ids=["tls", "connect"])
def test_the_host_refuses(daemon, host, data):
    host.close()
    with running(daemon), nothing_is_left(daemon):
        with ask(daemon, data) as client:
            answer = client.rest()
        assert answer[-1] == INTERNAL_ERROR if data == HELLO else answer.startswith(b"HTTP/1.1 502 ")
        assert f"port {host.port}" in daemon.record(REASON="no-upstream")["MESSAGE"]


def test_the_host_resets_at_once(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        with ask(daemon, HELLO) as client:
            host.accept().reset()       # maybe before the daemon knows that it is connected
            assert client.rest()[6:] in (b"", bytes([INTERNAL_ERROR]))
        daemon.wait_log("REASON=(reset-by-host|closed-by-host|no-upstream)")


def test_the_host_resets_before_the_hello_inside_connect(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client = ask(daemon, connect_request(AUTHORITY))
        server = host.accept()
        assert client.receive(39).endswith(b"\r\n\r\n")
        server.reset()
        client.sendall(HELLO)
        assert client.is_cut()
        assert wait_ended(daemon)["REASON"] == "reset-by-host"


def test_the_host_resets_in_the_middle(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        server.sendall(b"some")
        assert client.receive(4) == b"some"
        server.reset()
        assert client.is_cut()
        assert wait_ended(daemon)["REASON"] == "reset-by-host"


def test_the_host_resets_while_it_is_sent_to(daemon, host):
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)

        def send():
            with contextlib.suppress(OSError):
                while True:
                    client.sendall(b"x" * 64 * KIB)

        sender = threading.Thread(target=send)
        sender.start()
        server.receive(1000 * KIB)
        server.reset()
        record = wait_ended(daemon)
        sender.join()
        assert record["REASON"] == "reset-by-host"
        assert int(record["BYTES_IN"]) >= 1000 * KIB


# Deadlines.

def test_a_hello_that_does_not_come_in_time(daemon, host):
    def drip(end):
        with contextlib.suppress(OSError):
            for byte in HELLO:
                end.sendall(bytes([byte]))
                time.sleep(0.1)     # a byte must not move the deadline

    with running(daemon), nothing_is_left(daemon):
        start = time.monotonic()
        silent, slow = ask(daemon, HELLO[:1]), enclave(daemon)
        by_connect = ask(daemon, connect_request(AUTHORITY))
        server = host.accept()
        assert by_connect.receive(39).endswith(b"\r\n\r\n")
        dripper = threading.Thread(target=drip, args=(slow,))
        dripper.start()
        assert [end.alert() for end in (silent, slow, by_connect)] == [INTERNAL_ERROR] * 3
        assert 4.9 < time.monotonic() - start < 10 * SLOW
        assert server.is_cut()
        dripper.join()
        assert daemon.record(REASON="too-slow", count=3)["VERDICT"] == "refuse"
        silent.close(), slow.close(), by_connect.close()


def test_a_host_that_answers_no_syn(daemon):
    with deaf_host() as deaf:
        allow_tunnel(daemon, (NAME, deaf.address))
        with running(daemon), nothing_is_left(daemon):
            start = time.monotonic()
            tls, by_connect = ask(daemon, HELLO), ask(daemon, connect_request(AUTHORITY))
            assert tls.alert() == INTERNAL_ERROR
            assert by_connect.rest().startswith(b"HTTP/1.1 504 ")
            assert 9.9 < time.monotonic() - start < 15 * SLOW
            assert daemon.record(REASON="upstream-timeout", count=2)["ENDPOINT"] == AUTHORITY
            tls.close(), by_connect.close()


def test_an_idle_tunnel_is_closed(daemon, host):
    daemon.config["enclaves"]["payments"]["tunnel"]["idle"] = "500ms"
    with running(daemon), nothing_is_left(daemon):
        client, server = open_tunnel(daemon, host)
        idle_client, idle_server = open_tunnel(daemon, host)
        start = time.monotonic()
        while not daemon.records(REASON="idle"):
            client.sendall(b"x")    # this one isn't
            server.receive(1)
            assert time.monotonic() - start < 20
            time.sleep(0.01)
        assert time.monotonic() - start > 0.4
        assert idle_client.is_cut() and idle_server.is_cut()
        client.sendall(b"still here")
        assert server.receive(10) == b"still here"
        client.close(), server.close()
        wait_ended(daemon, 2)


# Reload.

def test_a_reload_closes_what_is_no_longer_allowed_and_nothing_else(daemon, host):
    with Host() as kept_host, Host() as moved_host, Host() as ledger_host:
        ledger = add_enclave(daemon)
        tunnel = daemon.config["enclaves"]["payments"]["tunnel"]
        tunnel["hosts"] += [{"host": "kept.example", "connect_to": kept_host.address},
                            {"host": "moved.example", "connect_to": moved_host.address},
                            {"host": "alias.example", "connect_to": kept_host.address}]
        allow_tunnel(daemon, ("ledger.example", ledger_host.address), enclave=ledger)
        with running(daemon):
            gone = open_tunnel(daemon, host)
            kept = open_tunnel(daemon, kept_host, "kept.example")
            moved = open_tunnel(daemon, moved_host, "moved.example")
            alias = open_tunnel(daemon, kept_host, "alias.example")
            others = open_tunnel(daemon, ledger_host, "ledger.example", ledger)
            early = ask(daemon, HELLO[:20])     # whose host isn't known yet
            wait_open(daemon, 5)
            wait_taken(early)

            tunnel["hosts"] = [{"host": "new.example", "connect_to": host.address},
                               {"host": "moved.example", "connect_to": kept_host.address},
                               {"host": "kept.example", "connect_to": kept_host.address}]
            del daemon.config["enclaves"][ledger]["tunnel"]
            start = time.monotonic()
            daemon.reload()
            for end in (*gone, *moved, *alias, *others):
                assert end.is_cut()
            assert time.monotonic() - start < 2 * SLOW
            wait_ended(daemon, 4, REASON="no-longer-allowed")
            ended = {r["ENDPOINT"] for r in daemon.records(REASON="no-longer-allowed")}
            assert ended == {AUTHORITY, "moved.example:443", "alias.example:443", "ledger.example:443"}

            client, server = kept
            client.sendall(b"still here")
            assert server.receive(10) == b"still here"
            server.sendall(b"me too")
            assert client.receive(6) == b"me too"
            early.sendall(HELLO[20:])           # by the new rules
            assert early.alert() == UNRECOGNIZED_NAME
            open_tunnel(daemon, host, "new.example")


def test_a_reload_closes_the_tunnels_of_an_enclave_that_is_gone(daemon, host):
    with Host() as ledger_host:
        ledger = add_enclave(daemon)
        allow_tunnel(daemon, ("ledger.example", ledger_host.address), enclave=ledger)
        with running(daemon):
            kept = open_tunnel(daemon, host)
            gone = open_tunnel(daemon, ledger_host, "ledger.example", ledger)
            del daemon.config["enclaves"][ledger]
            del daemon.config["listen"][1]
            daemon.reload()
            assert gone[0].is_cut() and gone[1].is_cut()
            assert wait_ended(daemon)["REASON"] == "no-longer-allowed"
            kept[0].sendall(b"still here")
            assert kept[1].receive(10) == b"still here"


def test_a_reload_in_the_middle_of_connecting(daemon):
    with deaf_host() as deaf:
        allow_tunnel(daemon, (NAME, deaf.address))
        with running(daemon):
            with ask(daemon, HELLO) as client:
                wait_taken(client)
                daemon.reload()                     # without a change: it goes on
                assert not daemon.records(ENDPOINT=AUTHORITY)
                allow_tunnel(daemon, ("other.example", deaf.address))
                daemon.reload()
                assert client.is_cut()
                assert daemon.record(REASON="no-longer-allowed")["ENDPOINT"] == AUTHORITY
                assert not daemon.records(VERDICT="allow", ENDPOINT=AUTHORITY)


# The end of the daemon.

def test_a_stop_ends_idle_tunnels_and_lets_busy_ones_go_on(daemon, host):
    with running(daemon):
        idle = open_tunnel(daemon, host)
        busy = open_tunnel(daemon, host)
        unsaid = ask(daemon, HELLO[:5])
        wait_open(daemon, 2)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("stopping")
        start = time.monotonic()
        while not daemon.records(REASON="shutting-down"):
            busy[0].sendall(b"x")
            assert busy[1].receive(1) == b"x"
            assert time.monotonic() - start < 10 * SLOW
            time.sleep(0.01)
        assert idle[0].is_cut() and idle[1].is_cut()
        busy[1].sendall(b"the last")
        busy[1].close()
        assert busy[0].rest() == b"the last"
        busy[0].close()
        unsaid.close()
        assert daemon.process.wait(20 * SLOW) == 0
        reasons = sorted(r["REASON"] for r in daemon.records() if "ended after" in r["MESSAGE"])
        assert reasons == ["closed-by-host", "shutting-down"]


def test_a_second_sigterm_ends_busy_ones_as_well(daemon, host):
    with running(daemon):
        client, server = open_tunnel(daemon, host)
        wait_open(daemon)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("stopping")
        client.sendall(b"x")
        daemon.process.send_signal(signal.SIGTERM)
        assert client.is_cut()
        assert daemon.process.wait(20) == 0
        assert "shutting-down" in daemon.log()
        assert server.receive(1) == b"x" and server.is_cut()
