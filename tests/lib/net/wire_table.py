#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of wire bytes under tests/data (good-requests.txt says how they are written).

As a program: `wire_table.py TABLE FOLDER` writes the bytes of each row into a file of its own, the
seeds of a fuzz corpus.
"""

import pathlib
import re
import sys
import typing

DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
PIECE = re.compile(r"<(\w+)(?:\*(\d+))?>|\\x([0-9a-f]{2})|\\(.)|([^<\\]+)")


class Row(typing.NamedTuple):
    line: int           # in the file
    columns: list       # of bytes: all but the last
    bytes: bytes        # the last one


def load(name, columns):
    """The rows of tests/data/NAME; each has `columns` columns, the bytes included."""
    names, rows = {}, []
    for number, text in _whole_lines((DATA / name).read_text(encoding="ascii")):
        if text.startswith("let "):
            what, _, value = text[4:].partition(" = ")
            names[what] = _expand(value, names)
            continue
        cells = [_expand(cell, names) for cell in text.split(" | ", columns - 1)]
        if len(cells) != columns:
            raise ValueError(f"{name}:{number}: too few columns")
        rows.append(Row(number, cells[:-1], cells[-1]))
    return rows


def _whole_lines(text):
    number, whole = 0, ""
    for i, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            if whole:
                yield number, whole
            number, whole = i, ""
        whole += line.lstrip(" ")
    if whole:
        yield number, whole


def _expand(text, names):
    out, at = b"", 0
    while at < len(text):
        piece = PIECE.match(text, at)
        if not piece:
            raise ValueError(f"not understood: {text[at:]}")
        name, times, code, escape, plain = piece.groups()
        if name:
            out += names[name] * int(times or 1)
        elif code:
            out += bytes.fromhex(code)
        elif escape:
            out += ESCAPES[escape]
        else:
            out += plain.encode("ascii")
        at = piece.end()
    return out


def main():
    table, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    text = (DATA / table).read_text(encoding="ascii")
    first = next(t for _, t in _whole_lines(text) if not t.startswith("let "))
    folder.mkdir(parents=True, exist_ok=True)
    for row in load(table, first.count(" | ") + 1):
        (folder / f"{table.partition('.')[0]}-{row.line:03}").write_bytes(row.bytes)


if __name__ == "__main__":
    main()
