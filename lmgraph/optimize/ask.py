"""One free-text question to an LM, as a program of one module: asked, traced and counted like any other call."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from lmgraph.errors import ContextOverflow
from lmgraph.graph.graph import FlowSpec, Graph, LmSpec, ModuleSpec
from lmgraph.graph.nodes import GetField, LmCall, NodeId, Operand, Parameter, Ref, Region, ValueId
from lmgraph.graph.types import STR, Field, RecordType
from lmgraph.optimize.earlier import EarlierRuns
from lmgraph.program.program import Program
from lmgraph.runtime.service import RunOptions, Runtime
from lmgraph.runtime.trace import Failure, RunIdentity

FLOW = "Ask"


async def ask(
    runtime: Runtime,
    program: Program,
    lm: str,
    *,
    instruction: str,
    inputs: Mapping[str, str],
    output: str,
    identity: RunIdentity,
    seed: int,
    temperature: float,
    max_tokens: int,
    earlier: EarlierRuns,
) -> str | Failure:
    """What ``lm`` of ``program`` answers where a module with this instruction gets these inputs, or why it gave
    nothing; ``earlier`` runs may have asked it already. Raises: ConfigError and EngineUnavailable where the LM cannot
    be asked; BudgetExhausted."""
    # All of the program's LMs are there, since all of them may be bound.
    lms = {one.name: one for one in (LmSpec(lm), *program.graph.lms)}
    known = tuple(lms[name] for name in sorted(lms))
    question = _question(lm, known, instruction, tuple(inputs), output, max_tokens)
    options = RunOptions("strict", temperature, seed, identity)  # strict: a free text has no form to be held to
    recorded = earlier.at((options.decoding, temperature, identity))
    try:
        trace = await runtime.run(question, inputs, flow=FLOW, options=options, recorded=recorded)
    except ContextOverflow as error:  # before any call: not even a question without inputs would fit
        return Failure("overflow", error.message, FLOW, FLOW)
    earlier.add(trace)
    if trace.failure is not None or trace.outputs is None:
        return trace.failure or Failure("value", "The LM gave no answer.", FLOW, FLOW)
    return str(trace.outputs[output])


@lru_cache(maxsize=32)  # a runtime keeps programs ready by identity, so equal questions should be one program
def _question(
    lm: str, lms: tuple[LmSpec, ...], instruction: str, inputs: tuple[str, ...], output: str, max_tokens: int
) -> Program:
    fields = tuple(Field(name, STR) for name in inputs)
    answer = Field(output, STR)
    module = ModuleSpec("Question", fields, (answer,), instruction, lm=lm, max_tokens=max_tokens)
    call = LmCall(
        NodeId(f"{FLOW}/out"),
        module.name,
        tuple(Operand(name, Ref(ValueId(f"{FLOW}/{name}"))) for name in inputs),
        RecordType("Question.out", (answer,)),
    )
    body = Region(
        tuple(Parameter(ValueId(f"{FLOW}/{field.name}"), field) for field in fields),
        (call,),
        (Operand(output, GetField(Ref(ValueId(f"{FLOW}/out")), output)),),
    )
    flow = FlowSpec(FLOW, fields, (answer,), body)
    return Program.default(Graph("question", lms=lms, modules=(module,), flows=(flow,), entry=FLOW))
