"""A graph built by hand that holds every kind of node and declaration."""

from __future__ import annotations

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
    StubSpec,
    TestSpec,
)
from lmgraph.graph.nodes import (
    IT,
    Carried,
    CatchNode,
    CheckNode,
    Choose,
    Const,
    Ensure,
    ExitIf,
    ExprNode,
    FieldValue,
    FlowCall,
    GetItem,
    IfNode,
    LoopNode,
    MakeList,
    MakeRecord,
    MapNode,
    NodeId,
    Parameter,
    Ref,
    ReleaseNode,
    Return,
    ValueId,
)
from lmgraph.graph.types import (
    BOOL,
    FLOAT,
    INT,
    STR,
    Constraint,
    EnumMember,
    EnumType,
    Field,
    ListType,
    OptionalType,
    RecordType,
)
from support.graph_parts import apply, call, extern_call, flow, operands, parameter, ref, region, unnamed

# -- declarations ----------------------------------------------------------------------------------------------------

VERDICT = EnumType("Verdict", (EnumMember("yes", "yes"), EnumMember("no", "no"), EnumMember("unknown", "not known")))
SURE = Constraint(apply("<=", Const(0.0), Ref(IT)), "it >= 0.0")
ROW = RecordType("Row", (Field("claim", STR), Field("verdict", VERDICT), Field("private_note", STR, label="private")))
STEP = RecordType("Answer.step_taken", (Field("thought", STR),))

KEEP = ModuleSpec("Keep", (Field("text", STR),), (Field("good", BOOL),), "Is this of use?", temperature=0.0)
DISTILL = ModuleSpec("Distill", (Field("text", STR), Field("hop", INT)), (Field("note", STR),), "", strategy="cot")
JUDGE = ModuleSpec(
    "Judge",
    (Field("claim", STR), Field("notes", ListType(STR))),
    (Field("verdict", VERDICT), Field("sure", FLOAT, constraint=SURE)),
    "Is the claim true?",
    retries=1,
    checks=(
        OutputCheck(apply(">", apply("len", ref("notes")), Const(0)), "there are notes", True),
        OutputCheck(apply(">", ref("sure"), Const(0.2)), "it is sure", False),
    ),
)
GUESS = ModuleSpec(
    "Guess", (Field("claim", STR),), (Field("verdict", VERDICT),), "", "best_of", samples=3, select="vote"
)
ANSWER = ModuleSpec(
    "Answer",
    (Field("question", STR), Field("steps", ListType(STEP))),
    (Field("answer", STR),),
    "",
    "react",
    tools=("search", "send"),
    max_steps=4,
)
ANSWER_STEP = ModuleSpec("Answer.step", ANSWER.inputs, (Field("thought", STR),), "", derived_from="Answer")
MODULES = (ANSWER, ANSWER_STEP, DISTILL, GUESS, JUDGE, KEEP)

NORMAL = ExternSpec("normal", "fn", (Field("text", STR),), STR, "texts:normal")
SEARCH = ExternSpec(
    "search",
    "retriever",
    (Field("query", STR), Field("k", INT, has_default=True, default=5)),
    ListType(STR),
    "index:search",
    description="finds passages",
    cache=True,
    timeout=2.5,
    returns_at_most=ref("k"),
    files=("index/pages.jsonl",),
)
SENT = RecordType("send.out", (Field("id", STR), Field("at", INT)))
SEND = ExternSpec("send", "tool", (Field("text", STR),), SENT, "mail:send")
EXTERNS = (NORMAL, SEARCH, SEND)


# -- a flow with every kind of node ----------------------------------------------------------------------------------

HOP = NodeId("Verify/hop")
_NOTES, _DONE = "Verify/hop/notes", "Verify/hop/done"


