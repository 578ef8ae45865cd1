# SPDX-License-Identifier: Apache-2.0
"""The unit's own sandbox: a probe in the test build tries what it must not be able to do."""

import ctypes
import errno
import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess

import journal
import pytest
import service
from kms.client import request

HOOKS = "/test/build/daemon/kms-vsock-proxyd"
HOOK = pathlib.Path("/run/kms-vsock-proxy/hook")
RESOLVE = pathlib.Path("/run/systemd/resolve/io.systemd.Resolve")
ABSTRACT = "\0kms-vsock-proxy-test"
DESCRIBE = request("DescribeKey", {"KeyId": "alias/payments"})
CONNECTS = {f"{way}-{to}" for way in ("connect", "dial") for to in ("loopback", "imds", "imds6")}
# What nothing may be in the way of: records, READY, lookups.
NEEDED = {"unix-journal", "unix-notify", "unix-resolve"}
# What no unit of systemd can close; SECURITY.md says so.
LEFT = {"unix-abstract"}
# What the unit can't deny: systemd or the daemon needs it at the start, or a rule there doesn't reach so far.
# The daemon's own filter does.
OWN = {"fork", "execve-listed", "map-exec-anonymous", "write-run", "write-null", "write-memory",
       "pair-vsock", "listen", "listen-inet", "bind-named", "bind-abstract"}
DENIED = {"execve", "memfd", "execveat-memfd", "map-exec-memfd", "map-write-exec", "protect-exec", "ptrace",
          "process-vm-readv", "process-vm-writev", "keyctl", "add-key", "request-key", "write-etc", "write-var",
          "socket-vsock", "socket-netlink", "socket-packet", "ring-vsock",
          "ring-netlink", "ring-packet", "vsock-listen", "vsock-connect", "unix-bus", "unix-oom",
          "unix-userdb"} | CONNECTS
# Where a socket of this machine may be connected to by the daemon's user, as the unit shows it /run.
SERVICES = ("/run/systemd/journal/", "/run/systemd/journal.", "/run/systemd/notify", "/run/systemd/resolve/",
            "/run/nscd/")


@pytest.fixture
def servers():
    """A resolver where systemd-resolved would have it, and somebody's abstract socket."""
    with socket.socket(socket.AF_UNIX) as resolver, socket.socket(socket.AF_UNIX) as abstract:
        RESOLVE.parent.mkdir(exist_ok=True)
        RESOLVE.unlink(missing_ok=True)
        resolver.bind(str(RESOLVE))
        RESOLVE.chmod(0o666)
        abstract.bind(ABSTRACT)
        for one in (resolver, abstract):
            one.listen(16)
        yield
        RESOLVE.unlink()


def probe(unit, names):
    """What the daemon could do of all that the probe tries: name: outcome."""
    HOOK.write_text("probe\n", encoding="ascii")
    place = journal.cursor()
    os.kill(unit.pid, signal.SIGUSR2)

    def outcomes():
        found = {}
        for record in journal.records(place, _SYSTEMD_UNIT=service.UNIT):
            match = re.match(r"probe ([a-z0-9-]+): (.*)", record["MESSAGE"])
            if match:
                found[match[1]] = match[2]
        return found if set(found) >= names else None

    found = service.wait(outcomes, message=lambda: str(journal.records(place, _SYSTEMD_UNIT=service.UNIT)))
    HOOK.unlink(missing_ok=True)
    print(*(f"{name}: {outcome}" for name, outcome in found.items()), sep="\n")
    assert set(found) == names
    for name in CONNECTS:
        assert "loopback, link-local or metadata" in found[name]
    assert unit.is_active()
    return found


def allowed(found):
    return {name for name, outcome in found.items() if outcome == "ALLOWED"}


def own_filter_warnings(place):
    return [r for r in journal.records(place, _SYSTEMD_UNIT=service.UNIT)
            if "no filter of its own system calls" in r["MESSAGE"]]


def filters(pid):
    """(mode, number) of each thread."""
    texts = [path.read_text(encoding="ascii") for path in pathlib.Path(f"/proc/{pid}/task").glob("*/status")]
    return [tuple(int(re.search(rf"^{name}:\t(\d+)", text, re.M)[1]) for name in ("Seccomp", "Seccomp_filters"))
            for text in texts]


def test_the_unit_alone_denies_what_it_says(unit, servers, enclaves):
    """Where the kernel lets the daemon have no filter of its own, it says so once and goes on."""
    unit.use_program(HOOKS)
    unit.drop_in("no-filter", "[Service]\nSystemCallFilter=~seccomp\n")
    place = journal.cursor()
    unit.start()
    found = probe(unit, DENIED | NEEDED | LEFT | OWN)
    assert allowed(found) == NEEDED | LEFT | OWN
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200
    assert [record["PRIORITY"] for record in own_filter_warnings(place)] == ["4"]


def test_unit_and_daemon_deny_all_that_is_not_needed(unit, servers):
    unit.use_program(HOOKS)
    place = journal.cursor()
    unit.start()
    found = probe(unit, DENIED | NEEDED | LEFT | OWN)
    assert allowed(found) == NEEDED | LEFT
    assert own_filter_warnings(place) == []


def test_each_thread_has_one_filter_more_than_the_unit_gives(unit):
    unit.drop_in("no-filter", "[Service]\nSystemCallFilter=~seccomp\n")
    unit.start()
    units = set(filters(unit.pid))
    unit.stop()
    unit.start()
    assert len(units) == 1
    mode, number = units.pop()
    assert set(filters(unit.pid)) == {(mode, number + 1)}


