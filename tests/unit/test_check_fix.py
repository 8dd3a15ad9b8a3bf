"""`lmgraph check --fix`: what it mends, what it leaves alone, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmgraph.compiler.fix import fix_program
from lmgraph.source import Fix, Source, Span
from lmgraph.source.fixes import apply_fixes
from support.command import run_command

HEAD = "edition 1\nmodule Ask(q: str) -> (a: str) {}\n"


def fixed(body: str, root: Path | None = None) -> str:
    program = HEAD + "flow F(q: str) -> (a: str) {\n" + body + "}\n"
    result = fix_program(Source("program.lmg", program), root=root)
    assert result.compilation.graph is not None
    return result.source.text.removeprefix(HEAD + "flow F(q: str) -> (a: str) {\n").removesuffix("}\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("  x = Ask(q)\n  return (a=q)\n", "  return (a=q)\n", id="unused value"),
        pytest.param(
            "  x = Ask(q)\n  y = x.a\n  z = [y, q]\n  return (a=q)\n", "  return (a=q)\n", id="values of unused values"
        ),
        pytest.param(
            "  x0 = q\n" + "".join(f"  x{number + 1} = x{number}\n" for number in range(120)) + "  return (a=q)\n",
            "  return (a=q)\n",
            id="a long chain of unused values",
        ),
        pytest.param(
            "  # before\n  x = Ask(q)  # behind\n  return (a=q)\n",
            "  # before\n  # behind\n  return (a=q)\n",
            id="comments stay",
        ),
        pytest.param(
            "  x = [q, # inside\n    q]\n  return (a=q)\n",
            "  x = [q, # inside\n    q]\n  return (a=q)\n",
            id="a comment inside",
        ),
        pytest.param("  x = Ask(\n    q,\n  )\n\n  return (a=q)\n", "\n  return (a=q)\n", id="several lines"),
        pytest.param("  x = Ask(q)  y = Ask(q)  return (a=y.a)\n", "  y = Ask(q)  return (a=y.a)\n", id="one line"),
        pytest.param("  y = q  x = Ask(q)\n  return (a=y)\n", "  y = q\n  return (a=y)\n", id="the end of a line"),
        pytest.param("  x = Ask(q)\r\n  return (a=q)\r\n", "  return (a=q)\r\n", id="line ends"),
        pytest.param('  x = "#no"\n  return (a=q)\n', "  return (a=q)\n", id="a sign in a text"),
        pytest.param("  var x: str = q\n  return (a=x)\n", "  x: str = q\n  return (a=x)\n", id="unchanged variable"),
        pytest.param("  var x = q\n  return (a=q)\n", "  return (a=q)\n", id="unread variable"),
        pytest.param(
            '  var x = q\n  x := "b"\n  return (a=q)\n', '  var x = q\n  x := "b"\n  return (a=q)\n', id="set variable"
        ),
        pytest.param('  x = (q catch "n")\n  return (a=x)\n', "  x = (q)\n  return (a=x)\n", id="catch in parentheses"),
        pytest.param('  if q == "" { }\n  return (a=q)\n', "  return (a=q)\n", id="empty if"),
        pytest.param(
            '  if q == "" {\n    x = 1\n  }\n  return (a=q)\n', "  return (a=q)\n", id="an if that becomes empty"
        ),
        pytest.param(
            '  if q == "" { return (a="b") } else if q == "c" { }\n  return (a=q)\n',
            '  if q == "" { return (a="b") } else if q == "c" { }\n  return (a=q)\n',
            id="behind else",
        ),
        pytest.param(
            '  release x = q because "it is fine"\n  return (a=q)\n', "  return (a=q)\n", id="a release of nothing"
        ),
        pytest.param(
            "  x = q catch null\n  return (a=if x != null then x else q)\n",
            "  x = q catch null\n  return (a=if x != null then x else q)\n",
            id="a catch that says that null may come",
        ),
    ],
)
def test_what_is_mended(before: str, after: str) -> None:
    assert fixed(before) == after
    assert fixed(after) == after


def test_a_test_computes_what_it_computes() -> None:
    program = HEAD + 'test "runs" {\n  stub Ask -> (a="b")\n  out = Ask(q="q")\n  assert true else "no"\n}\n'
    assert fix_program(Source("program.lmg", program), root=None).source.text == program


@pytest.mark.parametrize(
    ("names", "left"),
    [("A, B, C", "A"), ("B, A, C", "A"), ("B, C, A", "A"), ("B as D, A as E, C", "A as E"), ("A", "A")],
)
def test_imports(names: str, left: str, tmp_path: Path) -> None:
    (tmp_path / "types.lmg").write_text("".join(f"record {one} {{ text: str }}\n" for one in "ABC"), encoding="utf-8")
    used = "E" if "E" in names else "A"
    program = f'from "types.lmg" import {names}\nflow F(row: {used}) -> (a: str) {{\n  return (a=row.text)\n}}\n'
    result = fix_program(Source("program.lmg", program), root=tmp_path)
    assert result.source.text == program.replace(names, left)
    assert result.compilation.diagnostics == ()


def test_an_import_of_nothing_goes(tmp_path: Path) -> None:
    (tmp_path / "types.lmg").write_text("record A { text: str }\nrecord B { text: str }\n", encoding="utf-8")
    program = 'from "types.lmg" import A, B\n# about F\nflow F(a: str) -> (a: str) {\n  return (a)\n}\n'
    result = fix_program(Source("program.lmg", program), root=tmp_path)
    assert result.source.text == program.partition("\n")[2]


def test_imported_files_stay(tmp_path: Path) -> None:
    library = 'flow G(a: str) -> (a: str) {\n  if a == "" { }\n  return (a)\n}\n'
    (tmp_path / "library.lmg").write_text(library, encoding="utf-8")
    main = tmp_path / "main.lmg"
    main.write_text(
        'from "library.lmg" import G\nflow F(a: str) -> (a: str) {\n  return (a=G(a).a)\n}\n', encoding="utf-8"
    )
    assert run_command("check", main, "--fix")[0] == 0
    assert (tmp_path / "library.lmg").read_text("utf-8") == library


def test_edits_that_touch_wait_for_the_next_round() -> None:
    fixes = [Fix(Span("p", start, end), "", "", safe=True) for start, end in ((0, 4), (2, 6), (6, 8))]
    assert apply_fixes("a b c d e", fixes) == ("c e", [fixes[0], fixes[2]])


# -- the command -----------------------------------------------------------------------------------------------------

ODD = HEAD + 'flow F(q: str) -> (a: str) {\n  spare = Ask(q=q + "!")\n  return (a=Ask(q).a)\n}\n'


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.lmg"
    path.write_bytes(b"\xef\xbb\xbf" + ODD.encode())
    path.chmod(0o640)
    return path


def test_the_file_is_rewritten_once(odd: Path) -> None:
    code, out, _ = run_command("check", odd, "--fix")
    assert (code, out.splitlines()) == (0, [f"{odd}: fixed 1 problem", f"{odd}: no problems"])
    written = odd.read_bytes()
    assert written == b"\xef\xbb\xbf" + ODD.replace('  spare = Ask(q=q + "!")\n', "").encode()
    assert odd.stat().st_mode & 0o777 == 0o640
    code, out, _ = run_command("check", odd, "--fix")
    assert (code, out.splitlines()) == (0, [f"{odd}: no problems"])
    assert odd.read_bytes() == written
    assert [one.name for one in odd.parent.iterdir()] == ["odd.lmg"]


def test_a_diff_changes_nothing(odd: Path) -> None:
    before = odd.read_bytes()
    code, out, _ = run_command("check", odd, "--diff")
    assert code == 1
    assert '-  spare = Ask(q=q + "!")' in out.splitlines()
    assert odd.read_bytes() == before
    run_command("check", odd, "--fix")
    assert run_command("check", odd, "--diff") == (0, "", "")


def test_as_json(odd: Path) -> None:
    code, out, _ = run_command("check", odd, "--fix", "--json")
    (file,) = json.loads(out)
    assert (code, file["diagnostics"]) == (0, [])
    assert file["fixed"] == [{"code": "W0001", "message": "`spare` is bound and never used"}]
    _, out, _ = run_command("check", odd, "--format", "json")
    assert json.loads(out) == []


def test_a_file_with_a_syntax_error_stays(odd: Path) -> None:
    broken = odd.read_bytes() + b"module\n"
    odd.write_bytes(broken)
    code, out, _ = run_command("check", odd, "--fix")
    assert code == 1
    assert "error[E01" in out
    assert odd.read_bytes() == broken


def test_a_file_that_cannot_be_written(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    before = odd.read_bytes()
    code, _, err = run_command("check", odd, "--fix")
    assert code == 1
    assert "No space left" in err
    assert odd.read_bytes() == before
