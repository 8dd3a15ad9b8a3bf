"""The documentation names what is there: links lead somewhere, the map lists every file, its programs parse."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from lmgraph.source.text import Source
from lmgraph.syntax.parser import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "programs/**/*.md", "optimizers/**/*.md")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


def file_map() -> ModuleType:
    spec = importlib.util.spec_from_file_location("file_map", ROOT / "docs" / "internals" / "file_map.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    inside = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in inside if not (page.parent / target).exists()] == []


def test_the_map_lists_every_file() -> None:
    tool = file_map()
    page = tool.PAGE.read_text(encoding="utf-8")
    section = page[page.index(tool.START) : page.index(tool.END)]
    listed: set[str] = set()
    folder = ""
    for line in section.splitlines():
        if heading := re.match(r"### `(.*)/`", line):
            folder = heading[1]
        elif row := re.match(r"\| `(.*?\.py)` \|", line):
            listed.add(f"{folder}/{row[1]}")
    assert listed == set(tool.files()), "run: python docs/internals/file_map.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_programs_in_the_text_parse(page: Path) -> None:
    blocks = re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    starts = re.compile(r"(edition \d|enum|record|lm|module|flow|dataset|metric|objective)\b[^\n]*[{=\d]")
    for block in blocks:
        if starts.match(block):
            assert not parse(Source(str(page), block)).diagnostics, block
