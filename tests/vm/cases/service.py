# SPDX-License-Identifier: Apache-2.0
"""The installed product as systemd runs it: its configuration, its units, what they say."""

import json
import os
import pathlib
import shutil
import subprocess
import time

import journal

UNIT = "kms-vsock-proxy.service"
SOCKET = "kms-vsock-proxy.socket"
CONFIG = pathlib.Path("/etc/nitro_enclaves/kms-vsock-proxy.yaml")
EXAMPLES = pathlib.Path("/usr/share/doc/kms-vsock-proxy/examples/systemd")
PROGRAM = "/usr/sbin/kms-vsock-proxyd"
PORT = 8000
SECONDS = 90        # an emulated service takes a while to start


def systemctl(*words, check=True):
    return subprocess.run(["systemctl", "--no-pager", *words], check=check, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True).stdout


def wait(what, seconds=SECONDS, message="not in time"):
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(0.1)


class Service:
    """Starts with the socket unit only; the first connection starts the rest."""

    def __init__(self, config):
        self.config = config
        self.drop_ins = []
        self.masked = False

    def write(self, text=None):
        new = CONFIG.with_suffix(".new")
        new.write_text(text if text is not None else json.dumps(self.config, indent=1), encoding="utf-8")
        new.chmod(0o644)
        os.replace(new, CONFIG)

    def confine_sanitizers(self):
        """The sanitizers' build needs more memory, and can't look for leaks without ptrace."""
        if os.environ.get("VM_ARRANGEMENT") != "sanitize":
            return
        folder = pathlib.Path(f"/run/systemd/system/{UNIT}.d")
        folder.mkdir(parents=True, exist_ok=True)
        options = " ".join(f'"{name}={os.environ[name]}"' for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"))
        (folder / "sanitize.conf").write_text(f"[Service]\nEnvironment={options}\nMemoryMax=infinity\n",
                                              encoding="ascii")
        systemctl("daemon-reload")

    def drop_in(self, name, text):
        """Until the end of the case; as an operator would."""
        folder = pathlib.Path(f"/run/systemd/system/{UNIT}.d")
        folder.mkdir(parents=True, exist_ok=True)
        self.drop_ins.append(folder / f"{name}.conf")
        self.drop_ins[-1].write_text(text, encoding="utf-8")
        systemctl("daemon-reload")

    def use_program(self, path):
        """Runs another build of the daemon in the same unit."""
        target = pathlib.Path("/usr/sbin/kms-vsock-proxyd-test")
        shutil.copy(path, target)
        self.drop_in("program", f"[Service]\nExecStart=\nExecStart={target}\nExecPaths={target}\n")

    def listen_itself(self):
        """The example's drop-in, and no socket unit."""
        self.drop_in("own-listener", (EXAMPLES / "own-listener.conf").read_text(encoding="utf-8"))
        systemctl("mask", "--runtime", SOCKET)
        self.masked = True

    def start_socket(self):
        self.write()
        self.confine_sanitizers()
        if not self.masked:
            systemctl("start", SOCKET)

    def start(self):
        self.start_socket()
        systemctl("start", UNIT)

    def stop(self):
        systemctl("stop", SOCKET, UNIT, check=False)
        systemctl("reset-failed", SOCKET, UNIT, check=False)
        if self.masked:
            systemctl("unmask", "--runtime", SOCKET)
            self.masked = False
        if self.drop_ins:
            for path in self.drop_ins:
                path.unlink()
            self.drop_ins = []
            systemctl("daemon-reload")

    def reload(self):
        """`systemctl reload` comes back when the signal is sent; READY says it is over."""
        place = journal.cursor()
        systemctl("reload", UNIT)
        return wait(lambda: [r for r in journal.records(place, _SYSTEMD_UNIT=UNIT)
                             if "loaded" in r["MESSAGE"]])

    def show(self, name):
        return systemctl("show", "--property", name, "--value", UNIT).strip()

    @property
    def pid(self):
        return int(self.show("MainPID"))

    def is_active(self):
        return self.show("ActiveState") == "active"

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")


def rule(name, *actions, **more):
    return {"name": name, "actions": list(actions), "keys": "any", **more}


def enclave(cid, **more):
    """One that may do what the cases' traffic does."""
    return {"cid": cid, "endpoints": ["kms"], "limits": {"requests": "10000/s", "burst": 10000},
            "allow": [rule("use", "DescribeKey", "Encrypt"),
                      rule("open", "Decrypt", "GenerateDataKey", plaintext="allow")], **more}


def four_enclaves():
    return {name: enclave(cid) for name, cid in
            (("alpha", 16), ("beta", 17), ("gamma", 18), ("delta", 19))}
