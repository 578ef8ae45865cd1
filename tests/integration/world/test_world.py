# SPDX-License-Identifier: Apache-2.0
"""Faults of the world that end with a deadline: all of them at the same time, each of an enclave of
its own (and an endpoint of its own, where that is at fault), while the witness asks. They begin
with this file; the tests after it look at how they ended.

The frame is that of world_help.py; the other test_world_*.py have the faults that are over soon.
"""

import concurrent.futures
import contextlib
import select
import socket
import time

import pytest

from daemon.help import DESCRIBE, ended, NOT_ALLOWED
from daemon.tunnel_help import NAME, SLOW, End, Host, connect_request, deaf_host
from kms.client import request
from net.bridge import connect
from net.tls_hello import INTERNAL_ERROR, client_hello
from server.tls_certs import ServerIdentity
from world_help import OWN, World

HEAD_TIME, BODY_TIME, WRITE_TIME, IDLE_TIME = 5, 10, 10, 60     # common/limit.h
TUNNEL_CONNECT, TUNNEL_STALL = 10, 30
CONNECT_TIME, REPLY_TIME, QUEUE_TIME = 3, 4, 2                  # of the endpoints here
LATE = 5            # seconds after a deadline at which it must have ended; SLOW times as many
DRIP = 0.25
HEAD, _, BODY = DESCRIBE.partition(b"\r\n\r\n")
HEAD += b"\r\n\r\n"
HELLO = client_hello(NAME)
AUTHORITY = f"{NAME}:443"
FAULTS = {}


def fault(deadline, reason, **more):
    """Adds a fault: its deadline in seconds, and the reason of its record."""
    def add(function):
        FAULTS[function.__name__] = (function, deadline, reason, more)
        return function
    return add


