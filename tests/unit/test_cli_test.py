"""`lmgraph test`: what runs, what is skipped, and what a failed test shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.scripted import SORT, Done, run_cli, write_engine_plugin, write_sort_program

Cli = Callable[..., Done]

TESTS = """
fn double(n: int) -> int = py "tools:double"

tool send(text: str) -> str = py "tools:send"

flow Twice(word: str) -> (kind: Kind, n: int, sent: str) {
  out = Classify(word)
  n = double(n=len(word))
  assert n < 20 else "a word is short"
  sent = send(text=word)
  return (kind=out.kind, n, sent)
}

test "a fig is a fruit" {
  stub Classify -> (kind=Kind.fruit)
  out = Sort(word="fig")
  assert out.kind == Kind.fruit else "figs grow on trees"
}

test "a saw is a fruit" {
  stub Classify -> (kind=Kind.tool)
  out = Sort(word="saw")
  words = ["saw", "fig"]
  assert out.kind == Kind.fruit and len(words) < 2 else "a saw cuts"
}

test "the model knows plums" {
  out = Sort(word="plum")
  assert out.kind == Kind.fruit else "a plum is a fruit"
}

test "a plum is sent" {
  stub Classify -> (kind=Kind.fruit)
  out = Twice(word="plum")
  assert out.sent == "sent plum" else "as it is"
}

test "a word is too long" {
  stub Classify -> (kind=Kind.fruit)
  stub send -> ("sent")
  out = Twice(word="pomegranates")
  assert out.n == 24 else "twice the letters"
}
"""
TOOLS = """
def double(n: int) -> int:
    return 2 * n


