# SPDX-License-Identifier: Apache-2.0
"""What is printed of a report: a block for each row, then a line for each program."""

import math
import sys


def figure(value):
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.4g}" if abs(value) < 0.1 else f"{value:.2f}"


def finite(report):
    """The same with null for what JSON has no number for."""
    if isinstance(report, dict):
        return {key: finite(value) for key, value in report.items()}
    if isinstance(report, list):
        return [finite(value) for value in report]
    return None if isinstance(report, float) and not math.isfinite(report) else report


def _mark(line, peer):
    """The mark beside a peer in words; empty: none."""
    for mark in line["marks"]:
        if mark["peer"] == peer:
            return f"{mark['mark']} {mark['verdict']}" + (f" ({mark['why']})" if mark["why"] else "")
    return ""


def row_text(line):
    """The block of a row, as lines."""
    found = [f"{line['name']}: {line['work']}"]
    if line["state"] != "measured":
        return [*found, f"   {line['state']}: {line['note']}"]
    found.append(f"   {'ours':<20} {figure(line['ours']):>9} {line['unit']:<26} {_mark(line, '')}".rstrip())
    for name, value in line["peers"].items():
        ratio = line["ratios"][name]
        within = f"[{figure(ratio['low'])}, {figure(ratio['high'])}]" if line["rounds"] else ""
        best = f"fastest {figure(ratio['fastest'])}" if line["rounds"] else ""
        found.append(f"   / {name:<18} {figure(value):>9} {figure(ratio['median']):>7} {within:<16} {best:<16} "
                     f"{_mark(line, name)}".rstrip())
    agreed = set(line["tls"].values())
    if agreed:
        by_what = {what: [name for name, said in line["tls"].items() if said == what] for what in sorted(agreed)}
        found += [f"   {what}: {', '.join(names)}" for what, names in by_what.items()]
    if line["note"]:
        found.append(f"   {line['note']}")
    return found


def print_row(line):
    print("\n" + "\n".join(row_text(line)))
    sys.stdout.flush()


def print_programs(lines):
    """Requests a second, percentiles and TLS connections of each program in each row, the warming up included in
    the last two."""
    print(f"\n{'':<18} {'':<18} {'CPU us':>8} {'a second':>9} {'p50 us':>8} {'p99 us':>8} {'TLS':>7} {'resumed':>7}")
    for line in lines:
        for name, seen in line.get("details", {}).items():
            if "p50" in seen:
                print(f"{line['name']:<18} {name:<18} {seen['cpu_per_request']:>8.1f} "
                      f"{seen['requests_per_second']:>9.0f} {seen['p50']:>8.0f} {seen['p99']:>8.0f} "
                      f"{seen.get('tls_connections', '-'):>7} {seen.get('tls_resumed', '-'):>7}")
