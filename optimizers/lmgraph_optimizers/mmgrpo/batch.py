"""From rollouts to training samples: every sampled token is trained once, or named as dropped with a reason."""

from __future__ import annotations

import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from lmgraph.evaluate import Rollout
from lmgraph.optimize import GroupedCall, group_calls, masked_calls
from lmgraph.runtime import Call
from lmgraph_optimizers.mmgrpo.advantages import RunningScale, group_advantages
from lmgraph_optimizers.mmgrpo.config import Aggregation, MmgrpoConfig
from lmgraph_optimizers.mmgrpo.ragged import Group, even_out, select

NO_RECORD = "constrained, without a record of what was allowed"
MODULE_FLOOR = 64
"""Fewest tokens a module counts as in the mean over modules: a module with three tokens must not weigh as one with
three thousand."""


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One call to learn from. ``call`` is the sampler's own record: its ids and logprobs are what is trained on."""

    call: Call
    advantage: float
    group: int = 0
    """Index of its group in the batch."""
    weight: float = 0.0
    """Of each of its tokens in the loss; the weights of an optimizer batch are fixed before micro-batches are cut."""

    @property
    def tokens(self) -> int:
        """Completion tokens that were a choice: where one token was allowed, nothing was chosen."""
        return chosen_tokens(self.call)


@dataclass(frozen=True, slots=True)
class ModuleFigures:
    """What one module's calls came to in a step."""

    calls: int
    reward: float
    """Mean return of its calls."""
    entropy: float
    """Mean of -log mu of its sampled tokens, an unbiased estimate."""
    groups: int
    trained_groups: int
    advantage: float
    """Mean magnitude over the calls of groups that train."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's samples: the calls of all groups that train, those with a zero advantage included."""

    samples: list[TrainingSample]
    groups: int
    trained_groups: int
    trained_examples: frozenset[str]
    """Rows that have a group that trains."""
    dropped: dict[str, int]
    """Sampled tokens that do not train, by reason."""
    copies: int = 0
    """Tokens that train more than once, where groups are filled."""
    modules: dict[str, ModuleFigures] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return sum(sample.tokens for sample in self.samples)


def make_batch(
    rollouts: Sequence[Rollout],
    modules: Collection[str],
    config: MmgrpoConfig,
    *,
    format_return: float,
    scale: RunningScale,
    rng: random.Random,
) -> Batch:
    """Group, even out, select and compare the calls of ``modules``."""
    dropped: Counter[str] = Counter()
    for reason, calls in masked_calls(rollouts).items():
        dropped[reason] += sum(len(call.completion_ids) for call in calls)
    groups = group_calls(rollouts, format_return=format_return, grouping=config.grouping)
    kept: list[Group] = []
    for group in groups:
        members = [member for member in group.members if _may_train(member.call, modules, dropped)]
        if members:
            kept.append((group.example, members, group.rollout_scores, group.module))
    sizes = {id(member.call): len(member.call.completion_ids) for _, members, _, _ in kept for member in members}
    evened = kept
    if config.grouping != "trajectory":
        evened = even_out(kept, config.ragged, rng)
        if config.group_size is not None:
            evened = [(row, select(members, config.group_size), scores, name) for row, members, scores, name in evened]
    present = {id(member.call) for _, members, _, _ in evened for member in members}
    dropped["not in an even group"] += sum(sizes[call] for call in sizes.keys() - present)

    samples: list[TrainingSample] = []
    examples: set[str] = set()
    trained = 0
    figures: dict[str, _Tally] = defaultdict(_Tally)
    for example, members, scores, module in evened:
        advantages = group_advantages(members, scores, config, scale, module=module)
        trains = any(advantages)
        for name in {member.call.module for member in members}:
            figures[name].groups += 1
            figures[name].trained_groups += trains
        for member, advantage in zip(members, advantages, strict=True):
            tally = figures[member.call.module]
            tally.add(member)
            if trains:
                tally.magnitudes.append(abs(advantage))
                samples.append(TrainingSample(member.call, advantage, trained))
        if trains:
            trained += 1
            examples.add(example)
    scale.close_step()
    compared = {id(sample.call) for sample in samples}
    # With a KL term the calls whose advantage is zero train as well: it pulls at them.
    moving = Counter(id(sample.call) for sample in samples if sample.advantage != 0.0 or config.kl > 0)
    dropped["no variance"] += sum(sizes[call] for call in present - compared)
    dropped["zero advantage"] += sum(sizes[call] for call in compared - moving.keys())
    copies = sum((count - 1) * sizes[call] for call, count in moving.items())
    return Batch(
        samples,
        len(evened),
        trained,
        frozenset(examples),
        {reason: count for reason, count in dropped.items() if count},
        copies,
        {name: tally.figures() for name, tally in sorted(figures.items())},
    )


