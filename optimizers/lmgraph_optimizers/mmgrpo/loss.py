"""The policy-gradient loss of one call's tokens. Shapes: T tokens of one completion.

PPO's clipped surrogate (Schulman et al., arXiv:1707.06347, eq. 7) with the upper clip apart from the lower one (DAPO,
arXiv:2503.14476, section 3.1) and the dual clip for negative advantages (Ye et al., arXiv:1912.09729, eq. 5). Tokens of
the whole optimizer batch weigh the same, as in DAPO's token-level loss.
"""

from __future__ import annotations

import torch


def surrogate(
    logprobs_T: torch.Tensor,
    sampler_logprobs_T: torch.Tensor,
    advantage: float,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float,
) -> torch.Tensor:
    """Sum over tokens of the term that is maximised; a scalar.

    rho = exp(log pi - log mu) with the sampler's own mu; the term is min(rho A, clip(rho, 1 - low, 1 + high) A), and
    for A < 0 not below ``dual_clip`` A.
    """
    ratio_T = torch.exp(logprobs_T - sampler_logprobs_T)
    clipped_T = ratio_T.clamp(1.0 - clip_low, 1.0 + clip_high)
    term_T = torch.minimum(ratio_T * advantage, clipped_T * advantage)
    if advantage < 0:
        term_T = term_T.clamp(min=dual_clip * advantage)
    return term_T.sum()
