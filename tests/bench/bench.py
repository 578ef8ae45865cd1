#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the daemon beside its peers and prints one table. ./bench calls it.

How: every program has the same front (a Unix socket), runs on one core, and the generator and the
upstream on the others. The programs take turns (A B C, B C A, ...), and a ratio is taken within a
round, then the median of the rounds: what else the machine does meets all of them alike. CPU is
utime + stime of the whole process from /proc, the daemon's audit writer included.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

import load as generator
import proc
import servers
import svg
from rows import ROWS, Unmeasured

CALIBRATE = 400  # requests
SETTLE = 0.1     # seconds without a record; the writer's longest wait is 32 ms


@dataclasses.dataclass
class Sample:
    """One program, one round."""
    run: generator.Run
    cpu_us: float
    audit_us: float
    records: int  # that the journal's stand-in took

    @property
    def cpu_per_request(self):
        return self.cpu_us / self.run.requests

    @property
    def audit_cpu_per_request(self):
        return self.audit_us / self.run.requests

    @property
    def recorded_percent(self):
        return 100 * self.records / self.run.requests

    @property
    def rate(self):
        return self.run.rate

    def percentile(self, p):
        return self.run.percentile(p)

    def summary(self):
        return {"cpu_per_request": self.cpu_per_request, "audit_cpu_per_request": self.audit_cpu_per_request,
                "recorded_percent": self.recorded_percent,
                "requests_per_second": self.rate, "p50": self.percentile(50), "p99": self.percentile(99)}


class Bench:
    """What the rows share: the folder, the upstream, the cores, how a round goes."""

    def __init__(self, build, folder, quick):
        self.build = pathlib.Path(build).resolve()
        self.folder = pathlib.Path(folder)
        self.quick = quick
        self.n_rounds, self.seconds = (2, 0.3) if quick else (5, 2.0)
        self.place = servers.Place()
        self.journal = servers.Drain(self) if servers.can_unshare() else None
        self.upstream = servers.Upstream(self)

    def load(self, server, load, n):
        return generator.run(server.front, server.tls, load, n, self.folder,
                             self.place.pin(self.place.generator))

    def settle(self):
        """Waits for the records that the audit writer still holds: they belong to this sample."""
        seen = -1
        while self.journal and seen != self.journal.count():
            seen = self.journal.count()
            time.sleep(SETTLE)

    def sample(self, server, load, n):
        cpu, audit = proc.cpu(server.pid), proc.audit_cpu(server.pid)
        records = self.journal.count() if self.journal else 0
        run = self.load(server, load, n)
        self.settle()
        return Sample(run, proc.cpu(server.pid) - cpu, proc.audit_cpu(server.pid) - audit,
                      self.journal.count() - records if self.journal else 0)

    def size(self, server, load):
        """As many requests as take the time of a round; warms the server up on the way."""
        if load.rate:
            self.load(server, load, load.clients * 10)
            return int(load.rate * self.seconds)
        n = load.clients if load.path == "/bulk" else max(CALIBRATE, 4 * load.clients)
        for _ in range(2):
            run = self.load(server, load, n)
        self.settle()
        return max(load.clients, int(run.rate * self.seconds))

    def rounds(self, programs, load, loads=None):
        """[{name: Sample}], one for each round; `loads` has those who get another load."""
        loads = {p: (loads or {}).get(p, load) for p in programs}
        sizes = {p: self.size(p, loads[p]) for p in programs}
        taken = []
        for i in range(self.n_rounds):
            turn = programs[i % len(programs):] + programs[:i % len(programs)]
            taken.append({p.name: self.sample(p, loads[p], sizes[p]) for p in turn})
        return [{p.name: r[p.name] for p in programs} for r in taken]


def machine():
    """In words, for the README."""
    model = next((line.partition(":")[2].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                  if line.startswith("model name")), platform.machine())
    load = open("/proc/loadavg", encoding="ascii").read().split()[0]
    return f"{servers.Place().cores} cores of {model}, kernel {platform.release()}, load average {load} at the start"


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def limits(bench):
    """What this run could not measure, or measured otherwise than one would wish."""
    said = ["aws-sigv4-proxy was not run (Debian has no package): its published factor stands for it",
            "vsock: all fronts are Unix sockets; a vsock transport costs all proxies the same on top",
            "the open loop is h2load's --rps: 8 clients at 250 a second each, so that up to 8 requests come at once"]
    if bench.place.generator == bench.place.upstream:
        said.append("requests a second are bounded by the core that generator and upstream share: read CPU instead")
    if bench.journal:
        said.append("the journal is a drain that drops its datagrams: what journald costs is not in any figure")
    else:
        said.append("not root, so no stand-in for the journal: audit records went as text to a file")
    return said


