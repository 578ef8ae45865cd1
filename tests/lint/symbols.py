# SPDX-License-Identifier: Apache-2.0
"""What the symbols of the objects say: who calls whom, and what nobody calls."""
import collections
import re

from tree import LAYERS, MissingTool, build_folder, check, compilations, lines_of, run

# Two files that are one object, split because it is long.
PAIRS = (
    ("daemon/downstream/tunnel.c", "daemon/downstream/tunnel_copy.c"),
    ("daemon/upstream/upstream.c", "daemon/upstream/upstream_connection.c"),
)

# Functions that are in a header for the tests alone: the inner steps of what the product calls as a
# whole, and what a test must be able to set or count.
FOR_TESTS = {
    "common/cbor.c": ("cbor_read",),
    "common/log.c": ("log_open_journal", "log_to_journal"),
    "common/proxy_authorization.c": ("proxy_authorization_parse",),
    "common/sigv4.c": ("sigv4_canonical_request", "sigv4_string_to_sign"),
    "common/skew.c": ("skew_seen",),
    "config/load.c": ("config_parse", "config_parse_with"),
    "config/value.c": ("value_is_scalar",),
    "daemon/credentials/container.c": ("container_check_url",),
    "daemon/credentials/credentials_file.c": ("credentials_file_parse",),
    "daemon/credentials/credentials_reply.c": ("credentials_reply_expiration",),
    "daemon/credentials/imds.c": ("imds_role",),
    "daemon/downstream/request_step.c": ("request_step_info",),
    "daemon/journal/audit.c": ("audit_lost",),
}
FOR_TESTS_AT = "FOR_TESTS of tests/lint/symbols.py"


class Symbols:
    """Of each source, by its path: what it defines for others, with nm's letter, and what it needs."""

    def __init__(self, under):
        self.defined = collections.defaultdict(dict)
        self.needed = collections.defaultdict(set)
        source = {entry["output"]: str(path) for path, entry in compilations()
                  if path.parts[0] in under}
        objects_are_new(list(source))
        folder = build_folder()
        process = run("nm", "-A", "-P", *(str(folder / name) for name in source))
        if process.returncode:
            raise MissingTool(f"nm: {lines_of(process)[-1]}")
        # FOLDER/NAME.o: SYMBOL LETTER...
        for name, symbol, letter in re.findall(
                rf"^{re.escape(str(folder))}/(.*): (\S+) (\w)(?: .*)?$", process.stdout, re.M):
            if letter in "Uwv":
                self.needed[source[name]].add(symbol)
            elif letter.isupper():
                self.defined[source[name]][symbol] = letter

    def product(self):
        return [path for path in sorted(self.defined) if path.split("/")[0] in LAYERS]

    def arrows(self):
        """Of each file of the product the others that it needs, with the symbols."""
        home = {symbol: path for path in self.product() for symbol in self.defined[path]}
        found = {path: collections.defaultdict(list) for path in self.product()}
        for path, others in found.items():
            for symbol in sorted(self.needed[path]):
                if home.get(symbol, path) != path:
                    others[home[symbol]].append(symbol)
        return found


def objects_are_new(outputs):
    """Old objects say what the sources said once. It asks ninja, which builds nothing here."""
    state = run("ninja", "-C", str(build_folder()), "-n", *outputs)
    if "no work to do" not in state.stdout:
        raise MissingTool(f"the objects are older than the tree: first ninja -C {build_folder()}")


def reached(arrows, start):
    found, waiting = set(), [start]
    while waiting:
        for other in arrows[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def groups_of(arrows):
    """Sets of files of which each reaches each other."""
    reach = {path: reached(arrows, path) for path in arrows}
    return {frozenset(other for other in reach[path] if path in reach[other])
            for path in arrows if path in reach[path]}


@check
def circles():
    """No files call each other in a circle but the listed pairs and those of main's own room."""
    arrows = Symbols(LAYERS).arrows()
    if not any(arrows.values()):
        yield "nm found nothing that one file needs of another"
    groups = groups_of(arrows)
    for group in sorted(groups, key=sorted):
        if group in map(frozenset, PAIRS) or all(re.fullmatch(r"daemon/[^/]+", f) for f in group):
            continue
        yield f"a circle of {len(group)} files: {', '.join(sorted(group))}"
        for path in sorted(group):
            for other in sorted(group & set(arrows[path])):
                yield f"  {path} -> {other}: {', '.join(arrows[path][other])}"
    for pair in PAIRS:
        if not any(set(pair) <= group for group in groups):
            yield f"{' and '.join(pair)} are no circle: strike them off the list of pairs"


@check
def dead_code():
    """Each function in a header is called from another file; those only for tests are listed."""
    symbols = Symbols((*LAYERS, "tests"))
    hooks = re.compile(r"daemon/test_\w+\.c")
    product = [path for path in symbols.product() if not hooks.fullmatch(path)]
    calls = set().union(*(symbols.needed[path] for path in product))
    tests = set().union(*(needed for path, needed in symbols.needed.items() if path not in product))
    if not tests:
        yield "the build folder has no tests: meson configure -Dtests=true"
    listed = {(path, name) for path, names in FOR_TESTS.items() for name in names}
    for path in product:
        for name, letter in sorted(symbols.defined[path].items()):
            if letter not in "TW" or name == "main" or name in calls:
                continue
            if name not in tests:
                yield f"{path}: no other file calls {name}: make it static or take it out"
            elif (path, name) not in listed:
                yield f"{path}: only tests call {name}: take it out, or list it in {FOR_TESTS_AT}"
            listed.discard((path, name))
    for path, name in sorted(listed):
        yield f"{path}: {name} is not there for the tests alone: strike it off {FOR_TESTS_AT}"
