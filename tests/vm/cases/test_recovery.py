# SPDX-License-Identifier: Apache-2.0
"""What hangs or is broken comes back without an operator's systemctl."""

import os
import pathlib
import signal
import threading
import time

import service
from kms.client import request

DESCRIBE = request("DescribeKey", {"KeyId": "alias/payments"})
HOOKS = "/test/build/daemon/kms-vsock-proxyd"
HOOK = pathlib.Path("/run/kms-vsock-proxy/hook")


def test_a_worker_that_spins_is_restarted(unit, enclaves):
    unit.use_program(HOOKS)
    unit.start()
    pid = unit.pid
    HOOK.write_text("spin\n", encoding="ascii")
    start = time.monotonic()
    os.kill(pid, signal.SIGUSR2)
    service.wait(lambda: unit.pid not in (0, pid), 60)
    took = time.monotonic() - start
    print(f"a hanging worker was replaced after {took:.1f} s")
    assert took < 15
    HOOK.unlink(missing_ok=True)
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200


def test_a_broken_configuration_mended_needs_no_command(unit, enclaves):
    unit.start()
    unit.write("listen: [{vsock: 8000}]\nenclaves: {alpha: {cid: 3}}\n")
    service.systemctl("restart", service.UNIT, check=False)
    answers = []

    def wait_for_it():
        with enclaves(16).client(service.PORT) as client:
            client.sock.settimeout(150)
            answers.append(client.ask(DESCRIBE).status)

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    # it fails again and again, and never gives up
    service.wait(lambda: int(unit.show("NRestarts")) >= 6, 150, lambda: unit.show("NRestarts"))
    assert service.systemctl("is-active", service.SOCKET).strip() == "active"
    assert not answers
    unit.write()
    waiting.join(150)
    assert answers == [200]
    assert unit.is_active()