def send(text: str) -> str:
    return "sent " + text
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in a folder with `sort.lmg`, which declares five tests, and the engine kind `words`."""
    write_sort_program(tmp_path, SORT + TESTS)
    (tmp_path / "tools.py").write_text(TOOLS, "utf-8")
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))
    monkeypatch.chdir(tmp_path)
    for name in ("LMGRAPH_ENGINE", "LMGRAPH_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments, **options: run_cli(monkeypatch, capsys, *arguments, **options)


def place(text: str, path: str = "sort.lmg") -> str:
    """`sort.lmg:12:3`, where the text stands."""
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        if text in line:
            return f"{path}:{number}:{line.index(text) + 1}"
    raise AssertionError(text)


def line_of(done: Done, text: str) -> str:
    (line,) = [line for line in done.out.splitlines() if text in line]
    return line


def test_each_test_has_a_line_and_the_last_one_counts(cli: Cli) -> None:
    done = cli("test", "sort.lmg")
    assert (done.code, done.err) == (1, "")
    assert line_of(done, "a fig is a fruit").split()[0] == "ok"
    assert line_of(done, "a saw is a fruit").split()[0] == "FAILED"
    skipped = line_of(done, "the model knows plums")
    assert skipped.split()[0] == "skipped"
    assert "Classify" in skipped
    assert "--live" in skipped
    assert done.out.splitlines()[-1] == "5 tests: 1 ok, 3 failed, 1 skipped"


def test_a_false_assert_shows_its_place_its_message_and_what_it_read(cli: Cli) -> None:
    done = cli("test", "sort.lmg", "--only", "SAW")
    source = 'assert out.kind == Kind.fruit and len(words) < 2 else "a saw cuts"'
    assert f"{place(source)}: a saw cuts\n             {source}\n" in done.out
    assert 'out.kind = "tool"' in done.out
    assert "len(words) = 2" in done.out or 'words = ["saw", "fig"]' in done.out
    assert done.out.splitlines()[-1] == "1 test: 0 ok, 1 failed"


def test_an_assert_of_a_flow_that_is_called_is_told_where_it_stands(cli: Cli) -> None:
    done = cli("test", "sort.lmg", "--only", "too long")
    assert place('assert n < 20 else "a word is short"') in done.out
    assert "n = 24" in done.out
    assert "twice the letters" not in done.out


def test_a_tool_that_may_act_needs_leave(cli: Cli) -> None:
    done = cli("test", "sort.lmg", "--only", "is sent")
    assert done.code == 1
    assert "`send`" in done.out
    assert "--allow-effects" in done.out
    assert cli("test", "sort.lmg", "--only", "is sent", "--allow-effects").code == 0


def test_live_tests_call_the_model(cli: Cli) -> None:
    done = cli("test", "sort.lmg", "--only", "plums", "--live", "--engine", "words")
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 test: 1 ok")
    silent = cli("test", "sort.lmg", "--only", "plums", "--live", "--lm", "default=words:silent", "--trace", "t.db")
    assert silent.code == 1
    for words in (place("out = Classify(word=word)"), "expected one of fruit, tool, animal", "no label at all"):
        assert words in silent.out
    assert "test" in cli("trace", "list", "--trace", "t.db").out
    assert not Path(".lmgraph").exists()


def test_json(cli: Cli) -> None:
    done = cli("test", "sort.lmg", "--json")
    assert (done.code, done.err) == (1, "")
    data = json.loads(done.out)
    assert (data["passed"], data["failed"], data["skipped"]) == (1, 3, 1)
    (file,) = data["files"]
    assert (file["file"], file["error"]) == ("sort.lmg", None)
    by_title = {test["title"]: test for test in file["tests"]}
    (false,) = by_title["a saw is a fruit"]["false"]
    assert false["message"] == "a saw cuts"
    assert false["values"]["out.kind"] == "tool"
    line, column = place("assert out.kind == Kind.fruit and").split(":")[1:]
    assert false["place"] == {"file": "sort.lmg", "line": int(line), "column": int(column)}
    assert by_title["the model knows plums"]["needs"] == ["Classify"]
    assert "send" in by_title["a plum is sent"]["problem"]


def test_without_a_file_the_program_of_the_settings_is_tested(cli: Cli) -> None:
    none = cli("test")
    assert none.code == 1
    assert "No program is given" in none.err
    Path("lmgraph.toml").write_text('program = "sort.lmg"\n', "utf-8")
    assert cli("test", "--only", "fig").code == 0


def test_folders_and_several_files(cli: Cli) -> None:
    Path("more/deep").mkdir(parents=True)
    good = 'module M(x: str) -> (y: str) {}\ntest "t" {\n  stub M -> (y="a")\n  assert M(x="b").y == "a" else "so"\n}\n'
    Path("more/one.lmg").write_text(good, "utf-8")
    Path("more/deep/two.lmg").write_text(good, "utf-8")
    Path("more/library.lmg").write_text("enum E { a }\n", "utf-8")
    done = cli("test", "more")
    assert (done.code, done.out.splitlines()[-1]) == (0, "2 tests: 2 ok")
    assert "more/deep/two.lmg\n" in done.out
    assert "library" not in done.out
    assert "more/library.lmg: no tests" in cli("test", "more", "-v").out
    both = cli("test", "more/one.lmg", "more/deep", "--json")
    assert [file["file"] for file in json.loads(both.out)["files"]] == ["more/one.lmg", "more/deep/two.lmg"]


def test_a_file_that_does_not_compile_keeps_no_other_from_being_tested(cli: Cli) -> None:
    Path("more").mkdir()
    Path("more/a.lmg").write_text("module M(x: str) -> (y: strr) {}\n", "utf-8")
    Path("more/b.lmg").write_text('test "t" {\n  n = 2\n  assert n == 2 else "two"\n}\n', "utf-8")
    done = cli("test", "more")
    assert done.code == 1
    assert "error[E0201]" in done.err
    assert done.out.splitlines()[-1] == "1 test: 1 ok, 1 file not compiled"
    alone = cli("test", "more/a.lmg")
    assert (alone.code, alone.out) == (1, "")
    assert "error[E0201]" in alone.err
    data = json.loads(cli("test", "more", "--json").out)
    assert "E0201" in data["files"][0]["error"]


def test_no_tests_are_no_failure_and_no_match_is_one(cli: Cli) -> None:
    Path("none.lmg").write_text("module M(x: str) -> (y: str) {}\n", "utf-8")
    done = cli("test", "none.lmg")
    assert done.code == 0
    assert "declares no tests" in done.out
    missed = cli("test", "sort.lmg", "--only", "figs")
    assert missed.code == 1
    assert '"figs"' in missed.err
    assert '"a fig is a fruit"' in missed.err


def test_what_is_no_program_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("compile", "sort.lmg", "-o", "made").code == 0
    artifact = cli("test", "made")
    assert artifact.code == 1
    assert "artifact" in artifact.err
    Path("empty").mkdir()
    assert "no .lmg file" in cli("test", "empty").err
    assert "there is no such file" in cli("test", "gone.lmg").err
    assert cli("test", "--unknown").code == 2


def test_long_values_are_cut_and_verbose_shows_them(cli: Cli) -> None:
    text = 'test "t" {\n  words = ["' + "x" * 500 + '"]\n  assert words == ["y"] else "same"\n}\n'
    Path("long.lmg").write_text(text, "utf-8")
    short, full = cli("test", "long.lmg"), cli("test", "long.lmg", "-v")
    assert "…" in line_of(short, "words = ")
    assert "x" * 500 in line_of(full, "words = ")
    assert " s)" in line_of(full, "FAILED")


def test_a_stub_whose_python_fails_is_told(cli: Cli) -> None:
    Path("tools.py").write_text(TOOLS.replace("2 * n", "n // 0"), "utf-8")
    done = cli("test", "sort.lmg", "--only", "too long")
    for words in ("ZeroDivisionError", "tools.py:3", place("n = double(n=len(word))")):
        assert words in done.out


def test_stubbed_tests_load_no_torch(cli: Cli, tmp_path: Path) -> None:
    script = "import sys; sys.argv = ['lmgraph', 'test', 'sort.lmg', '--only', 'fig']\n"
    script += "from lmgraph.cli.app import main\n"
    script += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    script += "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'a heavy import'\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_takes_folders_and_the_settings_too(cli: Cli) -> None:
    assert "No program is given" in cli("check").err
    Path("lmgraph.toml").write_text('program = "sort.lmg"\n', "utf-8")
    assert cli("check").out == "sort.lmg: no problems\n"
    Path("more").mkdir()
    Path("more/a.lmg").write_text("enum E { a }\n", "utf-8")
    Path("more/b.lmg").write_text("enum E { a a }\n", "utf-8")
    done = cli("check", "more")
    assert done.code == 1
    assert "more/a.lmg: no problems" in done.out
    assert "error[E0202]" in done.out
