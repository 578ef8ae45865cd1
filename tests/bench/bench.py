#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the daemon beside its peers and prints one table. ./bench calls it.

How: every program has the same front (a Unix socket) and the same upstream (TLS 1.3), runs on one core, and
the generator, the upstream and what stands for the journal on the others. There are many short rounds; in each
the programs take turns in another order, and a ratio is taken within a round: what else the machine does meets
all of them alike. CPU is the process's CPU clock, which counts every thread.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time

import load as generator
import proc
import servers
import svg
import table
from peers import Upstream
from result import Unfair, Unmeasured, verdicts
from rows import (Added, Audit, Compare, EachConnection, LatencyOne, ManyRules, ManyUpstreams, OpenLoop, Refused,
                  RefusedConnections, Signed5k, Signed200, TextMode, TunnelBulk, TunnelShort, TwoWorkers,
                  TwoWorkersCpu)
from rows_counts import MemoryConnection, MemoryRest, MemoryTunnel, NewConnections
from tls import Agreed

ROWS = [Signed5k, Signed200, EachConnection, ManyUpstreams, LatencyOne, OpenLoop, Refused, RefusedConnections,
        TunnelShort, TunnelBulk, TwoWorkers, TwoWorkersCpu, ManyRules, Audit, TextMode, MemoryRest, MemoryConnection,
        MemoryTunnel, NewConnections]

ROUNDS, SECONDS = 25, 0.35
START_ANEW = 5     # rounds
STARTED = 0.2      # seconds; then what the daemon records of its start has been taken
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.15
CALIBRATE = 400    # requests
PROBE = 8          # requests at once, at most, until a second connection resumes a session
SETTLE = 0.01      # seconds; what is still written after the last answer
RECORDS_TIME = 2   # seconds that the last record may take; the writer's longest wait is 32 ms


@dataclasses.dataclass
class Sample:
    """One program, one round."""
    run: generator.Run
    cpu_us: float
    audit_us: float
    records: int
    bytes: int  # of the records

    @property
    def cpu_per_request(self):
        return self.cpu_us / self.run.requests

    @property
    def audit_cpu_per_request(self):
        return self.audit_us / self.run.requests

    @property
    def record_bytes(self):
        return self.bytes / self.records if self.records else 0

    @property
    def rate(self):
        return self.run.rate

    def percentile(self, p):
        return self.run.percentile(p)

    def summary(self):
        return {"cpu_per_request": round(self.cpu_per_request, 3), "requests": self.run.requests,
                "audit_cpu_per_request": round(self.audit_cpu_per_request, 3), "records": self.records,
                "record_bytes": round(self.record_bytes), "requests_per_second": round(self.rate),
                "p50": self.percentile(50), "p99": self.percentile(99)}


