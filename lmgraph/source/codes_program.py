"""The catalogue's codes for what a program means: names, types, the graph, files, lints. Data only; see codes.py."""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo

# -- E00: not lowered yet, files -------------------------------------------------------------------------------------

E00: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0001",
        "not compiled yet",
        "The program is correct as far as this construct goes, and the language has it, but this version of the "
        "compiler cannot make a graph of it yet. The message says how to do without it.",
        "module Answer(question: str) -> (answer: str) { strategy: react }",
    ),
)

# -- E02: names ------------------------------------------------------------------------------------------------------

E02: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0201",
        "unknown name",
        "Nothing with this name can be seen here. A flow sees its inputs, what it bound before this line, and "
        "the declarations of the file; a type sees enums and records.",
        "flow F(text: str) -> (out: str) { return (out=txt) }",
    ),
    CodeInfo(
        "E0202",
        "name is taken",
        "Declarations of a file have one name each, whatever their kind; so have the fields of a record, the "
        "members of an enum and the values of a flow. A value of a flow is bound once.",
        "record Row { text: str  text: str }",
    ),
    CodeInfo(
        "E0203",
        "unknown key",
        "Blocks take a fixed set of settings, and files a fixed set of formats, so that a mistyped one is not "
        "silently ignored.",
        "module M(a: str) -> (b: str) { max_token: 8 }",
    ),
    CodeInfo(
        "E0204",
        "name of another kind",
        "The name exists, but it is declared as something else than what is needed here: an lm where a module is "
        "needed, a module where a type is needed.",
        "record Row { text: Answer }",
    ),
    CodeInfo(
        "E0205",
        "contains itself",
        "A record that holds itself, directly or through others, would have no end. Hold a name or a number that "
        "identifies the other record.",
        "record Node { next: Node }",
    ),
    CodeInfo(
        "E0206",
        "type is too large",
        "A type nests at most 16 levels of lists, optionals and records and has at most 1,000 fields, those of its "
        "records included, because prompts and schemas write it out in full.",
        "record A { b: list[list[list[B]]] }  # and so on",
    ),
)

# -- E03: types ------------------------------------------------------------------------------------------------------

E03: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0301",
        "wrong type",
        "A value stands where another type is needed. An int may stand for a float and a `T` for a `T?`; nothing "
        "else is converted by itself.",
        "x = Answer(question=3)",
    ),
    CodeInfo(
        "E0302",
        "unknown argument",
        "The module, record or flow has no input, field or output of this name.",
        "x = Answer(qestion=text)",
    ),
    CodeInfo(
        "E0303",
        "missing argument",
        "Every input without a default must be given, and a flow returns every output it declares.",
        "x = Answer()",
    ),
    CodeInfo(
        "E0304",
        "argument without a name",
        "Arguments are named, as in `Answer(question=text)`, so that reordering a signature never changes what a "
        "program means. A value whose own name is the argument's may stand alone: `Answer(question)`.",
        "x = Answer(text)",
    ),
    CodeInfo(
        "E0305",
        "argument given twice",
        "One argument has two values.",
        "x = Answer(question=a, question=b)",
    ),
    CodeInfo(
        "E0306",
        "no such field",
        "The value has no part of this name. A module's result has the module's outputs as fields.",
        "x = Answer(question).anwser",
    ),
    CodeInfo(
        "E0307",
        "no such member",
        "The enum has no member of this name or label. Members are named with the enum, as in `Team.billing`; a "
        "text that is compared with an enum must be a label of it.",
        "x = Team.biling",
    ),
    CodeInfo(
        "E0308",
        "value may be null",
        "The value is of an optional type, `T?`, and a `T` is needed. A comparison with null in the condition of "
        "`if`, of a map, or on the left of `and` proves that it is there.",
        "x = len(note)  # note: str?",
    ),
    CodeInfo(
        "E0309",
        "operator does not fit",
        "The operator is not defined for these types: arithmetic needs numbers, `+` also joins two texts or two "
        "lists, `<` and its kin compare numbers or texts.",
        'x = "a" * 2',
    ),
    CodeInfo(
        "E0310",
        "cannot be called",
        "Only modules, records and `len` can be called.",
        "x = Team.billing()",
    ),
    CodeInfo(
        "E0311",
        "not a value",
        "The name is declared, but it does not stand for a value by itself: a module has to be called, an enum's "
        "member to be named.",
        "x = Answer",
    ),
    CodeInfo(
        "E0312",
        "setting does not fit",
        "The value of a setting has the wrong form or is out of range.",
        "lm small { temperature: 9 }",
    ),
    CodeInfo(
        "E0313",
        "not a constant",
        "A default is known before the program runs: a number, a text, true, false, null, a list of these, or an "
        "enum member.",
        "record Row { n: int = 1 + 1 }",
    ),
    CodeInfo(
        "E0314",
        "not a type",
        "Types are str, int, float and bool, the enums and records of the file, `list[T]`, `T?`, literals such "
        'as `"a" | "b"`, and `M.out`.',
        "record Row { texts: list }",
    ),
    CodeInfo(
        "E0315",
        "type cannot be told",
        "Neither the value nor its place says what an empty list or a null holds. Write the type where it is "
        "bound.",
        "x = []",
    ),
    CodeInfo(
        "E0316",
        "comparison is always the same",
        "The two sides can never be equal, or a value that is never null is compared with null, so the "
        "comparison decides nothing.",
        "ok = gold.label == 3",
    ),
    CodeInfo(
        "E0317",
        "signature does not fit",
        "Modules and flows name their outputs. A metric takes a row and what a flow gave back, and gives back "
        "one bool, int or float.",
        "module M(a: str) -> str {}",
    ),
    CodeInfo(
        "E0318",
        "objective does not hold together",
        "An objective names a flow, data and metrics. The metrics read this flow and these rows, the rows hold "
        "the flow's inputs, and every metric has a weight where weights are written.",
        "objective o { flow: F  data: rows }",
    ),
    CodeInfo(
        "E0319",
        "splits take more than all rows",
        "Shares are parts of all rows, and splits never overlap, so shares sum to 1 at most.",
        'dataset d: Row = jsonl "rows.jsonl" { split: { train: 0.8, dev: 0.4 } }',
    ),
)