def _loop() -> LoopNode:
    read = MapNode(
        NodeId("Verify/hop/read"),
        ref("Verify/hop/hits"),
        parameter("Verify/hop/read/text", STR),
        region(
            call("Verify/hop/read/Keep", KEEP, text=ref("Verify/hop/read/text")),
            results=unnamed(ref("Verify/hop/read/Keep", "good")),
        ),
        region(
            call("Verify/hop/read/Distill", DISTILL, text=ref("Verify/hop/read/text"), hop=ref("Verify/hop/hop")),
            results=unnamed(ref("Verify/hop/read/Distill", "note")),
        ),
        ListType(STR),
    )
    enough = IfNode(
        NodeId("Verify/hop/if"),
        apply(">", apply("len", ref("Verify/hop/read")), Const(3)),
        region(
            ExprNode(NodeId("Verify/hop/if.then/done"), Const(True), BOOL),
            ExitIf(
                NodeId("Verify/hop/if.then/stop"),
                ref("Verify/strict"),
                HOP,
                operands(notes=ref(_NOTES), done=ref("Verify/hop/if.then/done")),
            ),
            results=operands(done=ref("Verify/hop/if.then/done")),
        ),
        region(results=operands(done=ref(_DONE))),
        (parameter("Verify/hop/if:done", BOOL),),
    )
    parameters = (parameter("Verify/hop/hop", INT), parameter(_NOTES, ListType(STR)), parameter(_DONE, BOOL))
    longer = apply("+", ref(_NOTES), ref("Verify/hop/read"))
    return LoopNode(
        HOP,
        3,
        parameters[0],
        (Carried(parameters[1], MakeList(())), Carried(parameters[2], Const(False))),
        region(
            extern_call("Verify/hop/hits", SEARCH, query=ref("Verify/claim"), k=Const(5)),
            read,
            enough,
            ExitIf(
                NodeId("Verify/hop/stop"),
                ref("Verify/hop/if:done"),
                HOP,
                operands(notes=longer, done=ref("Verify/hop/if:done")),
            ),
            parameters=parameters,
            results=operands(notes=longer, done=ref("Verify/hop/if:done")),
        ),
        (parameter("Verify/hop:notes", ListType(STR)), parameter("Verify/hop:done", BOOL)),
    )


def _verify() -> FlowSpec:
    guard = IfNode(
        NodeId("Verify/if"),
        apply("==", ref("Verify/clean"), Const("")),
        region(
            Return(NodeId("Verify/if.then/return"), operands(verdict=Const("not known"), notes=MakeList(()))),
        ),
        region(),
        (),
    )
    judged = CatchNode(
        NodeId("Verify/judged"),
        region(
            call("Verify/judged.try/Judge", JUDGE, claim=ref("Verify/clean"), notes=ref("Verify/hop:notes")),
            results=unnamed(ref("Verify/judged.try/Judge", "verdict")),
        ),
        parameter("Verify/judged.catch/message", STR),
        region(
            call("Verify/judged.catch/Guess", GUESS, claim=ref("Verify/judged.catch/message")),
            results=unnamed(ref("Verify/judged.catch/Guess", "verdict")),
        ),
        VERDICT,
    )
    told = IfNode(
        NodeId("Verify/told"),
        ref("Verify/strict"),
        region(
            extern_call("Verify/told.then/send", SEND, text=ref("Verify/open")),
            results=unnamed(ref("Verify/told.then/send", "id")),
        ),
        region(results=unnamed(Const(None))),
        (parameter("Verify/told", OptionalType(STR), ""),),
    )
    return flow(
        "Verify",
        (Field("claim", STR, label="private"), Field("strict", BOOL, has_default=True, default=False)),
        (Field("verdict", VERDICT), Field("notes", ListType(STR))),
        extern_call("Verify/clean", NORMAL, text=ref("Verify/claim")),
        guard,
        _loop(),
        CheckNode(
            NodeId("Verify/assert"),
            apply(">", apply("len", ref("Verify/hop:notes")), Const(0)),
            "nothing was found",
            "assert",
        ),
        judged,
        ReleaseNode(NodeId("Verify/open"), ref("Verify/judged"), "a verdict tells nothing", VERDICT),
        told,
        CheckNode(NodeId("Verify/check"), apply("!=", ref("Verify/told"), Const(None)), "it was sent", "check"),
        ExprNode(
            NodeId("Verify/first"),
            Choose(
                apply("in", Const("a"), ref("Verify/hop:notes")),
                GetItem(ref("Verify/hop:notes"), Const(0)),
                Ensure(ref("Verify/clean"), apply(">", apply("len", Ref(IT)), Const(1)), "len(it) > 1"),
            ),
            STR,
        ),
        results=operands(verdict=ref("Verify/judged"), notes=ref("Verify/hop:notes")),
    )


