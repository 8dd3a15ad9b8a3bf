"""Leave-one-out advantages over ragged groups, and what is dropped, by reason."""

from __future__ import annotations

import pytest

from lmgraph.optimize import CallGroup, GroupedCall
from lmgraph.runtime import Call
from lmgraph_optimizers.mmgrpo.advantages import leave_one_out, make_batch


def call(key: str = "F/a", ids: tuple[int, ...] = (1, 2), *, constrained: bool = False, module: str = "M") -> Call:
    return Call(
        node=key, call_key=key, module=module, lm="default", engine="scripted", model="m", adapter=None, template="t",
        prompt_ids=(9, 9), completion_ids=ids, logprobs=[-1.0] * len(ids), temperature=1.0, seed=0,
        constrained=constrained, finish_reason="stop", text="", inputs={}, outputs={},
    )  # fmt: skip


def group(values: list[float | None], scores: list[float], **kwargs: object) -> CallGroup:
    """One call a rollout; None where the rollout never reached it."""
    members = tuple(
        GroupedCall(index, call(**kwargs), value)  # type: ignore[arg-type]
        for index, value in enumerate(values)
        if value is not None
    )
    return CallGroup("row", "F/a", "M", members, tuple(scores))


def advantages(values: list[float | None], scores: list[float]) -> list[float]:
    whole = group(values, scores)
    return [leave_one_out(member, whole.members, whole.rollout_scores) for member in whole.members]


def test_a_full_group_is_compared_with_its_peers_and_sums_to_zero() -> None:
    result = advantages([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0])
    assert result == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    assert sum(result) == pytest.approx(0.0)


def test_a_ragged_group_leaves_the_missing_rollouts_out_of_the_baseline() -> None:
    assert advantages([1.0, None, 0.0], [1.0, 0.5, 0.0]) == pytest.approx([1.0, -1.0])


def test_a_call_nobody_else_reached_is_compared_with_the_other_runs_scores() -> None:
    assert advantages([1.0, None, None], [1.0, 0.5, 0.0]) == pytest.approx([0.75])


def test_one_rollout_alone_teaches_nothing() -> None:
    assert advantages([1.0], [1.0]) == [0.0]


def test_equal_returns_train_nothing_and_are_named() -> None:
    batch = make_batch([group([1.0, 1.0], [1.0, 1.0])], ["M"])
    assert (batch.samples, batch.tokens, batch.trained_groups) == ([], 0, 0)
    assert batch.dropped == {"no variance": 4}


def test_every_sampled_token_trains_or_is_dropped_with_a_reason() -> None:
    groups = [
        group([1.0, 0.0, 0.5], [1.0, 0.0, 0.5]),
        group([1.0, 1.0], [1.0, 1.0]),
        group([1.0, 0.0], [1.0, 0.0], constrained=True),
        CallGroup("row", "F/b", "Other", (GroupedCall(0, call("F/b", module="Other"), 1.0),), (1.0, 0.0)),
    ]
    batch = make_batch(groups, ["M"])
    sampled = sum(len(member.call.completion_ids) for one in groups for member in one.members)
    trained = sum(len(sample.call.completion_ids) for sample in batch.samples)
    assert trained + sum(batch.dropped.values()) == sampled
    assert batch.dropped == {
        "zero advantage": 2, "no variance": 4, "constrained": 4, "module not trained": 2
    }  # fmt: skip
    assert batch.tokens == 6  # the zero-advantage member counts in N: it was compared
