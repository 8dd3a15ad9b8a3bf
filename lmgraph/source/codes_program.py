"""The catalogue's codes for flows (E04), references to files (E05) and lints (W). Data only; see codes.py."""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo

_ANSWER = "module Answer(question: str) -> (answer: str) {}\n"
_ROW = "record Row { question: str  answer: str }\n"
_DATA = 'dataset rows: Row = jsonl "rows.jsonl"\n'
_EXACT = "metric exact(gold: Row, pred: Answer.out) -> bool = gold.answer == pred.answer\n"
_NO_ROWS = (("rows.jsonl", ""),)


def _flow(line: str, result: str = "question") -> str:
    return f"flow F(question: str) -> (out: str) {{\n  {line}\n  return (out={result})\n}}"


# -- E04: flows ------------------------------------------------------------------------------------------------------

E04: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0401",
        "unreachable statement",
        "A `return` ends the flow, and so does an `if` both branches of which return; what follows never runs.",
        _ANSWER + "flow F(question: str) -> (out: str) {\n  return (out=question)\n  x = Answer(question)\n}",
    ),
    CodeInfo(
        "E0402",
        "flow does not return",
        "A flow gives back the outputs that its signature declares, in a `return` on every way through it. A loop may "
        "end without one, so a `return` follows it.",
        _ANSWER + "flow F(question: str) -> (out: str) {\n  x = Answer(question)\n}",
    ),
    CodeInfo(
        "E0403",
        "nothing inside",
        "A record without a field holds nothing that a program could use, and a flow without a statement does nothing.",
        "record Row {}",
    ),
    CodeInfo(
        "E0404",
        "loop without effect",
        "A loop must be able to make a difference: it changes a variable from outside, acts, checks or returns. What "
        "it binds for itself ends with it.",
        _flow("repeat max 3 { x = question }"),
    ),
    CodeInfo(
        "E0405",
        "return in a test",
        "A test has no outputs. It states with `assert` what must hold of what flows gave back.",
        _ANSWER + 'test "a question has an answer" {\n  out = Answer(question="why?")\n'
        '  assert len(out.answer) > 0 else "no answer"\n  return (a=out.answer)\n}',
    ),
    CodeInfo(
        "E0406",
        "stop without a loop",
        "`stop if` ends the loop that it stands in. Outside a loop, `if … { return (…) }` ends a flow early.",
        _flow('stop if question == ""'),
    ),
    CodeInfo(
        "E0407",
        "loop limit is out of range",
        "A loop runs at least once and at most 1,000,000 times. The limit bounds what a run may cost.",
        "flow F(question: str) -> (n: int) {\n  var n = 0\n  repeat max 0 { n := n + 1 }\n  return (n)\n}",
    ),
)

# -- E05: references to Python and to data files ---------------------------------------------------------------------

E05: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0501",
        "file cannot be read",
        "The program names a file that it needs to compile, and the file is not there or is no text. Paths are "
        "relative to the folder that holds the program.",
        'enum Intent = lines "labels.txt"',
    ),
    CodeInfo(
        "E0502",
        "path leaves the program's folder",
        "A program reads files of its own folder only, so that it can be moved, checked and packed as a whole.",
        'enum Intent = lines "../labels.txt"',
    ),
    CodeInfo(
        "E0503",
        "label does not fit",
        "Labels are what a model writes: each stands once, is not empty and has no control characters. A file of "
        "labels holds one label a line.",
        'enum Intent { one = ""  two }',
    ),
    CodeInfo(
        "E0504",
        "Python function is missing",
        'A reference such as `py "metrics:exact"` names a file of the program\'s folder and a function in it. The file '
        "is read and never imported by the compiler.",
        _ROW + _ANSWER + 'metric exact(gold: Row, pred: Answer.out) -> float = py "metrics:exakt"',
        (("metrics.py", "def exact(gold, pred):\n    return float(gold.answer == pred.answer)\n"),),
    ),
    CodeInfo(
        "E0505",
        "Python disagrees with its declaration",
        "What a tool, retriever or fn declares is what its Python function takes, by these names, and gives back; the "
        "function of a metric takes two values, the row and what the flow gave back, and is not async. Parameters and "
        "annotations are read from the source and compared; the function is never imported for it.",
        'fn size(text: str) -> int = py "texts:size"',
        (("texts.py", "def size(text: list[str]) -> int:\n    return len(text)\n"),),
    ),
)

# -- W: lints --------------------------------------------------------------------------------------------------------

