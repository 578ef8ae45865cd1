# SPDX-License-Identifier: Apache-2.0
"""One file for a fleet: drop-ins beside it, the hash of all, and what is said when one is refused."""

import json
import re
import signal
import subprocess

import pytest

from daemon import wait_for
from daemon.help import DESCRIBE, NOT_ALLOWED

SHOP = """\
# The shop's own.
enclaves:
  shop:
    endpoints: [kms]
    allow:
      - name: look
        actions: [DescribeKey]
        keys: any
"""


@pytest.fixture
def folder(daemon):
    found = daemon.folder / "kms-vsock-proxy.d"
    found.mkdir(mode=0o755)
    daemon.config["listen"] = [*daemon.config["listen"],
                               {"unix": str(daemon.folder / "shop.sock"), "enclave": "shop"}]
    put(found / "10-shop.yaml", SHOP)
    return found


def put(path, text):
    path.write_text(text)
    path.chmod(0o644)


def hash_of(daemon):
    """As an operator would make it with coreutils."""
    return subprocess.run("LC_ALL=C; export LC_ALL; sha256sum kms-vsock-proxy.yaml kms-vsock-proxy.d/*.yaml | sha256sum",
                          shell=True, cwd=daemon.folder, capture_output=True, text=True, check=True).stdout[:64]


def test_a_drop_in_has_its_enclave_and_its_line(daemon, folder):
    with daemon, daemon.client("shop") as shop, daemon.client() as payments:
        assert shop.ask(DESCRIBE).status == 200
        assert shop.ask(NOT_ALLOWED).error == "AccessDeniedException"
        assert payments.ask(DESCRIBE).status == 200
        assert daemon.record(ENCLAVE="shop", VERDICT="refuse")["RULE"] == "look"
        put(folder / "10-shop.yaml", SHOP.replace("keys: any", "keys: [alias/other]"))
        daemon.reload()
        with daemon.client("shop") as client:
            answer = client.ask(DESCRIBE)
        assert 'rule "look" (kms-vsock-proxy.d/10-shop.yaml:6) does not allow key' in json.loads(answer.body)["message"]
        assert "(kms-vsock-proxy.d/10-shop.yaml:6)" in daemon.record(ENCLAVE="shop", REASON="key")["MESSAGE"]


def test_the_hash_of_all_files_is_in_the_records_of_loads(daemon, folder):
    with daemon:
        first = hash_of(daemon)
        assert re.search(rf"started: .*CONFIG_HASH={first}", daemon.log())
        put(folder / "20-empty.yaml", SHOP.replace("shop:", "other:").replace("[kms]", "[kms]\n    cid: 9"))
        daemon.config["listen"] = [*daemon.config["listen"], {"vsock": 9000}]
        daemon.reload()
        second = hash_of(daemon)
        assert second != first
        assert re.search(rf"loaded, 3 enclaves.*CONFIG_HASH={second}", daemon.log())


def await_status(manager, wanted):
    """Receives until a message has a status line that matches; returns the message."""
    found = []

    def look():
        found.append(manager.recv(4096).decode())
        return re.search(r"(?m)^STATUS=" + wanted, found[-1])
    wait_for(look)
    return found[-1]


BROKEN = [
    ("10-shop.yaml", SHOP.replace("actions", "action"), 0o644, r"kms-vsock-proxy.d/10-shop.yaml:7: a rule has no option"),
    ("20-b.yaml", SHOP, 0o644, r'kms-vsock-proxy.d/20-b.yaml:3: "shop" is given twice; the first is at '
                               r"kms-vsock-proxy.d/10-shop.yaml:3"),
    ("20-b.yaml", "workers: 2\n", 0o644, r'kms-vsock-proxy.d/20-b.yaml:1: "workers" can\'t stand in a drop-in'),
    ("20-b.yaml", SHOP.replace("shop", "b"), 0o666, r"kms-vsock-proxy.d/20-b.yaml: every user may write it"),
]


@pytest.mark.parametrize("name, text, mode, said", BROKEN)
def test_the_status_keeps_why_a_file_was_refused_until_a_good_one(daemon, folder, manager, name, text, mode, said):
    with daemon, daemon.client("shop") as shop:
        await_status(manager, rf"Serving 2 enclaves.*; configuration {hash_of(daemon)}$")
        before = hash_of(daemon)
        put(folder / name, text)
        (folder / name).chmod(mode)
        daemon.process.send_signal(signal.SIGHUP)
        refusal = r"Serving 2 enclaves.*; the file was refused at \d\d:\d\d: "
        message = await_status(manager, refusal + said)
        assert message.startswith("READY=1\n") and message.endswith(f"; configuration {before}"), message
        assert shop.ask(DESCRIBE).status == 200
        (folder / name).unlink()
        put(folder / "10-shop.yaml", SHOP)
        daemon.reload()
        message = await_status(manager, r"Serving 2 enclaves")
        assert "refused" not in message and message.startswith("READY=1\n")


def test_a_file_that_is_gone_is_a_refusal_too(daemon, manager):
    with daemon:
        daemon.config_path.unlink()
        daemon.process.send_signal(signal.SIGHUP)
        await_status(manager, r"Serving .*; the file was refused at \d\d:\d\d: kms-vsock-proxy.yaml: can't be read: No such")
        daemon.reload()
        assert "refused" not in await_status(manager, "Serving")


def test_what_a_new_generation_refuses_stands_there_too(daemon, manager):
    with daemon:
        daemon.config["endpoints"]["kms"] = {**daemon.config["endpoints"]["kms"], "ca_file": "/absent.pem"}
        daemon.reload(expect="not loaded")
        await_status(manager, r"Serving .*; the file was refused at \d\d:\d\d: .*/absent.pem")


def test_warnings_never_hide_an_error(daemon, folder):
    """The journal has twenty findings."""
    with daemon:
        for i in range(30):
            cids = f"cids: [{2 * i + 100}-{2 * i + 101}]"
            put(folder / f"{i + 20}.yaml", SHOP.replace("shop:", f"e{i}:").replace("[kms]", f"[kms]\n    {cids}"))
        daemon.reload()
        log = daemon.log()
        assert re.search(r"warning: \S+: \d+ findings more; --check-config prints", log)
        assert log.count("warning: ") == 21
        start = daemon.log_size()
        put(folder / "99.yaml", "wrong: 1\n")
        daemon.reload(expect="not loaded")
        assert '"wrong" can\'t stand in a drop-in' in daemon.log(start)
