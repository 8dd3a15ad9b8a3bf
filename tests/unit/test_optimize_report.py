"""The report, in both forms, the comparison of programs, and runs over several seeds."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
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
from lmgraph.optimize.plots import Plot, Scored, amounts, curves, scores_over_calls, shares
from lmgraph.optimize.records import read_record, record_data
from lmgraph.optimize.report import Report, render_report
from lmgraph.optimize.report_html import NO_PLOTS, render_html
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
    """Balanced tags, no script, and nothing fetched from elsewhere: images are in the page, and told in words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.words: list[str] = []
        self.images: dict[str, str] = {}
        """SVG by what it shows."""
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        given = dict(attrs)
        assert "href" not in given
        if tag == "img":
            kind, _, data = str(given["src"]).partition(",")
            assert kind == "data:image/svg+xml;base64"
            self.images[str(given["alt"])] = b64decode(data).decode()
        else:
            assert "src" not in given
        if tag not in ("meta", "img"):
            self.stack.append(tag)

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
    told = replace(told, records=(start, replace(prompt, reused=6, recovered=2)))
    assert "Of them 2 were made before the run was interrupted" in render_report(told)
    (shown,) = [alt for alt in Page(render_html(told)).images if alt.startswith("Score with its interval over calls")]
    assert "start 0.250 (0.150 to 0.350) at 7 calls; prompt 0.500 (0.400 to 0.600) at 14 calls." in shown


def test_pairs_of_too_little_are_not_compared() -> None:
    assert paired([1.0], [0.0]) is None
    assert paired([1.0, 0.0], []) is None
    found = paired([1.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    assert found is not None
    assert found["doubt"] == doubt(compare([1.0, 1.0, 0.0], [0.0, 0.0, 0.0]))


STAGES = [
    Scored("start a & <b>", 10, 0.5, 0.4, 0.6, True),
    Scored("$x$", 12, 0.2, 0.2, 0.2, False),
    Scored("last", 12, 0.9, 0.8, 1.0, True),
]
DRAWN = {
    "scores": lambda: scores_over_calls(STAGES),
    "one score": lambda: scores_over_calls(STAGES[:1]),
    "curves": lambda: curves("reward", {f"M{number}": [0.1, math.nan, math.inf, 0.4] for number in range(9)}),
    "one step": lambda: curves("reward", {"all": [0.5]}),
    "shares": lambda: shares("Failed", ["A", "B <i>"], {"start": [0.5, 0.0], "kept": [1.0, 0.0]}),
    "amounts": lambda: amounts("calls", ["start", "prompt"], [10, 0], ",.0f"),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_plots_are_whole_images_for_light_and_dark(draw: Callable[[], Plot]) -> None:
    plot = draw()
    tree = ElementTree.fromstring(plot.svg)
    assert tree.tag.endswith("svg")
    assert "prefers-color-scheme:dark" in plot.svg
    assert not re.search(r"#0[0-9]0[0-9]0[0-9]", plot.svg.partition("</style>")[2]), "every stand-in has its color"
    assert plot.alt.endswith(".")
    assert draw() == plot, "the same report is the same file"


def test_names_are_text_and_nothing_else() -> None:
    words = " ".join(ElementTree.fromstring(scores_over_calls(STAGES).svg).itertext())
    assert "start a & <b> 0.500" in words
    assert "$x$ 0.200" in words


def test_the_curves_of_all_modules_share_a_plot(tmp_path: Path) -> None:
    told = report(tmp_path)
    start, prompt = told.records
    data = {"reward": [0.1, 0.4], "A: reward": [0.2, 0.3], "B: reward": [0.0, 0.5], "kl": [math.nan]}
    told = replace(told, records=(start, replace(prompt, details={"curves": data})))
    (shown,) = [alt for alt in Page(render_html(told)).images if "over the steps" in alt]
    assert shown == "reward over the steps: all from 0.1 to 0.4; A from 0.2 to 0.3; B from 0 to 0.5."


def test_a_page_without_matplotlib_says_how_to_get_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Page(render_html(report(tmp_path)))
    assert whole.images
    assert NO_PLOTS not in whole.words
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = Page(render_html(report(tmp_path)))
    assert page.images == {}
    assert NO_PLOTS in page.words
    assert "+0.250" in page.words


def test_a_plot_that_cannot_be_drawn_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    page = Page(render_html(report(tmp_path)))
    assert page.images == {}
    assert "This page has no plots, because matplotlib failed: RuntimeError: no fonts" in page.words
    assert "+0.250" in page.words


DRAWS = """
from lmgraph.optimize.plots import curves
curves("reward", {"all": [0.1, 0.2]})
"""


def test_plots_need_no_display_and_keep_to_the_cache(tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    environment = {"HOME": str(home), "LMGRAPH_HOME": str(cache)}
    subprocess.run([sys.executable, "-c", DRAWS], env=environment, cwd=home, check=True)
    assert list(home.iterdir()) == []
    assert [path.name for path in cache.iterdir()] == ["matplotlib"]


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

    from lmgraph.optimize.seeds import optimize_seeds

    async def never(seed: int) -> Any:
        raise AssertionError("nothing may run")

    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigError, match="need scipy"):
        asyncio.run(optimize_seeds([0, 1], never, tmp_path / "out"))
