"""What declarations mean: types, records, and the signatures of modules and flows. Read when first asked for, once.

Knows no expressions other than defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmgraph.compiler.constants import Refused, default_value
from lmgraph.compiler.enums import read_enum, unknown_member
from lmgraph.compiler.facts import UNKNOWN, SignatureTypes
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.compiler.resolve import Names
from lmgraph.graph.types import (
    BOOL,
    FLOAT,
    INT,
    STR,
    EnumType,
    Field,
    ListType,
    LiteralType,
    OptionalType,
    RecordType,
    Type,
)
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

MOST_LEVELS = 16
MOST_FIELDS = 1_000
"""A type is written out wherever it is used, to models as a JSON Schema: these bound its size."""

_SCALARS = {"str": STR, "int": INT, "float": FLOAT, "bool": BOOL}


class Declarations:
    """The meaning of each declared name. Every problem is reported when the name is first read."""

    def __init__(self, names: Names, files: ProgramFiles, reporter: Reporter) -> None:
        self.names = names
        self._files = files
        self._reporter = reporter
        self._types: dict[str, Type] = {}
        self._signatures: dict[str, SignatureTypes] = {}
        self._open: set[str] = set()
        self._extents: dict[str, _Extent] = {}

    # -- types -------------------------------------------------------------------------------------------------------

    def type(self, node: tree.TypeNode) -> Type:
        """The type written there; UNKNOWN after reporting what is wrong with it."""
        match node:
            case tree.NamedType(path=(name,)):
                return _SCALARS.get(name.text) or self.named(name)
            case tree.NamedType(path=(owner, tree.Identifier(text="out"))):
                signature = self._owner_of_outputs(owner)
                return signature.output_type if signature else UNKNOWN
            case tree.NamedType(path=path):
                written = ".".join(part.text for part in path)
                self._reporter.error(
                    "E0314",
                    node.span,
                    f"`{written}` is no type",
                    help="a dotted type is `M.out`: what module or flow M gives back",
                )
                return UNKNOWN
            case tree.GenericType():
                return self._generic(node)
            case tree.LiteralTypeNode(value=value):
                return LiteralType((value,))
            case tree.OptionalTypeNode(inner=inner):
                found = self.type(inner)
                return found if found is UNKNOWN or isinstance(found, OptionalType) else OptionalType(found)
            case tree.UnionTypeNode(options=options):
                literals = [option.value for option in options if isinstance(option, tree.LiteralTypeNode)]
                return LiteralType(tuple(dict.fromkeys(literals))) if len(literals) == len(options) else UNKNOWN
            case tree.PrivateTypeNode(inner=inner):
                return self.type(inner)

    def named(self, name: tree.Identifier) -> Type:
        """The enum or record of that name."""
        found = self.names.declared.get(name.text)
        if isinstance(found, tree.Enum):
            return self.enum(found)
        if isinstance(found, tree.Record):
            return self.record(found, name.span)
        if name.text in self.names.silent:
            return UNKNOWN
        if found is not None:
            self.names.wrong_kind(name.text, name.span, found, "a type")
        elif name.text in ("list", "map"):
            self._reporter.error(
                "E0314", name.span, f"`{name.text}` needs the type of what it holds", help=_shape(name.text)
            )
        else:
            known = [*_SCALARS, "list", *self.names.of_kind(tree.Enum, tree.Record)]
            self._reporter.unknown(
                "E0201",
                name.span,
                f"no type is named `{name.text}`",
                name.text,
                known,
                otherwise=f"types are {listed(known[:5])}, and the enums and records of the file",
            )
        return UNKNOWN

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
            if self._too_deep(use or declaration.name.span):
                return UNKNOWN
            self._open.add(name)
            fields = self.fields(declaration.fields, f"record `{name}`")
            self._open.discard(name)
            found = RecordType(name, fields)
            self._types[name] = found if self._measured(found, declaration.name.span) else UNKNOWN
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
        label = next((one.label for one in enum.members if one.name == node.name.text), None)
        if label is None:
            unknown_member(enum, node.name.text, node.name.span, self._reporter, found.name.span if found else None)
            return None
        return enum, label

    def _generic(self, node: tree.GenericType) -> Type:
        name = node.name.text
        arguments = [self.type(argument) for argument in node.arguments]
        if name == "list" and len(arguments) == 1:
            return UNKNOWN if arguments[0] is UNKNOWN else ListType(arguments[0])
        if name == "map":
            return UNKNOWN
        if name == "list":
            self._reporter.error("E0314", node.span, "`list` holds one type", help=_shape(name))
        else:
            self._reporter.unknown(
                "E0314", node.name.span, f"`{name}` takes no type in brackets", name, ["list"], otherwise=_shape("list")
            )
        return UNKNOWN

    def _owner_of_outputs(self, owner: tree.Identifier) -> SignatureTypes | None:
        found = self.names.declared.get(owner.text)
        if isinstance(found, tree.Module | tree.Flow):
            if owner.text in self._open:
                self._reporter.error("E0205", owner.span, f"the signature of `{owner.text}` would contain itself")
                return None
            if owner.text not in self._signatures and self._too_deep(owner.span):
                return None
            return self.signature(found)
        if owner.text in self.names.silent:
            return None
        if found is not None:
            self.names.wrong_kind(owner.text, owner.span, found, "a module or flow")
        else:
            self._reporter.unknown(
                "E0201",
                owner.span,
                f"no module or flow is named `{owner.text}`",
                owner.text,
                self.names.of_kind(tree.Module, tree.Flow),
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
            field = Field(name, type, node.description)
            if node.default is not None:
                try:
                    value = default_value(node.default, type, self.member, self._reporter)
                    field = Field(name, type, node.description, has_default=True, default=value)
                except Refused:
                    field = Field(name, type, node.description, has_default=True)
            found.append(field)
        return tuple(found)

    def signature(self, declaration: tree.Module | tree.Flow) -> SignatureTypes:
        name = declaration.name.text
        if name not in self._signatures:
            owner = f"{'module' if isinstance(declaration, tree.Module) else 'flow'} `{name}`"
            signature = declaration.signature
            self._open.add(name)
            if signature.result is not None:
                self.type(signature.result)
                self._reporter.error(
                    "E0317",
                    signature.result.span,
                    f"{owner} must name what it gives back",
                    help="write `-> (answer: str)`: a model and a caller both need the name",
                )
            inputs = self.fields(signature.inputs, owner)
            outputs = self.fields(signature.outputs, owner)
            self._open.discard(name)
            found = SignatureTypes(name, inputs, outputs, declaration.name.span)
            taken = RecordType(f"{name}.in", inputs)
            if not all(self._measured(one, declaration.name.span) for one in (taken, found.output_type)):
                found = replace(found, outputs=tuple(replace(field, type=UNKNOWN) for field in outputs))
            self._signatures[name] = found
        return self._signatures[name]

    # -- size --------------------------------------------------------------------------------------------------------

    def _too_deep(self, span: Span) -> bool:
        """Reports a type that is reached through too many others, before reading it."""
        if len(self._open) <= MOST_LEVELS:
            return False
        self._report_size(span)
        return True

    def _measured(self, record: RecordType, span: Span) -> bool:
        """Notes how large the record is, its fields' own fields included; reports one that is too large."""
        inside = [self._extent(field.type) for field in record.fields]
        levels = 1 + max((one.levels for one in inside), default=0)
        fields = len(inside) + sum(one.fields for one in inside)
        self._extents[record.name] = _Extent(levels, fields)
        if levels <= MOST_LEVELS and fields <= MOST_FIELDS:
            return True
        self._report_size(span)
        return False

    def _extent(self, type: Type) -> _Extent:
        match type:
            case ListType(element=inner) | OptionalType(inner=inner):
                found = self._extent(inner)
                return _Extent(found.levels + 1, found.fields)
            case RecordType(name=name):
                return self._extents.get(name, _Extent(0, 0))
            case _:
                return _Extent(0, 0)

    def _report_size(self, span: Span) -> None:
        self._reporter.error(
            "E0206",
            span,
            f"this type holds others more than {MOST_LEVELS} levels deep, or more than {MOST_FIELDS:,} fields",
            help="flatten it: hold what a step needs, not everything that is known",
        )


@dataclass(frozen=True, slots=True)
class _Extent:
    """How large a type is when it is written out."""

    levels: int
    fields: int


def _shape(name: str) -> str:
    return "write `list[str]`, with the type of one element" if name == "list" else "write `map[str, T]`"
