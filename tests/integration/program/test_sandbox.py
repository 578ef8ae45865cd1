# SPDX-License-Identifier: Apache-2.0
"""The daemon's own filter of system calls, without a unit around it. What each call is refused with
is in tests/unit/test-sandbox.c, the unit and both together in tests/vm/cases/test_sandbox.py."""

import os
import pathlib
import re
import signal
import socket
import sys

import pytest

from daemon import program, wait_for
from daemon.help import DESCRIBE
from daemon.journal_help import can_unshare
from daemon.tunnel_help import needs_root
from kms.client import Client
from net.fake_dns import FakeDns
from server.tls_certs import Authority

pytestmark = pytest.mark.skipif(
    os.environ.get("KMS_VSOCK_PROXY_BUILD", "").endswith(("sanitize", "tsan")),
    reason="a sanitizers' build is made without the filter")
HOST = "kms.internal"
NO_FILTER = "no filter of its own system calls"
ABSTRACT = "kms-vsock-proxy-test"
# A /run of its own, where the test build looks for what a test wants of it.
WITH_RUN = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/kms-vsock-proxy
mount --bind "$1" /run/kms-vsock-proxy
shift
exec "$@"
"""
# Runs a program whose own filters the kernel refuses, as a container's profile may.
WITHOUT_FILTERS = """
import ctypes, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(seccomp.seccomp_init(0x7fff0000))
call = seccomp.seccomp_syscall_resolve_name(b"seccomp")
assert seccomp.seccomp_rule_add(context, 0x00050001, call, 0) == 0
assert seccomp.seccomp_load(context) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
# Runs a program as systemd does that hands a socket over.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="payments", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def tasks(daemon):
    """Of each thread: its name, the mode and the number of its filters."""
    found = {}
    for task in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir():
        try:
            text = (task / "status").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue
        field = dict(line.partition(":\t")[::2] for line in text.splitlines())
        found[task.name] = (field["Name"], int(field["Seccomp"]), int(field["Seccomp_filters"]))
    return found


def own_filters():
    text = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^Seccomp_filters:\t(\d+)", text, re.M)[1])


def check_tasks(found):
    assert {(mode, filters) for _, mode, filters in found.values()} == {(2, own_filters() + 1)}, found


def test_every_thread_has_the_filter(daemon):
    daemon.config["workers"] = 3
    with daemon:
        found = tasks(daemon)
        assert len(found) >= 5      # control, the audit writer, the workers
        check_tasks(found)


@needs_root
def test_a_thread_that_is_made_later_has_it_too(daemon, kms):
    """Of a lookup, which begins with the first request, and hangs."""
    daemon.config["endpoints"]["kms"]["connect_to"] = f"{HOST}:{kms.address.rpartition(':')[2]}"
    with FakeDns() as dns:
        dns.mode = "silent"
        daemon.wrapper = dns.wrapper(daemon.folder)
        daemon.start()      # the fixture kills it: its end would wait for the name server
        with daemon.client() as client:
            before = tasks(daemon)
            client.send(DESCRIBE)
            wait_for(lambda: HOST in dns.asked)
            behind = tasks(daemon)
            assert set(behind) - set(before)
            check_tasks(behind)


@needs_root
def test_what_a_daemon_does_goes_on_under_it(daemon, kms, imds):
    """Lookups, a reload with another CA, new credentials, the drain and the end."""
    daemon.config["endpoints"]["kms"]["connect_to"] = f"{HOST}:{kms.address.rpartition(':')[2]}"
    with FakeDns({HOST: [kms.address.rpartition(":")[0]]}) as dns:
        daemon.wrapper = dns.wrapper(daemon.folder)
        with daemon:
            with daemon.client() as client:
                assert client.ask(DESCRIBE).status == 200
                (daemon.folder / "ca.pem").write_bytes(Authority().pem())
                daemon.reload()
            with daemon.client() as client:
                assert client.ask(DESCRIBE).status == 503
                (daemon.folder / "ca.pem").write_bytes(kms.ca_pem())
                daemon.reload()
            with daemon.client() as client:
                wait_for(lambda: client.ask(DESCRIBE).status == 200)
                old = kms.requests[-1].access_key_id
                imds.rotate(revoke_old=True)
                wait_for(lambda: client.ask(DESCRIBE).status == 200)
                assert kms.requests[-1].access_key_id != old
                kms.fault("hang", count=1)
                client.send(DESCRIBE)
                wait_for(lambda: kms.requests[-1].faults)
                daemon.process.send_signal(signal.SIGTERM)
                daemon.wait_log("stopping: ")
                kms.clear()
                assert client.read().status == 200
        assert not os.path.exists(daemon.socket_path())
        assert "Operation not permitted" not in daemon.log()
        assert NO_FILTER not in daemon.log()


@needs_root
@pytest.mark.skipif(not can_unshare(), reason="needs a mount name space")
def test_all_that_it_can_still_do(daemon, tmp_path):
    """The probe of the test build, with nothing but the daemon's own filter against it."""
    hook = tmp_path / "hooks"
    hook.mkdir()
    (hook / "hook").write_text("probe\n", encoding="ascii")
    daemon.wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", WITH_RUN, "sh", hook]
    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.bind("\0" + ABSTRACT)
        somebody.listen()
        with daemon:
            daemon.process.send_signal(signal.SIGUSR2)
            daemon.wait_log("probe dial-imds6: ")
            found = dict(re.findall(r"probe ([a-z0-9-]+): (.*)", daemon.log()))
    print(found)
    assert {name for name, outcome in found.items() if outcome == "ALLOWED"} == {"unix-abstract"}
    others = {name for name, outcome in found.items() if not outcome.startswith(("denied (EPERM", "nothing"))}
    assert others == {name for name in found if name.startswith(("unix-", "connect-", "dial-"))}


def test_no_enclave_is_heard_before_the_filter_is_in_force(daemon, tmp_path):
    """Clients that wait in the backlog of a socket that was handed over, at a start that takes its time."""
    path = tmp_path / "handed.sock"
    daemon.config["listen"] = [{"systemd": "payments", "enclave": "payments"}]
    daemon.environment["LD_PRELOAD"] = str(program().parents[1] / "tests" / "faults" / "libstartorder.so")
    with socket.socket(socket.AF_UNIX) as handed:
        handed.bind(str(path))
        handed.listen()
        daemon.wrapper = [sys.executable, "-c", HAND_OVER, str(handed.fileno())]
        clients = [Client(f"unix:{path}") for _ in range(5)]
        for client in clients:
            client.send(DESCRIBE)
        daemon.start(pass_fds=[handed.fileno()])
        with daemon:
            assert [client.read().status for client in clients] == [200] * 5
            for client in clients:
                client.close()
    order = re.findall(r"^order: (\w+)", daemon.log(), re.M)
    assert order == ["filter"] + ["accepted"] * 5


def test_without_filters_it_says_so_once_and_goes_on(daemon):
    daemon.wrapper = [sys.executable, "-c", WITHOUT_FILTERS]
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        daemon.reload()
        found = [r for r in daemon.records() if NO_FILTER in r["MESSAGE"]]
        assert [r["LEVEL"] for r in found] == ["warning"]
        assert {filters for _, _, filters in tasks(daemon).values()} == {own_filters() + 1}   # the wrapper's
