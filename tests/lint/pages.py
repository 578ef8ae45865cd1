# SPDX-License-Identifier: Apache-2.0
"""The pages for readers: every block is run by a test, every link leads somewhere."""
import pathlib
import re
import sys

from tree import FILES, ROOT, Note, check, files, is_data, read

sys.path.insert(0, str(ROOT / "tests/lib"))
import snippets as reader

CODE = re.compile(r"^( *)(```+|~~~+).*?^ *\2+ *$", re.M | re.S)
LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s")


def runners():
    """What tests ask for: the languages of each runner."""
    found = {}
    for path in files(".py", under=("tests",)):
        for runner, languages in re.findall(r'\bsnippets\.of\(\s*"([a-z-]+)"((?:,\s*"[a-z]+")*)',
                                            read(path)):
            if path.parts[1] not in ("lib", "lint"):
                found.setdefault(runner, set()).update(re.findall(r'"([a-z]+)"', languages))
    return found


def indented(page, text):
    """Blocks that are marked by four spaces only, which nobody would run."""
    text = CODE.sub(lambda match: re.sub(r"[^\n]+", "-", match[0]), text)
    in_list, told, blank = False, False, True
    for number, line in enumerate(text.splitlines(), 1):
        if LIST_ITEM.match(line):
            in_list = True
        elif line.strip() and not line.startswith(" "):
            in_list = told = False
        elif blank and line.startswith("    ") and not in_list and not told:
            told = True
            yield f"{page}:{number}: a block without a fence"
        blank = not line.strip()


def runs(snippet, known):
    """What is wrong with how a block is run, or a note that it isn't."""
    if not snippet.runner:
        return f'{snippet}: "{snippet.info}" isn\'t a language and a runner'
    if snippet.runner == "aws":
        return Note(f"{snippet}: {snippet.info}: not run")
    if snippet.runner == "figure":
        return None if snippet.language == "text" else f"{snippet}: a figure is text"
    if snippet.runner not in known:
        return f"{snippet}: no test runs {snippet.runner}"
    if snippet.language not in known[snippet.runner]:
        return f"{snippet}: no test runs {snippet.runner} in {snippet.language}"
    return None


@check
def snippets():
    """Each block of README.md and docs/ has a runner that a test implements; lists those that need AWS."""
    known = runners()
    used = set()
    for page in reader.pages(ROOT):
        try:
            found = list(reader.blocks(page, read(page)))
        except ValueError as e:
            yield str(e)
            continue
        used |= {snippet.runner for snippet in found}
        yield from (said for snippet in found if (said := runs(snippet, known)))
        yield from indented(page, read(page))
    for runner in sorted(set(known) - used):
        yield f"a test asks for blocks of {runner}, and no page has one"


def anchors(text):
    """What "#..." may name: GitHub's names of the headings."""
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *#*$", CODE.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(f"{name}-{number}" if number else name)
    return found


@check
def links():
    """Each link of a page leads to a file and a heading that are there; README.md leads to all of docs/."""
    reached = set()
    for path in files(".md"):
        if is_data(path):
            continue
        text = CODE.sub("", read(path))
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            other = pathlib.Path(*_normal(path.parent / name)) if name else path
            if not (ROOT / other).exists():
                yield f"{path}: {target} leads nowhere"
            elif anchor and (other.suffix != ".md" or anchor not in anchors(read(other))):
                yield f"{path}: {target}: {other} has no such heading"
            elif str(path) == "README.md":
                reached.add(other)
    for path in FILES:
        if path.suffix == ".md" and path.parent == pathlib.Path("docs") and path not in reached:
            yield f"README.md doesn't lead to {path}"


def _normal(path):
    """The parts of a path without "..", for names relative to ROOT."""
    parts = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return parts
