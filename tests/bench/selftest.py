#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What of the benchmark can be tested without a load. TAP on standard output.

usage: selftest.py BENCH_JOURNAL BENCH_FLOOR     the built programs
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from unittest import mock
from xml.etree import ElementTree

import proc
import svg
import table
import tls
from load import _command, Load
from result import Mark, Ratio, Result, interval, verdicts

JOURNAL, FLOOR = sys.argv[1:3]
DEADLINE = 20
SO_SNDBUFFORCE = 32


def test_interval_leaves_out_what_chance_allows():
    # n: the rank that bounds it from below, by a table of the sign test
    for n, rank in {1: 1, 5: 1, 6: 1, 8: 1, 9: 2, 12: 3, 15: 4, 20: 6, 25: 8, 30: 10, 40: 14}.items():
        assert interval(list(range(n, 0, -1))) == (rank, n + 1 - rank), n


def test_ratio_is_taken_within_a_round():
    ratio = Ratio.of([10, 40, 90], [10, 20, 30])
    assert (ratio.median, ratio.low, ratio.high, ratio.fastest) == (2, 1, 3, 1)
    assert Ratio.of([10, 40], [20, 5], best=max).fastest == 2
    assert Ratio.of([1, 1, 1], [1, 1, -1]).high == math.inf
    assert Ratio.of([1], [0]).median == math.inf


def result():
    return Result(unit="CPU us a request", ours=3.0, peers={"nginx": 2.0, "floor": 1.5},
                  ratios={"nginx": Ratio(1.5, 1.4, 1.6, 1.45), "floor": Ratio(2.0, 1.9, math.inf, math.inf)},
                  tls={"ours": "TLSv1.3 A, resumed", "nginx": "TLSv1.3 A, resumed"}, rounds=[{}], note="noted",
                  details={"nginx": {"cpu_per_request": 2.0, "requests_per_second": 5, "p50": 1, "p99": 2}})


def test_verdicts():
    marks = [Mark(1.5, "nginx"), Mark(1.4, "nginx"), Mark(2.0, "floor"), Mark(2.9), Mark(3.0, at_least=True)]
    assert [v["verdict"] for v in verdicts(marks, result())] == ["met", "MISSED", "met", "MISSED", "met"]
    found = verdicts(marks, dataclasses.replace(result(), unsound={"floor": "too dear"}))
    assert [v["verdict"] for v in found] == ["met", "MISSED", "unmeasured", "MISSED", "met"]
    assert found[2]["why"] == "too dear" and found[2]["value"] is None


def agreed(*connections, second=()):
    a = tls.Agreed()
    a.add(connections)
    a.add(second)
    a.see_second(second)
    return a


def test_differences_in_tls():
    new, again = ("TLSv1.3", "A", False), ("TLSv1.3", "A", True)
    same = agreed(new, second=[again])
    cases = [  # what differs, the other program, whether it is a proxy
        (None, agreed(new, second=[again]), True),
        (None, agreed(new, second=[new, again]), True),  # of another worker
        ("resumption differ", agreed(new, again, second=[new]), True),
        ("resumption differ", agreed(new), True),
        (None, agreed(new), False),
        ("suites differ", agreed(("TLSv1.3", "B", False), second=[("TLSv1.3", "B", True)]), True),
        ("suites differ", agreed(new, ("TLSv1.3", "B", False), second=[again]), False),
        ("other speaks TLSv1.2, not TLSv1.3", agreed(("TLSv1.2", "A", False), second=[again]), True),
        ("nothing seen of other", agreed(), False),
    ]
    for what, other, is_proxy in cases:
        found = tls.differences({"ours": same, "other": other}, ["ours", "other"] if is_proxy else ["ours"])
        assert (what in found) if what else not found, (what, found)


def line(**more):
    marks = verdicts([Mark(1.4, "nginx")], result())
    return {"name": "row", "work": "work", "state": "measured", **dataclasses.asdict(result()), "marks": marks, **more}


def test_table_says_it_all():
    text = "\n".join(table.row_text(line()))
    for part in ("row: work", "3.00 CPU us a request", "nginx", "1.50", "[1.40, 1.60]", "fastest 1.45", "<= 1.4 MISSED",
                 "TLSv1.3 A, resumed: ours, nginx", "noted", "[1.90, -]"):
        assert part in text, part
    assert table.row_text({"name": "row", "work": "work", "state": "failed", "note": "why"})[1] == "   failed: why"


