"""The catalogue's codes for information flow: E07."""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo

_CLOUD = 'lm cloud { model: "somewhere-else" }\n\n'
_ASK = _CLOUD + 'module Ask(text: str) -> (answer: str) {\n  """Answer."""\n  lm: cloud\n}\n\n'
_PYTHON = (("steps.py", "def send(text: str) -> bool:\n    return True\n"),)
_ROWS = (("rows.jsonl", ""),)

E07: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0701",
        "private value reaches a public model",
        "What is declared `private`, and whatever is made from it, may be given only to models whose `lm` says "
        "`clearance: private`; without a word about it an lm is public. The labels show where the value became private "
        "and the way it took. Give the module another lm, or release what may be seen, with the reason.",
        _ASK + "flow Help(request: private str) -> (answer: str) {\n"
        '  note = "Please: " + request\n  out = Ask(text=note)\n  return (answer=out.answer)\n}',
    ),
    CodeInfo(
        "E0702",
        "private value reaches public Python",
        "A tool may send what it is given anywhere, and a retriever asks others for it, so each is public unless it "
        "says `clearance: private`. An `fn` is pure and may be given everything: what it gives back is as private as "
        "what it was given.",
        'tool send(text: str) -> bool = py "steps:send"\n\n'
        "flow Tell(name: private str) -> (sent: bool) {\n  return (sent=send(text=name))\n}",
        _PYTHON,
    ),
    CodeInfo(
        "E0703",
        "private control of a public call",
        "Whether a call is made, and how often, tells as much as its arguments: under a private condition, after a "
        "loop or flow that ended early for a private reason, for each element of a list whose length is private, in "
        "place of a call that failed on private values, or, where the run goes on, with what that call would have "
        "given. Call it in any case and choose afterwards, or release what decides.",
        _ASK + "flow Help(text: str, ill: private bool) -> (answer: str) {\n"
        '  var answer = "Get well."\n  if not ill {\n    answer := Ask(text).answer\n  }\n  return (answer=answer)\n}',
    ),
    CodeInfo(
        "E0704",
        "private output of a public model",
        "A public model knows what it writes, so that cannot be private. When a module is tried again its model is "
        "shown what it wrote before, and its demos show what it wrote for other rows.",
        _CLOUD + "module Guess(hint: str) -> (name: private str) {\n  lm: cloud\n  retries: 1\n}",
    ),
    CodeInfo(
        "E0705",
        "private value reaches a public judge",
        "A metric's modules are asked about rows and outputs. A judge that names no lm is asked by the `judge` of the "
        "objective, and where that says nothing by the default lm, which is public.",
        "record Row {\n  text: str\n  reference: private str\n}\n\n"
        + _ASK
        + "module Same(one: str, other: str) -> (same: bool) {}\n\n"
        + "flow Help(text: str) -> (answer: str) {\n  return (answer=Ask(text).answer)\n}\n\n"
        + "metric right(gold: Row, pred: Help.out) -> bool =\n"
        "  Same(one=gold.reference, other=pred.answer).same",
    ),
    CodeInfo(
        "E0706",
        "private rows as demos of a public model",
        "An objective that may change a module's demos may take them from its rows, where these state what the module "
        "has to write. Every later prompt shows a demo, so for a public model such a field must not be private. Leave "
        "demos out of what the objective may change, or give the module an lm with `clearance: private`.",
        "record Row {\n  text: str\n  answer: private str\n}\n\n"
        + _ASK
        + "flow Help(text: str) -> (answer: str) {\n  return (answer=Ask(text).answer)\n}\n\n"
        + 'dataset rows: Row = jsonl "rows.jsonl"\n\n'
        + "metric exact(gold: Row, pred: Help.out) -> bool = gold.answer == pred.answer\n\n"
        + "objective help {\n  flow: Help\n  data: rows\n  metric: exact\n}",
        _ROWS,
    ),
    CodeInfo(
        "E0707",
        "label without effect",
        "Labels are of fields, of inputs and outputs, of what Python gives back, and of bindings. The rows of a "
        "dataset and the values of a metric have those of their record.",
        "record Row {\n  text: str\n}\n\n" + 'dataset rows: private Row = jsonl "rows.jsonl"',
        _ROWS,
    ),
)
