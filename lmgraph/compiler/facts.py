"""What checking found out about expressions and declarations, for lowering."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lmgraph.compiler.relations import mentions_unknown
from lmgraph.graph.types import Field, RecordType, Type
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk

CalleeKind = Literal["module", "flow", "fn", "retriever", "tool"]


@dataclass(frozen=True, slots=True)
class SignatureTypes:
    """Inputs and outputs of a module, flow or Python reference; fields whose type is wrong have the type UNKNOWN."""

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    span: Span
    """The declared name."""
    kind: CalleeKind = "module"
    bare: Type | None = None
    """What a Python reference without named outputs gives back."""

    @property
    def output_type(self) -> RecordType:
        return RecordType(f"{self.name}.out", self.outputs)

    @property
    def result(self) -> Type:
        """The type of a call."""
        return self.output_type if self.bare is None else self.bare


Callee: TypeAlias = SignatureTypes | RecordType | Literal["len"]
"""What a call calls: something with a signature, the making of a record, or a function of the language."""


@dataclass(slots=True)
class Facts:
    """What checking found out about expressions, for lowering. Keyed by the identity of tree nodes, because equal
    expressions in different places may mean different things; the tree outlives the facts."""

    _types: dict[int, Type] = field(default_factory=dict)
    _callees: dict[int, Callee] = field(default_factory=dict)
    _labels: dict[int, str] = field(default_factory=dict)
    _bindings: dict[int, Type] = field(default_factory=dict)
    _stubbed: dict[int, str] = field(default_factory=dict)
    _guarded: set[int] = field(default_factory=set)
    acting: set[str] = field(default_factory=set)
    """Names of modules and flows that may act, because they call tools."""
    checking: set[str] = field(default_factory=set)
    """Names of flows that assert or check something, themselves or in flows that they call."""
    flows_known: bool = False
    """Whether it is known of flows, too."""

    def add(self, other: Facts) -> None:
        """Adds what was found out about expressions elsewhere; who may act is known of the whole program only."""
        self._types.update(other._types)
        self._callees.update(other._callees)
        self._labels.update(other._labels)
        self._bindings.update(other._bindings)
        self._stubbed.update(other._stubbed)
        self._guarded |= other._guarded

    def set_binding(self, statement: tree.Bind | tree.Var | tree.Release, found: Type) -> None:
        self._bindings[id(statement)] = found

    def binding_type(self, statement: tree.Bind | tree.Var | tree.Release) -> Type:
        """The annotated type where there is one, else the value's."""
        return self._bindings[id(statement)]

    def set_type(self, expression: tree.Expression, found: Type) -> None:
        self._types[id(expression)] = found

    def type_of(self, expression: tree.Expression) -> Type:
        return self._types[id(expression)]

    def has_unknown(self, expression: tree.Expression) -> bool:
        """Whether something inside has no type, because it was reported."""
        return any(mentions_unknown(self._types[id(one)]) for one in walk(expression) if id(one) in self._types)

    def set_callee(self, call: tree.CallExpression, callee: Callee) -> None:
        self._callees[id(call)] = callee

    def callee_of(self, call: tree.CallExpression) -> Callee:
        return self._callees[id(call)]

    def known_callee(self, call: tree.CallExpression) -> Callee | None:
        """As ``callee_of``; None for a call that was reported."""
        return self._callees.get(id(call))

    def may_act(self, call: tree.CallExpression) -> bool:
        """Whether the call may have an effect: of a tool, or of a module or flow that calls one. True where nothing is
        known."""
        callee = self._callees.get(id(call))
        if callee is None:
            return True
        if not isinstance(callee, SignatureTypes):
            return False
        return callee.kind == "tool" or callee.name in self.acting or (callee.kind == "flow" and not self.flows_known)

    def checks(self, call: tree.CallExpression) -> bool:
        """Whether the call is of a flow that asserts or checks something."""
        callee = self._callees.get(id(call))
        return isinstance(callee, SignatureTypes) and callee.name in self.checking

    def set_guarded(self, expression: tree.Expression) -> None:
        self._guarded.add(id(expression))

    def is_guarded(self, expression: tree.Expression) -> bool:
        """Whether only an assert says that the value is not null: it may run beside what reads it."""
        return id(expression) in self._guarded

    def set_stubbed(self, stub: tree.Stub, name: str) -> None:
        self._stubbed[id(stub)] = name

    def stubbed(self, stub: tree.Stub) -> str:
        """The declared name of what the stub stands for."""
        return self._stubbed[id(stub)]

    def set_label(self, member: tree.Attribute, label: str) -> None:
        self._labels[id(member)] = label

    def label_of(self, member: tree.Attribute) -> str | None:
        """The label text where the attribute is an enum's member, as in `Team.billing`."""
        return self._labels.get(id(member))
