"""Bad input on the command line: each a one-screen error with a next step, exit 1, and no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lmgraph.errors import GraphInvariantError
from lmgraph.evaluate import task
from support.scripted import (
    SORT,
    Done,
    run_cli,
    sort_rows,
    write_distribution,
    write_engine_plugin,
    write_rows,
    write_sort_program,
)

Cli = Callable[..., Done]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in a folder with `sort.lmg`, its data and the engine kind `words`."""
    write_sort_program(tmp_path)
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))
    monkeypatch.chdir(tmp_path)
    for name in ("LMGRAPH_ENGINE", "LMGRAPH_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments, **options: run_cli(monkeypatch, capsys, *arguments, **options)


def refused(done: Done, *words: str) -> None:
    """A one-screen error on standard error that says ``words``."""
    assert done.code == 1, done.out + done.err
    assert "Traceback" not in done.err
    assert done.err.count("\n") <= 24
    for word in words:
        assert word in done.err, done.err


RUNS = [("run",), ("eval",), ("optimize", "--with", "demos")]


@pytest.mark.parametrize("command", RUNS, ids=lambda command: command[0])
def test_a_program_that_is_none(cli: Cli, tmp_path: Path, command: tuple[str, ...]) -> None:
    refused(cli(*command, "missing.lmg"), "missing.lmg", "there is no such file", "next:", "sort.lmg")
    Path("binary.lmg").write_bytes(b"\x7fELF\x02\x01\x00\x00")
    refused(cli(*command, "binary.lmg"), "binary.lmg", "compiled program", "next:")
    Path("latin.lmg").write_bytes("edition 1 # caf\u00e9".encode("latin-1"))
    refused(cli(*command, "latin.lmg"), "latin.lmg", "UTF-8", "next:")
    Path("empty.lmg").write_bytes(b"")
    refused(cli(*command, "empty.lmg"), "empty.lmg")
    Path("wrong.lmg").write_text(SORT.replace("kind=out.kind", "kind=out.kine"), encoding="utf-8")
    refused(cli(*command, "wrong.lmg"), "wrong.lmg", "error[E", "kine", "kind")
    (tmp_path / "folder").mkdir()
    refused(cli(*command, "folder"), "folder", "is no lmgraph artifact", "next:")
    write_sort_program(tmp_path / "project")
    refused(cli(*command, "project"), "did you mean project/sort.lmg?")
    refused(cli(*command, "words.jsonl"), "neither a .lmg file nor an artifact")
    refused(cli(*command), "No program is given", "next:")


def test_a_settings_file_that_is_none(cli: Cli) -> None:
    for text, words in (
        ("program = 3", "`program` is not a text"),
        ("program = ", "cannot be read"),
        ('progam = "x"', "unknown key `progam`"),
        ('lm = "x"', "`lm` is not a table"),
        ('program = "gone.lmg"', "gone.lmg"),
    ):
        Path("lmgraph.toml").write_text(text, encoding="utf-8")
        refused(cli("eval"), words)


@pytest.mark.parametrize("command", [("eval",), ("optimize", "--with", "demos")], ids=lambda command: command[0])
def test_a_row_that_does_not_fit(cli: Cli, command: tuple[str, ...]) -> None:
    write_rows(Path("words.jsonl"), [*sort_rows()[:5], {"word": "fork", "kind": "cutlery"}])
    refused(cli(*command, "sort.lmg", "--engine", "words"), "words.jsonl", "row 6", "`kind`", "cutlery", "next:")
    Path("words.jsonl").unlink()
    refused(cli(*command, "sort.lmg", "--engine", "words"), "words.jsonl")


def test_other_data_that_does_not_fit(cli: Cli) -> None:
    write_rows(Path("other.jsonl"), [{"word": 3, "kind": "tool"}])
    refused(cli("eval", "sort.lmg", "--engine", "words", "--data", "other.jsonl"), "other.jsonl", "row 1", "`word`")
    refused(cli("eval", "sort.lmg", "--engine", "words", "--data", "gone.jsonl"), "gone.jsonl", "next:")


@pytest.mark.parametrize("command", [("eval",), ("optimize", "--with", "demos")], ids=lambda command: command[0])
def test_a_metric_that_raises(cli: Cli, command: tuple[str, ...]) -> None:
    text = SORT.replace("-> bool = gold.kind == pred.kind", '-> float = py "metrics:measure"')
    Path("sort.lmg").write_text(text, encoding="utf-8")
    lines = "def measure(gold: dict, pred: dict) -> float:\n    return 1 / 0\n"
    Path("metrics.py").write_text(lines, encoding="utf-8")
    refused(
        cli(*command, "sort.lmg", "--engine", "words"),
        "`exact`",
        "ZeroDivisionError",
        "metrics.py:2",
        "words.jsonl:",
        "next:",
    )


def test_names_that_nothing_has(cli: Cli, tmp_path: Path) -> None:
    engine = ("--engine", "words")
    refused(cli("optimize", "sort.lmg", *engine, "--with", "demoz"), "no optimizer `demoz`", "demos", "next:")
    refused(cli("optimize", "sort.lmg", *engine), "No optimizer is named", "--with demos")
    refused(cli("eval", "sort.lmg", "--engine", "sglnag"), "no engine `sglnag`", "words", "next:")
    refused(cli("eval", "sort.lmg", *engine, "--split", "tset"), "no split `tset`", "train, dev, test")
    refused(cli("eval", "sort.lmg", *engine, "--objective", "other"), "no objective `other`", "accuracy")
    refused(cli("run", "sort.lmg", *engine, "--flow", "Other", "--word", "x"), "no flow `Other`", "Sort")
    refused(cli("eval", "sort.lmg", *engine, "--lm", "big=words:x"), "no LM `big`", "default")
    refused(cli("eval", "sort.lmg", *engine, "--lm", "default"), "--lm", "NAME=ENGINE:MODEL")
    refused(cli("trace", "list", "--trace", "gone.db"), "no trace store gone.db", "next:")


def test_optimizer_options_that_do_not_fit(cli: Cli) -> None:
    command = ("optimize", "sort.lmg", "--engine", "words", "--with", "demos")
    refused(cli(*command, "--demos.max_demoz", "3"), "`max_demoz`", "max_demos")
    refused(cli(*command, "--demos.max_demos", "many"), "`max_demos`", "'many'")
    refused(cli(*command, "--demos.max_demos", "0"), "`max_demos`")
    refused(cli(*command, "--mmgrpo.steps", "3"), "`mmgrpo`", "not among the stages: demos")
    refused(cli(*command, "--steps", "3"), "no option --steps", "--demos.steps")
    refused(cli(*command, "--demos.max_demos"), "has no value")
    refused(cli(*command, "--budget", "dollars=3"), "dollars=3", "--budget calls=")
    refused(cli(*command, "--budget", "calls=2", "--no-trace"), "budget of 2 calls")
    assert not Path(".lmgraph/traces.db").exists()


def test_a_model_that_is_not_pulled(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGRAPH_HOME", str(tmp_path / "home"))
    for command in (
        ("run", "sort.lmg", "--word", "x"),
        ("eval", "sort.lmg"),
        ("optimize", "sort.lmg", "--with", "demos"),
    ):
        refused(cli(*command, "--engine", "local"), "smollm2-135m", "not pulled", "lmgraph model pull", "next:")


def test_an_engine_that_does_not_import(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_distribution(
        tmp_path / "broken",
        "broken-engine",
        "broken_engine",
        "import nowhere",
        "lmgraph.engines",
        {"broken": "broken_engine:f"},
    )
    monkeypatch.syspath_prepend(str(site))
    refused(cli("eval", "sort.lmg", "--engine", "broken"), "`broken`", "nowhere", "next:")


def test_an_artifact_of_another_program(cli: Cli, tmp_path: Path) -> None:
    assert cli("compile", "sort.lmg", "-o", "one").code == 0
    write_sort_program(
        tmp_path / "other",
        SORT.replace('(word: str "one word")', "(word: str, n: int)").replace(
            "Classify(word=word)", "Classify(word=word, n=1)"
        ),
    )
    assert cli("compile", "other/sort.lmg", "-o", "two").code == 0
    swapped = Path("two/params.json").read_bytes()
    Path("one/params.json").write_bytes(swapped)
    refused(cli("eval", "one", "--engine", "words"), "params.json", "sha256", "next:")
    manifest = json.loads(Path("one/artifact.json").read_text("utf-8"))
    manifest["files"]["params.json"] = json.loads(Path("two/artifact.json").read_text("utf-8"))["files"]["params.json"]
    Path("one/artifact.json").write_text(json.dumps(manifest), encoding="utf-8")
    refused(cli("eval", "one", "--engine", "words"), "does not fit the program", "`Classify`", "next:")


def test_outputs_that_cannot_be_written(cli: Cli) -> None:
    Path("file").write_text("x", encoding="utf-8")
    engine = ("--engine", "words")
    optimize = ("optimize", "sort.lmg", "--with", "demos", *engine)
    refused(cli(*optimize, "--output", "file/out"), "file/out", "--output")
    refused(cli(*optimize, "--output", "site"), "site", "is no artifact", "--output")
    refused(cli(*optimize, "--study", "file/study"), "file/study", "--study")
    refused(cli(*optimize, "--study", "site"), "is no study", "--study")
    refused(cli("eval", "sort.lmg", *engine, "--rows", "file/rows.jsonl"), "file/rows.jsonl", "next:")
    refused(cli("eval", "sort.lmg", *engine, "--trace", "file/t.db"), "file/t.db", "--trace")
    refused(cli("eval", "sort.lmg", *engine, "--trace", "sort.lmg"), "sort.lmg", "--trace")
    assert Path("sort.lmg").read_text("utf-8").startswith("edition 1")


def test_inputs_that_do_not_fit(cli: Cli) -> None:
    run = ("run", "sort.lmg", "--engine", "words")
    refused(cli(*run), "`word`", "missing")
    refused(cli(*run, "--wrod", "x"), "no input `wrod`", "did you mean `word`?")
    refused(cli(*run, "--word"), "--word has no value")
    refused(cli(*run, "--word", "x", "--word", "y"), "2 times")
    refused(cli(*run, "--input", "[1]"), "no object")
    refused(cli(*run, "--input", "{"), "not JSON")
    refused(cli(*run, "--input", '{"word": 3}'), "`word`", "3")
    refused(cli(*run, "-", stdin=""), "Standard input is empty")
    refused(cli(*run, "-", stdin='{"word": "a"}\nnot json\n'), "line 2")
    refused(cli(*run, "-", "--word", "x", stdin="{}"), "leave out one")
    refused(cli(*run, "more.lmg", "--word", "x"), "more than one program")


def test_wrong_usage_exits_2(cli: Cli) -> None:
    for arguments in (("nope",), ("eval", "sort.lmg", "--limit", "many"), ("eval", "--nope"), ("trace", "show")):
        done = cli(*arguments)
        assert done.code == 2
        assert "Traceback" not in done.err


def test_a_bug_of_ours_goes_to_a_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise GraphInvariantError("node `x` reads what is not there")

    monkeypatch.setattr(task, "make_task", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = cli("eval", "sort.lmg", "--engine", "words")
    refused(done, "GraphInvariantError", "this is a bug in lmgraph")
    (file,) = tmp_path.glob("lmgraph-*.txt")
    assert str(file) in done.err
    assert "Traceback" in file.read_text("utf-8")


def test_hostile_text_does_not_reach_the_terminal(cli: Cli) -> None:
    done = cli("run", "sort.lmg", "--engine", "words", "--\x1b[2Jx", "y")
    assert done.code == 1
    assert "\x1b" not in done.err
