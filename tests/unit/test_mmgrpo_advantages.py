"""Advantages over ragged groups, and what is dropped, by reason."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from lmgraph.evaluate import Rollout
from lmgraph.optimize import GroupedCall, group_calls
from lmgraph_optimizers.mmgrpo.advantages import RunningScale, group_advantages, leave_one_out
from lmgraph_optimizers.mmgrpo.batch import Batch, make_batch, split
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.ragged import select
from support.training import failure, make_call, make_rollout, make_sample


def rollouts(scores: Sequence[float | None], *keys: str, **call: Any) -> list[Rollout]:
    """One run a score, each with a call at every key; None is a run that failed before any call."""
    made = []
    for index, score in enumerate(scores):
        if score is None:
            made.append(make_rollout("row", index, 0.0, [], failure("value", "F/x")))
        else:
            made.append(make_rollout("row", index, score, [make_call(key, **call) for key in keys or ("F/a",)]))
    return made


def batch_of(done: Sequence[Rollout], **options: Any) -> Batch:
    config = MmgrpoConfig(**options)
    return make_batch(
        done, {"M", "N"}, config, format_return=-1.0, scale=RunningScale(), rng=random.Random(0)
    )  # fmt: skip


def advantages(done: Sequence[Rollout], **options: Any) -> list[float]:
    return [sample.advantage for sample in batch_of(done, **options).samples]


def test_a_full_group_is_compared_with_its_peers_and_sums_to_zero() -> None:
    result = advantages(rollouts([1.0, 0.0, 0.0, 1.0]))
    assert result == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    assert sum(result) == pytest.approx(0.0)


def test_a_ragged_group_leaves_the_missing_rollouts_out_of_the_baseline() -> None:
    done = [*rollouts([1.0]), make_rollout("row", 1, 0.5, []), make_rollout("row", 2, 0.0, [make_call()])]
    assert advantages(done) == pytest.approx([1.0, -1.0])


def test_a_call_nobody_else_reached_is_compared_with_the_other_runs_scores() -> None:
    done = [*rollouts([1.0]), make_rollout("row", 1, 0.5, []), make_rollout("row", 2, 0.0, [])]
    assert advantages(done) == pytest.approx([0.75])


def test_one_rollout_alone_teaches_nothing() -> None:
    assert advantages(rollouts([1.0])) == []


def test_equal_returns_train_nothing_and_are_named() -> None:
    batch = batch_of(rollouts([0.1, 0.1, 0.1]))
    assert (batch.samples, batch.trained_groups) == ([], 0)
    assert batch.dropped == {"no variance": 6}


def test_the_format_return_is_of_the_call_that_failed_and_of_no_other() -> None:
    bad = make_call("F/b", failure=failure("parse", "F/b"), outputs=None)
    cut = make_call("F/b", finish_reason="length")
    done = [
        make_rollout("row", 0, 0.0, [make_call("F/a"), bad], failure("parse", "F/b")),
        make_rollout("row", 1, 1.0, [make_call("F/a"), make_call("F/b")]),
        make_rollout("row", 2, 1.0, [make_call("F/a"), cut]),
    ]
    groups = {group.call_key: group for group in group_calls(done, format_return=-1.0)}
    assert [member.value for member in groups["F/a"].members] == [0.0, 1.0, 1.0]
    assert [member.value for member in groups["F/b"].members] == [-1.0, 1.0, -1.0]


def test_a_broken_assert_counts_after_the_last_retry_only() -> None:
    broken = failure("assert", "F/a")
    asked_again = [make_call("F/a", failure=broken, outputs=None), make_call("F/a/retry[1]", retry=1)]
    in_vain = [make_call("F/a", failure=broken), make_call("F/a/retry[1]", failure=broken, retry=1)]
    misread = [make_call("F/a", failure=failure("parse", "F/a")), make_call("F/a/retry[1]", retry=1)]
    done = [
        make_rollout("row", 0, 1.0, asked_again),
        make_rollout("row", 1, 0.0, in_vain, broken),
        make_rollout("row", 2, 1.0, misread),
    ]
    groups = {group.call_key: group for group in group_calls(done, format_return=-1.0)}
    assert [member.value for member in groups["F/a"].members] == [1.0, 0.0, -1.0]
    assert [member.value for member in groups["F/a/retry[1]"].members] == [1.0, -1.0, 1.0]


@pytest.mark.parametrize("cut", [{"finish_reason": "abort"}, {"failure": failure("engine", "F/a")},
                                 {"failure": failure("budget", "F/a")}])  # fmt: skip
def test_what_was_cut_is_masked_and_nobodys_peer(cut: dict[str, Any]) -> None:
    done = [
        make_rollout("row", 0, 1.0, [make_call()]),
        make_rollout("row", 1, 0.0, [make_call()]),
        make_rollout("row", 2, 0.0, [make_call(**cut)]),
    ]
    batch = batch_of(done)
    assert [sample.advantage for sample in batch.samples] == pytest.approx([1.0, -1.0])
    assert batch.dropped == {"the call was cut": 2}


def test_a_run_that_a_budget_stopped_or_whose_score_is_no_number_is_no_evidence() -> None:
    done = [
        *rollouts([1.0, 0.0]),
        make_rollout("row", 2, 0.0, [make_call()], failure("budget", "F/b")),
        make_rollout("row", 3, float("nan"), [make_call()]),
    ]
    batch = batch_of(done)
    assert [sample.advantage for sample in batch.samples] == pytest.approx([1.0, -1.0])
    assert batch.dropped == {"the run was cut": 2, "the score is not usable": 2}


def test_an_outage_is_no_evidence_and_a_prompt_that_grew_too_long_is() -> None:
    done = [
        *rollouts([1.0, 1.0]),
        make_rollout("row", 2, 0.0, [make_call()], failure("engine", "F/b")),
        make_rollout("row", 3, 0.0, [make_call()], failure("overflow", "F/b")),
    ]
    batch = batch_of(done)
    assert [sample.advantage for sample in batch.samples] == pytest.approx([0.5, 0.5, -1.0])
    assert batch.dropped == {"the engine failed": 2}


def test_judges_never_train() -> None:
    done = [make_rollout("row", 0, 1.0, [make_call()], judged=[make_call("m/J")]), *rollouts([0.0, 0.0])[1:]]
    batch = batch_of(done)
    assert {sample.call.call_key for sample in batch.samples} == {"F/a"}
    assert batch.dropped["judge"] == 2


def test_what_cannot_train_is_named() -> None:
    done = [
        make_rollout(
            "row", 0, 1.0, [make_call(), make_call("F/b", module="Other"), make_call("F/c", constrained=True)]
        ),
        make_rollout("row", 1, 0.0, [make_call(), make_call("F/d", temperature=0.0)]),
        make_rollout("row", 2, 0.5, [make_call()]),
    ]
    batch = batch_of(done)
    assert batch.dropped == {
        "module not trained": 2,
        "constrained, without a record of what was allowed": 2,
        "not sampled: temperature 0": 2,
        "zero advantage": 2,
    }
    assert batch.tokens == 6, "the call with a zero advantage counts in N: it was compared"


def test_paper_groups_are_the_kth_calls_of_a_module() -> None:
    done = [
        make_rollout("row", 0, 1.0, [make_call("F/x"), make_call("F/y")]),
        make_rollout("row", 1, 0.0, [make_call("F/y")]),
    ]
    groups = group_calls(done, format_return=0.0, grouping="paper")
    assert [(group.call_key, len(group.members)) for group in groups] == [("M[0]", 2), ("M[1]", 1)]


def test_a_trajectory_has_its_runs_score_on_every_call() -> None:
    done = [
        make_rollout("row", 0, 1.0, [make_call("F/x"), make_call("F/y", module="N")]),
        make_rollout("row", 1, 0.0, [make_call("F/x", failure=failure("parse", "F/x"))], failure("parse", "F/x")),
    ]
    assert advantages(done, grouping="trajectory") == pytest.approx([1.0, 1.0, -1.0])


def test_where_all_runs_have_the_same_calls_trajectories_and_calls_agree() -> None:
    done = rollouts([1.0, 0.25, 0.0], "F/a", "F/b[0]/c", "F/b[1]/c")
    by_call = {(id(s.call)): s.advantage for s in batch_of(done).samples}
    by_run = {(id(s.call)): s.advantage for s in batch_of(done, grouping="trajectory").samples}
    assert by_call == pytest.approx(by_run)


def test_truncate_drops_what_some_rollout_did_not_reach() -> None:
    done = [*rollouts([1.0, 0.0], "F/a[0]", "F/a[1]"), make_rollout("row", 2, 0.5, [make_call("F/a[0]")])]
    batch = batch_of(done, ragged="truncate")
    assert {sample.call.call_key for sample in batch.samples} == {"F/a[0]"}
    assert batch.dropped == {"not in an even group": 4, "zero advantage": 2}


def test_one_failure_takes_the_module_from_the_whole_row_under_truncate_and_fill() -> None:
    done = [*rollouts([1.0, 0.0, 1.0]), make_rollout("row", 3, 0.0, [], failure("value", "F/x"))]
    for ragged in ("truncate", "fill"):
        assert batch_of(done, ragged=ragged).samples == []
    assert len(batch_of(done).samples) == 3


def test_fill_copies_a_rollouts_own_calls() -> None:
    done = [*rollouts([1.0, 0.0], "F/a[0]", "F/a[1]"), make_rollout("row", 2, 0.5, [make_call("F/a[0]", (5,))])]
    batch = batch_of(done, ragged="fill", baseline="mean")
    assert len(batch.samples) == 6
    assert sum(sample.call.completion_ids == (5,) for sample in batch.samples) == 2
    batch = batch_of(done, ragged="fill", baseline="mean", kl=0.1)
    assert batch.copies == 1, "the middle score has no advantage; with a KL term it trains, twice"


def test_the_papers_mean_and_deviation() -> None:
    result = advantages(rollouts([1.0, 0.0, 0.0, 1.0]), baseline="mean", scale="group")
    assert result == pytest.approx([1.0, -1.0, -1.0, 1.0], abs=1e-3)


def test_scaling_by_module_remembers_and_has_a_floor() -> None:
    config = MmgrpoConfig(scale="module")
    scale = RunningScale()
    members = [GroupedCall(index, make_call(), value) for index, value in enumerate([1.0, 0.0])]
    scores = {0: 1.0, 1: 0.0}
    assert group_advantages(members, scores, config, scale, module="M") == pytest.approx([1.0, -1.0])
    scale.close_step()
    again = RunningScale(scale.state)
    assert again.divisor("M", [0.5]) == pytest.approx(1.0)
    assert RunningScale().divisor("M", [1e-6]) == 0.1


def test_k_diverse_keeps_the_extremes_and_repeats_where_there_are_few() -> None:
    members = [GroupedCall(index, make_call(), value) for index, value in enumerate([0.2, 0.9, 0.1, 0.5, 0.6])]
    assert [member.value for member in select(members, 3)] == [0.9, 0.5, 0.1]
    assert [member.value for member in select(members[:2], 4)] == [0.9, 0.9, 0.2, 0.2]


def test_minibatches_are_whole_groups() -> None:
    samples = [make_sample([7], [3], 1.0, group=group) for group in range(5) for _ in range(2)]
    parts = split(samples, 2, random.Random(0))
    assert sorted(len(part) for part in parts) == [4, 6]
    assert not {s.group for s in parts[0]} & {s.group for s in parts[1]}
    assert len(split(samples[:2], 4, random.Random(0))) == 1


def test_no_other_rollout_no_baseline() -> None:
    assert leave_one_out(GroupedCall(0, make_call(), 1.0), [], {0: 1.0}) == 0.0


def test_the_paper_preset_gives_way_to_options() -> None:
    config = MmgrpoConfig.model_validate({"preset": "paper", "alpha": 8})
    assert (config.grouping, config.ragged, config.baseline, config.scale) == ("paper", "fill", "mean", "group")
    assert (config.samples, config.temperature, config.learning_rate, config.alpha) == (12, 0.6, 1e-5, 8)
    assert MmgrpoConfig.model_validate(config.model_dump(mode="json")) == config
    assert MmgrpoConfig.model_validate({"preset": "paper", "samples": 4}).group_size == 4