def _main() -> FlowSpec:
    return flow(
        "Main",
        (Field("claims", ListType(STR)),),
        (Field("verdicts", ListType(VERDICT)), Field("row", ROW)),
        MapNode(
            NodeId("Main/verdicts"),
            ref("Main/claims"),
            parameter("Main/verdicts/claim", STR),
            region(results=unnamed(apply(">", apply("len", ref("Main/verdicts/claim")), Const(0)))),
            region(
                FlowCall(
                    NodeId("Main/verdicts/Verify"),
                    "Verify",
                    operands(claim=ref("Main/verdicts/claim"), strict=Const(True)),
                    _verify().output_type,
                ),
                results=unnamed(ref("Main/verdicts/Verify", "verdict")),
            ),
            ListType(VERDICT),
        ),
        call("Main/after", GUESS, claim=GetItem(ref("Main/claims"), apply("neg", Const(1)))),
        results=operands(
            verdicts=ref("Main/verdicts"),
            row=MakeRecord(
                "Row",
                (
                    FieldValue("claim", Const('a "quoted" claim')),
                    FieldValue("verdict", ref("Main/after", "verdict")),
                    FieldValue("private_note", Const("")),
                ),
            ),
        ),
    )


def _metrics() -> tuple[MetricSpec, ...]:
    main, verify = _main().output_type, _verify().output_type
    gold = Field("gold", ROW)
    asked = call("judged/Keep", KEEP, text=ref("judged/gold", "claim"))
    return (
        MetricSpec(
            "judged",
            gold,
            Field("pred", verify),
            "Verify",
            "out",
            BOOL,
            region(
                asked,
                parameters=(Parameter(ValueId("judged/gold"), gold), parameter("judged/pred", verify)),
                results=unnamed(ref("judged/Keep", "good")),
            ),
        ),
        MetricSpec(
            "right",
            gold,
            Field("out", main),
            "Main",
            "out",
            BOOL,
            region(
                parameters=(Parameter(ValueId("right/gold"), gold), parameter("right/out", main)),
                results=unnamed(apply("in", ref("right/gold", "verdict"), ref("right/out", "verdicts"))),
            ),
        ),
        MetricSpec(
            "short", gold, Field("pred", RecordType("Verify.trace", ())), "Verify", "trace", FLOAT, python="m:short"
        ),
    )


def every_kind() -> Graph:
    """A graph with every kind of node and declaration."""
    return Graph(
        name="sample",
        enums=(VERDICT,),
        records=(STEP, ROW),
        lms=(LmSpec("big", clearance="private"), LmSpec("default")),
        externs=EXTERNS,
        modules=MODULES,
        flows=(_main(), _verify()),
        datasets=(
            DatasetSpec("rows", ROW, "jsonl", "rows.jsonl", (SplitSpec("dev", share=0.5), SplitSpec("test", count=3))),
        ),
        metrics=_metrics(),
        objectives=(
            ObjectiveSpec(
                "verify",
                "Verify",
                "rows",
                ("judged", "short"),
                (1.0, 0.5),
                0.0,
                1.5,
                (("Judge", "demos"),),
                judge="big",
            ),
        ),
        moved=(Moved("Decide", "Judge"),),
        entry="Main",
    )


def a_test() -> TestSpec:
    """A test of `every_kind`."""
    called = FlowCall(
        NodeId("test:1/out"), "Verify", operands(claim=Const("c"), strict=Const(False)), _verify().output_type
    )
    held = CheckNode(
        NodeId("test:1/assert"), apply("==", ref("test:1/out", "verdict"), Const("yes")), "it is so", "assert"
    )
    return TestSpec(
        "a claim",
        flow("test:1", (), (), called, held, results=()),
        (
            StubSpec("Judge", (operands(verdict=Const("yes"), sure=Const(0.5)),)),
            StubSpec("search", (unnamed(MakeList((Const("a"),))),)),
        ),
    )
