"""The catalogue's codes for names: E02. Data only; see codes.py."""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo

E02: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0201",
        "unknown name",
        "Nothing with this name can be seen here. A flow sees its inputs, what it bound before this line, and the "
        "declarations of the file and of its imports; a block sees what is around it, and what it binds itself ends "
        "with it. A type sees enums and records.",
        "flow F(text: str) -> (out: str) {\n  return (out=txt)\n}",
    ),
    CodeInfo(
        "E0202",
        "name is taken",
        "Declarations have one name each in all files of a program, whatever their kind; so have the fields of a "
        "record, the members of an enum, and the values of a flow that can be seen at the same place. A value is bound "
        "once: what changes is a variable, `var x = …` and then `x := …`.",
        "record Row {\n  text: str\n  text: str\n}",
    ),
    CodeInfo(
        "E0203",
        "unknown key",
        "Blocks take a fixed set of settings, and files a fixed set of formats, so that a mistyped one is not silently "
        "ignored. Some settings belong to one strategy of a module: `tools` and `max_steps` to `react`; `samples`, "
        "`select` and `of` to `best_of`.",
        "module M(a: str) -> (b: str) {\n  max_token: 8\n}",
    ),
    CodeInfo(
        "E0204",
        "name of another kind",
        "The name exists, but it is declared as something else than what is needed here: an lm where a module is "
        "needed, a module where a type is needed.",
        "record Row { text: Answer }\nmodule Answer(question: str) -> (answer: str) {}",
    ),
    CodeInfo(
        "E0205",
        "refers to itself",
        "A record that holds itself, directly or through others, would have no end; neither would a flow that calls "
        "itself, nor a module that is made from itself. Hold a name or a number that identifies the other record, and "
        "write a loop with a bound, `repeat max 4 { … }`, in place of recursion.",
        "record Node {\n  text: str\n  next: Node?\n}",
    ),
    CodeInfo(
        "E0206",
        "type is too large",
        "A type nests at most 16 levels of lists, optionals and records and has at most 1,000 fields, those of its "
        "records included, because prompts and schemas write it out in full.",
        "record R { a: " + "list[" * 17 + "str" + "]" * 17 + " }",
    ),
    CodeInfo(
        "E0207",
        "imports go in a circle",
        "A file may import others, and those may import more, but no file may need itself on the way: what a name "
        "means could depend on itself. Put what both files need into a third one.",
        'from "rows.lmg" import Row\nrecord Label { row: Row }',
        (("rows.lmg", 'from "labels.lmg" import Kind\nrecord Row { kind: Kind }\n'),
         ("labels.lmg", 'from "rows.lmg" import Row\nenum Kind { one  two }\n')),
    ),
    CodeInfo(
        "E0208",
        "not a variable",
        "`:=` gives a variable a new value, and only `var x = …` makes one. Inputs, elements, counters and values that "
        "are bound with `=` stay what they are, so that a reader can trust them.",
        'flow F(a: str) -> (b: str) {\n  a := "x"\n  return (b=a)\n}',
    ),
)  # fmt: skip
