"""The policy-gradient loss, token by token. Shapes: M tokens of all samples of a micro-batch.

PPO's clipped surrogate (Schulman et al., arXiv:1707.06347, equation 7) with the upper clip apart from the lower one
(DAPO, arXiv:2503.14476, section 3.1) and the dual clip for negative advantages (Ye et al., arXiv:1912.09729,
equation 5); truncated importance sampling where sampler and trainer differ in numerics (Yao et al., "Your efficient
RL framework secretly brings you off-policy RL training", 2025); the k3 estimator of KL (Schulman, "Approximating KL
divergence", 2020; GRPO, arXiv:2402.03300, equation 4).
"""

from __future__ import annotations

import torch

TIS_CAP = 2.0
"""Most that a token's weight min(pi_old / mu, cap) can be."""


def surrogate(
    logprobs_M: torch.Tensor,
    behaviour_M: torch.Tensor,
    advantages_M: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float,
) -> torch.Tensor:
    """The term that is maximised, a token each.

    rho = exp(log pi - ``behaviour``); the term is min(rho A, clip(rho, 1 - low, 1 + high) A), and for A < 0 not below
    ``dual_clip`` A.
    """
    ratios_M = torch.exp(logprobs_M - behaviour_M)
    clipped_M = ratios_M.clamp(1.0 - clip_low, 1.0 + clip_high)
    terms_M = torch.minimum(ratios_M * advantages_M, clipped_M * advantages_M)
    return torch.where(advantages_M < 0, torch.maximum(terms_M, dual_clip * advantages_M), terms_M)


def clipped_share(
    logprobs_M: torch.Tensor, behaviour_M: torch.Tensor, advantages_M: torch.Tensor, clip_low: float, clip_high: float
) -> torch.Tensor:
    """How many tokens the clip takes out of the gradient, as a number."""
    ratios_M = torch.exp(logprobs_M - behaviour_M)
    outside_M = (advantages_M > 0) & (ratios_M > 1.0 + clip_high) | (advantages_M < 0) & (ratios_M < 1.0 - clip_low)
    return outside_M.sum()


def importance_weights(old_logprobs_M: torch.Tensor, sampler_logprobs_M: torch.Tensor) -> torch.Tensor:
    """min(pi_old / mu, cap), without gradient."""
    return torch.exp(old_logprobs_M - sampler_logprobs_M).clamp(max=TIS_CAP).detach()


def k3(logprobs_M: torch.Tensor, reference_M: torch.Tensor) -> torch.Tensor:
    """pi_ref / pi - log(pi_ref / pi) - 1: never negative, and in expectation under pi the KL divergence from pi_ref."""
    difference_M = reference_M - logprobs_M
    return torch.exp(difference_M) - difference_M - 1.0
