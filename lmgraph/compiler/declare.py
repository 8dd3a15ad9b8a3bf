"""What declarations mean: types, records, and the signatures of what can be called. Read when first asked for, once.

Knows no expressions other than defaults; what a `where` says is read by constraints.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from lmgraph.compiler.constants import Refused, default_value
from lmgraph.compiler.enums import read_enum, unknown_member
from lmgraph.compiler.facts import CalleeKind, SignatureTypes
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.relations import UNKNOWN, mentions_unknown, union_of
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.compiler.resolve import Names, kind_of
from lmgraph.compiler.sizes import Sizes
from lmgraph.graph.types import (
    BOOL,
    FLOAT,
    INT,
    STR,
    Constraint,
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
)
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Source, Span
from lmgraph.syntax import tree

_SCALARS = {"str": STR, "int": INT, "float": FLOAT, "bool": BOOL}

HasSignature: TypeAlias = tree.Module | tree.Instance | tree.Flow | tree.Extern
"""Declarations that have a signature."""

ConstraintReader: TypeAlias = Callable[[tree.FieldNode, Type, Any, str], Constraint | None]
"""(field, its type, its default or `NO_DEFAULT`, the constraint as written) -> what the `where` says."""

NO_DEFAULT = object()


class Declarations:
    """The meaning of each declared name. Every problem is reported when the name is first read."""

    def __init__(
        self, names: Names, files: ProgramFiles, reporter: Reporter, sources: Mapping[str, Source]
    ) -> None:
        self.names = names
        self.read_constraint: ConstraintReader = lambda node, type, default, text: None
        self._sources = sources
        self._files = files
        self._reporter = reporter
        self._types: dict[str, Type] = {}
        self._signatures: dict[str, SignatureTypes] = {}
        self._open: set[str] = set()
        self._sizes = Sizes(reporter)
        self._reported: set[int] = set()

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
                    help="a dotted type is `M.out`: what a module, flow or Python reference M gives back",
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
                return self._union(options)
            case tree.PrivateTypeNode(inner=inner):
                return self.type(inner)

    def named(self, name: tree.Identifier) -> Type:
        """The enum or record of that name."""
        found = self.names.get(name.text, name.span)
        if isinstance(found, tree.Enum):
            return self.enum(found)
        if isinstance(found, tree.Record):
            return self.record(found, name.span)
        if found is None and self.names.is_silent(name.text, name.span):
            return UNKNOWN
        if found is not None:
            known = self.names.of_kind(name.span, tree.Enum, tree.Record)
            self.names.wrong_kind(name.text, name.span, found, "a type", [*known, *_SCALARS] if known else None)
        elif name.text in ("list", "map"):
            self._reporter.error(
                "E0314", name.span, f"`{name.text}` needs the type of what it holds", help=_shape(name.text)
            )
        elif not self.names.report_elsewhere(name.text, name.span):
            known = [*_SCALARS, "list", "map", *self.names.of_kind(name.span, tree.Enum, tree.Record)]
            self._reporter.unknown(
                "E0201",
                name.span,
                f"no type is named `{name.text}`",
                name.text,
                known,
                otherwise=f"types are {listed(known[:6])}, and the enums and records of the file",
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
        label = next((one.label for one in enum.members if one.name == node.name.text), None)
        if label is None:
            unknown_member(enum, node.name.text, node.name.span, self._reporter, found.name.span if found else None)
            return None
        return enum, label

    def _union(self, options: Sequence[tree.TypeNode]) -> Type:
        """Literals side by side become one literal type; everything else stays an option of its own."""
        found = [self.type(option) for option in options]
        if any(mentions_unknown(one) for one in found):
            return UNKNOWN
        for node, one in zip(options, found, strict=True):
            if isinstance(one, OptionalType):
                self._reporter.error(
                    "E0314",
                    node.span,
                    "an option of a union cannot be optional by itself",
                    help="declare a record with an optional field for the union, or leave the `?` out",
                )
                return UNKNOWN
        values = [value for one in found if isinstance(one, LiteralType) for value in one.values]
        others = [one for one in found if not isinstance(one, LiteralType)]
        literal = [LiteralType(tuple(dict.fromkeys(values)))] if values else []
        return union_of([*literal, *others])

    def _generic(self, node: tree.GenericType) -> Type:
        name = node.name.text
        arguments = [self.type(argument) for argument in node.arguments]
        match name, arguments:
            case "list", [element]:
                return UNKNOWN if element is UNKNOWN else ListType(element)
            case "map", [key, value]:
                if UNKNOWN in (key, value):
                    return UNKNOWN
                if key == STR:
                    return MapType(value)
                self._reporter.error(
                    "E0314", node.arguments[0].span, "the keys of a map are texts", help=_shape(name)
                )
            case "list" | "map", _:
                holds = "one type" if name == "list" else "the type of its keys and of its values"
                self._reporter.error("E0314", node.span, f"`{name}` takes {holds}", help=_shape(name))
            case _:
                self._reporter.unknown(
                    "E0314",
                    node.name.span,
                    f"`{name}` takes no type in brackets",
                    name,
                    ["list", "map"],
                    otherwise=_shape("list"),
                )
        return UNKNOWN

    def _owner_of_outputs(self, owner: tree.Identifier) -> SignatureTypes | None:
        names, at = self.names, owner.span
        found = names.get(owner.text, at)
        if isinstance(found, HasSignature) and not (isinstance(found, tree.Extern) and found.signature.result):
            declared = found.name.text
            if declared in self._open:
                self._reporter.error("E0205", at, f"the signature of `{owner.text}` would contain itself")
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
            field = Field(name, type, node.description, label="private" if _is_private(node.type) else "public")
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

    def written(self, span: Span) -> str:
        """The text of the program there, on one line."""
        source = self._sources.get(span.file)
        return " ".join(source.text[span.start : span.end].split()) if source is not None else ""

    def before_block(self, span: Span) -> Span:
        """The place up to the first `{`, where that is on its first line; else its first word."""
        source = self._sources.get(span.file)
        text = source.text[span.start : span.end] if source is not None else ""
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
        seen = [declaration]
        while isinstance(declaration, tree.Instance):
            found = self.names.find_module(declaration.base.text, declaration.base.span)
            if found is None:
                return None
            if any(found is one for one in seen):
                if id(declaration) not in self._reported:
                    self._reported.update(id(one) for one in seen)
                    self._reporter.error(
                        "E0205",
                        declaration.base.span,
                        f"`{found.name.text}` would be made from itself",
                        help="make one of them from a module with a signature of its own",
                    )
                return None
            declaration = found
            seen.append(declaration)
        return declaration

    def _instance(self, declaration: tree.Instance) -> SignatureTypes:
        base = self.base_of(declaration)
        if base is None:
            return SignatureTypes(declaration.name.text, (), (), declaration.name.span, "module", UNKNOWN)
        return replace(self.signature(base), name=declaration.name.text, span=declaration.name.span)


def _shape(name: str) -> str:
    return "write `list[str]`, with the type of one element" if name == "list" else "write `map[str, T]`"


def _kind(declaration: tree.Module | tree.Flow | tree.Extern) -> CalleeKind:
    match declaration:
        case tree.Module():
            return "module"
        case tree.Flow():
            return "flow"
        case tree.Extern(kind=kind):
            return kind


def _is_private(node: tree.TypeNode) -> bool:
    """Whether `private` stands anywhere in the type: the label is the whole field's."""
    return any(isinstance(one, tree.PrivateTypeNode) for one in _type_nodes(node))


def _type_nodes(node: tree.TypeNode) -> Iterator[tree.TypeNode]:
    yield node
    match node:
        case tree.PrivateTypeNode(inner=inner) | tree.OptionalTypeNode(inner=inner):
            yield from _type_nodes(inner)
        case tree.GenericType(arguments=arguments) | tree.UnionTypeNode(options=arguments):
            for argument in arguments:
                yield from _type_nodes(argument)
        case _:
            return
