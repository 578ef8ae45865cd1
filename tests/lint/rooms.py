# SPDX-License-Identifier: Apache-2.0
"""Who may include whom."""
import collections
import os
import pathlib
import re
import shlex

from tree import ROOT, LAYERS, build_folder, check, compilations, files, read

# A room is a folder: of which other rooms its files may include headers, and which libraries they
# use. A room names only rooms above it here, so that the table has no circle.
ROOMS = {
    "common": ((), ("openssl/",)),
    "config": (("common",), ("yaml.h",)),
    "daemon/journal": (("common",), ("openssl/",)),
    "daemon/runtime": (("common", "config", "daemon/journal"), ("event2/", "openssl/")),
    "daemon/credentials": (("common", "config"), ("curl/", "event2/")),
    "daemon/upstream": (("common", "config", "daemon/journal", "daemon/runtime"),
                        ("event2/", "openssl/")),
    "daemon/downstream": (("common", "config", "daemon/journal", "daemon/runtime",
                           "daemon/upstream"), ("event2/", "systemd/")),
    "daemon": (("common", "config", "daemon/journal", "daemon/runtime", "daemon/credentials",
                "daemon/upstream", "daemon/downstream"),
               ("curl/", "event2/", "seccomp.h", "systemd/")),
}

# Headers of libraries that only the rooms may use that name them.
LIBRARY = re.compile(r"(openssl|curl|event2|json-c|systemd|seccomp|yaml\.h|event\.h|ev.*\.h)")
UNUSED = re.compile(r"event2/(http|dns|rpc)|evhttp|evdns")


def seen_from(room):
    """The rooms whose headers a file of this room may include; none if it isn't a room."""
    return {room, *ROOMS[room][0]} if room in ROOMS else set()


def table_is_wrong():
    names = list(ROOMS)
    for room, (others, _) in ROOMS.items():
        if not any(str(f.parent) == room for f in files(".c", ".h")):
            yield f"the table has the room {room}, the tree does not"
        for other in others:
            if other not in names[:names.index(room)]:
                yield f"the table lets {room} include {other}, which is not above it"


def includes(path):
    """What each line that includes says: its number, and the rest of the line."""
    text = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), read(path), flags=re.S)
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"\s*#\s*(?:include(?:_next)?|import)\b\s*(.*)", line)
        if match:
            yield number, match[1].strip()


def include_is_wrong(room, what, homes):
    """Why a file of this room may not include `what`; homes: the rooms that have each header."""
    ours = re.match(r'"([^"]*)"', what)
    theirs = re.match(r"<([^>]*)>", what)
    if not ours and not theirs:
        return f"#include {what} names no file"
    name = (ours or theirs)[1]
    if theirs and name not in homes:
        if LIBRARY.match(name) and not name.startswith(ROOMS[room][1]):
            return f"{room} may not use <{name}>"
        return f"only the core of libevent is used, not <{name}>" if UNUSED.match(name) else None
    if theirs:
        return f'<{name}> is "{name}" of {homes[name][0]}'
    if "/" in name:
        return f'"{name}": a header is included by its name alone'
    if name not in homes:
        return f"{name} is in no room"
    return None if homes[name][0] in seen_from(room) else \
        f"{room} may not include {name} of {homes[name][0]}"


def folders_given(entry):
    """The folders of the tree in which this compilation looks for headers."""
    folder = build_folder()
    words = iter(shlex.split(entry["command"]))
    for word in words:
        match = re.fullmatch(r"(?:-I|-iquote|-isystem|-idirafter)(.*)", word)
        if match:
            path = pathlib.Path(os.path.normpath(folder / (match[1] or next(words))))
            # The build folder, which may be in the tree, has only what was made there.
            if path.is_relative_to(ROOT) and not path.is_relative_to(folder):
                yield str(path.relative_to(ROOT))


def build_is_wrong():
    """Where meson gives a room other include paths than the table."""
    found = collections.Counter()
    compiled = set()
    for path, entry in compilations():
        room = str(path.parent)
        if room not in ROOMS:
            continue
        compiled.add(room)
        given = set(folders_given(entry))
        for other in sorted(given - seen_from(room)):
            found[f"meson gives {room} the include path {other}, the table does not"] += 1
        for other in sorted(seen_from(room) - given):
            found[f"the table lets {room} include {other}, meson gives it no such path"] += 1
    for sentence, count in found.items():
        yield f"{sentence} ({count} file{'s' * (count > 1)})"
    for room in ROOMS:
        if room not in compiled:
            yield f"the build folder compiles no file of {room}: configure it again"


@check
def rooms():
    """A file includes only headers of rooms that its room may see, which meson's paths say too."""
    yield from table_is_wrong()
    homes = {}
    for header in files(".h", under=LAYERS):
        homes.setdefault(header.name, []).append(str(header.parent))
    for name, folders in homes.items():
        if len(folders) > 1:
            yield f"{name} is in {' and in '.join(folders)}"
    for path in files(".c", ".h", under=LAYERS):
        room = str(path.parent)
        if room not in ROOMS:
            yield f"{path}: {room} is not a room of the table"
            continue
        for number, what in includes(path):
            if problem := include_is_wrong(room, what, homes):
                yield f"{path}:{number}: {problem}"
    yield from build_is_wrong()