def fmt(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.4g}" \
        if abs(value) < 0.1 else f"{value:.2f}"


def measure(row, bench):
    """The row's line of the JSON."""
    line = {"name": row.name, "work": row.work, "mark": row.mark, "at_least": row.at_least}
    try:
        result = row.measure(bench)
    except Unmeasured as e:
        return {**line, "verdict": "not measured", "note": str(e)}
    except Exception as e:  # the others still count; the exit status tells
        return {**line, "verdict": "failed", "note": f"{type(e).__name__}: {e}"[:500]}
    verdict = "" if row.mark is None else "met" if row.met(result) else "MISSED"
    return {**line, **dataclasses.asdict(result), "verdict": verdict}


def print_line(line):
    mark = "" if line["mark"] is None else f"{'>=' if line['at_least'] else '<='} {line['mark']:g}"
    if "ours" in line:
        reference = f"{fmt(line['reference'])} {line['reference_name']}" if line["reference"] is not None else "-"
        peers = "  ".join(f"{name} {fmt(value)}" for name, value in line["peers"].items())
        figures = f"{fmt(line['ours']):>8}  {reference:<18} {fmt(line['ratio']):>7}"
        unit = line["unit"] + (f"; {peers}" if peers else "")
    else:
        figures, unit = f"{'-':>8}  {'-':<18} {'-':>7}", ""
    print(f"{line['name']:<18} {figures}  {mark:<8} {line['verdict']}")
    for text in (line["work"], unit, line.get("note")):
        if text:
            print(f"{'':<18}   {text}")
    sys.stdout.flush()


def print_rates(lines):
    """The second table: requests a second and percentiles of each program in each row."""
    print(f"\n{'':<18} {'':<18} {'CPU us':>8} {'a second':>9} {'p50 us':>8} {'p99 us':>8}")
    for line in lines:
        for name, seen in line.get("details", {}).items():
            if isinstance(seen, dict) and "p50" in seen:
                print(f"{line['name']:<18} {name:<18} {seen['cpu_per_request']:>8.1f} "
                      f"{seen['requests_per_second']:>9.0f} {seen['p50']:>8.0f} {seen['p99']:>8.0f}")


def run(options, rows, folder):
    bench = Bench(options.build, folder, options.quick)
    servers.make_certificate(bench.folder)
    report = {
        "date": datetime.date.today().isoformat(), "machine": machine(), "placement": str(bench.place),
        "fronts": "a Unix socket for every proxy; direct is TLS on a Unix socket of the upstream",
        "rounds": bench.n_rounds, "seconds_a_round": bench.seconds, "quick": options.quick,
        "versions": [version("nginx", "-v"), version("haproxy", "-v"), version("h2load", "--version")],
        "limits": limits(bench), "rows": [],
    }
    for key in ("date", "machine", "placement", "fronts"):
        print(f"{key}: {report[key]}")
    print(f"\n{'':<18} {'ours':>8}  {'reference':<18} {'ratio':>7}  mark")
    with bench.upstream:
        if bench.journal:
            bench.journal.start()
        try:
            for row in rows:
                line = measure(row(), bench)
                report["rows"].append(line)
                print_line(line)
        finally:
            if bench.journal:
                bench.journal.stop()
    print_rates(report["rows"])
    print("\nNot measured, or not as one would wish:")
    for text in report["limits"]:
        print(f"- {text}")
    return report


def main():
    parser = argparse.ArgumentParser(prog="./bench", description="Measures the daemon beside its peers.")
    parser.add_argument("--quick", action="store_true", help="2 short rounds: whether it runs, not how fast")
    parser.add_argument("--list", action="store_true", help="name the marks")
    parser.add_argument("--build", default="build-bench", help="the build to measure (default: %(default)s)")
    parser.add_argument("row", nargs="*", help="only these marks")
    options = parser.parse_args()
    rows = [row for row in ROWS if not options.row or row.name in options.row]
    unknown = set(options.row) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; see --list")
    if options.list:
        for row in rows:
            print(f"{row.name:<18} {row.work}")
        return 0

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if 0 < hard < 65536 else 65536, hard))
    with tempfile.TemporaryDirectory(prefix="kms-vsock-proxy-bench-") as folder:
        report = run(options, rows, folder)
    out = pathlib.Path(options.build)
    (out / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "bench.svg").write_text(svg.draw(report))
    print(f"\nwritten: {out}/bench.json, {out}/bench.svg")
    return 1 if any(line["verdict"] == "failed" for line in report["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
