# SPDX-License-Identifier: Apache-2.0
"""Names that a name server answers, doesn't, or answers anew; the daemon asks one of its own."""

import time

import pytest

from daemon import wait_for
from daemon.help import add_enclave, DESCRIBE
from daemon.tunnel_help import (
    NAME, SLOW, Host, allow_tunnel, ask, connect_request, needs_root, open_tunnel, running)
from net.fake_dns import FakeDns
from net.tls_hello import INTERNAL_ERROR, client_hello

pytestmark = needs_root
HOST = "vpce.internal"      # where the tunnel is to connect to; loopback is allowed by connect_to
HELLO = client_hello(NAME)


@pytest.fixture
def dns(daemon):
    with FakeDns() as server:
        daemon.wrapper = server.wrapper(daemon.folder)
        yield server


def lead(daemon, dns, host, name=HOST):
    """The tunnel's host is found by that name, and the name server knows where it is."""
    allow_tunnel(daemon, (NAME, f"{name}:{host.port}"))
    dns.names[name] = [host.ip]


def test_a_tunnel_follows_a_new_address_without_a_restart(daemon, dns):
    with Host("127.0.0.2") as old, Host("127.0.0.3", old.port) as new:
        lead(daemon, dns, old)
        with running(daemon):
            first = open_tunnel(daemon, old)
            dns.names[HOST] = [new.ip]
            second = open_tunnel(daemon, new)
            assert not old.is_asked()
            for client, server in (first, second):      # the old one lives on
                client.sendall(b"here")
                assert server.receive(4) == b"here"


def test_the_next_address_is_tried_when_the_first_refuses(daemon, dns):
    with Host("127.0.0.3") as host:
        lead(daemon, dns, host)
        dns.names[HOST] = ["127.0.0.2", host.ip]
        with running(daemon):
            open_tunnel(daemon, host)


@pytest.mark.parametrize("mode, message", [
    ("answers", "Name or service not known"), ("fails", "Temporary failure in name resolution")])
def test_a_name_that_is_not_found(daemon, dns, mode, message):
    allow_tunnel(daemon, (NAME, None))
    dns.mode = mode
    with running(daemon):
        assert ask(daemon, HELLO).alert() == INTERNAL_ERROR
        assert ask(daemon, connect_request(f"{NAME}:443")).rest().startswith(b"HTTP/1.1 502 ")
        record = daemon.record(REASON="no-upstream", count=2)
        assert message in record["MESSAGE"]
        assert record["ENDPOINT"] == f"{NAME}:443"
        assert NAME in dns.asked


def test_nothing_is_looked_up_before_the_host_is_allowed(daemon, dns):
    allow_tunnel(daemon, (NAME, None))
    with running(daemon):
        ask(daemon, client_hello("other.example")).alert()
        ask(daemon, connect_request("other.example:443")).rest()
        ask(daemon, connect_request(f"{NAME}:8443")).rest()
        daemon.record(REASON="tunnel-host", count=3)
        assert not dns.asked


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_a_name_may_not_lead_to_this_machine(daemon, dns, address):
    allow_tunnel(daemon, (NAME, None))
    dns.names[NAME] = [address]
    with running(daemon):
        assert ask(daemon, HELLO).alert() == INTERNAL_ERROR
        assert "loopback, link-local or metadata" in daemon.record(REASON="no-upstream")["MESSAGE"]


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2"])
def test_a_name_in_connect_to_may_lead_to_loopback_but_not_to_metadata(daemon, dns, address):
    """Only what stands in the file itself was the operator's choice; a name server's isn't."""
    allow_tunnel(daemon, (NAME, f"{HOST}:80"))
    dns.names[HOST] = [address]
    with running(daemon):
        assert ask(daemon, HELLO).alert() == INTERNAL_ERROR
        assert "loopback, link-local or metadata" in daemon.record(REASON="no-upstream")["MESSAGE"]


@pytest.mark.parametrize("mode", ["fails", "forgets"])
def test_the_last_good_address_serves_while_lookups_fail(daemon, dns, mode):
    with Host() as host:
        lead(daemon, dns, host)
        with running(daemon):
            open_tunnel(daemon, host)
            if mode == "forgets":
                dns.names.clear()
            else:
                dns.mode = mode
            asked = len(dns.asked)
            open_tunnel(daemon, host)
            assert len(dns.asked) > asked


def test_the_last_good_address_serves_while_lookups_hang(daemon, dns):
    with Host("127.0.0.2") as old, Host("127.0.0.3", old.port) as new:
        lead(daemon, dns, old)
        other = add_enclave(daemon, tunnel={"hosts": [{"host": f"{n}.example"} for n in range(4)]})
        daemon.wrapper = dns.wrapper(daemon.folder, timeout=4)
        with running(daemon), daemon.client(other) as plain:
            open_tunnel(daemon, old)
            dns.mode = "silent"
            # All threads for lookups are taken up by names of another enclave.
            hung = [ask(daemon, client_hello(f"{n}.example"), other) for n in range(4)]
            wait_for(lambda: {f"{n}.example" for n in range(4)} <= set(dns.asked))
            start = time.monotonic()
            open_tunnel(daemon, old)
            assert 0.9 < time.monotonic() - start < 3 * SLOW
            assert plain.ask(DESCRIBE).status == 200
            for end in hung:
                end.close()

            dns.names[HOST] = [new.ip]      # it is back
            dns.mode = "answers"

            def follows():
                with ask(daemon, HELLO):
                    return new.is_asked(within=1)
            wait_for(follows, 60)


def test_a_name_server_that_never_answered(daemon, dns):
    dns.mode = "silent"
    allow_tunnel(daemon, (NAME, None))
    with running(daemon), daemon.client() as plain:
        start = time.monotonic()
        tls = ask(daemon, HELLO)
        by_connect = ask(daemon, connect_request(f"{NAME}:443"))
        gone = ask(daemon, HELLO)
        assert plain.ask(DESCRIBE).status == 200
        gone.close()
        daemon.record(REASON="client-gone")
        assert tls.alert() == INTERNAL_ERROR
        assert by_connect.rest().startswith(b"HTTP/1.1 504 ")
        assert 9.9 < time.monotonic() - start < 15 * SLOW
        assert daemon.record(REASON="upstream-timeout", count=2)["ENDPOINT"] == f"{NAME}:443"
