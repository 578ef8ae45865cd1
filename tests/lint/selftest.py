#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rules about rooms, symbols, steps, pages and freeing on made-up trees. TAP on standard output.

A tree has the rooms of the table, the listed pairs and what is listed as being for the tests, with a
build of its own; lint finds nothing in it. Each case changes a little and names what lint must say.

usage: selftest.py
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import rooms
import steps
import symbols

HERE = pathlib.Path(__file__).resolve().parent
PAGE = """
# The code

## The life of a request

| step | where | may refuse with |
|---|---|---|
| 1 accept: a socket | `daemon/main.c` | close |
| 2 sniff: HTTP | `daemon/main.c` | close |
| 3 read the head: strict | `common/room_common.c`, `room_common.h` | 400 |
| 4 limit: a token | `daemon/journal/room_daemon_journal.c`, `common/room_common.c` | 429 |
| 5 read the body: all of it | `common/room_common.c` | 403 |
"""
README = """
# A tree

See [the code](docs/code.md) and [what `it` does, or not](#what-it-does-or-not).

## What `it` does, or not

1. A list.

       with four spaces and more

```sh shell
true
```
"""
SHELL = "for snippet in snippets.of(\"shell\", \"sh\", \"yaml\"):\n"
STEPS = """static const struct step table[] = {
	[STEP_NONE] = {"none", 0},
	[STEP_LIMIT] = {"limit", 4},
	[STEP_BODY] = {.name = "read the body", .number = 5},
};
"""
STEPS_H = """#pragma once
enum request_step {
	STEP_NONE,
	STEP_LIMIT, /* of the rate */
	STEP_BODY,
};
"""


def function(name, *calls):
    """A function that calls those of these names."""
    declared = "".join(f"int {call}(void);\n" for call in calls)
    return f"{declared}int {name}(void)\n{{\n\treturn 1{''.join(f' + {c}()' for c in calls)};\n}}\n"


def name_of(room):
    return "room_" + room.replace("/", "_")


def good_files():
    tree = {"README.md": README, steps.PAGE: PAGE, "tests/vm/cases/test_a.py": SHELL,
            "tests/lib/snippets.py": (HERE.parent / "lib/snippets.py").read_text(encoding="utf-8"),
            steps.TABLE: f"#if 0\n{STEPS}#endif\n",
            steps.TABLE.replace(".c", ".h"): STEPS_H}
    for room, (others, _) in rooms.ROOMS.items():
        name = name_of(room)
        tree[f"{room}/{name}.h"] = f"#pragma once\nint {name}(void);\n"
        seen = "".join(f'#include "{name_of(other)}.h"\n' for other in (*others, room))
        tree[f"{room}/{name}.c"] = seen + function(name)
    tree["daemon/main.c"] = function("main", *map(name_of, rooms.ROOMS))
    for one, other in symbols.PAIRS:
        a, b = pathlib.Path(one).stem, pathlib.Path(other).stem
        tree[one], tree[other] = function(a, b), function(b, a)
    for path, names in symbols.FOR_TESTS.items():
        tree[path] = tree.get(path, "") + "".join(map(function, names))
    tree["tests/unit/test.c"] = function(
        "test", *(name for names in symbols.FOR_TESTS.values() for name in names))
    return tree


