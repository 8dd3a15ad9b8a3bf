"""Every program in the documentation is compiled, and its tests are run: what a page shows is true.

A fenced block says after its language what it is:

    lmg                 a program of its own
    lmg more            goes on with the program of the block before it
    lmg file=NAME       a file that programs of the page import; it compiles by itself
    lmg error=CODE      is refused with this code alone; with `more` in front, after the program so far
    python file=NAME    any other file, in whatever language, that programs of the page need

Words in front of a program that name the file keep the page readable without these marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.evaluate.program_tests import run_tests
from lmgraph.program.program import Program
from lmgraph.runtime.service import Runtime
from lmgraph.source.render import render
from lmgraph.source.text import Source
from lmgraph.syntax.format import format_source

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
GENERATED = {ROOT / "docs" / "reference" / "diagnostics.md"}
"""Pages that are written from code, and held to it by a test of their own."""
MAY_WARN = {"W0001", "W0002", "W0003", "W0004", "W0005", "W0010", "W0011"}
"""What an example is allowed to leave unused, and data that a page does not show."""


@dataclass(frozen=True)
class Block:
    language: str
    words: tuple[str, ...]
    text: str
    line: int

    def value(self, key: str) -> str | None:
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{key}=")), None)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], tuple(found[2].split()), found[3], text.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(text)
    ]


def pages() -> Iterator[Path]:
    for pattern in ("*.md", "docs/**/*.md", "programs/**/*.md", "optimizers/**/*.md"):
        for path in sorted(ROOT.glob(pattern)):
            hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
            if not hidden and path not in GENERATED and any(block.language == "lmg" for block in blocks(path)):
                yield path


PAGES = list(pages())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
async def test_programs_compile_and_their_tests_pass(page: Path, tmp_path: Path) -> None:
    program = ""
    for block in reversed(blocks(page)):  # a program may name a file that the page shows after it
        write(block, tmp_path)
    for block in blocks(page):
        write(block, tmp_path)
        if block.language == "lmg":
            so_far = program + "\n" + block.text if "more" in block.words else block.text
            await check(block, so_far, tmp_path, f"{page.relative_to(ROOT)}:{block.line}")
            if block.value("file") is None and block.value("error") is None:
                program = so_far


def write(block: Block, folder: Path) -> None:
    """A block that has a file's name becomes this file."""
    name = block.value("file")
    if name is not None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")


async def check(block: Block, text: str, folder: Path, where: str) -> None:
    compilation = compile_source(Source("program.lmg", text), root=folder)
    shown = f"{where}\n{render(compilation.diagnostics, compilation.sources)}"
    errors = [one.code for one in compilation.diagnostics if one.severity == "error"]
    expected = block.value("error")
    assert errors == ([expected] if expected else []), shown
    if expected:
        return
    assert {one.code for one in compilation.diagnostics} <= MAY_WARN, shown
    formatted = format_source(Source("program.lmg", block.text))
    assert formatted.strip() == block.text.strip(), f"{where}: lmgraph fmt changes it"
    program = Program.default(compilation.require(), folder)
    results = await run_tests(program, compilation.tests, runtime=Runtime())
    assert {result.title: result.to_data() for result in results if result.status != "passed"} == {}, where


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_file_that_programs_need_is_named_in_the_text_before_it(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    for block in blocks(page):
        name = block.value("file")
        if name is not None:
            before = " ".join(lines[max(0, block.line - 5) : block.line - 1])
            assert f"`{name}`" in before, f"{page}:{block.line}"


def test_the_tutorial_ends_with_the_program_that_lmgraph_new_writes(tmp_path: Path) -> None:
    tutorial = blocks(ROOT / "docs" / "tutorial" / "first-program.md")
    first = max(number for number, one in enumerate(tutorial) if one.language == "lmg" and "more" not in one.words)
    for block in tutorial:
        write(block, tmp_path)
    text = "\n".join(one.text for one in tutorial[first:] if one.language == "lmg")
    ours = compile_source(Source("desk.lmg", text), root=tmp_path).require()
    template = ROOT / "lmgraph" / "cli" / "templates" / "classify"
    theirs = compile_source(Source("desk.lmg", (template / "program.lmg").read_text("utf-8")), root=template).require()
    assert ours == theirs


def test_every_program_is_marked_as_one() -> None:
    """A block without a language that looks like a program would not be compiled."""
    plain = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    starts = re.compile(r"(edition \d|(enum|record|lm|module|flow|dataset|metric|objective|fn|tool|retriever) \w+\W)")
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("[rtg]*/*.md")]:
        for text in plain.findall(page.read_text(encoding="utf-8")):
            assert not starts.match(text), f"{page}: mark it with ```lmg:\n{text}"
