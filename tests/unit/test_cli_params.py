"""A tuned artifact and an edited program at the command line: `--params` of run, eval, optimize, compile; `diff`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import lmgraph
from lmgraph.errors import GraphMismatch
from lmgraph.program import AdapterRef, artifact
from lmgraph.program.fingerprints import fingerprints
from support.scripted import Done, run_cli, write_engine_plugin, write_sort_program

Cli = Callable[..., Done]
TUNE = ("--with", "demos", "--demos.max_demos", "2", "--demos.candidates", "2", "--no-trace")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """In a folder with a program, and what it learned in `tuned`."""
    write_sort_program(tmp_path)
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))
    monkeypatch.setenv("LMGRAPH_ENGINE", "words")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, **options: str) -> Done:
        return run_cli(monkeypatch, capsys, *arguments, **options)

    assert run("optimize", "sort.lmg", *TUNE, "-o", "tuned").code == 0
    return run


def edit(*changes: tuple[str, str], more: str = "") -> None:
    text = Path("sort.lmg").read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("edited.lmg").write_text(text + more, encoding="utf-8")


def score(cli: Cli, *arguments: object) -> float:
    done = cli("eval", *arguments, "--split", "test", "--no-trace", "--json")
    assert done.code == 0, done.err
    value = json.loads(done.out)["score"]
    assert isinstance(value, float)
    return value


def test_a_tuned_artifact_survives_a_rename_other_order_and_a_new_module(cli: Cli) -> None:
    extra = "module Extra(text: str) -> (ok: bool) {}\nflow Other(text: str) -> (ok: bool) {\n"
    extra += "  out = Extra(text)\n  return (ok=out.ok)\n}\nmoved Classify -> Sorter\n"
    edit(("Classify", "Sorter"), ('(word: str "one word")', '(n: int = 0, word: str "one word")'), more=extra)
    refused = cli("eval", "edited.lmg", "--params", "tuned")
    assert refused.code == 1
    assert "error[E0802]" in refused.err
    assert "note: input `n` is new: `int`" in refused.err
    edit(("Classify", "Sorter"), more="# new\n" + extra)
    assert score(cli, "sort.lmg") < 1.0
    assert score(cli, "edited.lmg", "--params", "tuned") == 1.0
    done = cli("run", "edited.lmg", "--params", "tuned", "--flow", "Sort", "--word", "owl", "--no-trace")
    assert (done.code, done.out) == (0, "kind: animal\n")
    assert "note: `Sorter` has the parameters of `Classify`\n" in done.err
    assert "note: `Extra` is new: it starts from what its author wrote\n" in done.err


def test_a_renamed_module_without_moved_is_refused_with_the_line_to_write(cli: Cli) -> None:
    edit(("Classify", "Sorter"))
    done = cli("compile", "edited.lmg", "--params", "tuned", "-o", "new", "--format", "json")
    assert (done.code, done.out, Path("new").exists()) == (1, "", False)
    (found,) = json.loads(done.err)
    assert (found["code"], found["severity"]) == ("E0803", "error")
    assert found["fix"]["replacement"] == "moved Classify -> Sorter\n"
    text = Path("edited.lmg").read_text("utf-8")
    place = found["fix"]["range"]["start"]["offset"]
    Path("edited.lmg").write_text(text[:place] + found["fix"]["replacement"] + text[place:], encoding="utf-8")
    assert cli("compile", "edited.lmg", "--params", "tuned", "-o", "new").code == 0
    assert score(cli, "new") == 1.0


def test_a_reworded_instruction_is_warned_about_each_time_until_it_is_tuned_again(cli: Cli) -> None:
    edit(("Name the kind of thing.", "Say what kind of thing it is."))
    done = cli("eval", "edited.lmg", "--params", "tuned", "--split", "test", "--no-trace", "--json")
    assert json.loads(done.out)["score"] == 1.0
    assert "warning[W0801]: learned parameters are stale" in done.err
    assert 'its instruction was "Name the kind of thing." and is "Say what kind of thing it is."' in done.err
    assert cli("compile", "edited.lmg", "--params", "tuned", "-o", "stale").code == 0
    again = cli("eval", "stale", "--no-trace")
    assert "warning: `Classify` is stale: its author changed it after its parameters were learned\n" in again.err
    assert cli("optimize", "stale", *TUNE, "-o", "fresh", "--fresh").code == 0
    kept = (
        artifact.load(Path("fresh")).params.modules["Classify"]
        == artifact.load(Path("stale")).params.modules["Classify"]
    )
    assert ("stale" in cli("eval", "fresh", "--no-trace").err) == kept


def test_optimize_goes_on_from_what_was_learned(cli: Cli) -> None:
    edit(("max_tokens: 16", "max_tokens: 24"))
    done = cli("optimize", "edited.lmg", "--params", "tuned", *TUNE, "-o", "more", "--json")
    assert done.code == 0, done.err
    stages = json.loads(done.out)["stages"]
    assert stages[0]["dev"]["score"] == 1.0


def test_the_artifact_says_what_it_was_tuned_on(cli: Cli) -> None:
    stored = artifact.load(Path("tuned"))
    learned = stored.params.modules["Classify"].fingerprints
    assert len(learned.data) == 1
    assert learned.interface == fingerprints(stored.graph)["Classify"].interface
    found = json.loads(cli("diff", "sort.lmg", "tuned", "--json").out)
    assert found["modules"][0]["fingerprints"] == {"data": [[], list(learned.data)]}
    assert "learned for another data (rows)" in cli("diff", "sort.lmg", "tuned").out
    rows = Path("words.jsonl").read_text("utf-8")
    Path("words.jsonl").write_text(rows.replace("apple", "apricot"), encoding="utf-8")
    assert cli("optimize", "sort.lmg", *TUNE, "-o", "other").code == 0
    assert artifact.load(Path("other")).params.modules["Classify"].fingerprints.data != learned.data


def test_diff_shows_the_fields_that_differ(cli: Cli) -> None:
    edit(("fruit  tool  animal", "fruit  tool  beast"), ('word: str "one word"', 'word: str "one word", n: int = 0'))
    done = cli("diff", "tuned", "edited.lmg")
    assert "  input `n` is new: `int`" in done.out
    assert '  output `kind` no longer allows "animal" and now allows "beast"' in done.out
    (module,) = json.loads(cli("diff", "tuned", "edited.lmg", "--json").out)["modules"]
    assert module["interface"] is True
    assert {"side": "input", "field": "n", "change": "new", "before": None, "after": "`int`"} in module["fields"]


def test_an_artifact_takes_the_parameters_of_another_one(cli: Cli) -> None:
    assert cli("compile", "sort.lmg", "-o", "plain").code == 0
    assert score(cli, "plain") < 1.0
    assert score(cli, "plain", "--params", "tuned") == 1.0
    edit(("fruit  tool  animal", "fruit  tool  animal  plant"))
    assert cli("compile", "edited.lmg", "-o", "other").code == 0
    done = cli("eval", "other", "--params", "tuned")
    assert done.code == 1
    assert "E0802: the parameters of `Classify` were learned for other inputs or outputs" in done.err
    assert '(output `kind` now allows "plant")' in done.err


def test_an_adapter_of_another_base_model_is_refused(cli: Cli, tmp_path: Path) -> None:
    edit(("max_tokens: 16", "max_tokens: 16\n  lm: main"), more='lm main { model: "small" }\n')
    (tmp_path / "weights").mkdir()
    for name in artifact.ADAPTER_FILES:
        (tmp_path / "weights" / name).write_bytes(b"{}")
    program = lmgraph.load("edited.lmg")
    ref = AdapterRef("a", 1, tmp_path / "weights", "small", "00")
    artifact.save(program.with_params(program.params.with_adapter(ref, ("Classify",))), Path("trained"))
    assert lmgraph.load("edited.lmg", params="trained").params.adapters["a@v1"].base_model == "small"
    text = Path("edited.lmg").read_text("utf-8")
    Path("edited.lmg").write_text(text.replace('model: "small"', 'model: "large"'), encoding="utf-8")
    done = cli("eval", "edited.lmg", "--params", "trained", "--no-trace")
    assert done.code == 1
    assert "error[E0804]: adapter of another base model" in done.err
    assert "the adapter of `Classify` was trained on small, and the model of its LM `main` is large" in done.err
    bound = cli("run", "trained", "--lm", "main=words:large", "--word", "owl", "--no-trace")
    assert bound.code == 1
    assert "was trained on small, and large serves it here" in bound.err or "serves none" in bound.err
    with pytest.raises(GraphMismatch, match="E0804"):
        lmgraph.load("edited.lmg", params="trained")


@pytest.mark.parametrize("where", ["nowhere", "sort.lmg", "."])
def test_params_of_what_is_no_artifact_are_refused(cli: Cli, where: str) -> None:
    done = cli("eval", "sort.lmg", "--params", where)
    assert done.code == 1
    assert "is no lmgraph artifact" in done.err
    assert "next:" in done.err


def test_a_program_that_does_not_compile_is_reported_as_such(cli: Cli) -> None:
    edit(("word=word", "word=wort"))
    done = cli("run", "edited.lmg", "--params", "tuned", "--word", "owl")
    assert done.code == 1
    assert "E0201" in done.err