class Tree:
    """The files of a tree, the include paths of its build, and lint on it."""

    def __init__(self, root):
        self.root = root
        self.files = {}
        self.change({f"tests/lint/{path.name}": path.read_text(encoding="utf-8")
                     for path in HERE.iterdir() if path.is_file()})
        shutil.copymode(HERE / "lint", root / "tests/lint/lint")
        self.change(good_files())
        self.build()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def change(self, changes):
        """Writes the files, None: deletes it; what was there before, for change() again."""
        before = {name: self.files.get(name) for name in changes}
        for name, text in changes.items():
            if text is None:
                (self.root / name).unlink()
                del self.files[name]
            else:
                self.write(name, text)
                self.files[name] = text
        return before

    def build(self, paths=None, compile_too=True):
        """Configures, and compiles; paths: the include paths of some rooms, else the table's."""
        lines = [f"rule cc\n command = {os.environ.get('CC', 'cc')} $paths -c -o $out $in\n"]
        for name in sorted(self.files):
            if name.endswith(".c"):
                room = str(pathlib.Path(name).parent)
                given = (paths or {}).get(room, rooms.seen_from(room))
                flags = " ".join(f"-I../{folder} -I{folder}" for folder in sorted(given))
                lines.append(f"build {name}.o: cc ../{name}\n paths = -Iprivate {flags}\n")
        folder = self.root / "build"
        folder.mkdir(exist_ok=True)
        text = "".join(lines)
        if not (folder / "build.ninja").exists() or (folder / "build.ninja").read_text() != text:
            (folder / "build.ninja").write_text(text)
            database = self.run("ninja", "-C", "build", "-t", "compdb").stdout
            (folder / "compile_commands.json").write_text(database[database.index("["):])
        if compile_too:
            self.run("ninja", "-C", "build", "--quiet")

    def run(self, *command):
        process = subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True)
        if process.returncode:
            raise RuntimeError(process.stdout)
        return process

    def lint(self, rule):
        """What the rule found."""
        process = subprocess.run(["tests/lint/lint", rule], cwd=self.root, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**os.environ, "LINT_BUILD": str(self.root / "build")})
        found = [line[2:] for line in process.stdout.splitlines() if line.startswith("# ")]
        if process.stderr or process.returncode != bool(found) or "ok 1 - " not in process.stdout:
            raise RuntimeError(f"lint {rule}: {process.returncode}: {process.stdout}{process.stderr}")
        return found + [line[3:] for line in process.stdout.splitlines() if line.startswith("## ")]


CASES = []


def case(rule, what, changes, *expected, paths=None, compile_too=True):
    """expected: of each sentence that the rule must yield a part; it must yield no other."""
    CASES.append((rule, what, changes, expected, paths, compile_too))


def rooms_case(what, path, text, *expected):
    case("rooms", what, {path: text}, *expected, compile_too=False)


case("rooms", "a good tree", {})
rooms_case("a room includes one that it may not", "daemon/runtime/new.c",
           '#include "room_common.h"\n#include "room_daemon_credentials.h"\n',
           "daemon/runtime/new.c:2: daemon/runtime may not include room_daemon_credentials.h")
rooms_case("what reads from enclaves includes what holds credentials", "daemon/downstream/new.h",
           '#include "room_daemon_credentials.h"\n',
           "new.h:1: daemon/downstream may not include room_daemon_credentials.h of daemon/cred")
rooms_case("a room includes main's", "daemon/upstream/new.c", '#include "room_daemon.h"\n',
           "daemon/upstream may not include room_daemon.h of daemon")
rooms_case("common includes config", "common/new.c", '#\tinclude "room_config.h"\n',
           "common/new.c:1: common may not include room_config.h of config")
rooms_case("main's room includes all", "daemon/new.c",
           "".join(f'#include "{name_of(room)}.h"\n' for room in rooms.ROOMS))
rooms_case("a path", "daemon/journal/new.c", '#include "../../config/room_config.h"\n',
           '"../../config/room_config.h": a header is included by its name alone')
rooms_case("a path after a comment", "common/new.c", '/* a\nb */ #include "common/room_common.h"\n',
           'common/new.c:2: "common/room_common.h": a header is included by its name alone')
rooms_case("only a comment includes", "common/new.c", '/*\n#include "room_config.h"\n*/\n')
rooms_case("a header of ours as a library's", "config/new.c", "#include <room_common.h>\n",
           '<room_common.h> is "room_common.h" of common')
rooms_case("include_next", "common/new.c", '#include_next "room_daemon.h"\n',
           "common may not include room_daemon.h")
rooms_case("a macro", "common/new.c", "#include HEADER\n", "#include HEADER names no file")
rooms_case("a header that is nowhere", "common/new.c", '#include "none.h"\n', "none.h is in no room")
rooms_case("a source", "common/new.c", '#include "room_common.c"\n', "room_common.c is in no room")
rooms_case("a library of another room", "daemon/downstream/new.c",
           "#include <curl/curl.h>\n#include <stdio.h>\n#include <event2/event.h>\n",
           "daemon/downstream/new.c:1: daemon/downstream may not use <curl/curl.h>")
rooms_case("libevent's own HTTP", "daemon/downstream/new.c", "#include <event2/http.h>\n",
           "only the core of libevent is used, not <event2/http.h>")
rooms_case("one name twice", "daemon/journal/room_common.h", "#pragma once\n",
           "room_common.h is in common and in daemon/journal")
