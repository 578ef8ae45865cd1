# SPDX-License-Identifier: Apache-2.0
"""What `coverage` and `run` share: the fuzz targets, and the report for ./test."""

import pathlib
import resource
import sys
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[2]
FUZZ = ROOT / "tests/fuzz"
CONFIGS = ROOT / "tests/data/config"

# As in meson.build: the name of each target, and the corpora that it has beside its own.
TARGETS = {
    "attestation": [ROOT / "tests/data/attestation"],
    "body": [],
    "client_hello": [],
    "config": [CONFIGS / "good", CONFIGS / "bad"],
    "connect": [],
    "head": [],
    "imds": [],
    "import": [],
    "json": [],
    "reply": [],
}
STORED = {folder.name for folder in (FUZZ / "corpus").iterdir()}
if set(TARGETS) != STORED:
    sys.exit(f"fuzzing.py: targets without a corpus, or not listed: {set(TARGETS) ^ STORED}")

sys.path.insert(0, str(ROOT / "tests/lib"))
import figures  # noqa: E402

figure = figures.figure


def corpora(target):
    return [FUZZ / "corpus" / target, *TARGETS[target]]


def program(build, target):
    return build / "tests/fuzz" / f"fuzz-{target}"


def no_cores():
    """Of a program under AddressSanitizer a core would take terabytes of address space."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def write_junit(path, suite, outcomes):
    """`outcomes`: the name of each case, and why it failed or None."""
    if not path:
        return
    root = ET.Element("testsuite", name=suite, tests=str(len(outcomes)),
                      failures=str(sum(why is not None for why in outcomes.values())))
    for name, why in outcomes.items():
        case = ET.SubElement(root, "testcase", classname=suite, name=name)
        if why is not None:
            ET.SubElement(case, "failure", message="failed").text = why
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
