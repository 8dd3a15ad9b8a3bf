"""One module call: prompt, sample, parse, ask the module's asserts, and again where the output does not fit and a retry
is allowed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmgraph.errors import ContextOverflow, EngineError, EngineUnavailable
from lmgraph.graph.expression_text import paths_read
from lmgraph.graph.graph import ModuleSpec, OutputCheck
from lmgraph.program.expressions import Evaluator, NoValue, compile_expression
from lmgraph.runtime.answers import Answers
from lmgraph.runtime.asking import Question, Shared, ask
from lmgraph.runtime.engine import Engine, GenerateRequest, Generation, SamplingParams, TextSink
from lmgraph.runtime.events import Tell, TextSampled
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.parse import Decoding, ParseProblem
from lmgraph.runtime.prompt import Correction, PromptRenderer
from lmgraph.runtime.seeds import Seeds
from lmgraph.runtime.trace import Call, CallSource, CheckRecord, Failure


class CompiledCheck:
    """A module's `assert` or `check`, ready to be asked."""

    def __init__(self, check: OutputCheck) -> None:
        self.message = check.message
        self.kind: Literal["assert", "check"] = "assert" if check.required else "check"
        self._holds = compile_expression(check.condition)
        self._paths = [(text, compile_expression(path)) for text, path in paths_read(check.condition)]

    def ask(self, values: Mapping[str, Any], node: str, call_key: str) -> CheckRecord:
        """``values`` are the module's inputs and outputs by name."""
        passed = _value(self._holds, values)
        found: list[tuple[str, Any]] = []
        if passed is False:
            found = [(text, _value(path, values)) for text, path in self._paths]
        return CheckRecord(node, call_key, self.kind, self.message, passed, tuple(found))


def _value(evaluate: Evaluator, values: Mapping[str, Any]) -> Any:
    try:
        return evaluate(values)
    except NoValue:
        return None


@dataclass(frozen=True, slots=True)
class ModuleVersion:
    """A module with its parameters, bound to an engine."""

    spec: ModuleSpec
    lm: str
    engine: Engine
    renderer: PromptRenderer
    temperature: float
    checks: Sequence[CompiledCheck] = ()
    adapter: str | None = None
    """As the engine knows it."""
    prefix: tuple[str, ...] | None = None
    """Names what its prompts begin with, where one call of them goes ahead of the others (runtime/asking.py)."""


@dataclass(slots=True)
class Sampling:
    """How the calls of one run sample, and what counts them."""

    decoding: Decoding
    temperature: float | None
    """None: the module's."""
    seeds: Seeds
    """A call's seed follows from its key and the number of the retry."""
    meter: Meter
    shared: Shared
    """What the calls of all runs share while they are under way."""
    answers: Answers | None = None
    """Looked in before an engine is asked; what is found there is no call, and no budget counts it."""
    tell: Tell | None = None
    """Is told of answers while they are written."""
    number: int = 0
    """Of the run: where an engine is busy, calls of earlier runs go first."""


@dataclass(slots=True)
class CallContext:
    node: str
    call_key: str
    sampling: Sampling
    behind: int = 0
    """`PlannedCall.behind`."""


async def call_module(
    version: ModuleVersion, inputs: Mapping[str, Any], context: CallContext, record: list[Call]
) -> Mapping[str, Any] | Failure:
    """Call the LM, and append one Call to ``record`` for each sample taken.

    Returns the outputs, or a Failure where the engine failed, or no sample parsed and met the module's asserts.
    Raises: EngineUnavailable, BudgetExhausted: reasons to stop everything, not this run.
    """
    decoding = context.sampling.decoding
    retries = version.spec.retries
    parse_retries = retries
    if decoding == "constrained" and not version.engine.constrains:
        decoding, parse_retries = "tolerant", max(retries, 1)
    corrections: list[Correction] = []
    retry = 0
    while True:
        call = await _sample(version, inputs, context, decoding, retry, corrections)
        if isinstance(call, Failure):
            return call
        record.append(call)
        if call.outputs is not None:
            if version.spec.reasons:  # the reasoning is nobody's value
                return {field.name: call.outputs[field.name] for field in version.spec.outputs}
            return dict(call.outputs)
        failure = call.failure
        assert failure is not None
        if retry >= (parse_retries if failure.kind == "parse" else retries):
            return failure
        corrections.append(Correction(call.text, failure.message))
        retry += 1


