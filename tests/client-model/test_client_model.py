# SPDX-License-Identifier: Apache-2.0
"""The table of KMS's actions beside the newest @aws-sdk/client-kms that npm has: what KMS got since.

What fails here goes into tests/data/kms-actions.txt and the table: docs/internals.md, "An action of
KMS". Until there is a release, operators have `extra_actions` and `extra_members`.
"""

import json
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest

PACKAGE = "@aws-sdk/client-kms"
TABLE = pathlib.Path(__file__).resolve().parents[1] / "data" / "kms-actions.txt"
SCHEMAS = "package/dist-es/schemas/schemas_0.js"


def read_table(text):
    """{action: (members of the request, members of the reply)}; * is a required one."""
    found = {}
    for line in text.splitlines():
        if line[0] != "#":
            action, members, reply = (part.strip() for part in (line + " ").split("|"))
            found[action] = (frozenset(filter(None, members.split(", "))),
                             frozenset(filter(None, reply.split(", "))))
    return found


# The schemas of the SDK: constants for all names, a list for each structure and operation.
_NAME = re.compile(r'^const (_\w+) = "(\w+)";$', re.M)
_STRUCTURE = re.compile(r"^export var (\w+)\$ = \[3, n0, _\w+,\n +0,\n(.*?)^\];$", re.M | re.S)
_MEMBERS = re.compile(r" +\[([\w, ]*)\],\s+\[.*\](?:, (\d+))?\s*\Z", re.S)
_OPERATION = re.compile(r"^export var \w+\$ = \[9, n0, (_\w+),\n +0, \(\) => (\w+)\$?, \(\) => (\w+)\$?\n\];$", re.M)


def read_schemas(text):
    """The same of the SDK's own schemas."""
    names = dict(_NAME.findall(text))
    structures = {"__Unit": frozenset()}
    for name, rest in _STRUCTURE.findall(text):
        members, required = _MEMBERS.match(rest).groups()
        listed = [names[one] for one in filter(None, members.split(", "))]
        count = int(required or 0)     # those come first
        structures[name] = frozenset([one + "*" for one in listed[:count]] + listed[count:])
    return {names[action]: (structures[request], frozenset(one.rstrip("*") for one in structures[reply]))
            for action, request, reply in _OPERATION.findall(text)}


def npm(folder, *arguments):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    try:
        found = subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, timeout=120,
                               check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry did not answer in time")
    if found.returncode != 0:
        pytest.skip(f"npm's registry can't be reached: {found.stderr[-300:]}")
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def newest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client-model")
    package, = npm(folder, "pack", "--json", f"{PACKAGE}@latest")
    with tarfile.open(folder / package["filename"].replace("@", "").replace("/", "-")) as archive:
        text = archive.extractfile(SCHEMAS).read().decode()
    print(f"{PACKAGE} {package['version']}")
    return read_schemas(text)


KNOWN = read_table(TABLE.read_text(encoding="utf-8"))


def test_the_client_has_the_actions_of_the_table_and_no_more(newest):
    assert newest.keys() == KNOWN.keys()


@pytest.mark.parametrize("action", KNOWN)
def test_its_members_are_those_of_the_table(newest, action):
    assert newest.get(action) == KNOWN[action]


def test_what_is_new_is_found():
    """On schemas of ours, so that it can't be that nothing is ever different."""
    text = """const _A = "NewAction";
const _KI = "KeyId";
const _N = "NewMember";
const _P = "Plaintext";
export var NewActionRequest$ = [3, n0, _A,
    0,
    [_KI, _N],
    [0, [() => PlaintextType, 0]], 1
];
export var NewActionResponse$ = [3, n0, _A,
    0,
    [_P],
    [[() => PlaintextType, 0]]
];
export var NewAction$ = [9, n0, _A,
    0, () => NewActionRequest$, () => NewActionResponse$
];
export var EmptyAction$ = [9, n0, _N,
    0, () => NewActionRequest$, () => __Unit
];
"""
    assert read_schemas(text) == {
        "NewAction": ({"KeyId*", "NewMember"}, {"Plaintext"}), "NewMember": ({"KeyId*", "NewMember"}, set())}
