# SPDX-License-Identifier: Apache-2.0
"""The steps of a request: the table of docs/code.md beside the code's."""
import pathlib
import re

from tree import ROOT, check, files, read

TABLE = "daemon/downstream/request_step.c"
PAGE = "docs/code.md"

# A row of the code: [STEP_BODY] = {"read the body", 5, ...}, with or without names of members.
# Number 0 is a state that isn't in the page, such as that after the last.
CODE_ROW = re.compile(r'\[(STEP_\w+)\]\s*=\s*\{\s*(?:\.\w+\s*=\s*)?"([a-z ]+)",'
                      r'\s*(?:\.\w+\s*=\s*)?(\d+)\b')
# A row of the page: | 3 read the head: ... | `common/http_head.c` | ... |.
PAGE_ROW = re.compile(r"^\| (\d+) ([a-z ]+): [^|]* \| ([^|]*) \| [^|]* \|$", re.M)
# What the connection does before there is a request.
BEFORE = ("1 accept", "2 sniff", "3 read the head")


def missing_files(column):
    """The paths of a row that don't exist. A name alone is in the folder of the path before it."""
    folder = pathlib.Path()
    for name in re.findall(r"`([^`]+)`", column):
        path = pathlib.Path(name) if "/" in name else folder / name
        folder = path.parent
        if not (ROOT / path).is_file():
            yield str(path)


def enum_members():
    """The members of the enum that the table is indexed by."""
    for path in files(".h", under=("daemon",)):
        if match := re.search(r"^enum request_step \{(.*?)^\}", read(path), re.M | re.S):
            return re.findall(r"^\s*(STEP_\w+)\b", match[1], re.M)
    return []


@check
def steps():
    """The table of a request's steps in docs/code.md has the steps of the code, and files that exist."""
    section = read(PAGE).partition("\n## The life of a request\n")[2].partition("\n#")[0]
    page = PAGE_ROW.findall(section)
    if [int(number) for number, _, _ in page] != list(range(1, len(page) + 1)) or not page:
        yield f"{PAGE}: the steps are numbered {', '.join(row[0] for row in page) or 'not'}"
    for number, name, column in page:
        for path in missing_files(column):
            yield f"{PAGE}: step {number} {name} names {path}, which does not exist"
    theirs = [f"{number} {name}" for number, name, _ in page]
    for step in BEFORE:
        if step not in theirs:
            yield f"{PAGE} has no step {step}"

    if not (ROOT / TABLE).is_file():
        yield f"{TABLE} does not exist: the code has no table of the steps"
        return
    rows = CODE_ROW.findall(read(TABLE))
    ours = [f"{number} {name}" for _, name, number in rows if number != "0"]
    theirs = [step for step in theirs if step not in BEFORE]
    for step in ours:
        if step not in theirs:
            yield f"{PAGE} has no step {step} of {TABLE}"
    for step in theirs:
        if step not in ours:
            yield f"{TABLE} has no step {step} of {PAGE}"
    if set(ours) == set(theirs) and ours != theirs:
        yield f"{TABLE} has the steps in another order: {', '.join(ours)}"
    members = enum_members()
    if not members:
        yield "no header of daemon/ has enum request_step"
    for member in members:
        if member not in [name for name, _, _ in rows]:
            yield f"{TABLE} has no row for {member}"