class Place:
    """Where one fault happens: its enclave, and what stands in place of its endpoint."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.host = None
        self.host_name = name.replace("_", "-") + ".test"
        self.mark = None        # where the log was

    def client(self):
        return self.world.client(self.name, timeout=200)

    def tunnel(self, data):
        end = End(socket.AF_UNIX, socket.SOCK_STREAM)
        connect(end, self.world.daemon.socket_path(self.name), 200)
        end.sendall(data)
        return end

    def answers(self, status, data=DESCRIBE):
        """A request that ends so; the connection is kept."""
        with self.client() as client:
            assert client.ask(data).status == status
            assert client.ask(NOT_ALLOWED).status == 400


def drip(client, data):
    """A byte now and then, until an answer comes: none of them moves the deadline."""
    for at in range(len(data)):
        client.send(data[at:at + 1])
        if select.select([client.sock], [], [], DRIP)[0]:
            return
    raise AssertionError("all of it was taken")


def too_slow(client):
    answer = client.read()
    assert (answer.status, answer.error) == (408, "RequestTimeoutException")
    assert ended(client)


# The enclave.

@fault(HEAD_TIME, "too-slow")
def silence_in_the_head(place):
    with place.client() as client:
        client.send(HEAD[:30])
        too_slow(client)


@fault(HEAD_TIME, "too-slow")
def drip_in_the_head(place):
    with place.client() as client:
        drip(client, HEAD[:-1])
        too_slow(client)


@fault(BODY_TIME, "too-slow")
def silence_before_the_body(place):
    with place.client() as client:
        client.send(HEAD)
        too_slow(client)


@fault(BODY_TIME, "too-slow")
def silence_in_the_body(place):
    with place.client() as client:
        client.send(DESCRIBE[:-1])
        too_slow(client)


@fault(BODY_TIME, "too-slow")
def drip_in_the_body(place):
    data = request("DescribeKey", body=b" " * 400)
    with place.client() as client:
        client.send(data[:-400])
        drip(client, data[-400:-1])
        too_slow(client)


@fault(BODY_TIME, "too-slow")
def continue_and_no_body(place):
    with place.client() as client:
        client.send(HEAD[:-2] + b"Expect: 100-continue\r\n\r\n")
        too_slow(client)    # after the 100


@fault(HEAD_TIME, "too-slow")
def silence_behind_an_answer(place):
    with place.client() as client:
        assert client.ask(DESCRIBE + HEAD[:30]).status == 200
        too_slow(client)


@fault(WRITE_TIME, "client-too-slow")
def answers_are_never_read(place):
    with place.client() as client:
        client.sock.settimeout(0.2)
        start = time.monotonic()
        while not place.world.records(place.mark, ENCLAVE=place.name, REASON="client-too-slow"):
            assert time.monotonic() - start < 60 * SLOW
            try:
                client.send(NOT_ALLOWED * 10)
            except (TimeoutError, BrokenPipeError, ConnectionResetError):
                time.sleep(0.1)


@fault(IDLE_TIME, "no-request")
def nothing_is_said(place):
    with place.client() as client:
        assert ended(client)


@fault(IDLE_TIME, None)
def nothing_more_is_said(place):
    with place.client() as client:
        assert client.ask(DESCRIBE).status == 200
        assert ended(client)


# Its tunnel.

@fault(HEAD_TIME, "too-slow", tunnel=Host)
def hello_cut(place):
    with place.tunnel(HELLO[:-20]) as end:
        assert end.alert() == INTERNAL_ERROR


@fault(HEAD_TIME, "too-slow", tunnel=Host)
def hello_dripped(place):
    with place.tunnel(HELLO[:1]) as end:
        for at in range(1, len(HELLO) - 1):
            end.sendall(HELLO[at:at + 1])
            if select.select([end], [], [], DRIP)[0]:
                break
        assert end.alert() == INTERNAL_ERROR


@fault(HEAD_TIME, "too-slow", tunnel=Host)
def connect_cut(place):
    with place.tunnel(connect_request(AUTHORITY)[:-2]) as end:
        assert b" 408 " in end.rest()


@fault(HEAD_TIME, "too-slow", tunnel=Host)
def connect_and_silence(place):
    with place.tunnel(connect_request(AUTHORITY)) as end, place.host.accept() as server:
        assert end.receive(39).endswith(b"\r\n\r\n")
        assert end.alert() == INTERNAL_ERROR
        assert server.is_cut()


@fault(TUNNEL_CONNECT, "upstream-timeout", tunnel=deaf_host)
def tunnel_to_a_black_hole(place):
    with place.tunnel(HELLO) as end:
        assert end.alert() == INTERNAL_ERROR


@fault(TUNNEL_CONNECT, "upstream-timeout", tunnel=deaf_host)
def connect_to_a_black_hole(place):
    with place.tunnel(connect_request(AUTHORITY)) as end:
        assert end.rest().startswith(b"HTTP/1.1 504 ")


@fault(2, "idle", tunnel=Host, idle="2s")
def tunnel_without_a_byte(place):
    with place.tunnel(HELLO) as end, place.host.accept() as server:
        server.receive(len(HELLO))
        assert end.is_cut() and server.is_cut()


def fill(end):
    end.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            end.sendall(bytes(65536))
    end.settimeout(200)


@fault(TUNNEL_STALL, "host-too-slow", tunnel=Host)
def host_of_a_tunnel_takes_nothing(place):
    with place.tunnel(HELLO) as end, place.host.accept():
        fill(end)
        place.world.wait_record(place.mark, REASON="host-too-slow", ENCLAVE=place.name,
                                deadline=60 * SLOW)


@fault(TUNNEL_STALL, "client-too-slow", tunnel=Host)
def enclave_takes_nothing_of_its_tunnel(place):
    with place.tunnel(HELLO), place.host.accept() as server:
        fill(server)
        place.world.wait_record(place.mark, REASON="client-too-slow", ENCLAVE=place.name,
                                deadline=60 * SLOW)


# The endpoint, from the first packet to the last.

@fault(CONNECT_TIME, "no-upstream", endpoint=deaf_host)
def black_hole(place):
    place.answers(503)


@fault(CONNECT_TIME, "no-upstream", endpoint=Host)
def never_speaks_tls(place):
    place.answers(503)


@fault(CONNECT_TIME, "no-upstream", endpoint=Host)
def silent_in_the_handshake(place):
    with place.client() as client:
        client.send(DESCRIBE)
        with place.host.accept() as server:
            server.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00")
            assert client.read().status == 503


def speak_tls(place, server):
    authority = place.world.kms.server.identity.authority
    return ServerIdentity([place.host_name], authority).context().wrap_socket(server, server_side=True)


@fault(REPLY_TIME, "upstream-timeout", endpoint=Host)
def request_is_not_taken(place):
    """More than the buffers hold: the daemon can't get rid of it."""
    data = request("Encrypt", body=b'{"KeyId":"a","Plaintext":"eA=="' + b" " * 900000 + b"}")
    place.host._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with place.client() as client:
        client.send(data)
        with speak_tls(place, place.host.accept()):
            assert client.read().status == 504


