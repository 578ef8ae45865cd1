# SPDX-License-Identifier: Apache-2.0
"""Faults of the world: names. Each fault is that of one endpoint's name; who asks the other
endpoint, and who asks one whose addresses are known, must notice nothing. In the frame of
world_help.py."""

import contextlib
import itertools
import select

import pytest

from daemon import wait_for
from daemon.help import DESCRIBE, NOT_ALLOWED
from daemon.tunnel_help import SLOW, needs_root
from kms.client import request
from net.fake_dns import FakeDns
from world_help import OWN, World

pytestmark = needs_root
CONNECT_TIME, QUEUE_TIME = 2, 3
KNOWN = "known.internal"    # of the endpoint that the witness asks as well
FIRST, SECOND = "127.0.0.1", "127.0.0.2"

NEVER = {
    # name: what the name server does, what it leads to, seconds at least and at most, reason, said
    "nxdomain": ("answers", [], 0, 2, "no-upstream", "Name or service not known"),
    "servfail": ("fails", [FIRST], 0, 2, "no-upstream", "Temporary failure in name resolution"),
    "refused": ("refuses", [FIRST], 0, 2, "no-upstream", "Temporary failure in name resolution"),
    "no-address": ("empty", [FIRST], 0, 2, "no-upstream", "No address associated with hostname"),
    "silence": ("silent", [FIRST], QUEUE_TIME, QUEUE_TIME + 3, "queue-timeout", ""),
    "garbage": ("garbage", [FIRST], 0, QUEUE_TIME + 3, None, ""),
    "link-local": ("answers", ["169.254.169.254"], 0, 2, "no-upstream", "link-local"),
    "container-metadata": ("answers", ["169.254.170.2"], 0, 2, "no-upstream", "link-local"),
    "loopback": ("answers", ["127.0.0.1"], 0, 2, "no-upstream", "loopback"),
    "any": ("answers", ["0.0.0.0"], 0, 2, "no-upstream", "loopback"),
    "loopback-behind-a-dead-one": ("answers", ["169.254.1.1", "127.0.0.1"], 0, 2, "no-upstream",
                                   "link-local"),
}
THREADS = [f"thread-{n}" for n in range(6)]     # more than there are threads for lookups


@pytest.fixture(scope="module")
def dns():
    with FakeDns({KNOWN: [FIRST]}) as server:
        yield server


@pytest.fixture(scope="module")
def world(tmp_path_factory, tally, dns):
    folder = tmp_path_factory.mktemp("world")
    times = {"connect_timeout": f"{CONNECT_TIME}s", "queue_timeout": f"{QUEUE_TIME}s"}
    with contextlib.closing(World(folder, tally, **times)) as made:
        made.daemon.wrapper = dns.wrapper(folder, timeout=5)
        made.config["endpoints"]["kms"]["connect_to"] = f"{KNOWN}:{made.kms.port}"
        for name, (mode, addresses, *_) in NEVER.items():
            host = f"{name}.internal"
            dns.modes[host], dns.names[host] = mode, addresses
            made.add_endpoint(name, None, host=host, port=made.kms.port)
            # Not by connect_to, which allows an address of this machine.
            del made.config["endpoints"][name]["connect_to"]
            made.enclave(name, endpoints=[name, "own"])
        for name in THREADS:
            made.add_endpoint(name, f"{name}.internal:{made.kms.port}", host=f"{name}.test")
        made.enclave("threads", endpoints=[*THREADS, "own"])
        for name in ("flapping", "moves"):
            dns.names[f"{name}.internal"] = [FIRST]
            made.add_endpoint(name, f"{name}.internal:{made.kms.port}")
            made.enclave(name, endpoints=[name])
        with made:
            yield made


ELSEWHERE = request("DescribeKey", {"KeyId": "alias/payments"}, host=OWN)


@pytest.mark.parametrize("name", NEVER)
def test_a_name_that_leads_nowhere(world, dns, name):
    _, _, at_least, within, reason, said = NEVER[name]
    with (world.fault(reason=reason, enclave=name, at_least=at_least - 0.1, within=within,
                      serves=ELSEWHERE), world.client(name) as client):
        mark = world.mark()
        answer = client.ask(DESCRIBE)
        assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        assert said in world.wait_record(mark, ENCLAVE=name, HTTP_STATUS=503)["MESSAGE"]
        assert f"{name}.internal" in dns.asked
        assert client.ask(NOT_ALLOWED).status == 400


