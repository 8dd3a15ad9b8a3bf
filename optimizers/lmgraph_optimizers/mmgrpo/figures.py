"""What a training run shows: curves, for each module too, the live line, and the sentences of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmgraph.evaluate import Rollout
from lmgraph_optimizers.mmgrpo.batch import Batch
from lmgraph_optimizers.mmgrpo.trainer import UpdateStats

RECENT = 5
"""Steps that the live line averages over."""


class Curves:
    """One number a step for each curve. Its data is part of a checkpoint."""

    def __init__(self, data: Mapping[str, Sequence[float]] | None = None) -> None:
        self.data: dict[str, list[float]] = {name: list(values) for name, values in (data or {}).items()}

    @property
    def steps(self) -> int:
        return len(self.data.get("reward", ()))

    def add(
        self, done: Sequence[Rollout], usable: int, batch: Batch, updates: Mapping[str, Sequence[UpdateStats]]
    ) -> dict[str, float]:
        """Append a step; returns its figures. ``usable`` rollouts have a score that means something."""
        calls = [call for rollout in done for call in rollout.trace.calls]
        sampled = sum(len(call.completion_ids) for call in calls)
        rewards = [rollout.score.value for rollout in done if rollout.score.value == rollout.score.value]
        made = [stats for each in updates.values() for stats in each]
        figures: dict[str, float] = {
            "reward": sum(rewards) / max(len(rewards), 1),
            "entropy": -sum(sum(call.logprobs) for call in calls) / max(sampled, 1),
            "groups that train": batch.trained_groups,
            "rows sampled": len({rollout.example.id for rollout in done}),
            "failed calls": sum(call.failure is not None for call in calls) / max(len(calls), 1),
            "skipped": sum(stats.skipped for stats in made),
        }
        if made:
            gaps = [stats.gap for stats in made]
            figures["gap"] = sum(gap.total for gap in gaps) / max(sum(gap.tokens for gap in gaps), 1)
            figures["largest gap"] = max(gap.largest for gap in gaps)
            dropped = sum(gap.dropped_calls for gap in gaps)
            figures["calls outside the band"] = dropped / max(sum(gap.calls for gap in gaps), 1)
        if usable < len(done):
            figures["rollouts set aside"] = len(done) - usable
        if any(stats.kl for stats in made):
            figures["kl"] = sum(stats.kl for stats in made) / len(made)
        for name, module in batch.modules.items():
            figures[f"{name}: reward"] = module.reward
            figures[f"{name}: entropy"] = module.entropy
            figures[f"{name}: share of groups that train"] = module.trained_groups / max(module.groups, 1)
            figures[f"{name}: advantage"] = module.advantage
        steps = self.steps
        for name in {**self.data, **figures}:
            values = self.data.setdefault(name, [0.0] * steps)
            # A module that this step did not reach keeps its last reward and entropy; what counts something is 0.
            lasting = name.endswith((": reward", ": entropy"))
            missing = values[-1] if values and lasting else 0.0
            values.append(round(figures.get(name, missing), 6))
        return figures

    def recent(self, name: str) -> float:
        values = self.data.get(name, [])[-RECENT:]
        return sum(values) / max(len(values), 1)


def live_line(step: int, steps: int, curves: Curves, batch: Batch | None, speed: float, left: float | None) -> str:
    """`step 7 of 30, reward 0.412, entropy 0.83, 6 of 8 groups train, 310 tokens/s, 4 min left`."""
    parts = [f"step {step + 1} of {steps}"]
    if curves.steps:
        parts += [f"reward {curves.recent('reward'):.3f}", f"entropy {curves.recent('entropy'):.2f}"]
    if batch is not None:
        parts.append(f"{batch.trained_groups} of {batch.groups} groups train")
        if curves.steps and not any(curves.data["groups that train"]):
            parts.append("no rewards differ yet: prompts first?")
    if speed:
        parts.append(f"{speed:.0f} tokens/s")
    if left is not None:
        parts.append(f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left")
    return ", ".join(parts)


def step_event(
    figures: Mapping[str, float],
    batch: Batch,
    updates: Mapping[str, Sequence[UpdateStats]],
    done: Sequence[Rollout],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The event log's record of a step."""
    made = [stats for each in updates.values() for stats in each]
    plain, unique, computed = (
        sum(getattr(stats, name) for stats in made) for name in ("plain_tokens", "unique_tokens", "computed_tokens")
    )
    apart = sum(stats.gap.dropped_tokens for stats in made)
    return {
        **figures,
        "rows": sorted({rollout.example.id for rollout in done}),
        "groups": batch.groups,
        "samples": len(batch.samples),
        "tokens": batch.tokens,
        "sampled_tokens": sum(len(call.completion_ids) for one in done for call in one.trace.calls),
        "dropped": {**batch.dropped, **({"sampler and trainer too far apart": apart} if apart else {})},
        "copies": batch.copies,
        "times_fewer_tokens": round(plain / max(computed, 1), 2),
        "bound": round(plain / max(unique, 1), 2),
        "share_of_bound": round(unique / max(computed, 1), 3),
        **{f"{name}_seconds": round(value, 3) for name, value in seconds.items()},
    }


def sentences(
    step: int,
    steps: int,
    adapters: Mapping[str, Sequence[str]],
    curves: Curves,
    skipped: int,
    aside: Mapping[str, str],
    stopped: str | None,
    stuck: bool,
) -> list[str]:
    """Notes for the report."""
    named = "; ".join(f"{name} for {', '.join(modules)}" for name, modules in adapters.items())
    notes = [f"{step} of {steps} steps. Adapters: {named}."]
    if curves.steps and not any(curves.data["groups that train"]):
        notes.append(
            "All rollouts of every group scored the same, so nothing was learned. Prompts first: run demos before."
        )
    if stuck and step < steps:
        notes.append("Ended early: no group trained in the last steps (mmgrpo.patience).")
    reached = {name.removesuffix(": reward") for name in curves.data if name.endswith(": reward")}
    for module in sorted({module for modules in adapters.values() for module in modules} - reached):
        if curves.steps:
            notes.append(f"Module {module} was never reached by a call that could train, so it learned nothing.")
    if largest := max(curves.data.get("largest gap", [0.0])):
        trained = [gap for gap in curves.data["gap"] if gap]
        mean = sum(trained) / max(len(trained), 1)
        notes.append(f"Sampler and trainer differ by {mean:.2g} nats a token, at most {largest:.2g}.")
    if any(outside := curves.data.get("calls outside the band", [])):
        notes.append(
            f"Calls where they differ by more than mmgrpo.max_gap did not train: {max(outside):.0%} of them in the"
            " worst step."
        )
    if skipped:
        notes.append(f"{skipped} updates were skipped: loss or gradient was not finite.")
    if aside:
        example, why = next(iter(aside.items()))
        notes.append(f"Rollouts of {len(aside)} rows were set aside ({why}), first those of row {example}.")
    if stopped:
        notes.append(f"Stopped by the budget: {stopped}")
    return notes
