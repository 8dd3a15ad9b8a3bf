"""One free-text question to an LM, as a program of one module: asked, traced and counted like any other call."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from lmgraph.graph.graph import DEFAULT_LM, FlowSpec, Graph, LmSpec, ModuleSpec
from lmgraph.graph.nodes import GetField, LmCall, NodeId, Operand, Parameter, Ref, Region, ValueId
from lmgraph.graph.types import STR, Field, RecordType
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
) -> str | Failure:
    """What ``lm`` of ``program`` answers where a module with this instruction gets these inputs, or why it gave
    nothing. Raises: ConfigError and EngineUnavailable where the LM cannot be asked; BudgetExhausted."""
    declared = next((spec for spec in program.graph.lms if spec.name == lm), LmSpec(lm))
    question = _question(declared, instruction, tuple(inputs), output, max_tokens)
    options = RunOptions("strict", temperature, seed, identity)  # strict: a free text has no form to be held to
    trace = await runtime.run(question, inputs, flow=FLOW, options=options)
    if trace.failure is not None or trace.outputs is None:
        return trace.failure or Failure("value", "The LM gave no answer.", FLOW, FLOW)
    return str(trace.outputs[output])


@lru_cache(maxsize=32)  # a runtime keeps programs ready by identity, so equal questions should be one program
def _question(lm: LmSpec, instruction: str, inputs: tuple[str, ...], output: str, max_tokens: int) -> Program:
    fields = tuple(Field(name, STR) for name in inputs)
    answer = Field(output, STR)
    module = ModuleSpec("Question", fields, (answer,), instruction, lm=lm.name, max_tokens=max_tokens)
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
    lms = (lm,) if lm.name != DEFAULT_LM else (LmSpec(DEFAULT_LM),)
    flow = FlowSpec(FLOW, fields, (answer,), body)
    return Program.default(Graph("question", lms=lms, modules=(module,), flows=(flow,), entry=FLOW))