def test_all_threads_for_lookups_hang(world, dns):
    """One enclave's names take up all of them: the addresses that are known serve on, and so does a
    connection that is made anew."""
    for name in THREADS:
        dns.modes[f"{name}.internal"] = "silent"
    with (world.fault(reason="queue-timeout", count=len(THREADS), enclave="threads",
                      at_least=QUEUE_TIME - 0.1, within=QUEUE_TIME + 5, serves=ELSEWHERE),
          contextlib.ExitStack() as stack):
        clients = []
        for name in THREADS:
            clients.append(stack.enter_context(world.client("threads")))
            clients[-1].send(request("DescribeKey", {"KeyId": "alias/payments"}, host=f"{name}.test"))
        wait_for(lambda: len({n for n in dns.asked if n.startswith("thread-")}) == 4)
        world.kms.drop_connections()
        assert world.ask().status == 200
        for client in clients:
            assert client.read().status == 503


@pytest.mark.parametrize("mode", ["fails", "empty", "garbage", "refuses", "silent"])
def test_the_name_server_is_ill_when_it_is_asked_again(world, dns, mode):
    """A connection failed, so it is asked; until it answers, what is known serves on."""
    with world.alone(), world.fault(reason="allowed", count=5, within=20), world.client() as client:
        dns.mode = mode
        asked = dns.asked.count(KNOWN)
        world.kms.stop()
        while dns.asked.count(KNOWN) == asked:
            client.send(DESCRIBE)
            wait_for(lambda: _readable(client) or dns.asked.count(KNOWN) > asked)
            if _readable(client):
                assert client.read().status == 503
        world.kms.start()
        for _ in range(5):
            assert world.ask().status == 200
        assert dns.asked.count(KNOWN) > asked
    dns.mode = "answers"


def _readable(client):
    return bool(select.select([client.sock], [], [], 0)[0])


def test_a_name_server_that_flaps(world, dns):
    """Once it has answered, its enclave sees no error. The other that asks there would, if its
    connection were dropped in its handshake."""
    host = "flapping.internal"
    dns.modes[host] = "fails"
    with world.alone(), world.fault(enclave="flapping", within=20):
        assert world.ask(enclave="flapping").status == 503
        dns.modes[host] = "answers"
        wait_for(lambda: world.ask(enclave="flapping").status == 200)
        for mode in itertools.islice(itertools.cycle(["fails", "answers", "empty"]), 12):
            dns.modes[host] = mode
            world.kms.drop_connections()
            assert world.ask(enclave="flapping").status == 200


def test_the_endpoint_moves(world, dns):
    """The old address refuses: the new one is found as soon as it is asked for, which is at most
    once a second."""
    mark = world.mark()
    with world.alone(), world.fault(enclave="moves", within=15):
        assert world.ask(enclave="moves").status == 200
        world.kms.stop()
        with moved(world):
            dns.names["moves.internal"] = [SECOND]
            wait_for(lambda: world.ask(enclave="moves").status == 200, 10 * SLOW)
            assert world.records(mark, ENCLAVE="moves", REASON="no-upstream")
            dns.names["moves.internal"] = [FIRST]
        wait_for(lambda: world.ask(enclave="moves").status == 200, 10 * SLOW)


@contextlib.contextmanager
def moved(world):
    """The endpoint has another address for a while."""
    world.kms.server.host = SECOND
    world.kms.start()
    yield
    world.kms.stop()
    world.kms.server.host = FIRST
    world.kms.start()


def test_the_first_address_is_dead(world, dns):
    """The next one is tried."""
    with world.alone(), world.fault(enclave="moves", within=15):
        dns.names["moves.internal"] = [SECOND, FIRST]
        world.kms.stop()
        wait_for(lambda: world.ask(enclave="moves").status == 503)
        world.kms.start()
        wait_for(lambda: world.ask(enclave="moves").status == 200, 10 * SLOW)
