# SPDX-License-Identifier: Apache-2.0
"""The unit's own sandbox: a probe in the test build tries what it must not be able to do."""

import os
import pathlib
import re
import signal
import subprocess

import journal
import service

HOOKS = "/test/build/daemon/kms-vsock-proxyd"
HOOK = pathlib.Path("/run/kms-vsock-proxy/hook")
PROBES = {"execve", "write-etc", "write-var", "ptrace", "socket-vsock", "socket-netlink", "connect-loopback",
          "connect-imds", "connect-imds6", "dial-loopback", "dial-imds", "dial-imds6"}


def test_the_sandbox_denies_what_the_unit_says(unit):
    unit.use_program(HOOKS)
    unit.start()
    HOOK.write_text("probe\n", encoding="ascii")
    place = journal.cursor()
    os.kill(unit.pid, signal.SIGUSR2)

    def outcomes():
        found = {}
        for record in journal.records(place, _SYSTEMD_UNIT=service.UNIT):
            match = re.match(r"probe ([a-z0-9-]+): (.*)", record["MESSAGE"])
            if match:
                found[match[1]] = match[2]
        return found if set(found) >= PROBES else None

    found = service.wait(outcomes, message=lambda: str(journal.records(place, _SYSTEMD_UNIT=service.UNIT)))
    HOOK.unlink(missing_ok=True)
    print(found)
    assert {name: result for name, result in found.items() if not result.startswith("denied")} == {}
    for name in (n for n in PROBES if n.startswith(("connect-", "dial-"))):
        assert "loopback, link-local or metadata" in found[name]
    assert unit.is_active()


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