class Bench:
    """What the rows share: the folder, the upstream, the cores, how a round goes."""

    def __init__(self, options, folder):
        self.build = pathlib.Path(options.build).resolve()
        self.folder = pathlib.Path(folder)
        self.options = options
        self.random = random.Random(options.seed)
        self.place = servers.Place()
        self.journal_naps = False
        self.no_journal = servers.journal_trouble(self)
        self.upstream = Upstream(self)
        self.agreed_offset = 0

    def load(self, server, load, n):
        return generator.run(server.front, server.tls, load, n, self.folder,
                             self.place.pin(self.place.generator))

    def settle(self, server, wanted):
        """Waits for the records that are still on their way: they belong to this sample. Returns how many there
        are and their bytes."""
        time.sleep(SETTLE)
        end = time.monotonic() + RECORDS_TIME
        while wanted and server.journal.count()[0] < wanted and time.monotonic() < end:
            time.sleep(SETTLE)
        return server.journal.count() if server.journal else (0, 0)

    def sample(self, server, load, n, second=False):
        before = server.journal.count() if server.journal else (0, 0)
        expected = server.records(load, n)
        cpu, audit = proc.cpu(server.pid), proc.audit_cpu(server.pid)
        run = self.load(server, load, n)
        after = self.settle(server, before[0] + expected if expected else None)
        sample = Sample(run, proc.cpu(server.pid) - cpu, proc.audit_cpu(server.pid) - audit,
                        after[0] - before[0], after[1] - before[1])
        agreed = self.agreements()
        server.agreed.add(agreed)
        if second:
            server.agreed.see_second(agreed)
        if expected is not None and sample.records != expected:
            raise Unfair(f"{server.name}: of {expected} records {sample.records} were taken")
        return sample

    def agreements(self):
        """All connections since the last look are one server's: no other was asked anything."""
        lines, self.agreed_offset = self.upstream.agreements(self.agreed_offset)
        return lines

    def probe(self, server, load):
        """One connection to the upstream, then more, until one resumes the session of another."""
        server.agreed = Agreed()
        one = dataclasses.replace(load, clients=1, rate=0, path="/")
        self.sample(server, one, 1)
        for n in range(2, 1 + (PROBE if server.upstream else 0)):
            self.sample(server, dataclasses.replace(one, clients=n), n, second=True)
            if server.agreed.resumes:
                break

    def size(self, server, load, seconds):
        """As many requests as take the time of a round; warms the server up on the way."""
        if load.rate:
            self.sample(server, load, load.clients * 10)
            return int(load.rate * seconds)
        n = load.clients if load.path == "/bulk" else max(CALIBRATE, 4 * load.clients)
        for _ in range(2):
            sample = self.sample(server, load, n)
        return max(load.clients, int(sample.rate * seconds))

    def restart(self, programs, loads):
        """Two starts of one program differ by more than its rounds do: where its memory lies is luck."""
        for p in programs:
            p.stop()
            p.start()
        time.sleep(STARTED)
        for p in programs:
            self.size(p, loads[p], 0)

    def rounds(self, programs, load, loads, stretch):
        """[{name: Sample}], one for each round; `loads` has those who get another load."""
        loads = {p: loads.get(p, load) for p in programs}
        for p in programs:
            self.probe(p, loads[p])
        sizes = {p: self.size(p, loads[p], self.options.seconds * stretch) for p in programs}
        taken = []
        for i in range(self.options.rounds):
            if i and i % START_ANEW == 0:
                self.restart([p for p in programs if p is not self.upstream], loads)
            turn = self.random.sample(programs, len(programs))
            seen = {p.name: self.sample(p, loads[p], sizes[p]) for p in turn}
            taken.append({p.name: seen[p.name] for p in programs})
        return taken


def machine():
    """In words, for docs/speed.md."""
    model = next((line.partition(":")[2].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                  if line.startswith("model name")), platform.machine())
    load = open("/proc/loadavg", encoding="ascii").read().split()[0]
    return f"{servers.Place().cores} cores of {model}, kernel {platform.release()}, load average {load} at the start"


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def limits(bench):
    """What this run could not measure, or measured otherwise than one would wish."""
    said = ["vsock: all fronts are Unix sockets; a vsock transport costs all proxies the same on top",
            "the open loop is h2load's: its 21 clients start a millisecond apart, and its clock ticks in milliseconds, "
            "so that requests come by two or three; one that is due while its client waits for an answer goes late",
            "socat's processes have ended when they are counted: in ticks of 10 ms a round",
            "what stands for the journal drops its datagrams: what journald costs is not in any figure",
            "nginx-syslog writes its `combined` format, a datagram a request; the floor writes records as long as "
            "ours, and as many at once, from its only thread",
            "who sends a record pays for waking what stands for the journal, unless it is awake, as with journald; "
            "nginx-syslog-awake is nginx-syslog with one that is never woken, and in the rows of latencies, refusals "
            "and 512 connections none is"]
    if bench.place.generator == bench.place.upstream:
        said.append("requests a second are bounded by the core that generator and upstream share: read CPU instead")
    if bench.no_journal:
        said.append(bench.no_journal)
    return said