# -- E04: graph ------------------------------------------------------------------------------------------------------

E04: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0401",
        "unreachable statement",
        "A flow ends with its `return`; what follows it never runs.",
        "return (out=x)\ny = Answer(question)",
    ),
    CodeInfo(
        "E0402",
        "flow does not return",
        "A flow gives back the outputs that its signature declares, in a `return` at its end.",
        "flow F(text: str) -> (out: str) { x = text }",
    ),
    CodeInfo(
        "E0403",
        "nothing inside",
        "A record without a field holds nothing that a program could use.",
        "record Row {}",
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
        'enum Intent { a = "" }',
    ),
    CodeInfo(
        "E0504",
        "Python function is missing",
        "A reference such as `py \"metrics:exact\"` names a file of the program's folder and a function in it "
        "that takes as many values as it is given. The file is read and never imported by the compiler.",
        'metric m(gold: Row, pred: F.out) -> float = py "metrics"',
    ),
)

# -- W: lints --------------------------------------------------------------------------------------------------------

W: tuple[CodeInfo, ...] = (
    CodeInfo(
        "W0001",
        "value is never used",
        "The value is computed, and a call is paid for, and nothing reads it.",
        "x = Answer(question)\nreturn (out=question)",
    ),
    CodeInfo(
        "W0002",
        "input is never used",
        "The flow declares an input and does not read it.",
        "flow F(text: str, extra: str) -> (out: str) { return (out=text) }",
    ),
    CodeInfo(
        "W0003",
        "module is never called",
        "No flow calls the module, so it is never run and never trained.",
        "module Unused(a: str) -> (b: str) {}",
    ),
    CodeInfo(
        "W0004",
        "lm is never used",
        "No module names the lm.",
        'lm spare { model: "…" }',
    ),
    CodeInfo(
        "W0005",
        "data file is not there",
        "The file of a dataset is missing. The program compiles and runs; scoring and optimizing need the rows.",
        'dataset d: Row = jsonl "rows.jsonl"',
    ),
    CodeInfo(
        "W0006",
        "no effect yet",
        "The declaration is read and its syntax is checked, but this version does nothing with it.",
        'test "later" {}',
    ),
    CodeInfo(
        "W0007",
        "range is assumed",
        "The objective has a metric that is no bool and declares no `range`, so each metric is taken to lie "
        "between 0 and 1. Runs that fail score the lowest value, so a wrong range misleads the optimizer.",
        "objective o { flow: F  data: d  metric: count }",
    ),
)