def of_kms(name, kind, **how):
    """A fault of one answer of the endpoint that the witness asks as well."""
    def run(place):
        made = place.world.kms.fault(kind, body_contains=place.name, count=None, **how)
        marked = request("DescribeKey", {"KeyId": "alias/payments", "GrantTokens": [place.name]})
        place.answers(504, marked)
        place.world.kms.clear(made.number)

    run.__name__ = name
    fault(REPLY_TIME, "upstream-timeout", endpoint="kms")(run)


of_kms("never_answers", "hang")
of_kms("stalls_before_the_head", "stall", after=0)
of_kms("stalls_in_the_head", "stall", after="head")
of_kms("stalls_in_the_body", "stall", after="body")
of_kms("chunks_without_end", "raw", close=False,
       text="HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
of_kms("drips", "drip", piece=1, interval=DRIP)
of_kms("length_too_long", "content_length", add=1)


@fault(REPLY_TIME, "queue-timeout", endpoint=Host,
       how={"connections": 1, "queue_timeout": f"{QUEUE_TIME}s"})
def pool_used_up(place):
    """All connections are taken by requests that nobody answers."""
    with place.client() as first, place.client() as second:
        first.send(DESCRIBE)
        with speak_tls(place, place.host.accept()):
            start = time.monotonic()
            assert second.ask(DESCRIBE).status == 503
            assert QUEUE_TIME - 0.1 < time.monotonic() - start < REPLY_TIME * SLOW
            assert first.read().status == 504


# All of them.

def build(world, stack):
    """An enclave for each fault, and an endpoint or a tunnel's host where it needs one."""
    places = {}
    for name, (_, _, _, more) in FAULTS.items():
        place = places[name] = Place(world, name)
        endpoint, tunnel = more.get("endpoint"), more.get("tunnel")
        changes = {"endpoints": ["kms"], "limits": {"requests": "10000/s", "body": "1MiB"}}
        if endpoint not in (None, "kms"):
            place.host = stack.enter_context(endpoint())
            world.add_endpoint(name, place.host.address, host=place.host_name, **more.get("how", {}))
            changes["endpoints"] = [name, "own"]
        if tunnel:
            place.host = stack.enter_context(tunnel())
            changes["tunnel"] = {
                "hosts": [{"host": NAME, "port": 443, "connect_to": place.host.address}],
                "idle": more.get("idle", "5m")}
        world.enclave(name, **changes)
    return places


def happen(place, function, deadline, reason, more):
    other = request("DescribeKey", {"KeyId": "alias/payments"}, host=OWN)
    works = DESCRIBE if more.get("endpoint") in (None, "kms") else other
    with place.world.fault(label=place.name, reason=reason, enclave=place.name, serves=works,
                           at_least=deadline - 0.1, within=deadline + LATE):
        place.mark = place.world.mark()
        function(place)


@pytest.fixture(scope="session")
def ends(tmp_path_factory, tally):
    """What becomes of each fault, as a future."""
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(contextlib.closing(World(
            tmp_path_factory.mktemp("world"), tally, connect_timeout=f"{CONNECT_TIME}s",
            reply_timeout=f"{REPLY_TIME}s")))
        world.many = True
        places = build(world, stack)
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(FAULTS)))
        stack.enter_context(world)
        yield world, {name: pool.submit(happen, places[name], *row) for name, row in FAULTS.items()}


def cases():
    """The long ones are looked at after all other tests."""
    for name, (_, deadline, _, _) in FAULTS.items():
        yield pytest.param(name, marks=[pytest.mark.last] if deadline > 15 else [])


@pytest.mark.parametrize("name", cases())
def test_a_deadline(ends, name):
    ends[1][name].result(FAULTS[name][1] + 60 * SLOW)


@pytest.mark.last
def test_no_deadline_leaves_anything_behind(ends):
    world, futures = ends
    for future in futures.values():
        future.exception()
    world.check_descriptors()