def test_json_has_only_numbers_that_json_knows():
    assert table.finite({"a": [1.5, math.inf, {"b": math.nan, "c": "d"}]}) == {"a": [1.5, None, {"b": None, "c": "d"}]}


def test_picture_has_a_bar_for_each_mark():
    unmeasured = {"peer": "floor", "mark": "<= 1", "bound": 1.0, "value": None, "verdict": "unmeasured", "why": ""}
    text = svg.draw({"date": "2026-01-01", "machine": "<a machine>", "rows": [
        line(), line(marks=line()["marks"] + [unmeasured]), {"name": "x", "state": "failed", "note": "why"}]})
    assert text.count("<rect") == 2
    ElementTree.fromstring(text)


def test_open_loop_clients_are_slower_than_their_clock():
    command = [str(part) for part in _command("unix:x", False, Load(clients=21, rate=2000), 10, pathlib.Path("."))]
    assert float(command[command.index("--rps") + 1]) <= 100 and "--rate-period=1ms" in command


def test_cpu_clock_sees_all_threads():
    proc.self_test()


def first_thread(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000


def test_cpu_self_test_can_fail():
    for what, broken in (("threads", mock.patch.object(proc, "_process_cpu", first_thread)),
                         ("child", mock.patch.object(proc, "_ended_children_cpu", lambda pid: 0))):
        with broken, contextlib.suppress(RuntimeError):
            proc.self_test()
            raise AssertionError(f"{what} are missed, and nothing was said")


def counts(path, records):
    """The counts, as soon as there are so many records."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if path.exists() and len(data := path.read_bytes()) == 16 and struct.unpack("=QQ", data)[0] >= records:
            return struct.unpack("=QQ", data)
        time.sleep(0.01)
    raise AssertionError(f"not {records} records")


def test_journal_counts_lines():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "counts")
        subprocess.run([JOURNAL, path], input=b"one\ntwo\n" * 1000, check=True)
        assert counts(path, 2000) == (2000, 8000)


@contextlib.contextmanager
def journal(*arguments):
    with subprocess.Popen([JOURNAL, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def fill(s):
    """Sends until the queue is full, and returns how many went."""
    s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 * 1024 * 1024)  # else it is full first
    s.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while taken < 10000:
            s.send(b"x")
            taken += 1
    return taken


def test_journal_counts_datagrams():
    """In a queue as long as systemd's, whatever the machine has set."""
    if os.geteuid() != 0:
        return "needs root"
    for more in ([], ["nap"]):
        with tempfile.TemporaryDirectory() as folder:
            path, front = pathlib.Path(folder, "counts"), pathlib.Path(folder, "socket")
            with journal(path, front, *more) as process, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                end = time.monotonic() + DEADLINE
                while not front.exists() and process.poll() is None and time.monotonic() < end:
                    time.sleep(0.01)
                if process.poll() is not None:
                    return process.stderr.read().strip()
                s.connect(str(front))
                for size in (1, 500, 4000):
                    s.send(b"x" * size)
                assert counts(path, 3) == (3, 4501)
                process.send_signal(signal.SIGSTOP)
                os.waitpid(process.pid, os.WUNTRACED)
                taken = fill(s)
                process.send_signal(signal.SIGCONT)
                assert 512 <= taken <= 514, taken
                counts(path, 3 + taken)
    return None


def test_floor_says_what_is_wrong():
    for arguments, said in (([], "usage"), (["a", "0", "c", "d", "1"], "0"),
                            (["a", "1", "/nonexistent", "d", "1"], "/nonexistent")):
        done = subprocess.run([FLOOR, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode > 0 and said in done.stderr, (arguments, done.stderr)


def main():
    tests = [(name, function) for name, function in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    for number, (name, function) in enumerate(tests, 1):
        try:
            skipped = function()
            print(f"ok {number} - {name[5:]}" + (f" # SKIP {skipped}" if skipped else ""), flush=True)
        except Exception:
            print(f"not ok {number} - {name[5:]}", flush=True)
            print("".join(f"# {said}\n" for said in traceback.format_exc().splitlines()), end="")


if __name__ == "__main__":
    main()
