# SPDX-License-Identifier: Apache-2.0
"""Runs the real daemon for a test: its configuration, its process, what it wrote.

    daemon = Daemon(folder, kms, imds)
    daemon.config["enclaves"]["payments"]["limits"] = {"requests": "5/s", "burst": 5}
    with daemon:
        answer = daemon.client().ask(request("DescribeKey", {"KeyId": "alias/payments"}))
        record = daemon.record(REASON="allowed")

The configuration is a Python dict (JSON is YAML) with one enclave, `payments`, on a Unix socket; a
test changes it before the start, or later and calls reload(). The daemon writes text to a file;
records() reads it back as dicts of the journal's fields.
"""

import copy
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

from kms.client import Client

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEADLINE = 20 * (4 if os.environ.get("KMS_VSOCK_PROXY_SLOW") else 1)
# How many workers a daemon has whose configuration doesn't say: for ThreadSanitizer more than one.
WORKERS = int(os.environ.get("KMS_VSOCK_PROXY_WORKERS", 0))


def program():
    """The daemon's binary: of $KMS_VSOCK_PROXY_BUILD, else of the folder `build`."""
    build = pathlib.Path(os.environ.get("KMS_VSOCK_PROXY_BUILD", ROOT / "build"))
    return build / "daemon" / "kms-vsock-proxyd"


def wait_for(what, deadline=DEADLINE, message="nothing in time"):
    """Calls what() until it is true; returns that."""
    end = time.monotonic() + deadline
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(0.005)


def default_config(folder, kms, imds):
    """One enclave that may do everything with one key, in clear."""
    (folder / "ca.pem").write_bytes(kms.ca_pem())
    return {
        "listen": [{"unix": str(folder / "payments.sock"), "enclave": "payments"}],
        "endpoints": {
            "kms": {
                "host": next(iter(kms.hosts)), "region": kms.keys.regions[0],
                "connect_to": kms.address, "ca_file": str(folder / "ca.pem"),
            },
        },
        "credentials": {"source": "imds", "imds": {"endpoint": imds.url if imds else "http://127.0.0.1:1"}},
        "enclaves": {
            "payments": {
                "endpoints": ["kms"],
                "limits": {"requests": "10000/s", "burst": 10000},
                "allow": [
                    {"name": "use", "keys": "any", "plaintext": "allow",
                     "actions": ["Encrypt", "Decrypt", "DescribeKey", "GenerateDataKey"]},
                ],
            },
        },
    }


_FIELD = re.compile(r' ([A-Z][A-Z0-9_]*)=("[^"]*"|\S*)')
_FIELDS = re.compile(r'(?: [A-Z][A-Z0-9_]*=(?:"[^"]*"|\S*))+$')


def parse_line(line):
    """One line of the log as a dict: MESSAGE, LEVEL and the fields after the sentence."""
    level, _, text = line.partition(": ")
    fields = _FIELDS.search(text)
    record = {"LEVEL": level, "MESSAGE": text[:fields.start()] if fields else text}
    for name, value in _FIELD.findall(fields[0]) if fields else ():
        record[name] = value[1:-1] if value.startswith('"') else value
    return record


class Daemon:
    def __init__(self, folder, kms, imds, config=None, wrapper=(), environment=None):
        self.folder = pathlib.Path(folder)
        self.config = config or default_config(self.folder, kms, imds)
        self.config_path = self.folder / "kms-vsock-proxy.yaml"
        self.log_path = self.folder / "daemon.log"
        self.wrapper = list(wrapper)
        self.environment = environment or {}
        self.process = None

    # Its life.

    def write_config(self):
        new = self.config_path.with_suffix(".new")
        text = self.config
        if not isinstance(text, str):
            text = json.dumps({"workers": WORKERS, **text} if WORKERS else text, indent=1)
        new.write_text(text)
        new.replace(self.config_path)

    def start(self, wait="credentials", pass_fds=()):
        """wait: "credentials" until it has some, True until it accepts, False not at all."""
        self.write_config()
        environment = {k: v for k, v in os.environ.items()
                       if not k.startswith("AWS_") and k not in ("JOURNAL_STREAM", "NOTIFY_SOCKET")}
        environment.update(self.environment)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, program(), "--config", self.config_path], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=environment, pass_fds=pass_fds)
        if wait:
            self.wait_log(r"started: ")
        if wait == "credentials":
            self.wait_log(r"credentials valid")
        return self

    def stop(self, sig=signal.SIGTERM, deadline=DEADLINE + 30):
        """Ends it and checks that it ended well. Returns the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self.process = None
        return status

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, kind, *_):
        status = self.stop()
        if kind is None:
            assert status == 0, f"the daemon ended with {status}:\n{self.log()[-4000:]}"

    def reload(self, expect=r"loaded, \d+ enclaves?"):
        """Writes the configuration and sends SIGHUP; waits until the log says `expect` once more."""
        before = len(re.findall(expect, self.log()))
        self.write_config()
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(re.findall(expect, self.log())) > before,
                 message=lambda: f"no {expect!r} in:\n{self.log()[-3000:]}")

    # Its clients.

    def socket_path(self, enclave="payments"):
        return next(entry["unix"] for entry in self.config["listen"] if entry.get("enclave") == enclave)

    def client(self, enclave="payments", timeout=DEADLINE):
        return Client(f"unix:{self.socket_path(enclave)}", timeout=timeout)

    # What it wrote.

    def log_size(self):
        return self.log_path.stat().st_size

    def log(self, start=0):
        """What it wrote after so many bytes; while it runs, as far as the last whole line: who reads
        while it writes can meet half of one."""
        if not self.log_path.exists():
            return ""
        running = self.process is not None and self.process.poll() is None
        with open(self.log_path, "rb") as log:
            log.seek(start)
            said = log.read()
        return said[:said.rfind(b"\n") + 1 if running else None].decode(errors="replace")

    def wait_log(self, pattern, deadline=DEADLINE):
        def look():
            assert self.process.poll() is None, f"the daemon ended:\n{self.log()}"
            return re.search(pattern, self.log())
        return wait_for(look, deadline, lambda: f"no {pattern!r} in:\n{self.log()[-3000:]}")

    def records(self, **fields):
        """All records (or messages) whose fields have these values."""
        found = [parse_line(line) for line in self.log().splitlines()]
        return [r for r in found if all(r.get(n) == str(v) for n, v in fields.items())]

    def record(self, deadline=DEADLINE, count=1, **fields):
        """Waits until `count` records match, and returns the last."""
        return wait_for(lambda: len(found := self.records(**fields)) >= count and found[-1], deadline,
                        lambda: f"no {count} records of {fields} in:\n{self.log()[-3000:]}")

    # Its process.

    @property
    def pid(self):
        return self.process.pid

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident(self):
        """Bytes."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
