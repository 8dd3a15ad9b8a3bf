"""The compiler answers for any text: a graph, or diagnostics whose places are inside the file. It never raises."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.dump import dump, load
from lmgraph.source import Source
from lmgraph.source.render import render
from support.programs import random_program

FOLDER = Path(__file__).parents[1]
SAMPLES = sorted((FOLDER / "data" / "samples").glob("*.lmg"))
GOLDEN = [
    program
    for file in sorted((FOLDER / "golden").glob("*.md"))
    for program in re.findall(r"^```lmg\n(.*?)^```$", file.read_text("utf-8"), re.MULTILINE | re.DOTALL)
]
GENERATED = [random_program(seed) for seed in range(8)]
PROGRAMS = [file.read_text("utf-8") for file in SAMPLES] + GOLDEN + GENERATED
TOKENS = [tokens for program in PROGRAMS if (tokens := re.findall(r'"[^"\n]*"|\w+|\s+|#[^\n]*|.', program))]
VOCABULARY = sorted(
    {token for tokens in TOKENS for token in tokens if not token.isspace() and not token.startswith("#")}
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A program with a few tokens deleted, doubled, swapped or replaced by others."""
    tokens = list(draw(st.sampled_from(TOKENS)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(tokens) - 1))
        match draw(st.sampled_from(["delete", "double", "replace", "swap"])):
            case "delete":
                tokens[place] = " "
            case "double":
                tokens[place] += " " + tokens[place]
            case "replace":
                tokens[place] = draw(st.sampled_from(VOCABULARY))
            case _:
                other = draw(st.integers(0, len(tokens) - 1))
                tokens[place], tokens[other] = tokens[other], tokens[place]
    return "".join(tokens)


# In no folder, Python references are not looked into, so that more programs come as far as a graph.
@given(mutated(), st.sampled_from([None, FOLDER / "data" / "samples"]))
def test_a_mutated_program_has_a_graph_or_diagnostics(text: str, root: Path | None) -> None:
    compilation = compile_source(Source("program.lmg", text), root=root)
    errors = [one for one in compilation.diagnostics if one.severity == "error"]
    assert (compilation.graph is None) == bool(errors)
    for one in compilation.diagnostics:
        for label in (one.primary, *one.secondary):
            assert 0 <= label.span.start <= label.span.end <= len(compilation.sources[label.span.file].text)
    assert render(compilation.diagnostics, compilation.sources) or not compilation.diagnostics
    if compilation.graph is not None:
        assert load(dump(compilation.graph)) == compilation.graph
