"""`lmgraph test`: the tests that programs declare, with the place, the message and the values of what is false."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common
from lmgraph.cli.fmt import program_files
from lmgraph.cli.interrupt import run_async
from lmgraph.errors import CompileError, ConfigError, LmgraphError

if TYPE_CHECKING:  # these would be imported by `lmgraph test --help`
    from lmgraph.compiler.compile import Compilation
    from lmgraph.evaluate.program_tests import TestResult
    from lmgraph.graph.graph import TestSpec
    from lmgraph.runtime.service import Runtime
    from lmgraph.source.text import Source

SHOWN_CHARACTERS = 300
"""Of a value that a false assert has read; -v shows all of it."""

app = typer.Typer(add_completion=False)


@app.command("test")
def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help=f".lmg files, or folders of them; else `program` of {common.SETTINGS_FILE}.",
            metavar="[FILE]",
            show_default=False,
        ),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Run tests that call models too.")] = False,
    only: Annotated[
        str | None, typer.Option("--only", help="Only tests whose title has this text.", metavar="TEXT")
    ] = None,
    allow_effects: Annotated[
        bool, typer.Option("--allow-effects", help="Let tests call tools that are not stubbed.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show times, and values in full.")] = False,
    seed: common.SeedOption = 0,
    engine: common.EngineOption = None,
    model: common.ModelOption = None,
    lm: common.LmOption = None,
    dtype: common.DtypeOption = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Keep traces in this file.", metavar="FILE", show_default="none"),
    ] = None,
    as_json: common.JsonFlag = False,
) -> None:
    """Run the tests of programs. A test whose LM calls are all stubbed needs no model; others need --live."""
    programs = _programs(paths)
    chosen = [replace(one, tests=[test for test in one.tests if _matches(test, only)]) for one in programs]
    if only is not None and not any(one.tests for one in chosen):
        titles = [test.title for one in programs for test in one.tests]
        raise ConfigError(f'No test has "{only}" in its title.', hint=_known(titles))
    flags = common.BindingFlags(engine, model, tuple(lm or ()), dtype)
    shown = _Shown(verbose, quiet=as_json, many=len(programs) > 1)
    for one in chosen:
        shown.program(one)
        if one.compilation is not None and one.tests:
            runtime = _runtime(one.compilation, one.path, flags, trace)
            one.results += run_async(
                _run(one, runtime, shown, live=live, allow_effects=allow_effects, seed=seed), "Interrupted."
            )
    if as_json:
        common.print_json(_data(chosen))
    else:
        shown.summary(chosen)
    if any(one.problem or _count([one], "failed") for one in chosen):
        raise typer.Exit(1)


@dataclass(slots=True)
class _Tested:
    """One file: what it declares, and what became of it."""

    path: Path
    compilation: Compilation | None = None
    problem: LmgraphError | None = None
    """Why it has no graph."""
    tests: list[TestSpec] = field(default_factory=list["TestSpec"])
    results: list[TestResult] = field(default_factory=list["TestResult"])


def _programs(paths: list[Path] | None) -> list[_Tested]:
    """Every file, compiled. One that does not compile keeps no other from being tested. Raises: ConfigError."""
    from lmgraph.compiler.compile import compile_path
    from lmgraph.program import artifact

    found: list[_Tested] = []
    for path in paths or [common.find_program(None)]:
        if artifact.is_artifact(path):
            raise ConfigError(f"{path} is an artifact; it holds no tests.", hint="give the program's .lmg file")
        for file in program_files(path):
            one = _Tested(file)
            try:
                one.compilation = compile_path(file)
                one.compilation.require()
                one.tests = list(one.compilation.tests)
            except LmgraphError as error:
                one.problem = error
                one.compilation = None
            found.append(one)
    if len(found) == 1 and found[0].problem is not None:
        raise found[0].problem
    return found


def _matches(test: TestSpec, only: str | None) -> bool:
    return only is None or only.casefold() in test.title.casefold()


def _known(titles: list[str], most: int = 5) -> str:
    if not titles:
        return "there are no tests here"
    listed = ", ".join(f'"{title}"' for title in titles[:most])
    return f"the tests are {listed}" + (f" and {len(titles) - most} more" if len(titles) > most else "")


def _runtime(compilation: Compilation, path: Path, flags: common.BindingFlags, trace: Path | None) -> Runtime:
    from lmgraph.program.program import Program

    return common.make_runtime(Program.default(compilation.require(), path.parent), path, flags, trace=trace)


async def _run(
    one: _Tested, runtime: Runtime, shown: _Shown, *, live: bool, allow_effects: bool, seed: int
) -> list[TestResult]:
    from lmgraph.evaluate.program_tests import run_tests
    from lmgraph.program.program import Program

    assert one.compilation is not None
    program = Program.default(one.compilation.require(), one.path.parent)
    places = Places(one.compilation)
    async with runtime:
        return await run_tests(
            program,
            one.tests,
            runtime=runtime,
            live=live,
            allow_effects=allow_effects,
            seed=seed,
            progress=lambda result: shown.result(result, places),
        )


# -- places ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    file: str
    line: int
    column: int
    text: str
    """The source line."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Places:
    """Where nodes stand in the source."""

    def __init__(self, compilation: Compilation) -> None:
        self._spans = compilation.spans
        self._sources: dict[str, Source] = compilation.sources

    def of(self, node: str) -> Place | None:
        """The node's place. A node that a strategy made has the place of the call it belongs to."""
        while node:
            span = self._spans.get(node)
            if span is not None and span.file in self._sources:
                source = self._sources[span.file]
                line, column = source.line_column(span.start)
                return Place(span.file, line, column, source.line(line).strip())
            node = re.sub(r"(^|[./#])[^./#]*$", "", node)
        return None


