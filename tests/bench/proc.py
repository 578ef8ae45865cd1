# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a process and of its children: CPU time and memory."""

import os
import pathlib
import subprocess
import time

TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")  # microseconds
AUDIT_THREAD = "audit"


def _children(pid):
    found = []
    try:
        for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
            found += [int(n) for n in (thread / "children").read_text().split()]
    except OSError:
        pass  # it ended meanwhile
    return found


def family(pid):
    """The process and all its descendants that live."""
    return [pid, *(n for child in _children(pid) for n in family(child))]


def _process_cpu(pid):
    """The process's CPU clock in us: all of its threads, those that have ended too. It is exact, where
    /proc/PID/stat counts in ticks and /proc/PID/schedstat only the first thread."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1000


def _ended_children_cpu(pid):
    """In us, from /proc/PID/stat: no clock has it, so that it comes in ticks of 10 ms."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return sum(int(n) for n in text.rpartition(") ")[2].split()[13:15]) * TICK


def cpu(pid):
    """CPU time of a process and its children so far in us, what has ended included."""
    total = 0
    for member in family(pid):
        try:
            total += _process_cpu(member) + _ended_children_cpu(member)
        except OSError:
            continue  # it ended; its parent has it now
    return total


def audit_cpu(pid):
    """Of cpu(): what the daemon's audit writer used. Its thread lasts as long as the process."""
    total = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text().strip() == AUDIT_THREAD:
            total += int((thread / "schedstat").read_text().split()[0]) / 1000
    return total


def memory(pid):
    """smaps_rollup of a process and its children, summed: bytes by name (Rss, Pss, Pss_Anon)."""
    total = {}
    for member in family(pid):
        for line in pathlib.Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, value = line.partition(":")
            total[name] = total.get(name, 0) + int(value.split()[0]) * 1024
    return total


# What self_test() measures: the first thread idles while a second and a third burn, one of which has
# ended when they are looked at, and so has a child process.
_BURN = 0.06  # seconds each
_BURNERS = f"""
import os, threading, time
def burn():
    while time.thread_time() < {_BURN}: pass
def burn_and_stay():
    burn()
    burnt.set()
    time.sleep(60)
burnt = threading.Event()
ended = threading.Thread(target=burn)
ended.start()
ended.join()
threading.Thread(target=burn_and_stay, daemon=True).start()
burnt.wait()
child = os.fork()
if child == 0:
    burn()
    os._exit(0)
print(f"{{time.thread_time()}}", flush=True)
os.waitpid(child, 0)
print("ended", flush=True)
input()
os._exit(0)
"""


def self_test():
    """Raises where cpu() doesn't see a second thread, one that has ended, or a child that has."""
    with subprocess.Popen(["/usr/bin/python3", "-c", _BURNERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        first = float(process.stdout.readline())
        process.stdout.readline()
        threads, seen = _process_cpu(process.pid), cpu(process.pid)
        process.communicate("\n")
    # The child's time comes in two numbers of whole ticks.
    for what, us, least in (("its threads", threads - first * 1e6, 2 * _BURN * 1e6),
                            ("an ended child", seen - threads, _BURN * 1e6 - 2 * TICK)):
        if us < least:
            raise RuntimeError(f"the CPU clock misses {what}: a process burnt {least:.0f} us there, "
                               f"{us:.0f} were seen")
