# SPDX-License-Identifier: Apache-2.0
"""The other side of fault_points.c: arms it, reads what it counted, names what failed.

    page = Page(folder)                     # its environment() goes to the daemon
    page.arm("allocation", ["worker"], 17, "ENOMEM")
    ...
    if page.disarm():                       # whether it came to the 17th
        print(trace(page.frames()))
"""

import errno
import mmap
import os
import pathlib
import re
import struct
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
HEADER = (HERE / "fault_points.h").read_text(encoding="utf-8")


def _enum(name):
    body = re.search(rf"enum {name} {{(.*?)}};", HEADER, re.S)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    names = [n.strip() for n in body.split(",") if n.strip() and not n.strip().startswith("_")]
    return [n.removeprefix("FAULT_").lower() for n in names]


def _number(name):
    return int(re.search(rf"#define {name} (\d+)", HEADER)[1])


KINDS = _enum("fault_kind")
THREADS = _enum("fault_thread")
SHORT = "short"
FRAMES, FRAME_SIZE = _number("FAULT_FRAMES"), _number("FAULT_FRAME_SIZE")

# struct fault_page
READY, ARMED, KIND, THREAD_BITS, ERROR, TIMES, LEFT, FIRED, N_FRAMES, LIVE, LIVE_BYTES, CALLS = (
    0, 4, 8, 12, 16, 20, 24, 32, 36, 40, 48, 56)
FRAMES_AT = CALLS + 8 * len(THREADS) * len(KINDS)
SIZE = FRAMES_AT + FRAMES * FRAME_SIZE


def library():
    """Of the same build as the daemon."""
    build = pathlib.Path(os.environ.get("KMS_VSOCK_PROXY_BUILD", HERE.parents[1] / "build"))
    return build / "tests" / "faults" / "libfaultpoints.so"


class Page:
    def __init__(self, folder):
        self.path = pathlib.Path(folder) / "fault-page"
        self.path.write_bytes(bytes(SIZE))
        with open(self.path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)

    def environment(self):
        return {"LD_PRELOAD": str(library()), "KMS_VSOCK_PROXY_FAULT_PAGE": str(self.path)}

    def _get(self, form, at):
        return struct.unpack_from(form, self._map, at)[0]

    def _put(self, form, at, value):
        struct.pack_into(form, self._map, at, value)

    @property
    def ready(self):
        return self._get("I", READY) == 1

    @property
    def fired(self):
        return self._get("I", FIRED)

    @property
    def live(self):
        """Allocations that are not freed."""
        return self._get("q", LIVE)

    @property
    def live_bytes(self):
        return self._get("q", LIVE_BYTES)

    def calls(self, kind, threads):
        """So many since the daemon's start."""
        return sum(self._get("Q", CALLS + 8 * (THREADS.index(t) * len(KINDS) + KINDS.index(kind)))
                   for t in threads)

    def arm(self, kind, threads, n, error, times=1):
        """The n-th call from now fails, and `times - 1` after it."""
        self._put("I", KIND, KINDS.index(kind))
        self._put("I", THREAD_BITS, sum(1 << THREADS.index(t) for t in threads))
        self._put("i", ERROR, -1 if error == SHORT else getattr(errno, error))
        self._put("I", TIMES, times)
        self._put("q", LEFT, n)
        self._put("I", FIRED, 0)
        self._put("I", N_FRAMES, 0)
        self._put("I", ARMED, 1)

    def disarm(self):
        """How many calls failed."""
        self._put("I", ARMED, 0)
        return self.fired

    def frames(self):
        """Where the first one that failed was called from: (path, offset) each."""
        found = []
        for i in range(self._get("I", N_FRAMES)):
            raw = self._map[FRAMES_AT + i * FRAME_SIZE:FRAMES_AT + (i + 1) * FRAME_SIZE]
            path, _, offset = raw.split(b"\0")[0].decode().rpartition("+")
            if not path.endswith("libfaultpoints.so"):
                found.append((path, offset))
        return found


def trace(frames):
    return "\n".join(f"    {pathlib.Path(p).name}+{o}  {_line(p, o)}" for p, o in frames)


def _line(path, offset):
    if not os.path.exists(path):
        return ""
    # What stands there is the address to return to, after the call.
    done = subprocess.run(["addr2line", "-f", "-s", "-e", path, hex(int(offset, 16) - 1)],
                          capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()).replace("?? ??:0", "")