def weigh(samples: Sequence[TrainingSample], aggregation: Aggregation) -> list[TrainingSample]:
    """Give each sample its weight: the samples are one adapter's share of one optimizer batch.

    batch: every token 1/N. module: each module the same, a token 1/(M max(N_m, floor)). sequence: each call the same,
    a token 1/(calls |o|), as the paper has it (equation 7). N counts zero advantages too: they were compared.
    """
    tokens = Counter[str]()
    for sample in samples:
        tokens[sample.call.module] += sample.tokens
    total = sum(tokens.values())

    def weight(sample: TrainingSample) -> float:
        match aggregation:
            case "batch":
                return 1.0 / max(total, 1)
            case "module":
                return 1.0 / (len(tokens) * max(tokens[sample.call.module], MODULE_FLOOR))
            case "sequence":
                return 1.0 / (len(samples) * max(sample.tokens, 1))

    return [replace(sample, weight=weight(sample)) for sample in samples]


def split(samples: Sequence[TrainingSample], parts: int, rng: random.Random) -> list[list[TrainingSample]]:
    """Whole groups dealt to ``parts`` minibatches of about the same size; fewer where there are not enough groups."""
    by_group: dict[int, list[TrainingSample]] = defaultdict(list)
    for sample in samples:
        by_group[sample.group].append(sample)
    order = sorted(by_group)
    rng.shuffle(order)
    hands: list[list[TrainingSample]] = [[] for _ in range(min(parts, len(order)))]
    for number, group in enumerate(order):
        hands[number % len(hands)] += by_group[group]
    return hands


def chosen_tokens(call: Call) -> int:
    if call.allowed is None:
        return len(call.completion_ids)
    return sum(not is_forced(packed) for packed in call.allowed)


@lru_cache(maxsize=4096)
def is_forced(packed: bytes) -> bool:
    """Whether the packed set has one token only."""
    return sum(byte.bit_count() for byte in zlib.decompress(packed)) == 1


def _may_train(call: Call, modules: Collection[str], dropped: Counter[str]) -> bool:
    """Whether the trainer can compute with the very distribution that the sampler drew from."""
    tokens = len(call.completion_ids)
    if call.module not in modules:
        dropped["module not trained"] += tokens
    elif call.constrained and call.allowed is None:
        dropped[NO_RECORD] += tokens
    elif call.temperature <= 0:
        dropped["not sampled: temperature 0"] += tokens
    elif tokens:
        return True
    return False


@dataclass(slots=True)
class _Tally:
    values: list[float] = field(default_factory=list)
    surprisal: float = 0.0
    tokens: int = 0
    groups: int = 0
    trained_groups: int = 0
    magnitudes: list[float] = field(default_factory=list)

    def add(self, member: GroupedCall) -> None:
        self.values.append(member.value)
        self.surprisal -= sum(member.call.logprobs)
        self.tokens += len(member.call.logprobs)

    def figures(self) -> ModuleFigures:
        return ModuleFigures(
            len(self.values),
            sum(self.values) / max(len(self.values), 1),
            self.surprisal / max(self.tokens, 1),
            self.groups,
            self.trained_groups,
            sum(self.magnitudes) / max(len(self.magnitudes), 1),
        )
