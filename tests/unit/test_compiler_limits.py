"""Programs that are long where others are short: chains, many of one thing, names that no file can have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lmgraph.compiler.compile import Compilation, compile_source
from lmgraph.compiler.reporter import MOST_COMPARED, Reporter
from lmgraph.compiler.strategies import MOST_TOOLS
from lmgraph.graph.dump import dump, load
from lmgraph.source import Source
from lmgraph.source.suggest import distance
from lmgraph.source.text import Span
from support.compiler_laws import time_limit

MODULE = "module M(a: str) -> (b: str) {}\n"
MANY = 1_100
"""More than the frames that Python allows."""


def compiled(text: str, root: Path | None = None) -> Compilation:
    with time_limit(5.0):
        return compile_source(Source("program.lmg", text), root=root)


def codes(text: str, root: Path | None = None) -> set[str]:
    return {one.code for one in compiled(text, root).diagnostics if one.severity == "error"}


def lines(written: Callable[[int], str], count: int = MANY) -> str:
    return "\n".join(written(number) for number in range(count)) + "\n"


def body(written: Callable[[int], str], count: int = MANY) -> str:
    return f"{MODULE}flow F(a: str) -> (b: str) {{\n  var v: str = a\n{lines(written, count)}  return (b=v)\n}}\n"


LONG = {
    "flows that call the next": lines(lambda n: f"flow F{n}(a: str) -> (b: str) {{ return (b=F{n + 1}(a).b) }}")
    + MODULE
    + f"flow F{MANY}(a: str) -> (b: str) {{ return (b=M(a).b) }}",
    "instances of the next": lines(lambda n: f"module M{n} = M{n + 1}") + f"module M{MANY} = M\n" + MODULE,
    "returns": body(lambda n: f'  if a == "{n}" {{ return (b=v) }}'),
    "loops": body(lambda n: f"  repeat max 2 as i{n} {{ v := M(a=v).b  stop if i{n} > 0 }}"),
    "calls of one name": body(lambda n: f"  v := M(a=M(a=v).b).b  x{n} = v"),
    "checks of samples": "module M(a: str) -> (b: str) {\n  strategy: best_of\n"
    + lines(lambda n: f'  check b != a + "{n}" else "another"')
    + "}\nflow F(a: str) -> (b: str) { x = M(a=a + a + a)  return (b=x.b) }",
    "elements": body(lambda n: "", 0).replace("= a\n", f"= [{', '.join(['a'] * MANY)}][0]\n"),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_long_programs_compile(text: str) -> None:
    graph = compiled(text).require()
    assert dump(load(dump(graph))) == dump(graph)


def test_flows_that_call_each_other_in_a_long_circle() -> None:
    text = MODULE + lines(lambda n: f"flow F{n}(a: str) -> (b: str) {{ return (b=F{(n + 1) % MANY}(a).b) }}")
    assert codes(text) == {"E0205"}


def test_instances_of_each_other_in_a_long_circle() -> None:
    assert codes(MODULE + lines(lambda n: f"module M{n} = M{(n + 1) % MANY}")) == {"E0205"}


@pytest.mark.parametrize("sign", ["==", "<", "in"])
def test_a_chain_of_comparisons_is_as_deep_as_it_is_long(sign: str) -> None:
    chain = f" {sign} ".join(["a"] * MANY)
    assert codes(f"{MODULE}flow F(a: str) -> (b: bool) {{ return (b={chain}) }}") == {"E0108"}


def test_a_module_has_so_many_tools() -> None:
    def program(count: int) -> str:
        tools = lines(lambda n: f'fn t{n}(a: str) -> str = py "tools:t"', count)
        names = ", ".join(f"t{number}" for number in range(count))
        return f"{tools}module M(a: str) -> (b: str) {{ strategy: react  tools: [{names}] }}"

    assert codes(program(MOST_TOOLS)) == set()
    assert codes(program(MOST_TOOLS + 1)) == {"E0312"}


@pytest.mark.parametrize(
    "path", [".", "./", "..", "x" * 300, "x/" * 3_000, "circle.lmg", "folder", "pipe", "\u00e9\u0301"]
)
def test_paths_that_are_no_file(path: str, tmp_path: Path) -> None:
    (tmp_path / "circle.lmg").symlink_to(tmp_path / "circle.lmg")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert codes(f'enum E = lines "{path}"\n{MODULE}', tmp_path) <= {"E0501", "E0502"}
    assert codes(f'from "{path}" import A\n{MODULE}', tmp_path) <= {"E0501", "E0502"}
    assert codes(f'fn f(a: str) -> str = py "{path}:f"\n{MODULE}', tmp_path) == {"E0504"}
    assert codes(f'record R {{ a: str }}\ndataset d: R = csv "{path}"\n{MODULE}', tmp_path) <= {"E0502"}


def test_many_mistyped_names_are_told_without_a_guess() -> None:
    text = lines(lambda n: f"record Record{n} {{ a: str }}") + lines(lambda n: f"record Other{n} {{ a: Rekord{n}s }}")
    diagnostics = [one for one in compiled(text).diagnostics if one.code == "E0201"]
    assert len(diagnostics) == MANY
    assert "did you mean" in f"{diagnostics[0].fix}{diagnostics[0].help}"
    assert "did you mean" not in f"{diagnostics[-1].fix}{diagnostics[-1].help}"


def test_the_reporter_compares_so_many_names() -> None:
    reporter = Reporter()
    names = ["claim", *(f"name{number}" for number in range(MOST_COMPARED - 1))]
    assert reporter.close_to("clam", names) == ["claim"]
    assert reporter.close_to("clam", ["claim"]) == []
    reporter.unknown("E0201", Span("p", 0, 0), "unknown", "clam", ["claim"], otherwise="another hint")
    assert reporter.diagnostics[0].help == "another hint"


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("name12", "name21", 1),
        ("abcd", "abd", 1),
        ("aab", "aaab", 1),
        ("ab", "ba", 1),
        ("xaby", "xbay", 1),
        ("", "abc", 3),
    ],
)
def test_distances_of_names_that_begin_or_end_alike(left: str, right: str, expected: int) -> None:
    assert distance(left, right, 10) == distance(right, left, 10) == expected


def test_constraints_that_call_what_they_stand_in() -> None:
    own = 'module M(a: str where M(a=it).b == "x") -> (b: str where M(a=it).b == it) {}'
    assert codes(own) == {"E0321"}
    chain = lines(lambda n: f'module M{n}(a: str where M{(n + 1) % MANY}(a=it).b == "x") -> (b: str) {{}}')
    assert codes(chain) == {"E0321"}
