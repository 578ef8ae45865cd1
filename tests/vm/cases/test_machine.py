# SPDX-License-Identifier: Apache-2.0
"""The machine itself: what the other cases build on is as they think it is."""

import contextlib
import errno
import fcntl
import hashlib
import os
import select
import socket
import struct
import subprocess
import threading

import journal
import peers
import pytest
import service

PORT = 9100
LIMIT_SECONDS = 60


def local_cid():
    with open("/dev/vsock", "rb") as device:
        answer = fcntl.ioctl(device, socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, b"\0" * 4)
    return struct.unpack("I", answer)[0]


@pytest.fixture
def listener():
    with socket.socket(socket.AF_VSOCK) as server:
        server.bind((socket.VMADDR_CID_ANY, PORT))
        server.listen(64)
        server.settimeout(LIMIT_SECONDS)
        yield server


def accept(listener):
    stream, peer = listener.accept()
    stream.settimeout(LIMIT_SECONDS)
    return stream, peer


def read_all(stream):
    data = bytearray()
    while part := stream.recv(65536):
        data += part
    return bytes(data)


@pytest.mark.nitro
@pytest.mark.sanitize
def test_systemd_is_pid_1_and_running():
    assert os.readlink("/proc/1/exe").endswith("/systemd")
    state = subprocess.run(["systemctl", "is-system-running", "--wait"], check=False,
                           stdout=subprocess.PIPE, text=True).stdout.strip()
    failed = subprocess.run(["systemctl", "--failed", "--no-legend"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    assert (state, failed) == ("running", "")


@pytest.mark.nitro
def test_journal_gives_fields_back():
    after = journal.cursor()
    journal.send("a record", ENCLAVE_CID=16, REASON="x=y")
    record, = journal.wait_for(after=after, ENCLAVE_CID="16")
    assert (record["MESSAGE"], record["REASON"], record["_UID"]) == ("a record", "x=y", "0")


@pytest.mark.nitro
def test_local_cid(enclaves, arrangement):
    enclaves(16)
    assert local_cid() == (3 if arrangement == "nitro" else 2)


@pytest.mark.nitro
def test_enclaves_come_with_their_cids(listener, enclaves):
    for cid in (16, 17, 18, 19):
        with enclaves(cid).connect(PORT) as client:
            server, peer = accept(listener)
            assert peer == (cid, client.source_port)
            client.sendall(b"ping")
            assert server.recv(4) == b"ping"
            server.sendall(b"pong")
            assert client.recv(4) == b"pong"
            server.close()


@pytest.mark.nitro
def test_local_process_has_cid_1(listener):
    with socket.socket(socket.AF_VSOCK) as client:
        client.settimeout(LIMIT_SECONDS)
        client.connect((1, PORT))
        server, (cid, _) = accept(listener)
        server.close()
    assert cid == 1


@pytest.mark.nitro
def test_nobody_can_bind_an_enclaves_cid():
    with socket.socket(socket.AF_VSOCK) as server:
        with pytest.raises(OSError):
            server.bind((16, PORT))


@pytest.mark.nitro
def test_closed_port_refuses(enclaves):
    with pytest.raises(peers.Refused):
        enclaves(16).connect(PORT + 1)


@pytest.mark.nitro
def test_bulk_both_ways_with_half_close(listener, enclaves):
    data = os.urandom(1 << 20)
    received = []

    def serve():
        server, _ = accept(listener)
        received.append(hashlib.sha256(read_all(server)).digest())
        server.sendall(data)
        server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with enclaves(16).connect(PORT) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        returned = read_all(client)
    thread.join()
    assert received == [hashlib.sha256(data).digest()]
    assert returned == data


def test_full_close_reaches_the_listener(listener, enclaves):
    client = enclaves(16).connect(PORT)
    server, _ = accept(listener)
    client.sendall(b"last")
    client.close()
    assert read_all(server) == b"last"
    with pytest.raises(OSError):
        while True:     # the close itself may arrive after the end of the bytes
            server.send(b"nobody reads this")
    server.close()


# How the daemon finds out that a client has gone, which no event tells: poll() says of a stream that was
# closed what it says of one that is half-closed, and of one that receives no more nothing at all. POLLHUP
# comes only after a shutdown of our own. Sending no bytes tells them apart, as often as it is asked.
HALF_CLOSED = select.POLLIN | select.POLLOUT | select.POLLRDHUP
ENDS = {        # what the enclave does: the events then, and whether it has gone
    "nothing": (lambda enclave, stream: None, select.POLLOUT, False),
    "sends-no-more": (lambda enclave, stream: enclave.shut(stream, peers.SEND), HALF_CLOSED, False),
    "shutdown-of-sending": (lambda enclave, stream: stream.shutdown(socket.SHUT_WR), HALF_CLOSED, False),
    "receives-no-more": (lambda enclave, stream: enclave.shut(stream, peers.RECEIVE), select.POLLOUT, True),
    "neither": (lambda enclave, stream: enclave.shut(stream, peers.RECEIVE | peers.SEND), HALF_CLOSED, True),
    "shutdown-of-both": (lambda enclave, stream: stream.shutdown(socket.SHUT_RDWR), HALF_CLOSED, True),
    "close": (lambda enclave, stream: stream.close(), HALF_CLOSED, True),
    "reset": (lambda enclave, stream: enclave.reset(stream), HALF_CLOSED, True),
    "death": (lambda enclave, stream: enclave.die(), HALF_CLOSED | select.POLLERR, True),
}

SOCKETS_OWN = ("nothing", "shutdown-of-sending", "shutdown-of-both", "close")      # no command is needed


def events(server):
    waiting = select.poll()
    waiting.register(server, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return dict(waiting.poll(0)).get(server.fileno(), 0)


def takes_nothing(server):
    """Whether it takes a send of no bytes."""
    try:
        return server.send(b"", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) == 0
    except OSError as error:
        assert error.errno in (errno.EPIPE, errno.ECONNRESET)
        return False


@pytest.mark.parametrize("unread", [b"", b"a request"], ids=["all-read", "unread"])
@pytest.mark.parametrize("end", [pytest.param(e, marks=pytest.mark.nitro if e in SOCKETS_OWN else ()) for e in ENDS])
def test_only_a_send_of_no_bytes_tells_who_has_gone(listener, enclaves, end, unread):
    act, expected, has_gone = ENDS[end]
    with enclaves(16).connect(PORT) as client:
        server, _ = accept(listener)
        client.sendall(unread)
        act(enclaves(16), client)
        expected |= select.POLLIN if unread else 0
        service.wait(lambda: events(server) == expected and takes_nothing(server) != has_gone, LIMIT_SECONDS,
                     lambda: f"events {events(server):#x}, not {expected:#x}; {takes_nothing(server)}")
        assert takes_nothing(server) != has_gone      # nothing was used up by asking
        assert events(server) == expected
        server.close()


@pytest.mark.nitro
def test_a_send_of_no_bytes_tells_it_of_a_reader_that_never_reads(listener, enclaves):
    """A stream without credit takes no byte; that it is open, or has ended, is still told."""
    with enclaves(16).connect(PORT) as client:
        server, _ = accept(listener)
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                server.send(b"x" * 65536)
        assert takes_nothing(server)
        client.close()
        service.wait(lambda: not takes_nothing(server), LIMIT_SECONDS)
        server.close()


def test_reader_that_never_reads_grants_no_credit(listener, enclaves):
    with enclaves(16).connect(PORT):
        server, _ = accept(listener)
        server.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 << 20:
                sent += server.send(b"x" * 65536)
        server.close()
    assert sent < 4 << 20


def test_reset_ends_a_stream(listener, enclaves):
    with enclaves(16).connect(PORT) as client:
        server, _ = accept(listener)
        enclaves(16).reset(client)
        assert read_all(server) == b""      # the kernel reports a peer's reset as the end
        with pytest.raises(OSError):
            server.send(b"x")
        server.close()


def test_death_resets_all_streams_and_frees_the_cid(listener, enclaves):
    streams = [enclaves(19).connect(PORT) for _ in range(3)]
    servers = [accept(listener)[0] for _ in streams]
    with pytest.raises(RuntimeError, match="in use"):
        peers.VhostEnclave(19)
    enclaves(19).die()
    for server in servers:
        with pytest.raises(ConnectionResetError):
            server.recv(1)
        server.close()
    with enclaves(19).connect(PORT):
        server, (cid, _) = accept(listener)
        server.close()
    assert cid == 19
    for stream in streams:
        stream.close()


def test_spoofed_source_is_never_seen(listener, enclaves):
    enclaves(17)
    enclaves(16).spoof(17, PORT)
    with enclaves(16).connect(PORT):    # sent after it, so it arrives after it
        server, (cid, _) = accept(listener)
        server.close()
    assert cid == 16
    assert not select.select([listener], [], [], 1)[0]


def test_many_streams_of_one_enclave(listener, enclaves):
    listener.listen(1024)
    streams = [enclaves(18).connect(PORT) for _ in range(300)]
    servers = [accept(listener) for _ in streams]
    assert {cid for _, (cid, _) in servers} == {18}
    for number, stream in enumerate(streams):
        stream.sendall(b"%d\n" % number)
    by_port = {port: server for server, (_, port) in servers}
    for number, stream in enumerate(streams):
        assert by_port[stream.source_port].recv(16) == b"%d\n" % number
    for stream in [*streams, *by_port.values()]:
        stream.close()
