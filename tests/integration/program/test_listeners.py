# SPDX-License-Identifier: Apache-2.0
"""Where the daemon listens: Unix sockets, vsock, and sockets that systemd hands over."""

import contextlib
import errno
import grp
import os
import resource
import socket
import stat
import sys
import time

import pytest

from daemon import Daemon, wait_for
from daemon.journal_help import can_unshare
from daemon.help import add_enclave, DESCRIBE, NOT_ALLOWED
from standins import Client

# As systemd does: sockets from descriptor 3 on, and the pid of the daemon itself.
HAND_OVER = """
import os, sys
fds = [int(n) for n in os.environ.pop("TEST_FDS").split()]
for at, fd in enumerate(fds):
    os.dup2(fd, 100 + at)
for at in range(len(fds)):
    os.dup2(100 + at, 3 + at)
    os.set_inheritable(3 + at, True)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.environ["LISTEN_FDS"] = str(len(fds))
os.execv(sys.argv[1], sys.argv[1:])
"""


def hand_over(daemon, *sockets, names=None, **how):
    """Starts it with these sockets."""
    daemon.wrapper = [sys.executable, "-c", HAND_OVER, *daemon.wrapper]
    daemon.environment = {"TEST_FDS": " ".join(str(s.fileno()) for s in sockets), **daemon.environment}
    if names is not None:
        daemon.environment["LISTEN_FDNAMES"] = ":".join(names)
    daemon.start(pass_fds=[s.fileno() for s in sockets], **how)


@contextlib.contextmanager
def listening(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        yield sock


def refused_start(daemon):
    """What the daemon says when it doesn't start; with an exit status of 1."""
    if daemon.process is None:
        daemon.start(wait=False)
    assert daemon.process.wait(20) == 1
    return daemon.log()


def answers(path):
    with Client(f"unix:{path}") as client:
        return client.ask(DESCRIBE).status


# Unix sockets.

def test_a_unix_socket_is_its_owners_alone(daemon):
    with daemon:
        found = os.stat(daemon.socket_path())
        assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_uid == os.geteuid()
    assert not os.path.exists(daemon.socket_path())


def test_mode_and_group_of_a_unix_socket(daemon):
    gid = grp.getgrnam("nogroup").gr_gid if os.geteuid() == 0 else os.getgid()
    daemon.config["listen"][0].update(mode="0660", group=grp.getgrgid(gid).gr_name)
    with daemon:
        found = os.stat(daemon.socket_path())
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, gid)
        assert answers(daemon.socket_path()) == 200


def test_a_group_that_is_not_there(daemon):
    daemon.config["listen"][0].update(group="no-such-group")
    assert "there is no group no-such-group" in refused_start(daemon)
    assert not os.path.exists(daemon.socket_path())


def test_a_stale_socket_is_removed(daemon):
    with listening(daemon.socket_path()):
        pass
    assert os.path.exists(daemon.socket_path())
    with daemon:
        assert answers(daemon.socket_path()) == 200


def test_a_socket_that_somebody_listens_on_is_left_alone(daemon):
    with listening(daemon.socket_path()) as other:
        assert "another process listens there" in refused_start(daemon)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(daemon.socket_path())
            assert os.path.samestat(os.stat(daemon.socket_path()), os.stat(other.getsockname()))


def test_a_second_daemon_leaves_the_first_its_socket(daemon, kms, imds, tmp_path):
    with daemon:
        (tmp_path / "second").mkdir()
        second = Daemon(tmp_path / "second", kms, imds, config=daemon.config)
        assert "another process listens there" in refused_start(second)
        assert answers(daemon.socket_path()) == 200


