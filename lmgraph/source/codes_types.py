"""The catalogue's codes for types: E03. Data only; see codes.py."""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo

_ANSWER = "module Answer(question: str) -> (answer: str) {}\n"
_NOTE = "module Note(text: str) -> (note: str?) {}\n"


def _flow(line: str, result: str = "question") -> str:
    return f"flow F(question: str) -> (out: str) {{\n  {line}\n  return (out={result})\n}}"


E03: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0301",
        "wrong type",
        "A value stands where another type is needed. An int may stand for a float and a `T` for a `T?`; nothing else "
        "is converted by itself.",
        _ANSWER + _flow("x = Answer(question=3)", "x.answer"),
    ),
    CodeInfo(
        "E0302",
        "unknown argument",
        "What is called here has no input, field or output of this name.",
        _ANSWER + _flow("x = Answer(qestion=question)", "x.answer"),
    ),
    CodeInfo(
        "E0303",
        "missing argument",
        "Every input without a default must be given, and a flow returns every output it declares.",
        _ANSWER + _flow("x = Answer()", "x.answer"),
    ),
    CodeInfo(
        "E0304",
        "argument without a name",
        "Arguments are named, as in `Answer(question=text)`, so that reordering a signature never changes what a "
        "program means. A value whose own name is the argument's may stand alone: `Answer(question)`.",
        _ANSWER + _flow('x = Answer("why?")', "x.answer"),
    ),
    CodeInfo(
        "E0305",
        "argument given twice",
        "One argument has two values.",
        _ANSWER + _flow('x = Answer(question, question="why?")', "x.answer"),
    ),
    CodeInfo(
        "E0306",
        "no such field",
        "The value has no part of this name. The result of a module, flow or tool has its outputs as fields.",
        _ANSWER + _flow("x = Answer(question)", "x.anwser"),
    ),
    CodeInfo(
        "E0307",
        "no such member",
        "The enum has no member of this name or label. Members are named with the enum, as in `Team.billing`; a text "
        "that is compared with an enum must be a label of it.",
        "enum Team { billing  shipping }\n"
        "flow F(text: str) -> (team: Team) {\n  return (team=Team.biling)\n}",
    ),
    CodeInfo(
        "E0308",
        "value may be null",
        "The value is of an optional type, `T?`, and a `T` is needed. A comparison with null proves that it is there: "
        "in the condition of an `if`, of a map or of a `stop if`, on the left of `and`, or in an `assert`. A variable "
        "has to be compared anew after it was set.",
        _NOTE + _flow("x = Note(text=question)", "x.note"),
    ),
    CodeInfo(
        "E0309",
        "operator does not fit",
        "The operator is not defined for these types: arithmetic needs numbers, `+` also joins two texts or two lists, "
        "`<` and its kin compare numbers or texts, `in` looks into a list, a map or a text.",
        _flow('x = "a" * 2'),
    ),
    CodeInfo(
        "E0310",
        "cannot be called",
        "Only modules, flows, tools, retrievers, fns, records and `len` can be called.",
        "enum Team { billing  shipping }\nflow F(text: str) -> (team: Team) {\n  return (team=Team.billing())\n}",
    ),
    CodeInfo(
        "E0311",
        "not a value",
        "The name is declared, but it does not stand for a value by itself: a module has to be called, an enum's "
        "member to be named.",
        _ANSWER + _flow("x = Answer"),
    ),
    CodeInfo(
        "E0312",
        "setting does not fit",
        "The value of a setting has the wrong form or is out of range, or the settings of a block do not go together.",
        'lm small {\n  model: "smollm2-135m"\n  temperature: 9\n}',
    ),
    CodeInfo(
        "E0313",
        "not a constant",
        "A default is known before the program runs: a number, a text, true, false, null, a list of these, or an enum "
        "member.",
        "record Row { n: int = 1 + 1 }",
    ),
    CodeInfo(
        "E0314",
        "not a type",
        "Types are str, int, float and bool, the enums and records of the file, `list[T]`, `map[str, T]`, `T?`, unions "
        'such as `A | B`, literals such as `"a" | "b"`, and `M.out`.',
        "record Row { texts: list }",
    ),
    CodeInfo(
        "E0315",
        "type cannot be told",
        "Neither the value nor its place says what an empty list or a null holds. Write the type where it is bound.",
        _flow("x = []"),
    ),
    CodeInfo(
        "E0316",
        "comparison is always the same",
        "The two sides can never be equal, or a value that is never null is compared with null, so the comparison "
        "decides nothing.",
        _flow('x = if question == 3 then "a" else "b"', "x"),
    ),
    CodeInfo(
        "E0317",
        "signature does not fit",
        "Modules and flows name their outputs. A metric takes a row and what a flow gave back, and gives back one "
        "bool, int or float.",
        "module M(a: str) -> str {}",
    ),
    CodeInfo(
        "E0318",
        "objective does not hold together",
        "An objective names a flow, data and metrics. The metrics read this flow and these rows, the rows hold the "
        "flow's inputs, and every metric has a weight where weights are written. What it lets change may change and is "
        "one thing of the program.",
        "record Row { text: str  label: str }\n" + _ANSWER
        + 'dataset rows: Row = jsonl "rows.jsonl"\n'
        "metric right(gold: Row, pred: Answer.out) -> bool = gold.label == pred.answer\n"
        "objective o { flow: Answer  data: rows  metric: right }",
        (("rows.jsonl", ""),),
    ),
    CodeInfo(
        "E0319",
        "splits take more than all rows",
        "Shares are parts of all rows, and splits never overlap, so shares sum to 1 at most.",
        "record Row { text: str }\n"
        'dataset rows: Row = jsonl "rows.jsonl" {\n  split: { train: 0.8, dev: 0.4 }\n}',
        (("rows.jsonl", ""),),
    ),
    CodeInfo(
        "E0320",
        "constraint that cannot hold",
        "A `where` constraint must leave at least one value of the field's type, and a default or a value that is "
        "written out must meet it.",
        "record R { share: float where it > 1 and it < 0 }",
    ),
    CodeInfo(
        "E0321",
        "nothing can be called here",
        "Constraints, the `assert` and `check` of a module, and the answers of a stub are pure: they read values and "
        "call nothing. Steps that call something belong in a flow. A metric may call modules that judge, and nothing "
        "that acts: scoring a program must not change the world.",
        _ANSWER + "module M(a: str) -> (b: str) {\n"
        '  assert Answer(question=a).answer == b else "b is the answer"\n}',
    ),
    CodeInfo(
        "E0322",
        "text is empty",
        "The message of an `assert` is what a model reads before it tries again, and what a report shows; the reason "
        "of a `release` is what a reviewer reads; the title of a test says what failed. None of them may be empty.",
        'module M(a: str) -> (b: str) {\n  assert len(b) > 0 else ""\n}',
    ),
)  # fmt: skip
