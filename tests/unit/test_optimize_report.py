"""The report, in both forms, the comparison of programs, and runs over several seeds."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError
from lmgraph.evaluate import make_task
from lmgraph.evaluate.statistics_paired import compare, doubt
from lmgraph.optimize import StageRecord
from lmgraph.optimize.compose import paired
from lmgraph.optimize.difference import difference
from lmgraph.optimize.records import read_record, record_data
from lmgraph.optimize.report import Report, render_report
from lmgraph.optimize.report_html import render_html
from lmgraph.optimize.svg import Bar, intervals, line
from lmgraph.program import AdapterRef, Demo, Program, artifact
from support.scripted import Done, run_cli, sort_program

HOSTILE = '</pre><script>alert("x")</script>\n```\n# not a heading'


def record(name: str, scores: list[float], *, kept: bool = True, start: list[float] | None = None) -> StageRecord:
    mean = sum(scores) / len(scores)
    dev = {
        "score": mean, "low": mean - 0.1, "high": mean + 0.1, "rows": len(scores), "split": "dev",
        "decoding": "strict", "failures": {}, "failed_metrics": {},
    }  # fmt: skip
    details = {"curves": {"reward": [0.1, math.nan, 0.4]}, "candidates": [{"name": HOSTILE, "score": 0.5, "rows": 3}]}
    versus = None if start is None else paired(scores, start)
    return StageRecord(name, dev, kept, 7, 70, 1.5, (HOSTILE,), details, {"size": 3}, "x", tuple(scores), versus)


def report(folder: Path, **changes: Any) -> Report:
    program = sort_program(folder)
    demo = Demo({"word": "fig"}, {"kind": "fruit"}, "bootstrapped", "words.jsonl:1")
    tuned = program.with_params(program.params.with_module("Classify", instruction=HOSTILE, demos=(demo,)))
    start = [0.0, 1.0, 0.0, 0.0]
    records = (record("start", start), record("prompt", [0.0, 1.0, 1.0, 0.0], start=start))
    return replace(Report(tuned, make_task(program), records, "lmgraph optimize x", 3, "local/m", None), **changes)


class Page(HTMLParser):
    """Balanced tags, no script, and nothing fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag not in ("meta",):
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("line", "circle", "polyline")

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_both_reports_say_the_same(tmp_path: Path) -> None:
    made = report(tmp_path)
    markdown, page = render_report(made), Page(render_html(made))
    text = " ".join(page.words)
    for words in ("Against the start, row by row", "+0.250", "McNemar, exact", "1.000", "may be chance (p = 1.00)"):
        assert words in markdown
        assert words in text
    assert "lmgraph optimize x" in text
    assert HOSTILE.splitlines()[0] in text, "shown as it is, as text"


def test_what_a_program_wrote_breaks_no_markdown(tmp_path: Path) -> None:
    text = render_report(report(tmp_path))
    fences = re.findall(r"^`{3,}", text, re.MULTILINE)
    assert fences.count("````") == 2, "the block that holds three backticks has four"


def test_stages_that_came_up_twice_are_told_apart(tmp_path: Path) -> None:
    start = [0.0, 1.0]
    records = [record("start", start), *(record(name, [1.0, 1.0], start=start) for name in ("a", "b", "a"))]
    text = render_report(report(tmp_path, records=records))
    for heading in ("## Stage 1 a", "## Stage b", "## Stage 3 a"):
        assert heading in text
    assert "Each p is of one comparison; there are 3" in text


def test_the_test_rows_are_told(tmp_path: Path) -> None:
    dev = record("start", [0.0, 1.0]).dev
    versus = paired([1.0] * 9, [0.0] * 9)
    text = render_report(report(tmp_path, test={"start": dev, "best": dev, "paired": versus}))
    assert "## Test rows" in text
    assert "Scored once, at the end, on 2 rows" in text
    assert "p 0.004" in text
    assert "Test rows" in render_html(report(tmp_path, test={"start": dev, "best": dev, "paired": None}))


def test_a_stopped_run_and_one_of_an_earlier_version(tmp_path: Path) -> None:
    old = record("prompt", [0.0, 1.0])
    data = {name: value for name, value in record_data(old).items() if name not in ("scores", "paired")}
    text = render_report(report(tmp_path, records=[read_record(data), read_record(data)], stopped="The budget ended."))
    assert "**Stopped early.** The budget ended." in text
    assert "row by row" not in text


def test_failed_calls_are_told_by_module(tmp_path: Path) -> None:
    told = report(tmp_path)
    assert "by module" not in render_report(told), "none failed"
    start, prompt = told.records
    counts = {"Sort": {"calls": 4, "failed": 3}, "Rare": {"calls": 0, "failed": 0}}
    start = replace(start, dev={**start.dev, "modules": counts})
    prompt = replace(prompt, dev={**prompt.dev, "modules": {"Sort": {"calls": 4, "failed": 1}}})
    told = replace(told, records=(start, prompt))
    assert "| Sort | 4 | 3 (75%) | 4 | 1 (25%) |" in render_report(told)
    assert "| Rare | 0 | 0 (0%) | 0 | 0 (0%) |" in render_report(told)
    assert "3 (75%)" in Page(render_html(told)).words