async def _sample(
    version: ModuleVersion,
    inputs: Mapping[str, Any],
    context: CallContext,
    decoding: Decoding,
    retry: int,
    corrections: list[Correction],
) -> Call | Failure:
    key = f"{context.call_key}/retry[{retry}]" if retry else context.call_key
    form = version.renderer.form
    asked = context.sampling
    temperature = version.temperature if asked.temperature is None else asked.temperature
    constraint = form.constraint if decoding == "constrained" else None
    seed = asked.seeds.derive(context.call_key, retry)
    sampling = SamplingParams(version.spec.max_tokens, temperature, seed=seed, constraint=constraint)
    prompt_ids = version.renderer.render(inputs, corrections)
    started, began = time.time(), time.perf_counter()
    rank = (asked.number, -context.behind)
    answer = await _ask_engine(version, GenerateRequest(prompt_ids, sampling, version.adapter, key, rank), context)
    if isinstance(answer, Failure):
        return answer
    generation, source = answer
    if generation.finish_reason == "abort":
        return Failure("engine", "the engine aborted the call", context.node, key)
    text = version.engine.tokenizer.decode(generation.token_ids)
    outputs, failure = _read(version, generation, text, decoding, context.node, key)
    checks: tuple[CheckRecord, ...] = ()
    if outputs is not None and version.checks:
        checks, failure = _ask(version, inputs, outputs, text, context.node, key)
        outputs = outputs if failure is None else None
    return Call(
        node=context.node,
        call_key=key,
        module=version.spec.name,
        lm=version.lm,
        engine=version.engine.name,
        model=version.engine.model_id,
        adapter=version.adapter,
        template=version.renderer.template_hash,
        prompt_ids=prompt_ids,
        completion_ids=generation.token_ids,
        logprobs=generation.logprobs,
        temperature=temperature,
        seed=sampling.seed,
        constrained=constraint is not None,
        finish_reason=generation.finish_reason,
        text=text,
        inputs=inputs,
        outputs=outputs,
        failure=failure,
        checks=checks,
        retry=retry,
        cached_tokens=generation.cached_tokens,
        allowed=generation.allowed,
        started=started,
        seconds=time.perf_counter() - began,
        queue_seconds=generation.queue_seconds,
        prefill_seconds=generation.prefill_seconds,
        decode_seconds=generation.decode_seconds,
        source=source,
        attempts=generation.attempts,
        cost=None if generation.usage is None else generation.usage.cost,
    )


async def _ask_engine(
    version: ModuleVersion, request: GenerateRequest, context: CallContext
) -> tuple[Generation, CallSource] | Failure:
    asked = context.sampling
    tell = None if asked.tell is None else _pieces_to(asked.tell, context.node, request.request_id)
    question = Question(version.engine, request, version.prefix, tell)
    try:
        return await ask(question, meter=asked.meter, answers=asked.answers, shared=asked.shared)
    except EngineUnavailable:
        raise
    except ContextOverflow as error:  # the program's own doing: its values grew too long
        return Failure("overflow", str(error), context.node, request.request_id)
    except EngineError as error:
        return Failure("engine", str(error), context.node, request.request_id)


def _pieces_to(tell: Tell, node: str, call_key: str) -> TextSink:
    async def told(text: str) -> None:
        await tell(TextSampled(node, call_key, text))

    return told


def _read(
    version: ModuleVersion, generation: Generation, text: str, decoding: Decoding, node: str, key: str
) -> tuple[dict[str, Any] | None, Failure | None]:
    try:
        return version.renderer.form.read(text, tolerant=decoding == "tolerant"), None
    except ParseProblem as problem:
        message = str(problem)
        if generation.finish_reason == "length":
            message += f" (cut at max_tokens = {version.spec.max_tokens})"
        return None, Failure("parse", message, node, key, text)


def _ask(
    version: ModuleVersion, inputs: Mapping[str, Any], outputs: Mapping[str, Any], text: str, node: str, key: str
) -> tuple[tuple[CheckRecord, ...], Failure | None]:
    """What became of each assert and check, and the failure that the first false assert is."""
    values = {**inputs, **outputs}
    records = tuple(check.ask(values, node, key) for check in version.checks)
    broken = next((one for one in records if one.kind == "assert" and one.passed is not True), None)
    return records, None if broken is None else Failure("assert", broken.message, node, key, text)