W: tuple[CodeInfo, ...] = (
    CodeInfo(
        "W0001",
        "value is never used",
        "The value is computed, and a call is paid for, and nothing reads it.",
        _ANSWER + _flow("x = Answer(question)"),
        name="unused_value",
    ),
    CodeInfo(
        "W0002",
        "input is never used",
        "The flow declares an input and does not read it.",
        "flow F(text: str, extra: str) -> (out: str) {\n  return (out=text)\n}",
        name="unused_input",
    ),
    CodeInfo(
        "W0003",
        "module is never called",
        "No flow and no metric calls the module, so it is never run and never trained.",
        _ANSWER + "module Unused(a: str) -> (b: str) {}\n" + _flow("x = Answer(question)", "x.answer"),
        name="unused_module",
    ),
    CodeInfo(
        "W0004",
        "lm is never used",
        "No module and no objective names the lm.",
        'lm spare { model: "smollm2-135m" }\n' + _ANSWER.strip(),
        name="unused_lm",
    ),
    CodeInfo(
        "W0005",
        "data file is not there",
        "The file of a dataset is missing, or one that a Python reference says it reads. The program compiles and "
        "runs; scoring and optimizing need the rows.",
        _ROW + _DATA.strip(),
        name="missing_data",
    ),
    CodeInfo(
        "W0007",
        "range is assumed",
        "The objective has a metric that is no bool and declares no `range`, so each metric is taken to lie between 0 "
        "and 1. Runs that fail score the lowest value, so a wrong range misleads the optimizer.",
        _ROW + _ANSWER + _DATA + "metric length(gold: Row, pred: Answer.out) -> int = len(pred.answer)\n"
        "objective short { flow: Answer  data: rows  metric: length }",
        _NO_ROWS,
        name="assumed_range",
    ),
    CodeInfo(
        "W0008",
        "branch that does nothing",
        "There is no statement in any branch of this `if`.",
        _flow('if question == "x" { }'),
        name="empty_branch",
    ),
    CodeInfo(
        "W0009",
        "test that cannot fail",
        "A test without an `assert` passes whatever the program does, as long as it runs.",
        _ANSWER + 'test "a question has an answer" {\n  out = Answer(question="why?")\n'
        '  check len(out.answer) > 0 else "no answer"\n}',
        name="unfailing_test",
    ),
    CodeInfo(
        "W0010",
        "variable that never changes",
        "A `var` is for values that change. One that is set once is clearer as a binding: `x = …`.",
        _flow("var x = question", "x"),
        name="unchanged_variable",
    ),
    CodeInfo(
        "W0011",
        "import that is not used",
        "An imported name that nothing reads can be deleted from the import.",
        'from "types.lmg" import Row, Unused\nflow F(row: Row) -> (text: str) {\n  return (text=row.text)\n}',
        (("types.lmg", "record Row { text: str }\nrecord Unused { text: str }\n"),),
        name="unused_import",
    ),
    CodeInfo(
        "W0012",
        "condition is always the same",
        "The condition reads nothing that could change, or compares a value with null that was found not to be null "
        "before, so it decides nothing.",
        _ANSWER + "flow F(question: str) -> (out: str) {\n  var x = question\n"
        "  repeat max 3 {\n    x := Answer(question=x).answer\n    stop if false\n  }\n  return (out=x)\n}",
        name="constant_condition",
    ),
    CodeInfo(
        "W0013",
        "catch without effect",
        "What stands before this `catch` cannot fail: it calls nothing, picks no element, divides by nothing and reads "
        "no result of a call.",
        _flow('x = question catch "none"', "x"),
        name="useless_catch",
    ),
    CodeInfo(
        "W0014",
        "loop that runs once",
        "With a limit of 1 the statements run once, and the loop adds nothing.",
        _ANSWER + _flow("var x = question\n  repeat max 1 { x := Answer(question=x).answer }", "x"),
        name="single_round",
    ),
    CodeInfo(
        "W0015",
        "flow is never used",
        "The program's objectives name other flows, and nothing calls, tests or scores this one.",
        _ROW + _ANSWER + _flow("x = Answer(question)", "x.answer") + "\n"
        + "flow G(question: str) -> (answer: str) {\n  x = Answer(question)\n  return (answer=x.answer)\n}\n"
        + _DATA + "metric exact(gold: Row, pred: G.out) -> bool = gold.answer == pred.answer\n"
        "objective o { flow: G  data: rows  metric: exact }",
        _NO_ROWS,
        name="unused_flow",
    ),
    CodeInfo(
        "W0016",
        "nothing to choose by",
        "`best_of` draws several outputs and keeps the best one: the one that most of the module's `check`s hold for, "
        "the one that the fn behind `select` scores highest, or the most frequent one with `select: vote`. With none "
        "of these the first output is kept, and the others are paid for in vain.",
        "module Answer(question: str) -> (answer: str) {\n  strategy: best_of\n  samples: 4\n}",
        name="nothing_to_choose_by",
    ),
)  # fmt: skip