# -- output ----------------------------------------------------------------------------------------------------------


class _Shown:
    """Prints what became of each test as soon as it is known."""

    def __init__(self, verbose: bool, *, quiet: bool, many: bool) -> None:
        self._verbose = verbose
        self._quiet = quiet
        self._many = many
        self._color = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def program(self, one: _Tested) -> None:
        if self._quiet:
            return
        if one.problem is not None:
            common.print_text(f"{one.path}")
            common.print_text(self._line("FAILED", "it does not compile"))
            sys.stdout.flush()
            text = str(one.problem) if isinstance(one.problem, CompileError) else f"error: {one.problem}"
            sys.stderr.write(text.rstrip() + "\n")
        elif self._many and (one.tests or self._verbose):
            common.print_text(f"{one.path}" + ("" if one.tests else ": no tests"))

    def result(self, result: TestResult, places: Places) -> None:
        if self._quiet:
            return
        words = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}[result.status]
        title = result.title + (f"  ({result.seconds:.2f} s)" if self._verbose else "")
        if result.status == "skipped":
            title += f"  (calls {', '.join(result.needs)}: stub {_them(result.needs)}, or add --live)"
        common.print_text(self._line(words, title))
        if result.status == "failed":
            for line in _reasons(result, places, None if self._verbose else SHOWN_CHARACTERS):
                common.print_text(f"           {line}")

    def summary(self, programs: list[_Tested]) -> None:
        total = sum(len(one.results) for one in programs)
        broken = sum(one.problem is not None for one in programs)
        if not total and not broken:
            named = programs[0].path if len(programs) == 1 else common.count(len(programs), "program")
            verb = "declares" if len(programs) == 1 else "declare"
            common.print_text(f'{named} {verb} no tests; a test is written `test "…" {{ … }}`')
            return
        parts = [f"{_count(programs, 'passed')} ok"]
        for status in ("failed", "skipped"):
            if number := _count(programs, status):
                parts.append(f"{number} {status}")
        if broken:
            parts.append(f"{common.count(broken, 'file')} not compiled")
        common.print_text(f"\n{common.count(total, 'test')}: {', '.join(parts)}")

    def _line(self, word: str, title: str) -> str:
        colors = {"ok": "green", "FAILED": "red", "skipped": "yellow"}
        padded = f"{word:<8}"
        return f"  {typer.style(padded, fg=colors[word]) if self._color else padded} {title}"


def _them(needs: Iterable[str]) -> str:
    return "it" if len(tuple(needs)) == 1 else "them"


def _reasons(result: TestResult, places: Places, limit: int | None) -> Iterator[str]:
    """Why a test failed, for a person: each false assert with its place and values, or what ended the test."""
    if result.problem is not None:
        yield from result.problem.splitlines()
    for check in result.false:
        yield from _placed(places.of(check.node), check.call_key, check.message)
        for name, value in check.values:
            yield f"  {name} = {_cut(_json(value), limit)}"
    failure = result.failure
    if failure is None or (result.false and failure.kind == "assert"):
        return
    yield from _placed(places.of(failure.node), failure.call_key, failure.message)
    if failure.raw_text is not None:
        yield f"  the model wrote: {_cut(_json(failure.raw_text), limit)}"


def _placed(place: Place | None, call_key: str, message: str) -> Iterator[str]:
    """The message behind its place, and the source line there; of a loop or map also which round it was."""
    which = f"  (at {call_key})" if place is not None and "[" in call_key else ""
    yield f"{place or call_key}: {message}{which}"
    if place is not None:
        yield f"  {place.text}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def _count(programs: Iterable[_Tested], status: str) -> int:
    return sum(result.status == status for one in programs for result in one.results)


def _data(programs: list[_Tested]) -> dict[str, Any]:
    return {
        "passed": _count(programs, "passed"),
        "failed": _count(programs, "failed"),
        "skipped": _count(programs, "skipped"),
        "files": [_file_data(one) for one in programs],
    }


def _file_data(one: _Tested) -> dict[str, Any]:
    if one.compilation is None:
        problem = one.problem
        return {"file": str(one.path), "error": problem.message if problem is not None else None, "tests": []}
    places = Places(one.compilation)
    tests = []
    for result in one.results:
        data = result.to_data()
        for check, entry in zip(result.false, data["false"], strict=True):
            entry["place"] = _place_data(places.of(check.node))
        if result.failure is not None:
            data["failure"]["place"] = _place_data(places.of(result.failure.node))
        tests.append(data)
    return {"file": str(one.path), "error": None, "tests": tests}


def _place_data(place: Place | None) -> dict[str, Any] | None:
    return None if place is None else {"file": place.file, "line": place.line, "column": place.column}
