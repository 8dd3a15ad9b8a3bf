"""Checks of types and fields: every enum and record anywhere in a graph is one that the graph declares."""

from __future__ import annotations

from collections.abc import Iterable

from lmgraph.graph.expressions import IT
from lmgraph.graph.graph import ExternSpec, FlowSpec, Graph, ModuleSpec
from lmgraph.graph.types import (
    Constraint,
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
)
from lmgraph.graph.verify_parts import Parts, fail, in_scope, unique


class KnownTypes:
    """The enums and records that a graph declares, and outputs of its modules, flows and externs as `M.out`."""

    def __init__(self, graph: Graph, parts: Parts) -> None:
        """Raises: GraphInvariantError where a declared type does not hold together by itself."""
        self._declared: dict[str, EnumType | RecordType] = {}
        self._checked: dict[int, Type] = {}
        """Types found good, by identity: one type object stands at many nodes, and records hold records."""
        outputs = (*parts.module_outputs.values(), *parts.flow_outputs.values())
        declared: tuple[EnumType | RecordType, ...] = (*graph.enums, *graph.records, *outputs)
        for one in declared:
            self._declare(one)
        for extern in graph.externs:
            if isinstance(extern.result, RecordType) and extern.result.name == f"{extern.name}.out":
                self._declare(extern.result)
        for metric in graph.metrics:
            if metric.reads == "trace" and isinstance(metric.pred.type, RecordType):
                self._declare(metric.pred.type)
        for enum in graph.enums:
            unique((member.name for member in enum.members), f"members of enum {enum.name}")
            unique(enum.labels, f"labels of enum {enum.name}")
            if not enum.members:
                fail(f"enum {enum.name} has no member")
        for record in graph.records:
            self.fields(record.fields, f"record {record.name}")
        owners: list[ModuleSpec | FlowSpec] = [*graph.modules, *graph.flows]
        for owner in owners:
            self.fields(owner.inputs, f"inputs of {owner.name}")
            self.fields(owner.outputs, f"outputs of {owner.name}")
        for extern in graph.externs:
            self._extern(extern)

    def _extern(self, extern: ExternSpec) -> None:
        self.fields(extern.inputs, f"inputs of {extern.name}")
        if isinstance(extern.result, RecordType):
            self.fields(extern.result.fields, f"result of {extern.name}")
        self.known(extern.result, f"the result of {extern.name}")

    def _declare(self, found: EnumType | RecordType) -> None:
        # A file of one module is a program by itself: its flow has the module's name, and so the same `M.out`.
        if self._declared.setdefault(found.name, found) != found:
            fail(f"two types are named {found.name}")

    def fields(self, fields: Iterable[Field], what: str) -> None:
        """Raises: GraphInvariantError unless names are unique, types known and constraints over `it`."""
        listed = tuple(fields)
        unique((field.name for field in listed), what)
        for field in listed:
            self.field(field, what)

    def field(self, field: Field, what: str) -> None:
        """Raises: GraphInvariantError unless the type is known and the constraint over `it`."""
        where = f"{field.name!r} of {what}"
        self.known(field.type, where)
        if field.default is not None and not field.has_default:
            fail(f"{where} has no default, and a value for it")
        match field.constraint:
            case Constraint(condition=condition):
                in_scope(condition, (IT,), f"the constraint of {where}")
            case None:
                pass

    def known(self, found: Type, where: str) -> None:
        """Raises: GraphInvariantError where the type holds an enum or record that the graph does not declare so."""
        if id(found) in self._checked:
            return
        match found:
            case EnumType(name=name) | RecordType(name=name):
                if self._declared.get(name) != found:
                    fail(f"the type {name} of {where} is not declared, or differently")
            case ListType(element=inner) | OptionalType(inner=inner) | MapType(value=inner):
                self.known(inner, where)
            case UnionType(options=options):
                for option in options:
                    self.known(option, where)
            case LiteralType(values=values):
                if not values:
                    fail(f"a literal type of {where} has no value")
            case _:
                return
        self._checked[id(found)] = found
