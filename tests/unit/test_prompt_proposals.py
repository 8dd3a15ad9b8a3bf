"""What `prompt` proposes: rewrites from signatures, what a proposer is told, and which of its answers are dropped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lmgraph.compiler.compile import compile_path
from lmgraph.evaluate import Example, Rollout
from lmgraph.evaluate.metric import Score
from lmgraph.graph import ModuleSpec
from lmgraph.graph.graph import LmSpec
from lmgraph.graph.types import (
    BOOL,
    INT,
    STR,
    EnumMember,
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
)
from lmgraph.runtime import RunIdentity, Trace
from lmgraph.testing import tiny_program
from lmgraph_optimizers.prompt.grounding import mistakes, private_fields, role, show, signature, summary
from lmgraph_optimizers.prompt.proposer import (
    LONGEST_PART,
    TASK,
    Brief,
    Subject,
    asked_lm,
    cleaned,
    hidden_from,
    sees_private,
)
from lmgraph_optimizers.prompt.rewrites import MOST_LABELS, form_of, rewrites, same

ROOT = Path(__file__).parents[2]
KIND = EnumType("Kind", (EnumMember("fruit", "fruit", "grows on trees"), EnumMember("tool", "tool")))
WORD = Field("word", STR, "one word")
ABOUT = Subject.of(ModuleSpec("M", (WORD,), (Field("kind", KIND, "what it is"),), "Name the kind."))


def fake_call(module: str, inputs: dict[str, Any], outputs: dict[str, Any] | None) -> Any:
    """What `mistakes` reads of a call."""
    return cast(Any, SimpleNamespace(module=module, inputs=inputs, outputs=outputs))


def texts(module: ModuleSpec, own: str) -> dict[str, str]:
    return {one.origin.removeprefix("rewrite: "): one.text for one in rewrites(module, own)}


def test_rewrites_of_a_labeller() -> None:
    module = ModuleSpec("M", (WORD,), (Field("kind", KIND, "what it is"),), "Name it.")
    found = texts(module, "Name it.")
    assert found["the form restated"] == "Name it.\nAnswer with one of: fruit, tool."
    assert found["brief"] == "Read one word. Write kind (what it is).\nAnswer with one of: fruit, tool."
    assert found["a question"].startswith("Given word: what is what it is?")
    assert "- fruit (grows on trees)" in found["labels explained"]
    assert "Copy the label exactly" in found["careful"]
    assert len({same(text) for text in found.values()} | {same("Name it.")}) == len(found) + 1


def test_rewrites_where_the_author_wrote_nothing_and_of_free_text() -> None:
    module = ModuleSpec("M", (WORD,), (Field("kind", KIND),), "")
    assert set(texts(module, "")) == {"brief", "a question"}
    free = ModuleSpec("M", (WORD,), (Field("answer", STR),), "Answer it.")
    assert set(texts(free, "Answer it.")) == {"careful"}
    thinking = ModuleSpec("M", (WORD,), (Field("kind", KIND),), "Name it.", strategy="cot", reasons=True)
    assert "Reason in one or two short sentences" in texts(thinking, "Name it.")["reason briefly"]
    assert "kind must be one of" in texts(thinking, "Name it.")["the form restated"]


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (STR, None),
        (INT, "a whole number in digits"),
        (BOOL, "true or false"),
        (KIND, "one of: fruit, tool"),
        (LiteralType(("a", 2)), "one of: a, 2"),
        (OptionalType(INT), "a whole number in digits, or null where it is not said"),
        (OptionalType(STR), "the text, or null where it is not said"),
        (ListType(INT), "a list in square brackets, [] where there is none; each is a whole number in digits"),
        (MapType(INT), "an object with a key for each entry"),
        (RecordType("R", (WORD, Field("n", INT))), "an object with the keys word, n"),
        (LiteralType(tuple(map(str, range(MOST_LABELS + 1)))), "one of the labels, copied exactly"),
    ],
    ids=str,
)
def test_forms_in_words(type_: object, words: str | None) -> None:
    assert form_of(type_) == words


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("Name the kind of the word.", "Name the kind of the word."),
        ('  "Name the kind of the word."\n', "Name the kind of the word."),
        ("**New Instruction:** Name the kind of the word.", "Name the kind of the word."),
        ("```text\nName the kind of the word.\n```", "Name the kind of the word."),
        ('{"instruction": "Name the kind of the word."}', "Name the kind of the word."),
        ("Name the\x00 kind of it all.", "Name the kind of it all."),
    ],
)
def test_answers_are_unwrapped(answer: str, kept: str) -> None:
    assert cleaned(answer, set(), ABOUT) == (kept, "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ('""', "empty"),
        ("fruit", "no sentence"),
        ("1234 5678 9012 3456 78", "no sentence"),
        ("{}[]()!!", "no sentence"),
        ("very long words here " * 60, "too long"),
        ("the word is the kind " * 12, "repeating itself"),
        ("name THE kind, please", "known already"),
        ('{"instruction": 3}', "no sentence"),
        ("1. Add a default value to a variable.\n2. Use less than 150 words.", "off the subject"),
        ("Write a new instruction for the step. The kind of plum.", "repeating the question"),
        ("read word = 'plum', wrote kind = 'tool'", "repeating the question"),
    ],
)
def test_nonsense_is_named(answer: str, why: str) -> None:
    told = [TASK, "read word = 'plum', wrote kind = 'tool', the row is word = 'plum', kind = 'fruit'"]
    assert cleaned(answer, {same("Name the kind please.")}, ABOUT, told) == (None, why)


def test_an_example_in_a_longer_instruction_is_no_repetition() -> None:
    told = ["read word = 'plum', wrote kind = 'tool'"]
    text = "Name the kind of thing. Where it grows, it is a fruit: read word = 'plum', and write fruit, nothing else."
    assert cleaned(text, set(), ABOUT, told) == (text, "")


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Say which of the kinds it is.", True),
        ("It is a tool or a fruit: which?", True),
        ("Look at every word.", False),
        ("Add a default value.", False),
    ],
)
def test_what_an_instruction_is_about(text: str, fits: bool) -> None:
    assert ABOUT.is_in(same(text).split()) is fits
    assert Subject().is_in([]), "of a module whose outputs have short names only"
    foreign = ModuleSpec("M", (WORD,), (Field("kind", KIND),), "Sag, was es ist.")
    assert Subject.of(foreign) == Subject(), "an instruction in another language than the names"


def test_the_role_of_a_step_through_loops_maps_and_branches() -> None:
    graph = compile_path(ROOT / "programs" / "hover" / "program.lmg").require()
    note = role(graph, "Search", "Note")
    assert note.startswith("step 1 of 3 of the program ")
    assert "its input from the function unique, the function wiki, the input question;" in note
    assert note.endswith("what it writes is read by Missing, NextQuery, the program's result")
    missing = role(graph, "Search", "Missing")
    assert "its input from the input question, the step Note;" in missing, "the notes that the loop carries"
    assert missing.endswith("read by conditions of the program")
    assert role(graph, "Search", "NextQuery").endswith("read by the function wiki")


def test_the_signature_and_the_data_in_a_line() -> None:
    program, task = tiny_program()
    module = program.graph.module("Classify")
    assert signature(module) == "reads word; writes kind (one of: fruit, tool, animal)"
    told = summary(program.graph, "words", list(task.train[:3]), set())
    assert told.startswith("3 rows; kind is fruit (1), tool (1), animal (1); for example word = 'apple'")


def test_private_values_are_never_told() -> None:
    program, task = tiny_program()
    dataset = program.graph.dataset("words")
    secret = tuple(replace(field, label="private") for field in dataset.record.fields)
    graph = replace(program.graph, datasets=(replace(dataset, record=replace(dataset.record, fields=secret)),))
    hidden = private_fields(graph, "words")
    assert hidden == {"word", "kind"}
    told = summary(graph, "words", list(task.train[:3]), hidden)
    assert not any(word in told for word in ("apple", "fruit"))
    assert show({"word": "apple"}, hidden) == "word = '(private)'"
    assert show({"n": [1, 2], "text": "x" * 200}, set()).endswith("x…'")
    lms = (LmSpec("default"), LmSpec("safe", clearance="private"))
    graph = replace(graph, lms=lms)
    assert asked_lm(graph, None, "Classify") == ("default", None)
    assert asked_lm(graph, "safe", "Classify") == ("safe", None)
    assert asked_lm(graph, "local:big", "Classify") == ("default", "local:big")
    assert sees_private(graph, "safe", None)
    assert not sees_private(graph, "safe", "openai:x@http://127.0.0.1:1")
    assert not sees_private(graph, "default", None)
    assert hidden_from(graph, "safe", "Classify", hidden) == hidden, "a public step will read what is written"


def test_a_cleared_step_is_told_of_and_only_to_a_cleared_model() -> None:
    program, _ = tiny_program()
    module = replace(program.graph.module("Classify"), lm="safe", reasons=True)
    graph = replace(program.graph, modules=(module,), lms=(LmSpec("safe", clearance="private"), LmSpec("open")))
    hidden = private_fields(graph, "words")
    assert hidden == {"word", "kind", "reasoning"}, "an unlabelled field holds what the step is given"
    assert hidden_from(graph, None, "Classify", hidden) == set()
    assert hidden_from(graph, "open", "Classify", hidden) == hidden
    assert hidden_from(graph, "openai:x@http://127.0.0.1:1", "Classify", hidden) == hidden


def test_what_is_told_fits_a_short_context() -> None:
    brief = Brief("M", ABOUT, "role " * 500, "sig", "data", ["read x, wrote y"] * 500, [("two\nlines", 0.5)])
    inputs = brief.inputs("own " * 500, "a tip")
    assert all(len(text) <= LONGEST_PART and "\n" not in text for text in inputs.values())
    assert inputs["tried"] == "score 0.50: two lines"


def test_the_worst_mistakes_come_first() -> None:
    def run(row: int, score: float, **outputs: str) -> Rollout:
        values = {"word": f"w{row}", "kind": "tool"}
        trace = Trace(f"r{row}", "p", "Sort", RunIdentity(), values)
        trace.calls = [fake_call("Classify", {"word": f"w{row}"}, outputs or None)]
        return Rollout(Example(f"rows:{row}", values), 0, trace, Score(score, {}))

    runs = [run(1, 1.0, kind="tool"), run(2, 0.5, kind="fruit"), run(3, 0.0), run(4, math.nan, kind="fruit")]
    found = mistakes(runs, "Classify", 1.0, set())
    assert [text.partition(",")[0] for text in found] == ["read word = 'w4'", "read word = 'w3'", "read word = 'w2'"]
    assert "wrote nothing usable" in found[1]
    assert mistakes(runs, "Other", 1.0, set()) == []
