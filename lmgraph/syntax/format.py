"""The canonical layout of a program: `lmgraph fmt`. Decides line breaks and blanks, never meaning.

Kept from the author: comments, one blank line where there were any, a block begun on one line, a `->` or `because`
on a line of its own. Everything else follows from the tree, so that formatting twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmgraph.errors import LmgraphError
from lmgraph.source.render import compile_error
from lmgraph.source.text import Source
from lmgraph.syntax import tree
from lmgraph.syntax.comments import Margin
from lmgraph.syntax.format_parts import PartsFormatter, spaced_comments
from lmgraph.syntax.layout import HARD, SPACE, Document, group, join, nest, set_lines
from lmgraph.syntax.parser import parse
from lmgraph.syntax.strings import write_long_string, write_string

WIDTH = 104
"""Characters a line: about a hundred, so that a signature's last words need no line of their own."""

_ROUNDS = 5
"""A comment in an odd place may need a second round to settle."""

_ONE_LINERS = (tree.Import, tree.Enum, tree.Extern, tree.Instance, tree.Dataset, tree.Metric, tree.Moved)


def format_source(source: Source) -> str:
    """The canonical text of ``source``: same tree, same comments, and formatting it again gives it back.

    Raises:
        CompileError: the text has syntax errors.
    """
    original = _parsed(source)
    comments = sorted(Margin(source.text).total)
    text = source.text
    file = original
    for _ in range(_ROUNDS):
        formatted = format_tree(file, text)
        file = _parsed(Source(source.name, formatted))
        if file != original or sorted(Margin(formatted).total) != comments:
            break
        if formatted == text:
            return formatted
        text = formatted
    raise LmgraphError(
        f"{source.name}: the formatter would change what the program says, so nothing was written",
        hint="this is a bug in lmgraph: please report it with the file",
    )


def format_tree(file: tree.File, text: str = "") -> str:
    """``file`` as canonical text. ``text`` is what it was parsed from, for its comments; a made-up tree has none."""
    return _FileFormatter(Margin(text)).file(file)


def _parsed(source: Source) -> tree.File:
    result = parse(source)
    if result.tree is None or result.diagnostics:
        raise compile_error(result.diagnostics, {source.name: source})
    return result.tree


