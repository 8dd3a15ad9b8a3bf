"""Over random runs with loops, maps, branches, retries and failures: each sampled token trains once, or is named."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmgraph.evaluate import Rollout
from lmgraph.optimize import group_calls
from lmgraph.runtime import Call
from lmgraph_optimizers.mmgrpo.advantages import RunningScale
from lmgraph_optimizers.mmgrpo.batch import make_batch
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from support.training import failure, make_call, make_rollout

MODULES = {"Query", "Read", "Answer"}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"kl": 0.1},
    {"scale": "group"},
    {"scale": "module"},
    {"grouping": "paper"},
    {"grouping": "trajectory"},
    {"ragged": "truncate"},
    {"ragged": "fill"},
    {"ragged": "fill", "kl": 0.1},
    {"preset": "paper", "samples": 4, "group_size": 4},
]


def random_run(rng: random.Random, example: str, index: int) -> Rollout:
    """A loop of hops, each with a map of reads, then a branch: some calls fail, are cut, or are asked again."""
    calls: list[Call] = []
    failed = None

    def call(key: str, module: str) -> bool:
        nonlocal failed
        ids = tuple(rng.randrange(3, 9) for _ in range(rng.randint(1, 5)))
        logprobs = [-rng.random() for _ in ids]
        fate = rng.random()
        if fate < 0.05:
            problem = failure("parse", key)
            calls.append(make_call(key, ids, module=module, logprobs=logprobs, failure=problem, outputs=None))
            if rng.random() < 0.5:
                calls.append(make_call(f"{key}/retry[1]", ids[:1], module=module, logprobs=logprobs[:1], retry=1))
                return True
            failed = problem
            return False
        reason = "length" if fate < 0.1 else "abort" if fate < 0.13 else "stop"
        calls.append(make_call(key, ids, module=module, logprobs=logprobs, finish_reason=reason))
        return True

    alive = True
    for hop in range(rng.randint(1, 3)):
        if not alive:
            break
        alive = call(f"F/hop[{hop}]/Query", "Query")
        if alive:
            read = [call(f"F/hop[{hop}]/read[{item}]/Read", "Read") for item in range(rng.randint(0, 3))]
            alive = all(read)
    if alive:
        call(
            "F/if.then/Answer" if rng.random() < 0.5 else "F/if.else/Judge", "Answer" if rng.random() < 0.8 else "Other"
        )
    if failed is None and rng.random() < 0.05:
        failed = failure(rng.choice(["budget", "tool"]), "F/x")
    score = 0.0 if failed else rng.choice([0.0, 0.5, 1.0, 1.0, float("nan") if rng.random() < 0.05 else 0.25])
    judged = [make_call("metric/J")] if rng.random() < 0.2 else []
    return make_rollout(example, index, score, calls, failed, judged=judged)


def random_rollouts(seed: int) -> list[Rollout]:
    rng = random.Random(seed)
    return [random_run(rng, f"row {row}", index) for row in range(rng.randint(1, 3)) for index in range(4)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_every_sampled_token_trains_once_or_is_named(options: dict[str, Any], seed: int) -> None:
    done = random_rollouts(seed)
    config = MmgrpoConfig(**options)
    batch = make_batch(done, MODULES, config, format_return=-1.0, scale=RunningScale(), rng=random.Random(seed))
    sampled = {id(call): call for one in done for call in [*one.trace.calls, *one.trace.judged]}
    moving = [sample for sample in batch.samples if sample.advantage != 0.0 or config.kl > 0]
    trained = {id(sample.call) for sample in moving}
    total = sum(len(call.completion_ids) for call in sampled.values())
    once = sum(len(sampled[call].completion_ids) for call in trained)
    assert trained <= sampled.keys(), "what trains is the sampler's own record"
    assert once + sum(batch.dropped.values()) == total
    repeated = sum(len(sample.call.completion_ids) for sample in moving) - once
    assert repeated == batch.copies
    if config.ragged != "fill":
        assert batch.copies == 0
    judged = {id(call) for one in done for call in one.trace.judged}
    assert not trained & judged


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**9), grouping=st.sampled_from(["call", "paper"]))
def test_full_groups_sum_to_zero(seed: int, grouping: Any) -> None:
    done = random_rollouts(seed)
    config = MmgrpoConfig(grouping=grouping)
    batch = make_batch(done, MODULES, config, format_return=-1.0, scale=RunningScale(), rng=random.Random(0))
    advantage = {id(sample.call): sample.advantage for sample in batch.samples}
    for group in group_calls(done, format_return=-1.0, grouping=grouping):
        members = [member for member in group.members if member.call.module in MODULES]
        if len({member.rollout for member in members}) == len(members) > 1:
            assert abs(sum(advantage.get(id(member.call), 0.0) for member in members)) < 1e-9


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_groups_do_not_depend_on_the_order_in_which_calls_were_made(seed: int) -> None:
    done = random_rollouts(seed)
    groups: list[dict[tuple[str, str], list[tuple[int, float]]]] = []
    for _ in range(2):
        found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
        for group in group_calls(done, format_return=-1.0):
            found[group.example, group.call_key] += [(member.rollout, member.value) for member in group.members]
        groups.append({key: sorted(values) for key, values in found.items()})
        for one in done:
            random.Random(seed).shuffle(one.trace.calls)
        done.reverse()
    assert groups[0] == groups[1]
