"""The catalogue of diagnostic codes: what `lmgraph explain E0101` prints. Data only.

One section a series; a code is never given a second meaning. Every code has a golden test. Syntax is here, the other
series are in codes_names.py, codes_types.py, codes_program.py, codes_bounds.py, codes_flow.py and codes_learned.py.
"""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo
from lmgraph.source.codes_bounds import E06
from lmgraph.source.codes_flow import E07
from lmgraph.source.codes_learned import E08, W08
from lmgraph.source.codes_names import E02
from lmgraph.source.codes_program import E04, E05, W
from lmgraph.source.codes_types import E03

# -- E01: syntax -----------------------------------------------------------------------------------------------------

_E01: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0101",
        "unexpected text",
        "The program cannot go on as it does here. The message says what may stand at this place; most often "
        "something just before it is missing, such as a `:`, a type or a closing bracket.",
        "module Answer(question str) -> (answer: str) {}",
    ),
    CodeInfo(
        "E0102",
        "reserved word as a name",
        "These words are part of expressions and types and cannot be names: true false null if then else and or not "
        "in for where private catch. Every other keyword may be a name. Choose another name; an enum member can keep "
        'the word as its label, as in `not_ = "not"`.',
        'enum Logic { and or_ "either" }',
    ),
    CodeInfo(
        "E0103",
        "string is not closed",
        'A string in double quotes ends on the line where it starts. A text of several lines stands between `"""` '
        'and `"""`. A double quote inside a string is written `\\"`.',
        'test "never ends {}',
    ),
    CodeInfo(
        "E0104",
        "bracket is not closed",
        "Every `(`, `[` and `{` needs its partner in the same declaration. The message shows the bracket that was "
        "still open when the declaration ended or when another kind of bracket was closed.",
        "record Claim {\n  text: str",
    ),
    CodeInfo(
        "E0105",
        "character has no meaning here",
        "The language uses letters, digits, `_`, strings in double quotes, comments that start with `#`, and the "
        "signs ( ) [ ] { } , . : = := -> | ? + - * / == != < <= > >=.",
        "flow F(a: str) -> (b: str) { return (b=a); }",
    ),
    CodeInfo(
        "E0106",
        "unknown escape in a string",
        'A backslash in a string starts one of these escapes: \\\\ \\" \\n \\t \\r \\u{1F600}. To write a backslash '
        "itself, double it.",
        'enum Path { home = "C:\\users" }',
    ),
    CodeInfo(
        "E0107",
        "nothing declared",
        "The file holds no declaration: it is empty, or all of it is comments. The smallest program is one module.",
        "# only a comment",
    ),
    CodeInfo(
        "E0108",
        "nested too deeply",
        "Expressions, types and statements nest at most 128 levels deep, and an operator chain counts one level an "
        "operator; imports nest at most 64 files deep. Give an inner part a name of its own and use the name.",
        "metric m(g: G, p: F.out) -> bool = ((((...))))",
    ),
    CodeInfo(
        "E0109",
        "file is too large",
        "A program file may hold at most 1,000,000 characters. Data belongs in files of its own: "
        '`enum E = lines "labels.txt"` and `dataset d: R = jsonl "rows.jsonl"` read them.',
        "(a file of two million characters)",
    ),
    CodeInfo(
        "E0110",
        "not text",
        "A program is UTF-8 text without control characters other than tab and line break. This file holds something "
        "else, so it is most likely not a program, or an editor or a copy damaged it.",
        "(a file with a NUL byte)",
    ),
    CodeInfo(
        "E0111",
        "edition is not known",
        "`edition 1` is the language edition that this version reads, and it stands once, on the first line. A later "
        "edition needs a later lmgraph.",
        "edition 9",
    ),
    CodeInfo(
        "E0112",
        "number is out of range",
        "Whole numbers have at most 18 digits and decimal numbers at most the range of a 64-bit float. Python code "
        "behind an `fn` may use any number it likes.",
        "lm big { seed: 99999999999999999999 }",
    ),
    CodeInfo(
        "E0113",
        "repeat needs a number",
        "A loop states how often it runs at most, as a whole number written out, so that the cost of a program is "
        "known before it runs. `stop if` ends the loop earlier.",
        "flow F(n: int) -> (n: int) {\n  repeat max n { stop if true }\n  return (n)\n}",
    ),
)


_SECTIONS = (_E01, E02, E03, E04, E05, E06, E07, E08, W, W08)
CODES: dict[str, CodeInfo] = {info.code: info for section in _SECTIONS for info in section}
"""Every code, in order."""
