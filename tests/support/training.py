"""Made-up calls, samples and rollouts for tests of training."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

from lmgraph.evaluate import Example, Rollout
from lmgraph.evaluate.metric import Score
from lmgraph.runtime import Call, Failure, RunIdentity, Trace
from lmgraph_optimizers.mmgrpo.batch import TrainingSample


def make_call(key: str = "F/a", ids: Sequence[int] = (1, 2), *, module: str = "M", **changes: Any) -> Call:
    fields: dict[str, Any] = {
        "node": key, "call_key": key, "module": module, "lm": "default", "engine": "local", "model": "m",
        "adapter": None, "template": "t", "prompt_ids": (9, 9), "completion_ids": tuple(ids),
        "logprobs": [-5.5] * len(ids), "temperature": 1.0, "seed": 0, "constrained": False,
        "finish_reason": "stop", "text": "", "inputs": {}, "outputs": {},
    }  # fmt: skip
    return Call(**{**fields, **changes})


def failure(kind: Any, key: str) -> Failure:
    return Failure(kind, "it failed", key, key)


def make_rollout(
    example: str, index: int, score: float, calls: Sequence[Call], failed: Failure | None = None, **changes: Any
) -> Rollout:
    trace = Trace("run", "hash", "F", RunIdentity(), {}, None if failed else {}, failed, list(calls))
    for name, value in changes.items():
        setattr(trace, name, value)
    return Rollout(Example(example, {}), index, trace, Score(score, {}))


def make_sample(
    prompt: Sequence[int],
    completion: Sequence[int],
    advantage: float,
    *,
    logprobs: Sequence[float] | None = None,
    allowed: Sequence[bytes] | None = None,
    group: int = 0,
    **changes: Any,
) -> TrainingSample:
    given = [-5.5] * len(completion) if logprobs is None else list(logprobs)
    call = make_call(
        ids=completion, prompt_ids=tuple(prompt), logprobs=given, allowed=allowed, constrained=bool(allowed), **changes
    )
    return TrainingSample(call, advantage, group)


def ragged_samples(seed: int = 0, *, temperature: float = 1.0, masks: bool = False) -> list[TrainingSample]:
    """Prompts that share a prefix, completions of one to six tokens, repeats, one prompt that begins another; with
    ``masks`` every second call was made under a constraint."""
    rng = random.Random(seed)
    static = [rng.randrange(3, 380) for _ in range(12)]
    prompts = [static + [rng.randrange(3, 380) for _ in range(length)] for length in (3, 5, 0, 9)]
    samples = []
    for group, prompt in enumerate(prompts):
        for index in range(4):
            completion = [rng.randrange(3, 6) for _ in range(rng.randint(1, 6))]
            logprobs = [-rng.uniform(4.0, 7.0) for _ in completion]
            allowed = None
            if masks and index % 2:
                allowed = [
                    pack_allowed({token, *rng.sample(range(384), rng.choice([0, 3, 60]))}) for token in completion
                ]
            samples.append(
                make_sample(prompt, completion, rng.uniform(-1, 1), logprobs=logprobs, allowed=allowed, group=group,
                            temperature=temperature)
            )  # fmt: skip
    first = samples[0]
    again = TrainingSample(first.call, -0.4, first.group)
    return [*samples, first, again]


def pack_allowed(tokens: set[int], vocabulary: int = 384) -> bytes:
    """As `Call.allowed` has it."""
    bits = bytearray((vocabulary + 7) // 8)
    for token in tokens:
        bits[token // 8] |= 1 << (token % 8)
    return zlib.compress(bytes(bits))
