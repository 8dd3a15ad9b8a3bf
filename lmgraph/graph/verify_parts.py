"""What the checks of verify.py share: the graph's parts by name, and refusals."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from lmgraph.errors import GraphInvariantError
from lmgraph.graph.expressions import IT, Ensure, Expr, Ref
from lmgraph.graph.graph import DatasetSpec, ExternSpec, FlowSpec, Graph, LmSpec, MetricSpec, ModuleSpec
from lmgraph.graph.nodes import Operand
from lmgraph.graph.types import Field, RecordType
from lmgraph.graph.walk import inner_expressions


@dataclass(frozen=True, slots=True)
class Parts:
    """Declared parts by name, so that no check searches a tuple."""

    lms: Mapping[str, LmSpec]
    externs: Mapping[str, ExternSpec]
    modules: Mapping[str, ModuleSpec]
    flows: Mapping[str, FlowSpec]
    datasets: Mapping[str, DatasetSpec]
    metrics: Mapping[str, MetricSpec]
    module_outputs: Mapping[str, RecordType]
    flow_outputs: Mapping[str, RecordType]


def parts_of(graph: Graph) -> Parts:
    return Parts(
        lms=_by_name(graph.lms),
        externs=_by_name(graph.externs),
        modules=_by_name(graph.modules),
        flows=_by_name(graph.flows),
        datasets=_by_name(graph.datasets),
        metrics=_by_name(graph.metrics),
        module_outputs={module.name: module.output_type for module in graph.modules},
        flow_outputs={flow.name: flow.output_type for flow in graph.flows},
    )


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part")
_NamedPart = TypeVar("_NamedPart", bound=_Named)


def _by_name(parts: Iterable[_NamedPart]) -> dict[str, _NamedPart]:
    return {part.name: part for part in parts}


def fail(message: str) -> NoReturn:
    """Raises: GraphInvariantError, always."""
    raise GraphInvariantError(message)


def member(name: str, parts: Mapping[str, _Part], what: str) -> _Part:
    """The part of this name.

    Raises: GraphInvariantError where there is none.
    """
    part = parts.get(name)
    if part is None:
        fail(f"{what}: there is no {name!r}")
    return part


def in_scope(expression: Expr, scope: Container[str], where: str) -> None:
    """Raises: GraphInvariantError where the expression reads a value outside ``scope``."""
    waiting = [expression]
    while waiting:
        match waiting.pop():
            case Ref(value=value):
                if value not in scope:
                    fail(f"{where} reads {value}, which is not in scope there")
            case Ensure(value=ensured, condition=condition):
                waiting.append(ensured)
                in_scope(condition, (IT,), f"what {where} ensures")
            case other:
                waiting.extend(reversed(inner_expressions(other)))


def same_names(operands: tuple[Operand, ...], fields: tuple[Field, ...], what: str) -> None:
    """Raises: GraphInvariantError unless there is one operand for each field, in their order."""
    names(operands, tuple(field.name for field in fields), what)


def names(operands: tuple[Operand, ...], expected: tuple[str, ...], what: str) -> None:
    """Raises: GraphInvariantError unless the operands have these names, in this order."""
    given = tuple(operand.name for operand in operands)
    if given != expected:
        fail(f"{what} are {list(given)}, not {list(expected)}")


def unique(listed: Iterable[str], what: str) -> None:
    """Raises: GraphInvariantError where two are equal."""
    found = list(listed)
    if len(set(found)) != len(found):
        fail(f"{what} are not unique: {found}")


def ordered(listed: Iterable[str], what: str) -> None:
    """Raises: GraphInvariantError unless the names are unique and ordered."""
    found = list(listed)
    if found != sorted(set(found)):
        fail(f"{what} are not unique and ordered by name: {found}")
