# SPDX-License-Identifier: Apache-2.0
"""What /proc says of a process and of its children: CPU time and memory."""

import os
import pathlib

TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")  # microseconds
AUDIT_THREAD = "audit"


def _times(stat, children):
    """utime + stime of one stat file in us, with those of reaped children if asked."""
    fields = stat.read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
    return sum(int(n) for n in fields[11:15 if children else 13]) * TICK


def _children(pid):
    found = []
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(n) for n in (thread / "children").read_text().split()]
        except OSError:
            continue  # it ended meanwhile
    return found


def family(pid):
    """The process and all its descendants that live."""
    return [pid, *(n for child in _children(pid) for n in family(child))]


def cpu(pid):
    """CPU time of a process and its children so far, the ended ones included, in us."""
    total = 0
    for member in family(pid):
        try:
            total += _times(pathlib.Path(f"/proc/{member}/stat"), children=True)
        except OSError:
            continue
    return total


def audit_cpu(pid):
    """Of cpu(): what the daemon's audit writer used."""
    total = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text().strip() == AUDIT_THREAD:
            total += _times(thread / "stat", children=False)
    return total


def memory(pid):
    """smaps_rollup of a process and its children, summed: bytes by name (Rss, Pss, Pss_Anon)."""
    total = {}
    for member in family(pid):
        for line in pathlib.Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, value = line.partition(":")
            total[name] = total.get(name, 0) + int(value.split()[0]) * 1024
    return total
