"""Which prompts share what: families of prompts that begin alike, and the order in which to compute them.

A shared beginning is computed before the prompts that have it. Nothing here computes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lmgraph.engines.local.prefix_tree import TokenIds
from lmgraph.engines.local.prefix_tree import common_length as common_beginning

SMALLEST_SHARED_PREFIX = 16
"""Tokens; a shorter common beginning is not worth a forward pass of its own."""

PADDING_ALLOWED = 1.5
"""Sequences that are padded to one length may take this many times their tokens."""


@dataclass(frozen=True, slots=True)
class PromptFamily:
    """Distinct prompts that share their first ``shared`` tokens."""

    prompts: list[TokenIds]
    shared: int
    """0: computed without sharing. Always shorter than the shortest prompt."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Tokens whose key-values are needed: a whole prompt, or what several prompts begin with."""

    owner: str | None
    """The adapter's digest; None is the base model."""
    ids: TokenIds
    members: int
    """Prompts that begin with it; 1 for a whole prompt."""
    payer: TokenIds
    """The prompt that counts as computing it; the others find it there."""

    @property
    def final(self) -> bool:
        """Whether this is a whole prompt, whose next token is asked for."""
        return self.members == 1


def plan_levels(owner: str | None, distinct: Sequence[TokenIds], *, share: bool) -> list[list[Goal]]:
    """Goals for sorted distinct prompts: those of one level are computed together, after those of the levels before."""
    if not share:
        return [[Goal(owner, ids, 1, ids) for ids in distinct]]
    levels: list[list[Goal]] = []
    _plan(levels, 0, owner, distinct, 0)
    return levels


def _plan(levels: list[list[Goal]], level: int, owner: str | None, prompts: Sequence[TokenIds], start: int) -> None:
    if len(levels) <= level:
        levels.append([])
    beginning = prompts[0][:start]
    for family in find_families([ids[start:] for ids in prompts]):
        members = [beginning + ids for ids in family.prompts]
        if family.shared:
            end = start + family.shared
            levels[level].append(Goal(owner, members[0][:end], len(members), members[0]))
            _plan(levels, level + 1, owner, members, end)
        else:
            levels[level].extend(Goal(owner, ids, 1, ids) for ids in members)


def find_families(distinct: Sequence[TokenIds]) -> list[PromptFamily]:
    """Split sorted distinct prompts into families, greedily: a prompt joins as long as the family saves more by it."""
    families: list[PromptFamily] = []
    members: list[TokenIds] = []
    shared = 0
    for prompt in distinct:
        common = min(shared, common_length(members[0], prompt)) if members else 0
        if members and common >= SMALLEST_SHARED_PREFIX and common * len(members) >= shared * (len(members) - 1):
            members.append(prompt)
            shared = common
        else:
            if members:
                families.append(_family(members, shared))
            members, shared = [prompt], len(prompt) - 1
    if members:
        families.append(_family(members, shared))
    return _merge_loners(families)


def common_length(left: TokenIds, right: TokenIds) -> int:
    """Tokens both begin with, at least one token of each left over."""
    return common_beginning(left[:-1], right[:-1])


def shared_lengths(prompts: Sequence[TokenIds]) -> list[int]:
    """For each prompt, how many tokens it begins with like another one."""
    order = sorted(range(len(prompts)), key=lambda place: prompts[place])
    shared = [0] * len(prompts)
    for left, right in pairwise(order):
        common = common_beginning(prompts[left], prompts[right])
        shared[left] = max(shared[left], common)
        shared[right] = common
    return shared


def similar(lengths: Sequence[int]) -> list[list[int]]:
    """Places of ``lengths`` in groups that waste little where each is padded to its longest, which comes first."""
    groups: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        tokens += lengths[place]
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= PADDING_ALLOWED * tokens:
            groups[-1].append(place)
        else:
            groups.append([place])
            tokens = lengths[place]
    return groups


def _family(members: list[TokenIds], shared: int) -> PromptFamily:
    return PromptFamily(list(members), shared if len(members) > 1 else 0)


def _merge_loners(families: list[PromptFamily]) -> list[PromptFamily]:
    """Prompts that share with none go through the model together."""
    loners = [family.prompts[0] for family in families if len(family.prompts) == 1]
    kept = [family for family in families if len(family.prompts) > 1]
    return [*kept, PromptFamily(loners, 0)] if loners else kept
