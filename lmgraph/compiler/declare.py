"""What declarations mean: types, records, and the signatures of what can be called. Read when first asked for, once.

Knows no expressions other than defaults; what a `where` says is read by constraints.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from lmgraph.compiler.constants import Refused, default_value
from lmgraph.compiler.enums import read_enum, unknown_member
from lmgraph.compiler.facts import CalleeKind, SignatureTypes
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.relations import UNKNOWN
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.resolve import Names, kind_of
from lmgraph.compiler.sizes import Sizes
from lmgraph.compiler.written_types import WrittenTypes, is_private
from lmgraph.graph.types import (
    Constraint,
    EnumType,
    Field,
    RecordType,
    Type,
)
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Source, Span
from lmgraph.syntax import tree

HasSignature: TypeAlias = tree.Module | tree.Instance | tree.Flow | tree.Extern
"""Declarations that have a signature."""

ConstraintReader: TypeAlias = Callable[[tree.FieldNode, Type, Any, str], Constraint | None]
"""(field, its type, its default or `NO_DEFAULT`, the constraint as written) -> what the `where` says."""

NO_DEFAULT = object()


class Declarations:
    """The meaning of each declared name. Every problem is reported when the name is first read."""

    def __init__(self, names: Names, files: ProgramFiles, reporter: Reporter, sources: Mapping[str, Source]) -> None:
        self.names = names
        self.read_constraint: ConstraintReader = lambda node, type, default, text: None
        self._sources = sources
        self._files = files
        self._reporter = reporter
        self._types: dict[str, Type] = {}
        self._signatures: dict[str, SignatureTypes] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._open: set[str] = set()
        self._sizes = Sizes(reporter)
        self._bases: dict[int, tree.Module | None] = {}
        self._written = WrittenTypes(names, reporter, self.enum, self.record, self.outputs)

    # -- types -------------------------------------------------------------------------------------------------------

    def type(self, node: tree.TypeNode) -> Type:
        """The type written there; UNKNOWN after reporting what is wrong with it."""
        return self._written.type(node)

    def enum(self, declaration: tree.Enum) -> Type:
        name = declaration.name.text
        if name not in self._types:
            self._types[name] = read_enum(declaration, self._files, self._reporter) or UNKNOWN
        return self._types[name]

    def record(self, declaration: tree.Record, use: Span | None = None) -> Type:
        name = declaration.name.text
        if name in self._open:
            self._reporter.error(
                "E0205",
                use or declaration.name.span,
                f"`{name}` would contain itself, without an end",
                secondary=[Label(declaration.name.span, f"`{name}` is declared here")],
                help="leave the field out, or hold a name or number that identifies the other record",
            )
            return UNKNOWN
        if name not in self._types:
            if self._sizes.too_deep(len(self._open), use or declaration.name.span):
                return UNKNOWN
            self._open.add(name)
            fields = self.fields(declaration.fields, f"record `{name}`")
            self._open.discard(name)
            found = RecordType(name, fields)
            self._types[name] = found if self._sizes.fits(found, declaration.name.span) else UNKNOWN
            if not declaration.fields:
                self._reporter.error(
                    "E0403", declaration.name.span, f"record `{name}` has no field", help="declare at least one field"
                )
        return self._types[name]

    def member(self, node: tree.Attribute) -> tuple[EnumType, str] | None:
        """Enum and label of `Team.billing`; None after reporting that it is none."""
        assert isinstance(node.base, tree.Reference)
        found = self.names.find(node.base.name, node.base.span, tree.Enum)
        enum = self.enum(found) if found else UNKNOWN
        if not isinstance(enum, EnumType):
            return None
        label = self.labels(enum).get(node.name.text)
        if label is None:
            unknown_member(enum, node.name.text, node.name.span, self._reporter, found.name.span if found else None)
            return None
        return enum, label

    def labels(self, enum: EnumType) -> dict[str, str]:
        """The label of each member by its name: an enum may have a member a line of a long file."""
        if enum.name not in self._labels:
            self._labels[enum.name] = {member.name: member.label for member in enum.members}
        return self._labels[enum.name]

    def outputs(self, owner: tree.Identifier) -> Type:
        """`M.out`: the record of what the module, flow or Python reference gives back."""
        signature = self._owner_of_outputs(owner)
        return signature.output_type if signature else UNKNOWN

    def _owner_of_outputs(self, owner: tree.Identifier) -> SignatureTypes | None:
        names, at = self.names, owner.span
        found = names.get(owner.text, at)
        if isinstance(found, HasSignature) and not (isinstance(found, tree.Extern) and found.signature.result):
            declared = found.name.text
            if declared in self._open:
                self._reporter.error(
                    "E0205",
                    at,
                    f"the signature of `{owner.text}` would contain itself",
                    help="declare a record for what both sides hold",
                )
                return None
            if declared not in self._signatures and self._sizes.too_deep(len(self._open), at):
                return None
            return self.signature(found)
        if isinstance(found, tree.Extern):
            self._reporter.error(
                "E0314",
                at,
                f"`{owner.text}` gives back a value without a name",
                secondary=[Label(found.name.span, "declared here")],
                help="write the type itself",
            )
        elif isinstance(found, tree.Record | tree.Enum):
            self._reporter.error(
                "E0204",
                at,
                f"`{owner.text}` is {kind_of(found)}; `.out` is of a module or flow",
                secondary=[Label(found.name.span, "declared here")],
                help=f"write `{owner.text}` alone",
            )
        elif found is not None:
            names.wrong_kind(owner.text, at, found, "a module or flow")
        elif not names.is_silent(owner.text, at) and not names.report_elsewhere(owner.text, at):
            self._reporter.unknown(
                "E0201",
                at,
                f"no module or flow is named `{owner.text}`",
                owner.text,
                names.of_kind(at, tree.Module, tree.Instance, tree.Flow, tree.Extern),
            )
        return None

    # -- fields and signatures ---------------------------------------------------------------------------------------

    def fields(self, nodes: Sequence[tree.FieldNode], owner: str) -> tuple[Field, ...]:
        found: list[Field] = []
        first: dict[str, Span] = {}
        for node in nodes:
            name = node.name.text
            if name in first:
                self._reporter.error(
                    "E0202",
                    node.name.span,
                    f"{owner} has `{name}` twice",
                    secondary=[Label(first[name], "first here")],
                    help="rename or delete one of the two",
                )
                continue
            first[name] = node.name.span
            type = self.type(node.type)
            field = Field(name, type, node.description, label="private" if is_private(node.type) else "public")
            default: Any = NO_DEFAULT
            if node.default is not None:
                field = replace(field, has_default=True)
                try:
                    default = default_value(node.default, type, self.member, self._reporter)
                    field = replace(field, default=default)
                except Refused:
                    pass
            if node.constraint is not None:
                written = self.written(node.constraint.span)
                field = replace(field, constraint=self.read_constraint(node, type, default, written))
            found.append(field)
        return tuple(found)

    def text(self, span: Span) -> str:
        """The text of the program there."""
        source = self._sources.get(span.file)
        return source.text[span.start : span.end] if source is not None else ""

    def written(self, span: Span) -> str:
        """The text of the program there, on one line."""
        return " ".join(self.text(span).split())

    def before_block(self, span: Span) -> Span:
        """The place up to the first `{`, where that is on its first line; else its first word."""
        text = self.text(span)
        line = text.split("\n", 1)[0]
        head = line.split("{", 1)[0].rstrip() if "{" in line and "#" not in line else text.split(None, 1)[0]
        return Span(span.file, span.start, span.start + len(head))

    def signature(self, declaration: HasSignature) -> SignatureTypes:
        name = declaration.name.text
        if name not in self._signatures:
            if isinstance(declaration, tree.Instance):
                self._signatures[name] = self._instance(declaration)
                return self._signatures[name]
            kind = _kind(declaration)
            owner = f"{kind} `{name}`"
            signature = declaration.signature
            self._open.add(name)
            bare: Type | None = None
            if signature.result is not None:
                bare = self.type(signature.result)
                if not isinstance(declaration, tree.Extern):
                    bare = None
                    self._reporter.error(
                        "E0317",
                        signature.result.span,
                        f"{owner} must name what it gives back",
                        help="write `-> (answer: str)`: a model and a caller both need the name",
                    )
            inputs = self.fields(signature.inputs, owner)
            outputs = self.fields(signature.outputs, owner)
            self._open.discard(name)
            found = SignatureTypes(name, inputs, outputs, declaration.name.span, kind, bare)
            taken = RecordType(f"{name}.in", inputs)
            if not all(self._sizes.fits(one, declaration.name.span) for one in (taken, found.output_type)):
                found = replace(found, outputs=tuple(replace(field, type=UNKNOWN) for field in outputs))
            self._signatures[name] = found
        return self._signatures[name]

    def base_of(self, declaration: tree.Module | tree.Instance) -> tree.Module | None:
        """The module that an instance was made from, at the end of its chain; None after reporting there is none."""
        base: tree.Module | None = None
        chain: dict[int, None] = {}
        while isinstance(declaration, tree.Instance) and id(declaration) not in self._bases:
            chain[id(declaration)] = None
            found = self.names.find_module(declaration.base.text, declaration.base.span)
            if found is not None and id(found) in chain:
                self._reporter.error(
                    "E0205",
                    declaration.base.span,
                    f"`{found.name.text}` would be made from itself",
                    help="make one of them from a module with a signature of its own",
                )
                break
            if found is None:
                break
            declaration = found
        else:
            base = declaration if isinstance(declaration, tree.Module) else self._bases[id(declaration)]
        self._bases.update(dict.fromkeys(chain, base))
        return base

    def _instance(self, declaration: tree.Instance) -> SignatureTypes:
        base = self.base_of(declaration)
        if base is None:
            return SignatureTypes(declaration.name.text, (), (), declaration.name.span, "module", UNKNOWN)
        return replace(self.signature(base), name=declaration.name.text, span=declaration.name.span)


def _kind(declaration: tree.Module | tree.Flow | tree.Extern) -> CalleeKind:
    match declaration:
        case tree.Module():
            return "module"
        case tree.Flow():
            return "flow"
        case tree.Extern(kind=kind):
            return kind