def test_reused_calls_and_the_score_over_calls_are_told(tmp_path: Path) -> None:
    told = report(tmp_path)
    start, prompt = told.records
    told = replace(told, records=(start, replace(prompt, reused=6)))
    assert "6 more calls were answered by earlier runs of the same rows" in render_report(told)
    assert "30% of all" in render_report(told), "6 of 14 made and 6 reused"
    assert {"start 0.250", "prompt 0.500", "14 calls"} <= set(Page(render_html(told)).words)


def test_pairs_of_too_little_are_not_compared() -> None:
    assert paired([1.0], [0.0]) is None
    assert paired([1.0, 0.0], []) is None
    found = paired([1.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    assert found is not None
    assert found["doubt"] == doubt(compare([1.0, 1.0, 0.0], [0.0, 0.0, 0.0]))


def test_plots_are_whole_xml() -> None:
    bars = [Bar("a & <b>", 0.5, 0.4, 0.6, True), Bar("out of range", 2.0, -1.0, 3.0)]
    for text in (intervals(bars, 0.0, 1.0), intervals(bars, 1.0, 1.0), line([0.1, math.nan, 0.3, 0.2], "x<y")):
        tree = ElementTree.fromstring(text)
        numbers = [float(value) for shape in tree for name, value in shape.items() if name in ("x1", "x2", "cx", "cy")]
        assert all(0 <= number <= 640 for number in numbers)
    assert line([math.nan], "nothing") == ""
    assert "circle" in line([0.5], "one")


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Program, Program]:
    program = sort_program(tmp_path / "program")
    a, b, c = (Demo({"word": word}, {"kind": "fruit"}, "labelled", word) for word in ("fig", "pear", "plum"))
    first = program.with_params(program.params.with_module("Classify", demos=(a, b)))
    second = program.with_params(
        program.params.with_module(
            "Classify", demos=(b, c), instruction="Name it.", descriptions={"word": "what to name"}
        )
    )
    return first, second


def test_what_differs_between_two_programs(versions: tuple[Program, Program]) -> None:
    first, second = versions
    (module,) = difference(first, second).modules
    assert module.instruction is not None
    assert "-Name the kind of thing." in module.instruction
    assert "+Name it." in module.instruction
    assert [demo.example for demo in module.demos_added] == ["plum"]
    assert [demo.example for demo in module.demos_removed] == ["fig"]
    assert module.descriptions == {"word": (None, "what to name")}
    assert module.adapters is None
    assert difference(first, first).is_empty
    demos = first.params.modules["Classify"].demos
    turned = first.with_params(first.params.with_module("Classify", demos=demos[::-1]))
    assert difference(first, turned).modules[0].demos_moved


def test_adapters_are_compared_by_their_weights(versions: tuple[Program, Program]) -> None:
    program = versions[0]

    def trained(name: str, sha256: str) -> Program:
        ref = AdapterRef(name, 1, Path("x"), "base", sha256)
        return program.with_params(program.params.with_adapter(ref, ("Classify",)))

    assert difference(trained("a", "11"), trained("b", "11")).is_empty
    (module,) = difference(program, trained("a", "11")).modules
    assert module.adapters is not None
    assert module.adapters[0] is None
    json.dumps(module.to_data())


Cli = Callable[..., Done]


def test_diff_from_the_command_line(
    tmp_path: Path,
    versions: tuple[Program, Program],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, program in zip("ab", versions, strict=True):
        artifact.save(program, tmp_path / name)
    done = run_cli(monkeypatch, capsys, "diff", "a", "b")
    assert done.code == 0, done.err
    for words in (
        "module Classify",
        "+Name it.",
        "1 removed, 1 added",
        '+ {"word": "plum"}',
        "of word: the auth",
    ):
        assert words in done.out
    data = json.loads(run_cli(monkeypatch, capsys, "diff", "a", "b", "--json").out)
    assert data["modules"][0]["demos_added"][0]["example"] == "plum"
    assert run_cli(monkeypatch, capsys, "diff", "a", "a").out == "no difference\n"
    assert "only in" not in run_cli(monkeypatch, capsys, "diff", "a", "program/sort.lmg").out
    assert run_cli(monkeypatch, capsys, "diff", "a", "nothing").code == 1


def test_seeds_need_scipy_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio
    import sys

    from lmgraph.optimize.seeds import optimize_seeds

    async def never(seed: int) -> Any:
        raise AssertionError("nothing may run")

    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigError, match="need scipy"):
        asyncio.run(optimize_seeds([0, 1], never, tmp_path / "out"))