rooms_case("a folder that is no room", "daemon/cellar/new.c", "",
           "daemon/cellar/new.c: daemon/cellar is not a room of the table")
case("rooms", "the build gives more than the table", {},
     "meson gives daemon/journal the include path config, the table does not (2 files)",
     paths={"daemon/journal": ("common", "config", "daemon/journal")}, compile_too=False)
case("rooms", "the build gives less", {},
     "the table lets config include common, meson gives it no such path (3 files)",
     paths={"config": ("config",)}, compile_too=False)
case("rooms", "the build gives the root", {},
     "meson gives config the include path ., the table does not",
     paths={"config": ("config", "common", ".")}, compile_too=False)
case("rooms", "a table with a circle",
     {"tests/lint/rooms.py": (HERE / "rooms.py").read_text(encoding="utf-8").replace(
         '"config": (("common",)', '"config": (("common", "daemon/journal")')},
     "the table lets config include daemon/journal, which is not above it",
     "the table lets config include daemon/journal, meson gives it no such path", compile_too=False)
case("rooms", "a room that is gone",
     {"daemon/journal/room_daemon_journal.c": None, "daemon/journal/room_daemon_journal.h": None,
      "daemon/journal/audit.c": None,
      **{f"{room}/{name_of(room)}.c": "" for room, (others, _) in rooms.ROOMS.items()
         if "daemon/journal" in others}},
     "the table has the room daemon/journal, the tree does not",
     "the build folder compiles no file of daemon/journal", compile_too=False)

case("circles", "a good tree", {})
case("circles", "two files", {"common/a.c": function("a", "b"), "common/b.c": function("b", "a")},
     "a circle of 2 files: common/a.c, common/b.c",
     "common/a.c -> common/b.c: b", "common/b.c -> common/a.c: a")
case("circles", "a circle over three rooms",
     {"daemon/journal/a.c": function("a", "b"), "daemon/upstream/b.c": function("b", "c", "d"),
      "daemon/c.c": function("c", "a"), "daemon/d.c": function("d")},
     "a circle of 3 files: daemon/c.c, daemon/journal/a.c, daemon/upstream/b.c",
     "daemon/c.c -> daemon/journal/a.c: a", "daemon/journal/a.c -> daemon/upstream/b.c: b",
     "daemon/upstream/b.c -> daemon/c.c: c")
case("circles", "a circle through a variable",
     {"config/a.c": "extern int b;\nint *a = &b;\n", "config/b.c": "extern int *a;\nint b;\n"
      "int c(void)\n{\n\treturn *a;\n}\n"},
     "a circle of 2 files: config/a.c, config/b.c", "-> config/b.c: b", "-> config/a.c: a")
case("circles", "main's own room may", {"daemon/a.c": function("a", "b"),
                                        "daemon/b.c": function("b", "a")})
case("circles", "a third file joins a pair",
     {"daemon/downstream/tunnel.c": function("tunnel", "tunnel_copy", "a"),
      "daemon/downstream/a.c": function("a", "tunnel")},
     "a circle of 3 files", "a.c -> daemon/downstream/tunnel.c", "tunnel.c -> daemon/downstream/a.c",
     "tunnel.c -> daemon/downstream/tunnel_copy.c", "tunnel_copy.c -> daemon/downstream/tunnel.c")
case("circles", "a pair that is one no more", {"daemon/upstream/upstream.c": function("upstream")},
     "upstream.c and daemon/upstream/upstream_connection.c are no circle: strike them off")
case("circles", "a call one way, and one to itself",
     {"common/a.c": function("a", "b"), "common/b.c": "int b(void)\n{\n\treturn b();\n}\n"})
case("circles", "objects older than the tree", {"common/a.c": function("a")},
     "the objects are older than the tree", compile_too=False)

case("dead-code", "a good tree", {})
case("dead-code", "a function that nobody calls", {"common/a.c": function("a")},
     "common/a.c: no other file calls a: make it static or take it out")
case("dead-code", "one that its own file calls", {"common/a.c": function("a") + function("b", "a"),
                                                  "common/c.c": function("room_common_c", "b"),
                                                  "daemon/c.c": "static " + function("d")},
     "common/a.c: no other file calls a:", "common/c.c: no other file calls room_common_c:")
case("dead-code", "one that only a test calls", {"common/a.c": function("a"),
                                                 "tests/unit/new.c": function("b", "a")},
     "common/a.c: only tests call a: take it out, or list it")