class _FileFormatter(PartsFormatter):
    """Sets declarations and statements."""

    # -- the file ----------------------------------------------------------------------------------------------------

    def file(self, file: tree.File) -> str:
        lines = self._edition(file)
        previous: tree.Declaration | None = None
        previous_text = ""
        for declaration in file.declarations:
            start = declaration.span.start
            blank = self.margin.blank_before(start)
            above = self.margin.before(start)
            built = self._declaration(declaration)
            above += self.margin.before(declaration.span.end)
            line: Document = (built, self.suffix(declaration.span.end))
            text = set_lines(line, WIDTH)
            kept = type(declaration) is type(previous) and "\n" not in text + previous_text
            author_blank = above[0].blank_before if above else blank
            if lines and (not (kept and isinstance(declaration, _ONE_LINERS)) or author_blank):
                lines.append("")
            if above:
                comments = spaced_comments(above, first=True)
                lines += set_lines(tuple(comments[1:]), WIDTH).split("\n")
                lines += [""] if blank else []
            lines.append(text)
            previous, previous_text = declaration, text
        rest = self.margin.rest()
        if rest:
            lines += set_lines(tuple(spaced_comments(rest, first=not lines)), WIDTH).split("\n")[1:]
        return "\n".join(lines) + "\n"

    def _edition(self, file: tree.File) -> list[str]:
        if file.edition is None:
            return []
        start = max(self.margin.next_token(0), 0)
        blank = self.margin.blank_before(start)
        above = self.margin.before(start)
        lines = [line for line in set_lines(tuple(spaced_comments(above, first=True)[1:]), WIDTH).split("\n") if above]
        lines += [""] if above and blank else []
        number = self.margin.next_token(start + len("edition"))
        hoisted = self.margin.before(number)
        written: Document = (f"edition {file.edition}", self.suffix(number + len(str(file.edition))))
        return [*lines, *(comment.text for comment in hoisted), set_lines(written, WIDTH)]

    # -- declarations ------------------------------------------------------------------------------------------------

    def _declaration(self, node: tree.Declaration) -> Document:
        if isinstance(node, tree.Import):
            names = join((",", SPACE), [self._import_name(name) for name in node.names])
            return group(f"from {self._string(node.path)} import ", nest(2, *names))
        if isinstance(node, tree.Enum):
            return self._enum(node)
        if isinstance(node, tree.Record):
            return self._record(node)
        if isinstance(node, tree.Lm):
            return (f"lm {node.name.text} ", self.block(node.block))
        if isinstance(node, tree.Extern):
            head = self._signature(f"{node.kind} {node.name.text}", node.signature)
            return (*head, f" = py {self._string(node.target.target)}", self._optional_block(node.block))
        if isinstance(node, tree.Module):
            head = self._signature(f"module {node.name.text}", node.signature)
            items = sorted((*node.entries, *node.checks), key=lambda item: item.span.start)
            return (*head, " ", self._body(items, node.signature.span.end, node.span.end, node.doc))
        if isinstance(node, tree.Instance):
            return (f"module {node.name.text} = {node.base.text}", self._optional_block(node.block))
        if isinstance(node, tree.Flow):
            head = self._signature(f"flow {node.name.text}", node.signature)
            return (*head, " ", self._body(node.body, node.signature.span.end, node.span.end, node.doc))
        return self._other_declaration(node)

    def _other_declaration(
        self, node: tree.Dataset | tree.Metric | tree.Objective | tree.Test | tree.Moved
    ) -> Document:
        if isinstance(node, tree.Dataset):
            source = f"{node.source.format.text} {self._string(node.source.path)}"
            return (f"dataset {node.name.text}: {self.type(node.type)} = {source}", self._optional_block(node.block))
        if isinstance(node, tree.Metric):
            head = self._signature(f"metric {node.name.text}", node.signature)
            if isinstance(node.body, tree.PythonReference):
                return (*head, f" = py {self._string(node.body.target)}")
            return (*head, " = ", self.expression(node.body))
        if isinstance(node, tree.Objective):
            return (f"objective {node.name.text} ", self.block(node.block))
        if isinstance(node, tree.Moved):
            return f"moved {node.old.text} -> {node.new.text}"
        head_text = f"test {write_string(node.title)} "
        return (head_text, self._body(node.body, node.span.start, node.span.end))

    def _import_name(self, node: tree.ImportName) -> str:
        return f"{node.name.text} as {node.alias.text}" if node.alias else node.name.text

    def _string(self, node: tree.Constant) -> str:
        return write_string(str(node.value))

    def _optional_block(self, block: tree.Block | None) -> Document:
        return (" ", self.block(block)) if block is not None else ()

    def _enum(self, node: tree.Enum) -> Document:
        if node.source is not None:
            return f"enum {node.name.text} = {node.source.format.text} {self._string(node.source.path)}"
        start = self.margin.find("{", node.name.span.end)
        return (f"enum {node.name.text} ", self.braces(node.members, self._member, start, node.span.end, "  "))

    def _member(self, node: tree.EnumMemberNode) -> str:
        label = f" = {write_string(node.label)}" if node.label is not None else ""
        description = f" {write_string(node.description)}" if node.description is not None else ""
        return f"{node.name.text}{label}{description}"

    def _record(self, node: tree.Record) -> Document:
        head = f"record {node.name.text} "
        if node.doc is not None:
            return (head, self._body(node.fields, node.name.span.end, node.span.end, node.doc))
        start = self.margin.find("{", node.name.span.end)
        return (head, self.braces(node.fields, self.field, start, node.span.end, "  "))

    def _signature(self, head: str, node: tree.Signature) -> tuple[Document, ...]:
        """Inputs and outputs on one line, else `->` on its own line, such that both brackets open alike."""
        column = len(head)
        inputs = self._fields(node.inputs, column + 1)
        after_inputs = node.inputs[-1].span.end if node.inputs else node.span.start
        arrow = self.margin.find("->", after_inputs)
        closing = self.margin.find(")", after_inputs)
        broken = 0 <= closing < arrow and self.margin.broken(closing, arrow)
        result = self.type(node.result) if node.result is not None else self._fields(node.outputs, column + 2)
        return (group(head, inputs, nest(max(column - 2, 2), SPACE), "-> ", result, broken=broken),)

    def _fields(self, fields: Sequence[tree.FieldNode], column: int) -> Document:
        items: list[Document] = []
        for index, field in enumerate(fields):
            built = self.with_comments(field, self.field)
            last = index == len(fields) - 1
            items.append((built, "" if last else ",", self.suffix(field.span.end, closed=last)))
        return group("(", nest(column, *join(SPACE, items)), ")")

    # -- statements --------------------------------------------------------------------------------------------------

    def _body(
        self,
        items: Sequence[tree.Statement | tree.Entry | tree.FieldNode],
        head_end: int,
        end: int,
        doc: str | None = None,
    ) -> Document:
        """`{ ... }` on lines of its own; the brace opens at or after ``head_end``, ``end`` is behind its partner."""
        opening = self.margin.find("{", head_end)
        if not items and doc is None and not self.margin.holds(opening, end):
            return "{}"
        brace = self.suffix(opening + 1) if opening >= 0 else ()
        above = self._doc(doc, opening) if doc is not None else []
        body = self.lines(items, self._item, end, first=doc is None)
        return ("{", brace, nest(2, *above, *body), HARD, "}")

    def _doc(self, doc: str, opening: int) -> list[Document]:
        start = self.margin.find('"""', opening + 1) if opening >= 0 else -1
        above = spaced_comments(self.margin.before(start), first=True)
        lines: list[Document] = [HARD]
        for index, line in enumerate(write_long_string(doc)):
            lines += [HARD, line] if index else [line]
        return [*above, *lines, self.suffix(self.margin.string_end(start))]

    def _item(self, node: tree.Statement | tree.Entry | tree.FieldNode) -> Document:
        if isinstance(node, tree.Entry):
            return self._entry(node)
        if isinstance(node, tree.FieldNode):
            return self.field(node)
        return self._statement(node)

    def _statement(self, node: tree.Statement) -> Document:
        if isinstance(node, (tree.Bind, tree.Var)):
            keyword = "var " if isinstance(node, tree.Var) else ""
            annotation = f": {self.type(node.type)}" if node.type is not None else ""
            return (f"{keyword}{node.name.text}{annotation} = ", self.expression(node.value))
        if isinstance(node, tree.Update):
            return (f"{node.name.text} := ", self.expression(node.value))
        if isinstance(node, tree.Release):
            because = self.margin.find("because", node.value.span.end)
            broken = self.margin.broken(node.value.span.end, because)
            reason = (SPACE, f"because {write_string(node.reason)}")
            value = self.expression(node.value)
            return group(f"release {node.name.text} = ", value, nest(2, *reason), broken=broken)
        if isinstance(node, tree.If):
            return self._if(node)
        if isinstance(node, tree.Repeat):
            index = f" as {node.index.text}" if node.index else ""
            start = node.index.span.end if node.index else node.span.start
            return (f"repeat max {node.limit}{index} ", self._body(node.body, start, node.span.end))
        if isinstance(node, tree.Stop):
            return ("stop if ", self.expression(node.condition))
        if isinstance(node, (tree.Assert, tree.Check)):
            keyword = "assert" if isinstance(node, tree.Assert) else "check"
            return (f"{keyword} ", self.expression(node.condition), f" else {write_string(node.message)}")
        if isinstance(node, tree.Return):
            return ("return ", self.arguments(node.arguments, node.span.end))
        answers = [self.arguments(answer, answer[-1].span.end if answer else 0) for answer in node.answers]
        return group(f"stub {node.name.text} -> ", *join((", "), answers))

    def _if(self, node: tree.If) -> Document:
        condition = self.expression(node.condition)
        opening = self.margin.find("{", node.condition.span.end)
        inside = node.then[-1].span.end if node.then else opening + 1
        closing = self.margin.find("}", inside) + 1
        then = self._body(node.then, node.condition.span.end, closing)
        if node.otherwise is None:
            return ("if ", condition, " ", then)
        if len(node.otherwise) == 1 and isinstance(node.otherwise[0], tree.If):
            return ("if ", condition, " ", then, " else ", self._if(node.otherwise[0]))
        return ("if ", condition, " ", then, " else ", self._body(node.otherwise, closing, node.span.end))
