"""Token choice: distributions, top-k, top-p, and numbers that belong to the request alone."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from lmgraph.runtime.engine import SamplingParams

torch = pytest.importorskip("torch")

from lmgraph.engines.local.sample import (  # noqa: E402
    BLOCK,
    UniformStream,
    choose_tokens,
    invert_distribution,
    keep_top,
)

PROBABILITIES = [0.5, 0.25, 0.15, 0.1]


def test_uniforms_depend_on_seed_and_prompt_only() -> None:
    first = UniformStream(7, [1, 2])
    second = UniformStream(7, [1, 2])
    numbers = [first.draw() for _ in range(5)]
    assert numbers == [second.draw() for _ in range(5)]
    assert len(set(numbers)) == 5
    assert UniformStream(8, [1, 2]).draw() != numbers[0]
    assert UniformStream(7, [1, 3]).draw() != numbers[0]
    assert 0 <= UniformStream(-(2**70), []).draw() < 1


def test_sampling_follows_the_distribution() -> None:
    rows = 20_000
    logits_BV = torch.tensor(PROBABILITIES).log().expand(rows, -1).clone()
    sampling = [SamplingParams(temperature=1.0, seed=row) for row in range(rows)]
    chosen = choose_tokens(logits_BV, sampling, [UniformStream(row, [1]) for row in range(rows)])
    for token, probability in enumerate(PROBABILITIES):
        share = chosen.token_ids.count(token) / rows
        assert abs(share - probability) < 4 * math.sqrt(probability * (1 - probability) / rows)


def test_logprobs_are_of_the_tempered_distribution() -> None:
    logits_BV = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    sampling = [SamplingParams(temperature=0.5, seed=1), SamplingParams()]
    chosen = choose_tokens(logits_BV.clone(), sampling, [UniformStream(1, []), UniformStream(1, [])])
    tempered = torch.log_softmax(logits_BV[0] / 0.5, dim=-1)
    assert chosen.logprobs[0] == pytest.approx(float(tempered[chosen.token_ids[0]]), abs=1e-6)
    assert chosen.token_ids[1] == 0
    assert chosen.logprobs[1] == pytest.approx(float(torch.log_softmax(logits_BV[1], dim=-1)[0]), abs=1e-6)


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, 4),
        (2, 1.0, 2),
        (9, 1.0, 4),
        (1, 0.9, 1),
        (0, 0.5, 1),
        (0, 0.51, 2),
        (0, 0.75, 2),
        (0, 1e-9, 1),
        (3, 0.9, 3),
    ],
)
def test_top_k_and_top_p_keep_the_right_tokens(top_k: int, top_p: float, kept: int) -> None:
    probabilities_V = torch.tensor([0.1, 0.5, 0.15, 0.25])
    assert int((keep_top(probabilities_V, top_k, top_p) > 0).sum()) == kept
    assert keep_top(probabilities_V, top_k, top_p)[1] == 0.5


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.01, 3.0])
def test_a_nucleus_of_any_size_is_the_smallest_that_holds_enough(top_p: float, spread: float) -> None:
    weights_V = torch.softmax(torch.randn(5000, generator=torch.Generator().manual_seed(1)) * spread, dim=0)
    kept_V = keep_top(weights_V, 0, top_p)
    chosen = kept_V > 0
    assert torch.equal(kept_V[chosen], weights_V[chosen])
    assert float(kept_V.sum()) >= top_p - 1e-4
    assert float(kept_V.sum() - kept_V[chosen].min()) < top_p + 1e-4
    assert float(weights_V[~chosen].max()) <= float(weights_V[chosen].min())


def test_a_large_vocabulary_is_sampled_as_its_distribution_says() -> None:
    vocabulary = 3 * BLOCK + 17
    logits_V = torch.full((vocabulary,), float("-inf"))
    places = [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5, vocabulary - 1]
    logits_V[places] = torch.tensor([0.3, 0.1, 0.2, 0.1, 0.1, 0.2]).log()
    rows = 20_000
    params = [SamplingParams(temperature=1.0, seed=row) for row in range(rows)]
    counts: Counter[int] = Counter()
    for start in range(0, rows, 2000):
        part = slice(start, start + 2000)
        chosen = choose_tokens(
            logits_V.expand(2000, -1).clone(), params[part], [UniformStream(seed, [1]) for seed in range(rows)[part]]
        )
        counts.update(chosen.token_ids)
        for token, logprob in zip(chosen.token_ids, chosen.logprobs, strict=True):
            assert logprob == pytest.approx(float(logits_V[token]), abs=1e-5)
    assert set(counts) == set(places)
    for place in places:
        share = float(logits_V[place].exp())
        assert abs(counts[place] / rows - share) < 4 * math.sqrt(share * (1 - share) / rows)


def test_the_ends_of_the_distribution_are_never_impossible_tokens() -> None:
    probabilities_RV = torch.tensor([[0.0, 0.7, 0.3, 0.0], [0.0, 0.7, 0.3, 0.0]])
    ends_R = torch.tensor([0.0, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert invert_distribution(probabilities_RV, ends_R).tolist() == [1, 2]
    assert invert_distribution(probabilities_RV, torch.ones(2, dtype=torch.float64)).tolist() == [2, 2]


def test_masked_tokens_are_never_chosen() -> None:
    logits_BV = torch.full((50, 1000), float("-inf"))
    logits_BV[:, 321] = -3.0
    sampling = [SamplingParams(temperature=2.0, seed=row) for row in range(50)]
    chosen = choose_tokens(logits_BV, sampling, [UniformStream(row, []) for row in range(50)])
    assert set(chosen.token_ids) == {321}
    assert chosen.logprobs == [0.0] * 50
