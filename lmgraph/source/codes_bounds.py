"""The catalogue's codes for bounds (E06): they are reported where models and budgets are known, not by the compiler."""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo

E06: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0601",
        "context is too short for a module",
        "A prompt holds the instruction and the fields of a module before it holds any input, and the model needs room "
        "for `max_tokens` behind it. Where these alone are longer than the context of the model that serves the "
        "module, no call of it can be made, so none is tried. Lower `max_tokens`, shorten the instruction, or bind "
        "the LM to a model with a longer context.",
        "module Write(topic: str) -> (essay: str) { max_tokens: 100000 }",
    ),
    CodeInfo(
        "E0602",
        "budget cannot pay for the run",
        "`lmgraph optimize` scores the program it starts from on the dev rows first, and what its stages find after "
        "that. What this takes at least is known before the first call: the calls that every run makes, times the "
        "rows. `lmgraph plan` prints it. Raise the budget, or score fewer rows with `--dev-limit`.",
        "module Answer(question: str) -> (answer: str) {}",
    ),
)