def measure(row, bench):
    """The row's line of the JSON."""
    line = {"name": row.name, "work": row.work}
    start = time.monotonic()
    try:
        if row.needs_journal and bench.no_journal:
            raise Unmeasured(bench.no_journal)
        bench.journal_naps = row.journal_naps
        if bench.options.against:
            if not isinstance(row, Compare) or isinstance(row, Added):
                raise Unmeasured("it can't be set beside another build")
            row.against, row.marks = bench.options.against, ()
        result = row.measure(bench)
        line.update(dataclasses.asdict(result), marks=verdicts(row.marks, result), state="measured")
    except Unmeasured as e:
        line.update(state="unmeasured", note=str(e))
    except PermissionError as e:  # the daemon's memory is root's to see
        line.update(state="unmeasured", note=f"{'' if os.geteuid() == 0 else 'not root: '}{e}")
    except Unfair as e:
        line.update(state="failed", note=f"unfair: {e}")
    except Exception as e:  # the others still count; the exit status tells
        line.update(state="failed", note=f"{type(e).__name__}: {e}"[:500])
    return {**line, "took_seconds": round(time.monotonic() - start, 1)}


def run(options, rows, folder):
    proc.self_test()
    bench = Bench(options, folder)
    servers.make_certificate(bench.folder)
    report = {
        "date": datetime.date.today().isoformat(), "machine": machine(), "placement": str(bench.place),
        "fronts": "a Unix socket for every proxy; direct is TLS on a Unix socket of the upstream",
        "rounds": options.rounds, "seconds_a_round": options.seconds, "seed": options.seed,
        "ratios": "the median of those within a round, its 95 % interval from the order statistics, and that of the "
                  "best of all rounds",
        "versions": [version("nginx", "-v"), version("haproxy", "-v"), version("h2load", "--version")],
        "limits": limits(bench), "rows": [],
    }
    for key in ("date", "machine", "placement", "fronts", "rounds", "seconds_a_round", "seed", "ratios"):
        print(f"{key.replace('_', ' ')}: {report[key]}")
    with bench.upstream:
        for row in rows:
            line = measure(row(), bench)
            report["rows"].append(line)
            table.print_row(line)
    table.print_programs(report["rows"])
    print("\nNot measured, or not as one would wish:")
    for text in report["limits"]:
        print(f"- {text}")
    return report


def arguments():
    parser = argparse.ArgumentParser(prog="./bench", description="Measures the daemon beside its peers.")
    parser.add_argument("--quick", action="store_true",
                        help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS} s: whether it runs, not how fast")
    parser.add_argument("--rounds", type=int, help=f"how many (default: {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"of a program in a round (default: {SECONDS})")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which programs take turns (default: 1)")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--build", default="build-bench", help="the build to measure (default: %(default)s)")
    parser.add_argument("--against", metavar="BUILD", type=pathlib.Path,
                        help="only ours, beside the same of another build; without marks")
    parser.add_argument("row", nargs="*", help="only these rows")
    options = parser.parse_args()
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    if options.against and not (options.against / "daemon" / "kms-vsock-proxyd").exists():
        parser.error(f"{options.against}: no build with a daemon")
    unknown = set(options.row) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; see --list")
    return options


def main():
    options = arguments()
    rows = [row for row in ROWS if not options.row or row.name in options.row]
    if options.list:
        for row in rows:
            print(f"{row.name:<18} {row.work}")
        return 0

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if 0 < hard < 65536 else 65536, hard))
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kms-vsock-proxy-bench-") as folder:
        report = run(options, rows, folder)
    out = pathlib.Path(options.build)
    (out / "bench.json").write_text(json.dumps(table.finite(report), indent=1) + "\n")
    (out / "bench.svg").write_text(svg.draw(report))
    print(f"\n{time.monotonic() - start:.0f} seconds; written: {out}/bench.json, {out}/bench.svg")
    return 1 if any(line["state"] == "failed" for line in report["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
