# SPDX-License-Identifier: Apache-2.0
"""An enclave that opens connections as fast as it can, and another that asks meanwhile."""

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import time

from daemon.help import add_enclave, DESCRIBE, limits
from figures import figure

FLOOD = pathlib.Path(__file__).parents[1] / "net" / "connection_flood.py"
HELD = 1024             # limits.connections, by default
SURPLUS = 256           # descriptors for those over it, at most
SPARE = 100             # of the other enclave, and to KMS
FAR_OVER = 20           # times the median beside a flood elsewhere: a daemon that isn't fair


def ask(daemon, other, times, until):
    """Asks as that enclave until until() says so, each tenth time on a new connection."""
    while not until():
        with daemon.client(other) as client:
            for _ in range(10):
                start = time.monotonic()
                assert client.ask(DESCRIBE).status == 200
                times.append(time.monotonic() - start)


@contextlib.contextmanager
def running(*arguments):
    """The program, when it says that it is ready; ended with the block."""
    with subprocess.Popen([sys.executable, "-B", FLOOD, *map(str, arguments)], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def meanwhile(daemon, other, path, count):
    """What the other enclave's answers take, what became of the flood, and the most descriptors."""
    times, most = [], 0

    def over():
        nonlocal most
        most = max(most, daemon.descriptors())
        return flood.poll() is not None
    with running(path, HELD, count) as flood:
        ask(daemon, other, times, over)
        return times, json.loads(flood.stdout.readline()), most


def assert_a_flood_harms_nobody(daemon, count):
    """Up to the limit at once, then `count` one after another. What another enclave's answers take is
    compared with what they do while the same flood goes to somebody else."""
    limits(daemon)      # the defaults, as an operator has them
    other = add_enclave(daemon, limits={"requests": "100000/s", "burst": 100000})
    elsewhere = daemon.folder / "elsewhere.sock"
    with daemon:
        with running("--serve", elsewhere):
            calm, _, before = meanwhile(daemon, other, elsewhere, min(count, 5000))
        began = time.monotonic()
        times, seen, most = meanwhile(daemon, other, daemon.socket_path(), count)
        took = time.monotonic() - began
        records = len(daemon.records(ENCLAVE="payments"))
    print(f"{count} in {took:.1f} s: {seen}; {most} descriptors, {before} before; {records} records; median "
          f"{statistics.median(calm) * 1e3:.2f} ms, {statistics.median(times) * 1e3:.2f} ms in the flood")
    figure("a flood of connections over the limit", f"{count / took:.0f} a second; another enclave's median is "
           f"{statistics.median(times) / statistics.median(calm):.1f} times what it is beside one elsewhere")
    assert sum(seen.values()) == count and seen["other"] == 0
    assert seen["closed"] == 0                  # there was a descriptor to tell each
    assert most <= before + HELD + SURPLUS + SPARE
    assert records <= 20 + 10 * (took + 2) + SPARE    # and those of its counters and ends
    assert statistics.median(times) < FAR_OVER * statistics.median(calm)
