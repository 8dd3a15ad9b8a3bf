"""`load(dump(g)) == g` for any graph, whether verify would take it or not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmgraph.graph import nodes, types
from lmgraph.graph.dump import dump, load
from lmgraph.graph.graph import (
    DatasetSpec,
    ExternSpec,
    FlowSpec,
    Graph,
    LmSpec,
    MetricSpec,
    ModuleSpec,
    Moved,
    ObjectiveSpec,
    OutputCheck,
    SplitSpec,
)

texts = st.text(max_size=8)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
numbers = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | numbers | texts
labels = st.sampled_from(["public", "private"])


def tuples(strategy: st.SearchStrategy[object], most: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=most).map(tuple)


enums = st.builds(types.EnumType, names, tuples(st.builds(types.EnumMember, names, texts, st.none() | texts)))
literals = st.builds(types.LiteralType, st.lists(texts | st.integers(), min_size=1, max_size=3).map(tuple))
scalars = st.sampled_from([types.STR, types.INT, types.FLOAT, types.BOOL, types.NULL])
operators = st.sampled_from(list(nodes.Operator.__args__))  # type: ignore[attr-defined]
expressions = st.recursive(
    st.builds(nodes.Const, plain) | st.builds(nodes.Ref, texts),
    lambda inner: (
        st.builds(nodes.GetField, inner, names)
        | st.builds(nodes.GetItem, inner, inner)
        | st.builds(nodes.MakeList, tuples(inner))
        | st.builds(nodes.MakeRecord, names, tuples(st.builds(nodes.FieldValue, names, inner)))
        | st.builds(nodes.Apply, operators, tuples(inner))
        | st.builds(nodes.Choose, inner, inner, inner)
        | st.builds(nodes.Ensure, inner, inner, texts)
    ),
    max_leaves=5,
)
constraints = st.builds(types.Constraint, expressions, texts)


def fields(inner: st.SearchStrategy[types.Type]) -> st.SearchStrategy[types.Field]:
    bare = st.builds(types.Field, names, inner, st.none() | texts, label=labels, constraint=st.none() | constraints)
    value = plain | st.lists(plain, max_size=2) | st.dictionaries(names, plain, max_size=2)
    return bare | st.builds(types.Field, names, inner, has_default=st.just(True), default=value)


any_type = st.recursive(
    scalars | enums | literals,
    lambda inner: (
        st.builds(types.ListType, inner)
        | st.builds(types.OptionalType, inner)
        | st.builds(types.MapType, inner)
        | st.builds(types.UnionType, tuples(inner))
        | st.builds(types.RecordType, names, tuples(fields(inner)))
    ),
    max_leaves=4,
)
any_field = fields(any_type)
records = st.builds(types.RecordType, names, tuples(any_field))
operands = tuples(st.builds(nodes.Operand, names, expressions))
parameter = st.builds(nodes.Parameter, texts, any_field)
parameters = tuples(parameter)
calls = (
    st.builds(nodes.LmCall, texts, names, operands, records)
    | st.builds(
        nodes.ExternCall, texts, names, operands, any_type, st.sampled_from(["fn.call", "retrieve", "tool.call"])
    )
    | st.builds(nodes.FlowCall, texts, names, operands, records)
)
leaves = (
    calls
    | st.builds(nodes.ExprNode, texts, expressions, any_type)
    | st.builds(nodes.ReleaseNode, texts, expressions, texts, any_type)
    | st.builds(nodes.CheckNode, texts, expressions, texts, st.sampled_from(["assert", "check"]))
    | st.builds(nodes.ExitIf, texts, expressions, texts, operands)
    | st.builds(nodes.Return, texts, operands)
)


def regions(inner: st.SearchStrategy[nodes.Node]) -> st.SearchStrategy[nodes.Region]:
    return st.builds(nodes.Region, parameters, tuples(inner), operands)


def holding(inner: st.SearchStrategy[nodes.Node]) -> st.SearchStrategy[nodes.Node]:
    """Nodes that hold regions of such nodes."""
    region = regions(inner)
    lists = st.builds(types.ListType, any_type)
    carried = tuples(st.builds(nodes.Carried, parameter, expressions))
    return (
        st.builds(nodes.MapNode, texts, expressions, parameter, st.none() | region, region, lists)
        | st.builds(nodes.IfNode, texts, expressions, region, region, parameters)
        | st.builds(nodes.LoopNode, texts, st.integers(0, 9), st.none() | parameter, carried, region, parameters)
        | st.builds(nodes.CatchNode, texts, region, st.none() | parameter, region, any_type)
    )


any_node = st.recursive(leaves, holding, max_leaves=3)
modules = st.builds(
    ModuleSpec,
    names,
    tuples(any_field),
    tuples(any_field),
    texts,
    strategy=st.sampled_from(["predict", "cot", "react", "best_of"]),
    temperature=st.none() | st.floats(0, 2),
    checks=tuples(st.builds(OutputCheck, expressions, texts, st.booleans())),
    reasons=st.booleans(),
    samples=st.integers(1, 9),
    select=st.none() | names,
    tools=tuples(names),
    max_steps=st.integers(0, 9),
    derived_from=st.none() | names,
)
externs = st.builds(
    ExternSpec,
    names,
    st.sampled_from(["tool", "retriever", "fn"]),
    tuples(any_field),
    any_type,
    texts,
    description=st.none() | texts,
    cache=st.booleans(),
    timeout=st.none() | st.floats(0, 9),
    returns_at_most=st.none() | expressions,
    files=tuples(texts),
)
graphs = st.builds(
    Graph,
    name=texts,
    enums=tuples(enums),
    records=tuples(records),
    lms=tuples(st.builds(LmSpec, names, st.none() | texts, st.none() | texts, st.none() | st.floats(0, 2), labels)),
    externs=tuples(externs),
    modules=tuples(modules),
    flows=tuples(st.builds(FlowSpec, names, tuples(any_field), tuples(any_field), regions(any_node))),
    datasets=tuples(
        st.builds(
            DatasetSpec,
            names,
            records,
            st.sampled_from(["jsonl", "csv"]),
            texts,
            tuples(
                st.builds(SplitSpec, names, st.none() | st.floats(0, 1), st.none() | st.integers(1), st.none() | texts)
            ),
        )
    ),
    metrics=tuples(
        st.builds(
            MetricSpec,
            names,
            any_field,
            any_field,
            names,
            st.sampled_from(["out", "trace"]),
            scalars,
            st.none() | regions(any_node),
            st.none() | texts,
        )
    ),
    objectives=tuples(
        st.builds(
            ObjectiveSpec,
            names,
            names,
            names,
            tuples(names),
            tuples(st.floats(-1, 1)),
            st.floats(-1, 0),
            st.floats(1, 2),
            tuples(st.tuples(names, st.sampled_from(["instruction", "demos", "weights"]))),
            st.none() | names,
        )
    ),
    moved=tuples(st.builds(Moved, names, names)),
    entry=st.none() | names,
)


@given(graphs)
def test_load_gives_back_what_was_dumped(graph: Graph) -> None:
    text = dump(graph)
    loaded = load(text)
    assert loaded == graph
    # Equality alone would take 1 for 1.0 and for true.
    assert dump(loaded) == text


@given(any_node)
def test_every_kind_of_node_comes_back(node: nodes.Node) -> None:
    graph = Graph("g", flows=(FlowSpec("F", (), (), nodes.Region((), (node,), ())),))
    text = dump(graph)
    assert load(text) == graph
    assert dump(load(text)) == text