case("dead-code", "one that only a hook for tests calls", {"common/a.c": function("a"),
                                                           "daemon/test_a.c": function("b", "a")},
     "common/a.c: only tests call a: take it out, or list it")
case("dead-code", "a listed one that the product calls", {"daemon/a.c": "static " + function("b")
                                                          + function("main", "skew_seen")},
     "common/skew.c: skew_seen is not there for the tests alone: strike it off")
case("dead-code", "a build without tests",
     {path: None for path in ("tests/unit/test.c", *symbols.FOR_TESTS)},
     "the build folder has no tests",
     *(f"{name} is not there" for names in symbols.FOR_TESTS.values() for name in names))

case("steps", "a good tree", {})
case("steps", "another number", {steps.TABLE: STEPS.replace("4}", "6}")},
     "docs/code.md has no step 6 limit", "has no step 4 limit of docs/code.md")
case("steps", "another word", {steps.PAGE: PAGE.replace("5 read the body", "5 read a body")},
     "docs/code.md has no step 5 read the body of daemon/", "has no step 5 read a body of docs/code.md")
case("steps", "another order", {steps.TABLE: "\n".join(sorted(STEPS.splitlines()))},
     "has the steps in another order: 5 read the body, 4 limit")
case("steps", "a step that the page lacks",
     {steps.TABLE: STEPS.replace("};", '\t[STEP_SIGN] = {"sign", 6},\n};')},
     "docs/code.md has no step 6 sign")
case("steps", "a step without a row",
     {steps.TABLE.replace(".c", ".h"): STEPS_H.replace("};", "\tSTEP_SIGN,\n};")},
     "has no row for STEP_SIGN")
case("steps", "the page jumps", {steps.PAGE: PAGE.replace("| 4 limit", "| 6 limit")},
     "docs/code.md: the steps are numbered 1, 2, 3, 6, 5", "docs/code.md has no step 4 limit",
     "has no step 6 limit of docs/code.md")
case("steps", "a file that is nowhere", {steps.PAGE: PAGE.replace("`daemon/journal/", "`daemon/")},
     "docs/code.md: step 4 limit names daemon/room_daemon_journal.c, which does not exist")
case("steps", "a name alone is in the folder before it",
     {steps.PAGE: PAGE.replace("`common/room_common.c`, `room_", "`config/room_config.c`, `room_")},
     "docs/code.md: step 3 read the head names config/room_common.h, which does not exist")
case("steps", "no table", {steps.TABLE: None}, "the code has no table of the steps")
case("steps", "no row of the table found", {steps.TABLE: "\n"}, "has no step 4 limit",
     "has no step 5 read the body", "STEP_NONE", "STEP_LIMIT", "STEP_BODY")

case("snippets", "a good tree", {})
case("snippets", "a block that needs AWS is listed, and no mistake",
     {"docs/a.md": "```json aws\n{}\n```\n"}, "docs/a.md:1: json aws: not run")
case("snippets", "a block without a runner", {"docs/a.md": "a\n\n```sh\ntrue\n```\n"},
     'docs/a.md:3: "sh" isn\'t a language and a runner')
case("snippets", "a block with nothing", {"docs/a.md": "~~~\ntrue\n~~~\n"},
     'docs/a.md:1: "" isn\'t a language and a runner')
case("snippets", "a runner that no test has", {"docs/a.md": "```sh shelf\ntrue\n```\n"},
     "docs/a.md:1: no test runs shelf")
case("snippets", "a runner of another language", {"docs/a.md": "```python shell\n1\n```\n"},
     "docs/a.md:1: no test runs shell in python")
case("snippets", "a runner whose test is gone", {"tests/vm/cases/test_a.py": "snippets = 1\n"},
     "README.md:12: no test runs shell")
case("snippets", "a test whose blocks are gone", {"README.md": README.partition("```")[0]},
     "a test asks for blocks of shell, and no page has one")
case("snippets", "what the library asks for is no test",
     {"tests/vm/cases/test_a.py": "", "tests/lib/more.py": SHELL}, "README.md:12: no test runs shell")
case("snippets", "a figure", {"docs/a.md": "```text figure\na -> b\n```\n"})
case("snippets", "code as a figure", {"docs/a.md": "```sh figure\ntrue\n```\n"},
     "docs/a.md:1: a figure is text")
