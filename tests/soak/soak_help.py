# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share: the KMS and the clients as processes, a daemon whose records
are counted as they come, and how flat a line is."""

import collections
import fcntl
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET

from daemon import DEADLINE, Daemon, parse_line, wait_for
from proc import memory

HERE = pathlib.Path(__file__).resolve().parent
PIPE = 1 << 20
KEPT = 20000            # lines that are no records
COUNTERS = ("CONNECTIONS_REFUSED", "REQUESTS", "ALLOWED", "REFUSED", "THROTTLED", "FAILED")


class Process:
    """A program of this folder, told what to do by lines of JSON. It ends with its standard input."""

    def __init__(self, script, *arguments, nice=0):
        self.process = subprocess.Popen(
            [sys.executable, "-B", HERE / script, *map(str, arguments)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, preexec_fn=(lambda: os.nice(nice)) if nice else None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    @property
    def pid(self):
        return self.process.pid

    def hear(self):
        line = self.process.stdout.readline()
        assert line, f"{self.process.args[2]} has ended"
        return json.loads(line)

    def tell(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def ask(self, **what):
        self.tell(**what)
        return self.hear()

    def finish(self):
        """Ends its input; returns the last line it says."""
        self.process.stdin.close()
        said = self.hear()
        assert self.process.wait(DEADLINE) == 0
        return said


class EchoKms(Process):
    def __init__(self, folder):
        super().__init__("echo_kms.py", folder)
        first = self.hear()
        self.port, self.imds = first["port"], first["imds"]


class CountedDaemon(Daemon):
    """Its text goes into a FIFO, and its records are counted there: those of an hour would fill a
    disk. log() has only what is no record of a request, a connection or a tunnel."""

    def __init__(self, folder, config, wrapper=()):
        super().__init__(folder, None, None, config, wrapper)
        self.seen = collections.Counter()
        self.kept, self.counted = [], []
        self.on_line = lambda line: None

    def start(self, wait="credentials", pass_fds=()):
        os.mkfifo(self.log_path)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        return super().start(wait, pass_fds)

    def _read(self):
        rest = b""
        with open(self.log_path, "rb", buffering=0) as pipe:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
            while chunk := pipe.read(PIPE):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line)

    def _take(self, line):
        if b" REQUEST_ID=" in line:
            self.seen["requests"] += 1
            self.seen["withheld"] += line.startswith(b"critical: ")
        elif b" VERDICT=refuse" in line:
            self.seen["connections"] += 1
        elif b" VERDICT=allow" not in line:
            self._keep(line.decode())

    def _keep(self, line):
        if " REQUESTS=" in line:
            self.counted.append(parse_line(line))
            return
        for name in ("SUPPRESSED", "LOST"):
            found = re.search(f" {name}=(\\d+)", line)
            self.seen[name] += int(found[1]) if found else 0
        self.seen[line.partition(":")[0]] += 1
        if len(self.kept) < KEPT:
            self.kept.append(line)
        self.on_line(line)

    def log(self):
        return "\n".join(self.kept)

    def counters(self):
        """Those of all enclaves together, by name; what was counted before is left out of log()."""
        self.counted = []
        self.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: len(self.counted) == len(self.config["enclaves"]))
        return {name: sum(int(r[name]) for r in self.counted) for name in COUNTERS}

    def settled(self):
        """The counters, once every connection of a client has ended and all is written."""
        def look():
            c = self.counters()
            return c["REQUESTS"] == sum(c[n] for n in COUNTERS[2:]) and c
        return wait_for(look, 2 * DEADLINE)


def sample(pid):
    """What a process holds: bytes of memory, descriptors and threads."""
    held = memory(pid)
    return {"resident": held["Rss"], "anonymous": held["Pss_Anon"],
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task"))}


def allocated(pid, folder):
    """Bytes that malloc has given to a process and not got back, of all its threads. gdb asks it, so
    none of them may be at work. Unlike its pages, these show a leak that fills holes."""
    out = folder / "malloc.xml"
    commands = [        # to memory, since the daemon may open no file for writing
        "set $p = (char **)((void *(*)(unsigned long))malloc)(16)",
        "set $f = ((void *(*)(void *, void *))open_memstream)($p, $p + 1)",
        "call ((int (*)(int, void *))malloc_info)(0, $f)",
        "call ((int (*)(void *))fclose)($f)",
        f"dump binary memory {out} $p[0] ($p[0] + ((unsigned long *)$p)[1])",
        "call ((void (*)(void *))free)($p[0])",
        "call ((void (*)(void *))free)($p)"]
    subprocess.run(["gdb", "--batch", "--nx", "-p", str(pid), *(w for c in commands for w in ("-ex", c))],
                   check=True, capture_output=True, timeout=4 * DEADLINE)
    whole = ET.parse(out).getroot()
    sizes = {(e.tag, e.get("type")): int(e.get("size")) for e in whole if e.tag in ("total", "system")}
    return sizes["system", "current"] + sizes["total", "mmap"] - sizes["total", "fast"] - sizes["total", "rest"]


def slope(samples, what):
    """Of the line nearest to the samples [(seconds, sample)], per second."""
    times, values = [t for t, _ in samples], [s[what] for _, s in samples]
    t, v = statistics.fmean(times), statistics.fmean(values)
    return sum((x - t) * (y - v) for x, y in zip(times, values)) / sum((x - t) ** 2 for x in times)
