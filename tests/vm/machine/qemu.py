# SPDX-License-Identifier: Apache-2.0
"""Boots the test machine once: gives it a folder, runs that folder's program `run` in it as
root, and brings back what it left in /test/out.

There is no network and no shared file system: a folder goes in as a tar on one disk and comes
back on another, and the second serial line shows the run live. The machine is emulated unless
the processor has vmx or svm: /dev/kvm alone proves nothing (under a hypervisor without nesting
it is there, and an ordinary kernel hangs in it).
"""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time

DISK_ID = "564d5453"    # machine/build writes it into the disk
MEMORY_MIB = 1024
RESULTS_MIB = 256
HERE = pathlib.Path(__file__).resolve().parent


class Run:
    """What one boot came to. `status` is the exit status of `run`, or None if the machine
    stopped before it could say."""

    def __init__(self, folder):
        self.folder = folder
        self.status = None
        self.boot_seconds = None
        self.seconds = 0.0


def boot(image, payload, results, timeout, nitro=False, on_line=lambda line: None):
    """`image` is the folder from machine/build; `nitro`: the machine's own CID is 3, as on a
    parent instance; on_line gets each line of the live log."""
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kms-vsock-proxy-vm-") as scratch:
        scratch = pathlib.Path(scratch)
        _pack(payload, scratch / "in.tar")
        _blank(scratch / "out.tar", RESULTS_MIB)
        backend = _Backend(scratch / "vsock") if nitro else None
        try:
            run = _qemu(image, scratch, results, timeout, backend, on_line)
        finally:
            if backend:
                backend.stop()
        with tarfile.open(scratch / "out.tar", ignore_zeros=False) as tar:
            if run.status is not None:
                tar.extractall(results)
    return run


class _Backend:
    """vhost_user_vsock.py, for as long as the machine runs."""

    def __init__(self, path):
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, HERE / "vhost_user_vsock.py", path], stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("vhost_user_vsock.py did not start")

    def options(self):
        return ["-object", f"memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on",
                "-numa", "node,memdev=mem",
                "-chardev", f"socket,id=vsock,path={self.path}",
                "-device", "vhost-user-vsock-pci,chardev=vsock"]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def _pack(folder, path):
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".", filter=_as_root)
    _blank(path, path.stat().st_size // 2**20 + 1)


def _as_root(member):
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _blank(path, mib):
    with open(path, "ab") as file:
        file.truncate(mib * 2**20)


def _accelerator():
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    if re.search(r"\b(vmx|svm)\b", flags) and os.access("/dev/kvm", os.W_OK):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=512",
            "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+rdrand"]


def _disk(serial, path, options):
    return ["-drive", f"if=none,id={serial},file={path},format=raw,{options}",
            "-device", f"nvme,serial={serial},drive={serial}"]


def _command(image, scratch, results, timeout, backend):
    kernel = ("console=ttyS0 quiet panic=-1 reboot=t "
              f"root=PARTUUID={DISK_ID}-01 rootwait rootfstype=ext4 rw "
              "tsc=reliable no_timer_check mitigations=off "
              "systemd.show_status=0 systemd.unit=vmtest.target "
              f"vmtest.timeout={timeout - 30}")
    return [
        "timeout", "-k", "5", str(timeout), "qemu-system-x86_64",
        *_accelerator(), "-machine", "q35", "-smp", "2", "-m", str(MEMORY_MIB),
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
        "-no-reboot", "-nic", "none",
        *(backend.options() if backend else []),
        "-chardev", f"file,id=console,path={results}/console.log", "-serial", "chardev:console",
        "-chardev", f"file,id=live,path={results}/live.log", "-serial", "chardev:live",
        *_disk("root", image / "root.img", "snapshot=on,cache=unsafe"),
        *_disk("in", scratch / "in.tar", "readonly=on"),
        *_disk("out", scratch / "out.tar", "cache=unsafe"),
        "-kernel", str(image / "vmlinux"), "-append", kernel,
    ]


def _qemu(image, scratch, results, timeout, backend, on_line):
    run = Run(results)
    start = time.monotonic()
    live = results / "live.log"
    live.write_bytes(b"")
    with open(results / "qemu.log", "wb") as log:
        qemu = subprocess.Popen(_command(image, scratch, results, timeout, backend),
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                env={**os.environ, "TMPDIR": str(scratch)})
    try:
        _follow(qemu, live, run, on_line)
    finally:
        if qemu.poll() is None:
            qemu.terminate()    # `timeout` passes it on
        qemu.wait()
    run.seconds = time.monotonic() - start
    return run


def _follow(qemu, live, run, on_line):
    with open(live, encoding="utf-8", errors="replace", newline="\n") as log:
        partial = ""
        while True:
            over = qemu.poll() is not None
            partial += log.read()
            *lines, partial = partial.split("\n")
            for line in lines:
                _note(run, line.rstrip("\r"), on_line)
            if over:
                return
            time.sleep(0.1)


def _note(run, line, on_line):
    word, *rest = line.split(" ")
    if word == "VMTEST-UP":
        run.boot_seconds = float(rest[0])
    elif word == "VMTEST-EXIT":
        run.status = int(rest[0])
    else:
        on_line(line)
