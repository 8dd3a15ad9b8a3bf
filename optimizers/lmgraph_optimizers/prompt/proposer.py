"""Instructions that a language model proposes, grounded in the graph, the data and what was tried; nonsense is dropped
and counted, never a crash."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmgraph.graph import Graph, ModuleSpec
from lmgraph.optimize import Lab
from lmgraph.program import Program
from lmgraph_optimizers.prompt.rewrites import Instruction, labels_of, same

TASK = """You improve one step of a program. Each step is a language model that follows an instruction.
Write a new instruction for the step, in one to three sentences.
It says what the step reads and exactly what it must write. Do not do the step's task yourself.
Write the instruction and nothing else."""

TIPS = (
    "Say which mistakes to avoid.",
    "Be short and direct.",
    "Say how to decide between answers that are easily confused.",
    "Describe the input and the form of the answer.",
    "Say what to look for first.",
    "Write it as for a person who does this for the first time.",
)
LONGEST_PART = 700
"""Characters of one part of what the proposer is told: a small model has a short context."""
LONGEST = 900
"""Characters of an instruction; a longer one is dropped."""
MOST_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Subject:
    """Words that a module is about: one of its outputs', or two of all, are in any instruction of use, as they are in
    the author's. Where they are not in that (it may be in another language), there are none."""

    outputs: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()

    @staticmethod
    def of(module: ModuleSpec) -> Subject:
        def words(fields: Sequence[Any]) -> frozenset[str]:
            texts = [f"{field.name} {field.description or ''} {' '.join(labels_of(field.type))}" for field in fields]
            return frozenset(word for word in same(" ".join(texts).replace("_", " ")).split() if len(word) > 3)

        found = Subject(words(module.outputs), words(module.inputs))
        return found if found.is_in(same(module.instruction).split()) else Subject()

    def is_in(self, words: Sequence[str]) -> bool:
        """Also where a word has another ending."""

        def count(subject: frozenset[str]) -> int:
            return sum(any(word.startswith(one) for word in words) for one in subject)

        return not self.outputs or count(self.outputs) > 0 or count(self.outputs | self.inputs) > 1


@dataclass(frozen=True, slots=True)
class Brief:
    """What the proposer is told of one module."""

    module: str
    subject: Subject
    role: str
    signature: str
    data: str
    mistakes: Sequence[str]
    tried: Sequence[tuple[str, float]]
    """(instruction, mean score) of earlier ones, the best first."""

    def inputs(self, instruction: str, tip: str) -> dict[str, str]:
        parts = {
            "step": f"{self.module}: {self.role}",
            "signature": self.signature,
            "data": self.data,
            "current": instruction or "(none)",
            "tried": "; ".join(f"score {score:.2f}: {_line(text)}" for text, score in self.tried) or "(nothing yet)",
            "mistakes": "; ".join(self.mistakes) or "(none)",
            "tip": tip,
        }
        return {name: _line(text)[:LONGEST_PART] for name, text in parts.items()}


@dataclass(frozen=True, slots=True)
class Proposals:
    instructions: list[Instruction]
    note: str
    """How many were asked for and kept, and why the others were dropped."""


async def propose(
    lab: Lab, program: Program, lm: str, brief: Brief, *, current: str, known: Collection[str], count: int, step: int
) -> Proposals:
    """Up to ``count`` new instructions for one module. ``known`` are those it has already.

    Raises: BudgetExhausted; ConfigError, EngineUnavailable where the LM cannot be asked at all.
    """
    inputs = [brief.inputs(current, TIPS[(step * count + index) % len(TIPS)]) for index in range(count)]

    async def one(index: int) -> str | None:
        answer = await lab.ask(
            program,
            lm,
            instruction=TASK,
            inputs=inputs[index],
            output="instruction",
            phase="propose",
            key=f"{brief.module}/{step}/{index}",
            temperature=0.8,
            max_tokens=MOST_TOKENS,
        )
        return answer if isinstance(answer, str) else None

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index)) for index in range(count)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    seen = {same(text) for text in known}
    kept: list[Instruction] = []
    dropped: Counter[str] = Counter()
    for index, answer in enumerate(task.result() for task in tasks):
        told = [TASK, *(inputs[index][name] for name in ("step", "data", "mistakes", "tip"))]
        text, problem = (None, "failed") if answer is None else cleaned(answer, seen, brief.subject, told)
        if text is None:
            dropped[problem] += 1
        else:
            seen.add(same(text))
            kept.append(Instruction(text, "proposed"))
    why = ", ".join(f"{number} {reason}" for reason, number in sorted(dropped.items()))
    note = f"Module {brief.module}: {len(kept)} of {count} proposed instructions were usable" + (
        f"; dropped: {why}." if why else "."
    )
    return Proposals(kept, note)


