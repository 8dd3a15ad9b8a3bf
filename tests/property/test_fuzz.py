"""A sample of what bench/fuzz.py does at length: mutated programs compile or are refused in words, in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.source import Source, Span
from lmgraph.syntax import tree
from lmgraph.syntax.parser import parse
from lmgraph.syntax.tree_walk import children, walk
from support.compiler_laws import check_laws, time_limit
from support.large_program import many_parts
from support.mutate import Mutator
from support.real_programs import SNIPPETS, Program, real_programs

SEED = 0
GROUPS = 10
PROGRAMS_IN_GROUP = 20
LIMIT_SECONDS = 5.0


@cache
def mutator() -> Mutator:
    return Mutator()


@pytest.mark.parametrize("group", range(GROUPS))
def test_mutants_keep_the_laws(group: int) -> None:
    for number in range(group * PROGRAMS_IN_GROUP, (group + 1) * PROGRAMS_IN_GROUP):
        mutant = mutator().mutant(SEED, number)
        try:
            with time_limit(LIMIT_SECONDS):
                check_laws(mutant.text, mutant.root)
        except BaseException as error:
            error.add_note(f"program {number}, {', '.join(mutant.kinds)}:\n{mutant.text}")
            raise


SNIPPETS_OF = [one for one in dict.fromkeys(real_programs()) if one.name.startswith(SNIPPETS.name)]


@pytest.mark.parametrize("program", SNIPPETS_OF, ids=lambda program: program.name)
def test_snippets_compile(program: Program) -> None:
    compilation = compile_source(Source("program.lmg", program.text), root=program.root)
    assert [one.primary.message for one in compilation.diagnostics if one.severity == "error"] == []


def test_the_large_program_compiles_without_a_word() -> None:
    compilation = compile_source(Source("program.lmg", many_parts(500)), root=None)
    assert compilation.diagnostics == ()
    assert compilation.graph is not None


def test_snippets_hold_every_construct() -> None:
    found = {type(node) for program in SNIPPETS_OF for node in _everything(parse(Source("", program.text)).tree)}
    every = {one for one in vars(tree).values() if isinstance(one, type) and is_dataclass(one) and one is not Span}
    assert every - found == set()


def test_walking_finds_every_node_but_names_in_source_order() -> None:
    for program in SNIPPETS_OF:
        file = parse(Source("", program.text)).tree
        expected = [node for node in _everything(file) if not isinstance(node, tree.Identifier)]
        found = [*walk(file)]
        assert len(found) == len(expected)
        assert all(one is other for one, other in zip(found, expected, strict=True))
        for node in found:
            inside = [one for child in children(node) for one in walk(child)]
            assert len(inside) + 1 == sum(1 for _ in walk(node))


def _everything(node: Any) -> Iterator[Any]:
    if isinstance(node, tuple):
        for item in node:
            yield from _everything(item)
    elif is_dataclass(node) and not isinstance(node, Span):
        yield node
        for field in fields(node):
            yield from _everything(getattr(node, field.name))
