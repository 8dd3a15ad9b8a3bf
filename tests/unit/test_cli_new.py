"""`lmgraph new`: what it writes is a project that works as it stands; what is there is never touched."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import lmgraph
from lmgraph.cli.common import read_settings
from lmgraph.cli.new import TEMPLATES, Template, write_project
from lmgraph.compiler.compile import compile_path
from lmgraph.evaluate.dataset import load_splits
from lmgraph.source.reading import read_source
from lmgraph.syntax.format import format_source
from lmgraph.testing import ScriptedEngine
from support.scripted import Done, run_cli

Cli = Callable[..., Done]
EACH = pytest.mark.parametrize("template", list(Template))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_cli(monkeypatch, capsys, *arguments)


def test_every_folder_of_templates_is_one() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir() if path.is_dir()) == sorted(Template)


@EACH
def test_the_program_compiles_without_a_warning_and_is_formatted(tmp_path: Path, template: Template) -> None:
    write_project(tmp_path / "shop", template)
    program = tmp_path / "shop" / "program.lmg"
    compilation = compile_path(program)
    assert compilation.diagnostics == ()
    assert compilation.require().name == "shop"
    assert format_source(read_source(program)) == program.read_text("utf-8")
    assert len(compilation.tests) >= 2
    assert all(test.stubs for test in compilation.tests)


@EACH
def test_its_tests_pass_without_a_model(cli: Cli, monkeypatch: pytest.MonkeyPatch, template: Template) -> None:
    cli("new", "shop", "--template", template.value)
    monkeypatch.chdir("shop")
    done = cli("test")
    assert (done.code, done.err) == (0, ""), done.out + done.err
    assert "skipped" not in done.out


@EACH
async def test_it_can_be_scored(tmp_path: Path, template: Template) -> None:
    write_project(tmp_path / "shop", template)
    program = lmgraph.compile_file(tmp_path / "shop" / "program.lmg")
    engine = ScriptedEngine({"": "a parcel at the front desk"})
    async with lmgraph.Runtime(everything=engine) as runtime:
        evaluation = await lmgraph.evaluate(program, runtime=runtime, split="dev", limit=5)
    assert (len(evaluation.rows), evaluation.failures) == (5, {})
    assert engine.requests


@EACH
def test_its_rows_load_and_fall_into_three_splits(tmp_path: Path, template: Template) -> None:
    write_project(tmp_path / "shop", template)
    graph = compile_path(tmp_path / "shop" / "program.lmg").require()
    (dataset,) = graph.datasets
    sizes = {name: len(rows) for name, rows in load_splits(dataset, tmp_path / "shop").items()}
    assert sum(sizes.values()) >= 36
    assert sizes["dev"] == sizes["test"] == sizes["train"] // 2


def test_the_rows_of_classify_are_balanced(tmp_path: Path) -> None:
    lines = (TEMPLATES / "classify" / "data" / "messages.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert set(Counter((row["topic"], row["mood"]) for row in rows).values()) == {6}
    assert len({row["text"] for row in rows}) == len(rows)


def test_every_answer_of_rag_stands_on_its_page() -> None:
    folder = TEMPLATES / "rag" / "data"
    blocks = (folder / "handbook.txt").read_text("utf-8").strip().split("\n\n")
    pages = dict(block.split("\n", 1) for block in blocks)
    for line in (folder / "questions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        assert row["answer"].lower() in pages[row["page"]].lower(), row


@EACH
def test_settings_and_readme_suit_the_folder(tmp_path: Path, template: Template) -> None:
    folder = tmp_path / "ticket-desk"
    write_project(folder, template)
    settings = read_settings(folder)
    assert settings.program == folder / "program.lmg"
    assert (settings.engine, settings.model, dict(settings.lms)) == (None, None, {})
    readme = (folder / "README.md").read_text("utf-8")
    assert readme.startswith("# ticket-desk\n")
    assert "{" not in readme
    commands = [line for line in readme.splitlines() if re.match(r"lmgraph \w+", line)]
    assert [line.split()[1] for line in commands] == ["test", "model", "run", "eval", "optimize"]
    graph = compile_path(folder / "program.lmg").require()
    assert graph.entry is not None
    (text,) = graph.flow(graph.entry).inputs
    assert f"lmgraph run --{text.name} " in readme
    assert (folder / ".gitignore").is_file()


def test_settings_that_are_commented_out_are_settings(tmp_path: Path) -> None:
    write_project(tmp_path / "shop", Template.CLASSIFY)
    path = tmp_path / "shop" / "lmgraph.toml"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(re.sub(r"^# (?=\w+ = |\[)", "", line) for line in lines), "utf-8")
    settings = read_settings(path.parent)
    assert (settings.engine, settings.model) == ("local", "smollm2-135m")
    assert settings.lms == {"small": "local:smollm2-135m"}


def test_it_says_what_it_wrote_and_what_comes_next(cli: Cli) -> None:
    done = cli("new", "work/my shop/desk")
    assert (done.code, done.err) == (0, "")
    for words in ("program.lmg", "data/messages.jsonl", "cd 'work/my shop/desk'", "lmgraph test", "--text"):
        assert words in done.out
    as_json = json.loads(cli("new", "desk", "--template", "rag", "--json").out)
    assert (as_json["folder"], as_json["template"]) == ("desk", "rag")
    assert all((Path("desk") / file).is_file() for file in as_json["files"])
    assert {path.relative_to("desk").as_posix() for path in Path("desk").rglob("*") if path.is_file()} == set(
        as_json["files"]
    )
    assert as_json["next"][:2] == ["cd desk", "lmgraph test"]


def test_an_empty_folder_will_do(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("desk").mkdir()
    monkeypatch.chdir("desk")
    done = cli("new", ".")
    assert done.code == 0, done.err
    assert "cd " not in done.out
    assert Path("README.md").read_text("utf-8").startswith("# desk\n")


def test_nothing_is_overwritten(cli: Cli) -> None:
    Path("full").mkdir()
    Path("full/program.lmg").write_text("mine", "utf-8")
    Path("file").write_text("mine", "utf-8")
    Path("link").symlink_to("nowhere")
    for name in ("full", "file", "link"):
        done = cli("new", name)
        assert done.code == 1
        assert "is there already" in done.err
    assert Path("full/program.lmg").read_text("utf-8") == Path("file").read_text("utf-8") == "mine"
    assert [path.name for path in Path("full").iterdir()] == ["program.lmg"]


@pytest.mark.parametrize("name", ["x.lmg", "_x", "two words", "/", "a" * 65, "tab\tname", "what?"])
def test_names_that_do_not_do(cli: Cli, name: str) -> None:
    done = cli("new", name)
    assert done.code == 1
    assert "does not do" in done.err
    assert list(Path().iterdir()) == []


def test_a_folder_that_cannot_be_made(cli: Cli) -> None:
    Path("file").write_text("", "utf-8")
    done = cli("new", "file/desk")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "next:" in done.err


def test_wrong_usage(cli: Cli) -> None:
    assert cli("new").code == 2
    assert cli("new", "a", "--template", "poem").code == 2
    assert list(Path().iterdir()) == []
