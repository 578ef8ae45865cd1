#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Counts what the suites of ./test reported.

  results.py add RESULTS SUITE SECONDS STATUS LOG SKIPPED FIGURES REPORT...
        reads the JUnit reports of one suite (beside one of meson, its .json), prints what
        failed, and appends the counts to RESULTS, with the figures that its tests left in
        FIGURES (tests/lib/figures.py); SKIPPED is the reason not to run it, or ""
  results.py table RESULTS
        prints all suites, what they measured and, as the last line, the sum; exit status 1 if
        anything failed

A suite that ended badly though no test of it failed, or that ran no test, counts as a failure.
"""

import json
import pathlib
import sys
import typing
import xml.etree.ElementTree as ET

TAIL_LINES = 30
OUTCOMES = ("passed", "failed", "skipped")
# What meson says of a test program that came to what it should.
MESON_GOOD = ("OK", "SKIP", "EXPECTEDFAIL")


class Case(typing.NamedTuple):
    program: str    # what reported it: of meson's reports the test's name
    name: str
    outcome: str    # passed, failed or skipped
    text: str = ""


def read_junit(report):
    for suite in ET.parse(report).getroot().iter("testsuite"):
        common = [suite.findtext("system-out"), suite.findtext("system-err")]
        for case in suite.findall("testcase"):
            yield read_case(case, common)


def program_name(meson_name):
    return meson_name.rpartition(" / ")[2]


def read_case(case, common):
    bad = [child for child in case if child.tag in ("failure", "error")]
    skipped = case.find("skipped")
    name, group = case.get("name"), case.get("classname", "")
    if " / " in group:      # a case of the test "PROJECT:SUITE / PROGRAM" of meson
        program = program_name(group)
        name = f"{program} {name}"
    elif " / " in name:     # such a test, without cases of its own
        program = name = program_name(name)
    else:
        program, name = group, f"{group} {name}"
    if bad:
        reasons = [child.text or child.get("message") for child in bad]
        output = [case.findtext("system-out"), case.findtext("system-err"), *common]
        return Case(program, name, "failed", "\n".join(filter(None, reasons + output)))
    if skipped is not None:
        reasons = [skipped.text, skipped.get("message"), case.findtext("system-out")]
        return Case(program, name, "skipped", "\n".join(filter(None, reasons)))
    return Case(program, name, "passed")


def correct_by_meson(report, cases):
    """Adds the test programs that failed though no case they reported did: a crash, a timeout,
    too few cases. meson's JUnit report doesn't say all of that."""
    failed = {case.program for case in cases if case.outcome == "failed"}
    programs = report.with_name(report.name.removesuffix(".junit.xml") + ".json")
    for line in programs.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        program = program_name(run["name"])
        if run["result"] not in MESON_GOOD and program not in failed:
            output = run.get("stdout", "") + run.get("stderr", "")
            cases = [case for case in cases if case.name != program]
            cases.append(Case(program, program, "failed", f"{run['result']}\n{output}"))
    return cases


def read_reports(reports):
    cases = []
    for report in map(pathlib.Path, reports):
        if not report.exists():
            cases.append(Case(report.name, report.name, "failed", "not written: none of it ran"))
            continue
        found = list(read_junit(report))
        if report.name.endswith(".junit.xml"):
            found = correct_by_meson(report, found)
        cases += found or [Case(report.name, report.name, "failed", "no test ran")]
    return cases


def print_tail(title, text):
    print(f"-- {title}")
    for line in text.strip().splitlines()[-TAIL_LINES:]:
        print("   " + line)


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def add(results, suite, seconds, status, log, skipped, figures, *reports):
    cases = [Case(suite, suite, "skipped", skipped)] if skipped else read_reports(reports)
    if int(status) != 0 and not any(case.outcome == "failed" for case in cases):
        cases.append(Case(suite, suite, "failed", f"ended with status {status}"))
    for case in cases:
        if case.outcome == "failed":
            print_tail(f"failed: {case.name}", case.text)
        elif case.outcome == "skipped":
            print_tail(f"skipped: {case.name}", case.text)
    row = {"suite": suite, "seconds": int(seconds),
           "figures": read_lines(figures) if pathlib.Path(figures).exists() else []}
    for outcome in OUTCOMES:
        row[outcome] = sum(case.outcome == outcome for case in cases)
    if row["failed"]:
        text = pathlib.Path(log).read_text(encoding="utf-8", errors="replace")
        print_tail(f"the end of {log}", text)
    print(f"   {row['passed']} passed, {row['failed']} failed, {row['skipped']} skipped, "
          f"{row['seconds']} s", flush=True)
    with open(results, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def print_figures(rows):
    figures = [(row["suite"], figure) for row in rows for figure in row["figures"]]
    if figures:
        print(f"\n{'suite':14}what was measured")
    for suite, figure in figures:
        value = figure["value"]
        shown = f"{value:,}" if isinstance(value, int) else value
        print(f"{suite:14}{figure['what']}: {shown}")


def table(results):
    rows = read_lines(results)
    total = {key: sum(row[key] for row in rows)
             for key in (*OUTCOMES, "seconds")}
    print(f"\n{'suite':14}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for row in [*rows, {"suite": "all", **total}]:
        print(f"{row['suite']:14}{row['passed']:8}{row['failed']:8}{row['skipped']:9}"
              f"{row['seconds']:9}")
    print_figures(rows)
    print()
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"{total['passed']} passed, {total['failed']} failed{skipped}")
    sys.exit(1 if total["failed"] or not total["passed"] else 0)


if __name__ == "__main__":
    {"add": add, "table": table}[sys.argv[1]](*sys.argv[2:])