case("snippets", "a block without an end", {"docs/a.md": "a\n```sh shell\ntrue\n"},
     "docs/a.md:2: a block without an end")
case("snippets", "four spaces", {"docs/a.md": "Do this:\n\n    rm -r /\n\n    and that\n"},
     "docs/a.md:3: a block without a fence")

case("links", "a good tree", {})
case("links", "a file that is nowhere", {"README.md": README + "[a](docs/none.md)\n"},
     "README.md: docs/none.md leads nowhere")
case("links", "a picture that is nowhere", {"README.md": README + "![a](a.svg)\n"},
     "README.md: a.svg leads nowhere")
case("links", "a heading that is nowhere", {"README.md": README + "[a](docs/code.md#the-life)\n"},
     "README.md: docs/code.md#the-life: docs/code.md has no such heading")
case("links", "of its own page", {"README.md": README + "[a](#a-list)\n"},
     "README.md: #a-list: README.md has no such heading")
case("links", "a heading of code is none", {"README.md": README + "```sh shell\n# Run it\n```\n[a](#run-it)\n"},
     "README.md: #run-it: README.md has no such heading")
case("links", "the second of a name", {"docs/code.md": PAGE + "## A\n## A\n[a](#a-1) [b](../README.md#a-tree)\n"})
case("links", "from a folder to another", {"tests/README.md": "[a](../docs/code.md) [b](code.md)\n"},
     "tests/README.md: code.md leads nowhere")
case("links", "of the net, of mail, and in code",
     {"README.md": README + "[a](https://a.example/b#c) [b](mailto:a@b) `[c](d)`\n```sh shell\n[e](f)\n```\n"})
case("links", "a page that README.md doesn't lead to", {"docs/a.md": "# A\n"},
     "README.md doesn't lead to docs/a.md")

case("freeing", "a good tree", {})
case("freeing", "a comment of one line", {"daemon/a.c": "\n/* Then `c` may be gone. */\n"},
     'daemon/a.c:2: a comment says "may be gone"')
case("freeing", "over two lines", {"daemon/journal/a.h": "/* It may\n * already be gone. */\n"},
     'daemon/journal/a.h:1: a comment says "may already be gone"')
case("freeing", "after code", {"daemon/a.c": "int a; // This may\n       // free it.\n"},
     'daemon/a.c:1: a comment says "may free"')
case("freeing", "capital", {"daemon/a.c": "/* May free the connection. */\n"}, '"May free"')
case("freeing", "code and literals aren't comments",
     {"daemon/a.c": 'char *a = "/* may be gone */";\nint may, be, gone;\n'})


def run_case(tree, rule, changes, expected, paths, compile_too):
    """Why the case failed, else nothing."""
    before = tree.change(changes)
    try:
        if rule in ("rooms", "circles", "dead-code"):
            tree.build(paths, compile_too)
        found = tree.lint(rule)
    finally:
        tree.change(before)
    left = list(found)
    for part in expected:
        match = next((sentence for sentence in left if part in sentence), None)
        if match is None:
            return f"nothing says {part!r}, but {found}"
        left.remove(match)
    return f"more than expected: {left}" if left else None


def old_object(tree):
    """An object that is left of a source that is gone isn't read."""
    before = tree.change({"common/a.c": function("a", "b"), "common/b.c": function("b", "a")})
    tree.build()
    if len(tree.lint("circles")) != 3:
        return "the circle was not found"
    tree.change(before)
    tree.build()
    if not (tree.root / "build/common/a.c.o").exists():
        return "the object is gone too"
    return "; ".join(tree.lint("circles"))


def main():
    failed = 0
    print(f"1..{len(CASES) + 1}")
    with tempfile.TemporaryDirectory() as root:
        tree = Tree(pathlib.Path(root).resolve())
        results = ((f"{rule}: {what}", run_case(tree, rule, *more))
                   for rule, what, *more in CASES)
        for number, (name, problem) in enumerate(results, 1):
            print(f"{'not ok' if problem else 'ok'} {number} - {name}", flush=True)
            if problem:
                print(f"# {problem}")
            failed += bool(problem)
        problem = old_object(tree)
        print(f"{'not ok' if problem else 'ok'} {len(CASES) + 1} - circles: an object that is left over")
        if problem:
            print(f"# {problem}")
    return 1 if failed or problem else 0


if __name__ == "__main__":
    sys.exit(main())
