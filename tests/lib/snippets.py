# SPDX-License-Identifier: Apache-2.0
"""The fenced blocks of README.md and docs/*.md, which tests run so that they can't rot.

A block says its language and its runner: "```sh first-hour". A test asks for those of one runner, and
says in which languages it can run them:

    for snippet in snippets.of("enclave", "sh", "python", "javascript"):

What a page shows of a program's output is compared with what it prints. KMS_VSOCK_PROXY_RENEW_PAGES=1, set for such a
test, writes that into the page instead.

Two runners have no test: `aws`, of what needs AWS or nitro-cli, and `figure`, of a picture in text. The
lint suite (`snippets`) lists the first, and finds blocks whose runner or language no test asks for.
"""

import difflib
import os
import pathlib
import re
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
WITHOUT_TEST = ("aws", "figure")


class Snippet(typing.NamedTuple):
    page: str
    line: int           # of the opening fence
    info: str           # what stands behind it
    language: str
    runner: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def pages(root=ROOT):
    """The names of the pages whose blocks are run."""
    return [str(path.relative_to(root)) for path in
            (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.is_file()]


def blocks(page, text):
    """Each fenced block of a page, and ValueError for one without an end."""
    opened, body = None, []
    for number, line in enumerate(text.splitlines(), 1):
        if opened is None:
            if fence := re.match(r"( *)(```+|~~~+)(.*)$", line):
                opened, body = (number, fence), []
        elif re.match(rf" *{re.escape(opened[1][2])}+ *$", line):
            number, fence = opened
            words = fence[3].split()
            language, runner = words if len(words) == 2 else ("", "")
            yield Snippet(page, number, fence[3].strip(), language, runner, "".join(body))
            opened = None
        else:
            indent = len(opened[1][1])
            body.append(f"{line[indent:] if not line[:indent].strip() else line}\n")
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: a block without an end")


def of(runner, *languages, root=ROOT):
    """The blocks of this runner, page by page."""
    found = [snippet for page in pages(root)
             for snippet in blocks(page, (root / page).read_text(encoding="utf-8"))
             if snippet.runner == runner]
    for snippet in found:
        assert snippet.language in languages, f"{snippet}: no test runs {snippet.info!r}"
    return found


def same(snippet, printed, plain=str, root=ROOT):
    """Fails where plain() of what is shown and of what was printed differ; or makes them the same."""
    if plain(printed) == plain(snippet.text):
        return
    if os.environ.get("KMS_VSOCK_PROXY_RENEW_PAGES"):
        page = root / snippet.page
        lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
        indent = re.match(" *", lines[snippet.line - 1])[0]
        lines[snippet.line:snippet.line + snippet.text.count("\n")] = [
            f"{indent}{line}\n" if line else "\n" for line in printed.splitlines()]
        page.write_text("".join(lines), encoding="utf-8")
        return
    difference = difflib.unified_diff(plain(snippet.text).splitlines(), plain(printed).splitlines(),
                                      str(snippet), "printed", lineterm="")
    raise AssertionError("\n".join(difference))