def test_what_a_daemon_does_goes_on_under_both(unit, enclaves, aws):
    """Reloads, a new CA file, new credentials, a journal that is started anew; nothing is refused that is needed."""
    place = journal.cursor()
    unit.start()
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200
        ca = pathlib.Path(aws.endpoint()["ca_file"])
        copy = ca.with_suffix(".copy.pem")
        copy.write_bytes(ca.read_bytes())
        unit.config["endpoints"]["kms"]["ca_file"] = str(copy)
        unit.write()
        unit.reload()
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200
        aws.ask(to="imds", rotate={"revoke_old": True})
        service.wait(lambda: client.ask(DESCRIBE).status == 200)
        journal.wait_for(after=place, count=2, _SYSTEMD_UNIT=service.UNIT, CREDENTIALS_SOURCE="imds")
        subprocess.run(["systemctl", "restart", "systemd-journald"], check=True)
        after = journal.cursor()
        assert client.ask(DESCRIBE).status == 200
        journal.wait_for(after=after, KMS_ACTION="DescribeKey")
    service.systemctl("stop", service.UNIT)
    assert unit.show("Result") == "success"
    records = journal.records(place, _SYSTEMD_UNIT=service.UNIT)
    assert [r["MESSAGE"] for r in records if "not permitted" in r["MESSAGE"]] == []
    assert own_filter_warnings(place) == []


@pytest.mark.parametrize("own_filter", [True, False])
def test_a_listener_of_its_own(unit, enclaves, servers, own_filter):
    """The example's drop-in lets the unit make vsock sockets; the daemon gives that up when it has bound its own."""
    unit.use_program(HOOKS)
    unit.listen_itself()
    if not own_filter:
        unit.drop_in("no-filter", "[Service]\nSystemCallFilter=~seccomp\n")
    unit.start()
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200
    found = probe(unit, DENIED | NEEDED | LEFT | OWN)
    vsock = {"socket-vsock", "vsock-listen", "vsock-connect"}
    assert allowed(found) == NEEDED | LEFT | (set() if own_filter else OWN | vsock)


def test_a_journal_namespace_of_its_own(unit, enclaves):
    unit.drop_in("log-namespace", (service.EXAMPLES / "log-namespace.conf").read_text(encoding="utf-8"))
    unit.start()
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200

    def recorded():
        return subprocess.run(["journalctl", "--namespace=kms-vsock-proxy", "--no-pager", "-o", "cat",
                               "KMS_ACTION=DescribeKey"], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "DescribeKey allowed" in service.wait(recorded)


def unix_sockets():
    """The paths of all that the machine's processes listen at, with the types."""
    rows = [line.split() for line in pathlib.Path("/proc/net/unix").read_text(encoding="ascii").splitlines()[1:]]
    return sorted({(row[7], int(row[4], 16)) for row in rows if len(row) == 8 and row[7].startswith("/")})


def reachable(pid, sockets):
    """In a child, in the mounts of `pid` and as the daemon's user: those that can be connected to."""
    uid = pwd.getpwnam("kms-vsock-proxy").pw_uid
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with open(f"/proc/{pid}/ns/mnt", "rb") as mounts:
            ctypes.CDLL(None).setns(mounts.fileno(), 0)
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        for path, kind in sockets:
            with socket.socket(socket.AF_UNIX, kind) as one:
                one.setblocking(False)
                if one.connect_ex(path) in (0, errno.EAGAIN):
                    os.write(writer, path.encode() + b"\n")
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="ascii") as found:
        paths = found.read().split()
    assert os.waitpid(child, 0)[1] == 0
    return paths


def test_the_daemon_reaches_no_service_that_it_does_not_need(unit, servers):
    unit.start()
    sockets = unix_sockets()
    paths = {path for path, _ in sockets}
    assert {"/run/dbus/system_bus_socket", "/run/systemd/journal/socket", str(RESOLVE)} <= paths
    reached = reachable(unit.pid, sockets)
    print(sockets, reached)
    assert "/run/systemd/journal/socket" in reached
    assert [path for path in reached if not path.startswith(SERVICES)] == []
    # The unit hides them, not their modes.
    assert "/run/dbus/system_bus_socket" in reachable(1, sockets)


def test_the_score(unit):
    shown = subprocess.run(["systemd-analyze", "security", "--no-pager", "--threshold=10", service.UNIT],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(shown.stdout.splitlines()[-1])
    assert shown.returncode == 0, shown.stdout


def test_the_units_verify(unit):
    shown = subprocess.run(["systemd-analyze", "verify", "--man=no", service.UNIT, service.SOCKET],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert shown.returncode == 0, shown.stdout
    assert shown.stdout.strip() == ""


def test_user_and_catalog_are_there():
    subprocess.run(["getent", "passwd", "kms-vsock-proxy"], check=True)
    listed = subprocess.run(["journalctl", "--list-catalog", "--no-pager"], check=True, stdout=subprocess.PIPE,
                            text=True).stdout
    assert "kms-vsock-proxy: The KMS proxy has started" in listed


def test_no_system_call_was_punished():
    """SystemCallFilter answers EPERM; a process that was killed by seccomp shows up here."""
    assert "type=1326" not in subprocess.run(["dmesg"], check=True, stdout=subprocess.PIPE, text=True).stdout
