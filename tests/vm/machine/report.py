# SPDX-License-Identifier: Apache-2.0
"""What became of the cases, from the lines the machine sent while it ran: a JUnit file.

A case that was started and never ended, or never started, has failed: the machine stopped.
"""

import re
import time
import xml.etree.ElementTree as ET

TAIL_LINES = 40
# What XML 1.0 can't hold, escaped or not.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


class Case:
    def __init__(self):
        self.started = None
        self.outcome = None
        self.seconds = 0.0


class Cases:
    def __init__(self, arrangement, say):
        self.arrangement = arrangement
        self.say = say
        self.cases = {}

    def line(self, line):
        """One line of the live log."""
        word, _, rest = line.partition(" ")
        event, _, name = rest.partition(" ")
        if word != "CASE":
            return
        case = self.cases.setdefault(name, Case())
        if event == "started":
            case.started = time.monotonic()
        elif event != "planned" and case.outcome in (None, "passed"):
            case.outcome = event
            case.seconds = time.monotonic() - (case.started or time.monotonic())
            self.say(f"{self.arrangement}: {event:7} {name} ({case.seconds:.1f} s)")

    def write(self, path, run):
        """Writes the JUnit file; the counts of passed, failed and skipped."""
        suite = ET.Element("testsuite", name=f"vm-{self.arrangement}", time=f"{run.seconds:.1f}")
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        journals = _split_journal(run.folder / "journal.txt")
        for name, case in self.cases.items():
            outcome = case.outcome or "failed"
            counts[outcome] += 1
            element = ET.SubElement(suite, "testcase", classname=suite.get("name"), name=name,
                                    time=f"{case.seconds:.1f}")
            log = _log(run, name, case, journals.get(name, []))
            if outcome == "failed":
                ET.SubElement(element, "failure").text = log
            elif outcome == "skipped":
                ET.SubElement(element, "skipped").text = log
        # Reporting every case isn't all: collecting them may have failed, or the end of the run.
        if run.status != (1 if counts["failed"] else 0):
            counts["failed"] += 1
            element = ET.SubElement(suite, "testcase", classname=suite.get("name"), name="run",
                                    time="0")
            ET.SubElement(element, "failure").text = _whole_log(run)
        suite.set("tests", str(sum(counts.values())))
        suite.set("failures", str(counts["failed"]))
        suite.set("skipped", str(counts["skipped"]))
        ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
        return counts["passed"], counts["failed"], counts["skipped"]


def _read(path):
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return UNPRINTABLE.sub("?", text)


def _tail(path):
    lines = _read(path).splitlines()[-TAIL_LINES:]
    return "\n".join([f"--- {path.name}", *lines, ""])


def _whole_log(run):
    status = "never said how it ended" if run.status is None else f"ended with {run.status}"
    return f"the machine {status}\n" + _tail(run.folder / "console.log") + \
        _tail(run.folder / "live.log")


def _log(run, name, case, journal):
    """The case's log, which is also completed with its part of the journal."""
    path = run.folder / "cases" / (name.replace("/", "_") + ".log")
    if case.outcome is None:
        return ("the machine stopped in this case\n" if case.started
                else "not run: the machine stopped before\n") + _whole_log(run)
    if not path.exists():
        return "its log stayed in the machine\n" + _whole_log(run)
    with open(path, "a", encoding="utf-8") as log:
        log.write("\n".join(["--- the machine's journal", *journal, ""]))
    return _read(path)


def _split_journal(path):
    """The journal's lines by case, at the marks that cases/conftest.py makes."""
    parts, current = {}, []
    for line in _read(path).splitlines():
        mark = re.search(r"vm-case(?:\[\d+\])?: VM-CASE (\S+)$", line)
        if mark:
            current = parts.setdefault(mark[1], [])
        current.append(line)
    return parts
