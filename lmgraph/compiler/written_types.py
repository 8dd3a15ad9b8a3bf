"""Types as they are written: from type nodes of the tree to types. What a declared name means is asked elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lmgraph.compiler.relations import UNKNOWN, mentions_unknown, union_of
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.compiler.resolve import Names
from lmgraph.graph.types import BOOL, FLOAT, INT, STR, ListType, LiteralType, MapType, OptionalType, Type
from lmgraph.source.text import Span
from lmgraph.syntax import tree

_SCALARS = {"str": STR, "int": INT, "float": FLOAT, "bool": BOOL}


class WrittenTypes:
    """Reads type nodes. ``enum``, ``record`` and ``outputs`` give the types of what is declared."""

    def __init__(
        self,
        names: Names,
        reporter: Reporter,
        enum: Callable[[tree.Enum], Type],
        record: Callable[[tree.Record, Span], Type],
        outputs: Callable[[tree.Identifier], Type],
    ) -> None:
        self._names = names
        self._reporter = reporter
        self._enum = enum
        self._record = record
        self._outputs = outputs

    def type(self, node: tree.TypeNode) -> Type:
        """The type written there; UNKNOWN after reporting what is wrong with it."""
        match node:
            case tree.NamedType(path=(name,)):
                return _SCALARS.get(name.text) or self._named(name)
            case tree.NamedType(path=(owner, tree.Identifier(text="out"))):
                return self._outputs(owner)
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

    def _named(self, name: tree.Identifier) -> Type:
        """The enum or record of that name."""
        found = self._names.get(name.text, name.span)
        if isinstance(found, tree.Enum):
            return self._enum(found)
        if isinstance(found, tree.Record):
            return self._record(found, name.span)
        if found is None and self._names.is_silent(name.text, name.span):
            return UNKNOWN
        if found is not None:
            known = self._names.of_kind(name.span, tree.Enum, tree.Record)
            self._names.wrong_kind(name.text, name.span, found, "a type", [*known, *_SCALARS] if known else None)
        elif name.text in ("list", "map"):
            self._reporter.error(
                "E0314", name.span, f"`{name.text}` needs the type of what it holds", help=_shape(name.text)
            )
        elif not self._names.report_elsewhere(name.text, name.span):
            known = [*_SCALARS, "list", "map", *self._names.of_kind(name.span, tree.Enum, tree.Record)]
            self._reporter.unknown(
                "E0201",
                name.span,
                f"no type is named `{name.text}`",
                name.text,
                known,
                otherwise=f"types are {listed(known[:6])}, and the enums and records of the file",
            )
        return UNKNOWN

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
                self._reporter.error("E0314", node.arguments[0].span, "the keys of a map are texts", help=_shape(name))
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


def _shape(name: str) -> str:
    return "write `list[str]`, with the type of one element" if name == "list" else "write `map[str, T]`"


def is_private(node: tree.TypeNode) -> bool:
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