def cleaned(
    answer: str, seen: Collection[str], subject: Subject, told: Sequence[str] = (), longest: int = LONGEST
) -> tuple[str | None, str]:
    """The instruction in an answer, or None and why there is none. ``seen`` holds ``same`` of those there are, ``told``
    what the model was told beside them, which is no instruction when repeated; ``longest`` is in characters."""
    text = _unwrapped(answer)
    words = same(text).split()
    if not text:
        return None, "empty"
    if len(words) < 3 or sum(char.isalpha() for char in text) < len("".join(text.split())) / 2:
        return None, "no sentence"
    if len(text) > longest:
        return None, "too long"
    if len(words) >= 20 and len(set(words)) < len(words) / 3:
        return None, "repeating itself"
    if " ".join(words) in seen:
        return None, "known already"
    if _repeated(words, told) > 0.5:
        return None, "repeating the question"
    if not subject.is_in(words):
        return None, "off the subject"
    return text, ""


def _repeated(words: Sequence[str], told: Sequence[str], run: int = 5) -> float:
    """The share of ``words`` that stand in runs of at least ``run`` words of what was told."""
    texts = [f" {same(text)} " for text in told]
    covered: set[int] = set()
    for start in range(len(words) - run + 1):
        if any(f" {' '.join(words[start : start + run])} " in text for text in texts):
            covered.update(range(start, start + run))
    return len(covered) / len(words)


def _unwrapped(answer: str) -> str:
    """Without a code fence, quotes, a JSON object around it, or a heading such as `Instruction:`."""
    text = answer.strip()
    if text.startswith("```"):
        text = text.strip("`").partition("\n")[2].strip() or text.strip("`").strip()
    if text.startswith("{"):
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        if isinstance(data, Mapping) and isinstance(data.get("instruction"), str):
            text = data["instruction"].strip()
    heading, colon, rest = text.partition(":")
    if colon and heading.casefold().strip("*# ").removeprefix("new ") in ("instruction", "instructions"):
        text = rest.strip(" *")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return "".join(char for char in text if char.isprintable() or char == "\n").strip()


def hidden_from(graph: Graph, proposer: str | None, module: str, private: Collection[str]) -> set[str]:
    """Of the ``private`` fields, those that may not be told when instructions for ``module`` are asked for: all, unless
    who is asked and the module itself, which will read what is written, are cleared for them."""
    lm, place = asked_lm(graph, proposer, module)
    cleared = sees_private(graph, lm, place) and sees_private(graph, graph.module(module).lm, None)
    return set() if cleared else set(private)


def asked_lm(graph: Graph, proposer: str | None, module: str) -> tuple[str, str | None]:
    """(lm, place): which LM of the program proposes for ``module``, and the model it is bound to where the option names
    one that the program has not."""
    own = graph.module(module).lm
    if proposer is None:
        return own, None
    if any(spec.name == proposer for spec in graph.lms):
        return proposer, None
    return own, proposer


def sees_private(graph: Graph, lm: str, place: str | None) -> bool:
    """Whether the proposer may be shown private values: only an LM that the program clears for them."""
    return place is None and any(spec.name == lm and spec.clearance == "private" for spec in graph.lms)


def _line(text: str) -> str:
    return " ".join(text.split())
