# SPDX-License-Identifier: Apache-2.0
"""What every rule uses: the files of the source, programs that run, and how the build compiles."""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKS = {}


def check(function):
    CHECKS[function.__name__.replace("_", "-")] = function
    return function


class MissingTool(Exception):
    pass


class Note(str):
    """What a rule yields to tell something that doesn't break it."""


def run(*command, **options):
    """The finished process; its output is text, both streams together."""
    if not shutil.which(command[0]):
        raise MissingTool(f"{command[0]} is not installed")
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          cwd=ROOT, **options)


def lines_of(process):
    return process.stdout.strip().splitlines()


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for problems in pool.map(function, items):
            yield from problems


def find_files():
    """Every file of the source, relative to ROOT: no build folders, nothing hidden but .ci."""
    for folder, names, files in os.walk(ROOT):
        names[:] = sorted(n for n in names if (not n.startswith(".") or n == ".ci")
                          and not n.startswith("build") and n not in ("__pycache__", "node_modules")
                          and not os.path.exists(os.path.join(folder, n, "meson-private")))
        for name in sorted(files):
            yield (pathlib.Path(folder) / name).relative_to(ROOT)


FILES = list(find_files())
LAYERS = ("common", "config", "daemon")


def files(*suffixes, under=None):
    return [f for f in FILES if f.suffix in suffixes and (not under or f.parts[0] in under)]


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def is_data(path):
    """What the tests read as it is, down to the byte."""
    return "data" in path.parts or "corpus" in path.parts


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


def code_of(path):
    """A C file with comments and literals blanked; lines stay where they are."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank,
                  re.sub(r'#include "[^"]*"', lambda m: m[0].replace('"', "'"), read(path)),
                  flags=re.S)


def comments_of(path):
    """The comments of a C file: where each starts, and its words in one line."""
    text = read(path)
    for match in re.finditer(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
                             r'|(/\*.*?\*/|//[^\n]*(?:\n[ \t]*//[^\n]*)*)', text, re.S):
        if match[1]:
            yield (text.count("\n", 0, match.start()) + 1,
                   re.sub(r"\s*\n\s*(?:\*(?!/)|//)?\s*", " ", match[1]))


def build_folder():
    folders = [pathlib.Path(os.environ["LINT_BUILD"]).absolute()] if "LINT_BUILD" in os.environ else sorted(ROOT.glob("build*"))
    for folder in folders:
        if (folder / "compile_commands.json").exists():
            return folder
    raise MissingTool("no build folder: meson setup build")


def compilations():
    """What the build compiles: each C file of ours with its entry of compile_commands.json."""
    folder = build_folder()
    for entry in json.loads((folder / "compile_commands.json").read_text(encoding="utf-8")):
        path = pathlib.Path(os.path.normpath(folder / entry["file"]))
        if path.is_relative_to(ROOT):
            yield path.relative_to(ROOT), entry


def compile_commands():
    """The command that compiles each C file of ours, by its path."""
    found = {path: entry["command"] for path, entry in compilations()}
    return {path: found[path] for path in files(".c") if path in found}
