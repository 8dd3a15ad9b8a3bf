"""Prompts on the lean path: what is known of them is found, what they share is computed once, then the rest.

Shape suffixes: V vocabulary. Key-values stay in a tree of prefixes for later prompts. What becomes of the prompts, and
what is sampled, is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.engines.local.lean_prefill import Stretch, compute
from lmgraph.engines.local.llama import LlamaModel
from lmgraph.engines.local.lora import LoraStacks
from lmgraph.engines.local.plan import SMALLEST_SHARED_PREFIX, Goal, plan_levels
from lmgraph.engines.local.prefix_tree import PrefixTree, Span, TokenIds

LARGEST_PASS_TOKENS = 2048
"""New tokens of one forward pass, which bound its memory; a longer prompt goes through in stretches."""
PromptKey = tuple[str | None, TokenIds]
"""The adapter's digest, None for the base model, and the tokens."""


@dataclass(slots=True)
class Prefilled:
    """One distinct prompt after its prefill."""

    adapter: Adapter | None
    path: list[Span] = field(default_factory=list)
    """Its key-values, from its first token to its last."""
    logits_V: torch.Tensor | None = None
    """fp32 logits of the token after it."""
    cached_tokens: int = 0
    """Tokens that were not computed on its account."""


class Prefiller:
    """Computes prompts for one model, and keeps what they leave. Used by one thread at a time."""

    def __init__(self, model: LlamaModel, loras: LoraStacks, *, share_prefixes: bool, cache_bytes: int) -> None:
        self._model = model
        self._loras = loras
        self._share = share_prefixes
        self._cache_bytes = cache_bytes if share_prefixes else 0
        self.tree = PrefixTree()
        """What is kept for later prompts."""

    def run(self, prompts: dict[PromptKey, Adapter | None]) -> dict[PromptKey, Prefilled]:
        """Compute distinct ``prompts``, each under its adapter."""
        run = _Run(self._model, self._loras, self.tree if self._cache_bytes else PrefixTree(), self._share, prompts)
        try:
            run.complete()
        finally:
            if self._cache_bytes:
                self.tree.trim(self._cache_bytes)
        return run.prefilled


class _Run:
    """The prompts of one admission, on their way."""

    def __init__(
        self,
        model: LlamaModel,
        loras: LoraStacks,
        tree: PrefixTree,
        share: bool,
        prompts: dict[PromptKey, Adapter | None],
    ) -> None:
        self._model = model
        self._loras = loras
        self._tree = tree
        self._share = share
        self.prefilled = {key: Prefilled(adapter) for key, adapter in prompts.items()}

    def complete(self) -> None:
        for goals in self._levels():
            self._compute([(goal, stretch) for goal in goals if (stretch := self._lacking(goal)) is not None])
        if self._share:
            # Later prompts may have split the spans of earlier ones: take all from the tree, as it is now.
            for (owner, ids), prompt in self.prefilled.items():
                path = self._tree.find(owner, ids)
                if _tokens(path) == len(ids):
                    prompt.path = path

    def _levels(self) -> Iterator[list[Goal]]:
        by_owner: dict[str | None, list[TokenIds]] = {}
        for owner, ids in self.prefilled:
            by_owner.setdefault(owner, []).append(ids)
        plans = [plan_levels(owner, sorted(distinct), share=self._share) for owner, distinct in by_owner.items()]
        for level in range(max(map(len, plans), default=0)):
            yield [goal for plan in plans if level < len(plan) for goal in plan[level]]

    def _lacking(self, goal: Goal) -> Stretch | None:
        """What must be computed to reach ``goal``; None if that is nothing, or too little to do it apart."""
        payer = self.prefilled[goal.owner, goal.payer]
        # At least one token of a prompt is computed: its logits are not kept.
        known = self._tree.find(goal.owner, goal.ids[:-1] if goal.final else goal.ids) if self._share else []
        lacking = len(goal.ids) - _tokens(known)
        if goal.final:
            payer.cached_tokens += _tokens(known)
        elif lacking * (goal.members - 1) < SMALLEST_SHARED_PREFIX:
            if lacking == 0:
                self._tree.cut(goal.owner, goal.ids)
            return None
        else:
            payer.cached_tokens -= lacking
        while lacking > LARGEST_PASS_TOKENS:
            start = len(goal.ids) - lacking
            stretch = Stretch(known, goal.ids[start : start + LARGEST_PASS_TOKENS], payer.adapter, wants_logits=False)
            (computed,) = compute(self._model, self._loras, [stretch])
            if self._share:
                self._tree.add(goal.owner, goal.ids[: start + LARGEST_PASS_TOKENS], start, computed.span)
            known = [*known, computed.span]
            lacking -= LARGEST_PASS_TOKENS
        return Stretch(known, goal.ids[len(goal.ids) - lacking :], payer.adapter, wants_logits=goal.final)

    def _compute(self, wanted: Sequence[tuple[Goal, Stretch]]) -> None:
        for portion in _portions(wanted):
            results = compute(self._model, self._loras, [stretch for _, stretch in portion])
            for (goal, stretch), computed in zip(portion, results, strict=True):
                if self._share:
                    self._tree.add(goal.owner, goal.ids, stretch.start, computed.span)
                if goal.final:
                    prompt = self.prefilled[goal.owner, goal.ids]
                    prompt.logits_V = computed.logits_V
                    prompt.path = [*stretch.context, computed.span]


def _portions(wanted: Sequence[tuple[Goal, Stretch]]) -> list[list[tuple[Goal, Stretch]]]:
    """Cut so that no pass has more than LARGEST_PASS_TOKENS."""
    portions: list[list[tuple[Goal, Stretch]]] = []
    tokens = 0
    for goal, stretch in wanted:
        tokens += len(stretch.ids)
        if portions and tokens <= LARGEST_PASS_TOKENS:
            portions[-1].append((goal, stretch))
        else:
            portions.append([(goal, stretch)])
            tokens = len(stretch.ids)
    return portions


def _tokens(path: Sequence[Span]) -> int:
    return sum(span.length for span in path)
