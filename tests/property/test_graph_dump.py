"""`load(dump(g)) == g` for any graph, whether verify would take it or not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmgraph.graph import nodes, types
from lmgraph.graph.dump import dump, load
from lmgraph.graph.graph import (
    DatasetSpec,
    FlowSpec,
    Graph,
    LmSpec,
    MetricSpec,
    ModuleSpec,
    ObjectiveSpec,
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


def fields(inner: st.SearchStrategy[types.Type]) -> st.SearchStrategy[types.Field]:
    bare = st.builds(types.Field, names, inner, st.none() | texts, label=labels)
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
    ),
    max_leaves=5,
)
operands = tuples(st.builds(nodes.Operand, names, expressions))
parameters = tuples(st.builds(nodes.Parameter, texts, any_field))


def regions(inner: st.SearchStrategy[nodes.Node]) -> st.SearchStrategy[nodes.Region]:
    return st.builds(nodes.Region, parameters, tuples(inner), operands)


any_node = st.recursive(
    st.builds(nodes.LmCall, texts, names, operands, records) | st.builds(nodes.ExprNode, texts, expressions, any_type),
    lambda inner: st.builds(
        nodes.MapNode, texts, expressions, st.none() | expressions, regions(inner), st.builds(types.ListType, any_type)
    ),
    max_leaves=3,
)
graphs = st.builds(
    Graph,
    name=texts,
    enums=tuples(enums),
    records=tuples(records),
    lms=tuples(st.builds(LmSpec, names, st.none() | texts, st.none() | texts, st.none() | st.floats(0, 2), labels)),
    modules=tuples(st.builds(ModuleSpec, names, tuples(any_field), tuples(any_field), texts)),
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
            st.none() | expressions,
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
        )
    ),
    entry=st.none() | names,
)


@given(graphs)
def test_load_gives_back_what_was_dumped(graph: Graph) -> None:
    assert load(dump(graph)) == graph


@given(graphs)
def test_the_text_is_canonical(graph: Graph) -> None:
    assert dump(load(dump(graph))) == dump(graph)