@pytest.mark.parametrize("make", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(daemon, make):
    path = daemon.folder / "payments.sock"
    if make == "file":
        path.write_text("precious")
    elif make == "folder":
        path.mkdir()
    else:
        (daemon.folder / "target").write_text("precious")
        path.symlink_to(daemon.folder / "target")
    before = os.lstat(path)
    assert "no socket" in refused_start(daemon)
    assert os.path.samestat(before, os.lstat(path))


def test_a_folder_that_is_not_there(daemon):
    daemon.config["listen"][0]["unix"] = str(daemon.folder / "none" / "x.sock")
    assert "none/x.sock: can't bind: No such file or directory" in refused_start(daemon)


def test_several_listeners(daemon):
    other = add_enclave(daemon)
    second = str(daemon.folder / "second.sock")
    daemon.config["listen"].append({"unix": second, "enclave": "payments"})
    with daemon:
        for path, name in ((daemon.socket_path(), "payments"), (daemon.socket_path(other), other),
                           (second, "payments")):
            before = len(daemon.records(ENCLAVE=name))
            assert answers(path) == 200
            daemon.record(ENCLAVE=name, count=before + 1)


# Sockets handed over.

@pytest.fixture
def handed(daemon):
    """Two enclaves whose sockets come from outside."""
    add_enclave(daemon)
    daemon.config["listen"] = [{"systemd": "kms", "enclave": "payments"},
                               {"systemd": "dev", "enclave": "ledger"}]
    return daemon


@pytest.fixture
def sockets(tmp_path):
    with listening(tmp_path / "a.sock") as first, listening(tmp_path / "b.sock") as second:
        yield first, second


def test_sockets_handed_over_are_told_apart_by_name(handed, sockets):
    hand_over(handed, *sockets, names=["dev", "kms"])       # in another order than the entries
    with handed:
        for one, name in zip(sockets, ("ledger", "payments")):
            assert answers(one.getsockname()) == 200
            handed.record(ENCLAVE=name)
            assert len(handed.records(ENCLAVE=name)) == 1
    for one in sockets:     # not ours to remove
        assert os.path.exists(one.getsockname())


def test_a_socket_without_an_entry_is_an_error(handed, sockets):
    handed.config["listen"].pop()
    handed.config["enclaves"].pop("ledger")
    hand_over(handed, *sockets, names=["kms", "dev"], wait=False)
    assert 'systemd handed over a socket "dev" that no entry of `listen` names' in refused_start(handed)


def test_an_entry_without_a_socket_is_an_error(handed, sockets):
    hand_over(handed, sockets[0], names=["kms"], wait=False)
    assert 'socket "dev" of systemd: systemd handed over no socket of this name' in refused_start(handed)


def test_sockets_without_names_are_an_error(handed, sockets):
    hand_over(handed, *sockets, wait=False)
    assert 'systemd handed over no socket of this name' in refused_start(handed)


def test_two_sockets_of_one_name_are_an_error(handed, sockets):
    hand_over(handed, *sockets, names=["kms", "kms"], wait=False)
    assert 'socket "dev" of systemd: systemd handed over no socket' in refused_start(handed)


def test_a_second_socket_of_one_name_is_no_ones(handed, sockets, tmp_path):
    with listening(tmp_path / "c.sock") as third:
        hand_over(handed, *sockets, third, names=["kms", "dev", "kms"], wait=False)
        assert 'handed over a socket "kms" that no entry' in refused_start(handed)


def test_sockets_meant_for_another_process_are_none(handed, sockets):
    handed.environment["LISTEN_PID"] = "1"
    hand_over(handed, *sockets, names=["kms", "dev"], wait=False)
    assert 'systemd handed over no socket of this name' in refused_start(handed)


def _tcp():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


def _datagrams(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    return sock


def _not_listening(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return sock


@pytest.mark.parametrize("make, said", [
    (lambda path: _tcp(), "neither vsock nor a Unix socket"),
    (_datagrams, "not a listening stream socket"),
    (_not_listening, "not a listening stream socket"),
], ids=["tcp", "datagrams", "not-listening"])
def test_sockets_of_another_kind_are_an_error(handed, sockets, tmp_path, make, said):
    with make(tmp_path / "c.sock") as other:
        hand_over(handed, sockets[0], other, names=["kms", "dev"], wait=False)
        assert said in refused_start(handed)


def test_a_unix_socket_whose_entry_names_no_enclave_is_an_error(handed, sockets):
    handed.config["enclaves"]["payments"]["cid"] = 16
    del handed.config["listen"][0]["enclave"]
    hand_over(handed, *sockets, names=["kms", "dev"], wait=False)
    assert "a Unix socket has no CID; the entry must name its `enclave`" in refused_start(handed)


def test_a_socket_of_systemd_socket_activate(handed, tmp_path):
    """systemd's own program hands it over, at the first connection."""
    handed.config["listen"].pop()
    handed.config["enclaves"].pop("ledger")
    path = tmp_path / "activated.sock"
    handed.wrapper = ["systemd-socket-activate", "--fdname=kms", "-l", path]
    handed.start(wait=False)
    wait_for(path.exists)
    with Client(f"unix:{path}") as client:
        client.send(DESCRIBE)
        handed.wait_log("credentials valid")
        assert client.read().status in (200, 503)       # before or after they came
        assert client.ask(DESCRIBE).status == 200
    with handed:
        handed.record(REASON="allowed")


# vsock. There are no peers here: those are in the tests with a virtual machine.

def has_vsock():
    try:
        socket.socket(socket.AF_VSOCK).close()
    except OSError:
        return False
    return True


vsock = pytest.mark.skipif(not has_vsock(), reason="the kernel has no AF_VSOCK")
PORT = 20000 + os.getpid() % 20000


@pytest.fixture
def on_vsock(daemon):
    daemon.config["listen"].append({"vsock": PORT})
    daemon.config["enclaves"]["payments"]["cid"] = 16
    return daemon


def vsock_bound(port):
    with socket.socket(socket.AF_VSOCK) as sock:
        try:
            sock.bind((socket.VMADDR_CID_ANY, port))
        except OSError:
            return True
    return False


@vsock
def test_a_vsock_port_is_listened_on(on_vsock):
    with on_vsock:
        assert vsock_bound(PORT)
        assert answers(on_vsock.socket_path()) == 200
    assert not vsock_bound(PORT)


@vsock
def test_a_vsock_port_that_is_taken(on_vsock):
    with socket.socket(socket.AF_VSOCK) as other:
        other.bind((socket.VMADDR_CID_ANY, PORT))
        other.listen()
        said = refused_start(on_vsock)
        assert f"vsock port {PORT}: can't bind (another process" in said
    assert not os.path.exists(on_vsock.socket_path())   # the one that was opened is gone again


@vsock
def test_a_vsock_socket_handed_over_fits_its_port(on_vsock):
    with socket.socket(socket.AF_VSOCK) as handed:
        handed.bind((socket.VMADDR_CID_ANY, PORT))
        handed.listen()
        hand_over(on_vsock, handed, names=["whatever"])
        with on_vsock:
            assert answers(on_vsock.socket_path()) == 200


@vsock
def test_a_vsock_socket_of_another_port_is_an_error(on_vsock):
    with socket.socket(socket.AF_VSOCK) as handed:
        handed.bind((socket.VMADDR_CID_ANY, PORT + 1))
        handed.listen()
        hand_over(on_vsock, handed, names=["whatever"], wait=False)
        assert 'systemd handed over a socket "whatever" that no entry' in refused_start(on_vsock)


# What a seccomp filter, or RestrictAddressFamilies= of a unit, says to a vsock socket. seccomp(2), for x86-64 and arm64:
# the address family is the first argument, the calls' numbers are 41 and 198.
WITHOUT_VSOCK = """
import ctypes, os, struct, sys
call = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
code = [(0x20, 0, 0, 0), (0x15, 0, 3, call), (0x20, 0, 0, 16), (0x15, 0, 1, 40),
        (0x06, 0, 0, 0x00050000 | int(sys.argv[1])), (0x06, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(head), 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


@vsock
@pytest.mark.parametrize("error, said", [
    (errno.EPERM, "a seccomp filter or security module forbids vsock sockets; it must allow socket(AF_VSOCK)"),
    (errno.EACCES, "a seccomp filter or security module forbids vsock sockets"),
    (errno.EAFNOSUPPORT, "no vsock socket can be made here; enable kms-vsock-proxy.socket, which hands one over"),
])
def test_where_no_vsock_socket_can_be_made(on_vsock, error, said):
    on_vsock.wrapper = [sys.executable, "-c", WITHOUT_VSOCK, str(error)]
    log = refused_start(on_vsock)
    assert f"vsock port {PORT}: {said}" in log and os.strerror(error) in log


@vsock
def test_a_second_vsock_port_where_one_was_handed_over(on_vsock):
    on_vsock.config["listen"].append({"vsock": PORT + 1})
    on_vsock.wrapper = [sys.executable, "-c", WITHOUT_VSOCK, str(errno.EAFNOSUPPORT)]
    with socket.socket(socket.AF_VSOCK) as handed:
        handed.bind((socket.VMADDR_CID_ANY, PORT))
        handed.listen()
        hand_over(on_vsock, handed, names=["whatever"], wait=False)
        assert (f"vsock port {PORT + 1}: no vsock socket can be made here, and kms-vsock-proxy.socket hands over "
                f"other ports only; add ListenStream=vsock::{PORT + 1} to it in a drop-in (systemctl edit "
                "kms-vsock-proxy.socket)") in refused_start(on_vsock)


@pytest.mark.parametrize("mode", ["local", "global", None])
def test_a_network_namespace_that_no_enclave_is_in_is_warned_about(daemon, kms, mode):
    if not can_unshare():
        pytest.skip("a mount namespace can't be made here")
    make = f"mkdir /proc/sys/net/vsock && echo {mode} >/proc/sys/net/vsock/ns_mode &&" if mode else ""
    daemon.wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                      f'mount -t tmpfs none /proc/sys/net && {make} exec "$@"', "sh"]
    daemon.start()
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
    assert ("net.vsock.ns_mode is local" in daemon.log()) == (mode == "local")


@vsock
def test_a_vsock_socket_has_no_enclave_of_its_own(handed, sockets):
    with socket.socket(socket.AF_VSOCK) as other:
        other.bind((socket.VMADDR_CID_ANY, PORT))
        other.listen()
        hand_over(handed, sockets[0], other, names=["kms", "dev"], wait=False)
        assert "the CID names the enclave of a vsock socket" in refused_start(handed)


# Out of descriptors.

def test_running_out_of_descriptors_is_survived(daemon):
    with daemon:
        first = daemon.client()
        assert first.ask(DESCRIBE).status == 200        # and its connection to KMS is there
        top = max(int(n) for n in os.listdir(f"/proc/{daemon.pid}/fd"))
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (top + 6, top + 6))
        clients = [daemon.client() for _ in range(30)]
        for client in clients:
            client.send(NOT_ALLOWED)
        daemon.wait_log("unix socket .*payments.sock: can't accept connections: Too many open files")
        start = time.monotonic()
        while time.monotonic() - start < 0.5:           # it tries again several times
            assert first.ask(DESCRIBE).status == 200    # and those that are there live on
        said = len(daemon.records(LEVEL="error"))
        for client in clients:      # each is served as others make room
            assert client.read().status == 400
            client.close()
        first.close()
        assert answers(daemon.socket_path()) == 200
        assert said == 1
        assert daemon.descriptors() <= top + 6


def test_no_descriptor_is_left_over(daemon):
    """What a client can do to a connection, many times."""
    with daemon:
        with daemon.client() as client:
            assert client.ask(DESCRIBE).status == 200
        before = daemon.descriptors()
        for turn in range(200):
            with daemon.client() as client:
                client.send([b"", b"P", b"\x16\x03", DESCRIBE[:-1], b"GET /\r\n", DESCRIBE][turn % 6])
                if turn % 6 == 5:
                    assert client.read().status == 200
        wait_for(lambda: daemon.descriptors() <= before)


def watched(daemon):
    """How many descriptors each of its event loops watches."""
    folder = f"/proc/{daemon.pid}"
    loops = {}
    for fd in os.listdir(f"{folder}/fd"):
        if os.readlink(f"{folder}/fd/{fd}") == "anon_inode:[eventpoll]":
            with open(f"{folder}/fdinfo/{fd}", encoding="ascii") as f:
                loops[fd] = sum(line.startswith("tfd:") for line in f)
    return loops


def test_the_workers_share_the_connections(daemon):
    daemon.config["workers"] = 3
    with daemon, contextlib.ExitStack() as stack:
        before = watched(daemon)
        clients = [stack.enter_context(daemon.client()) for _ in range(9)]
        assert [c.ask(NOT_ALLOWED).status for c in clients] == [400] * 9
        after = watched(daemon)
        assert sorted(after[fd] - before[fd] for fd in after)[-4:] == [0, 3, 3, 3]
        daemon.process.terminate()      # each worker hears of the end
        for client in clients:
            assert client.sock.recv(1) == b""
        assert daemon.process.wait(20) == 0
