"""What transformers and PEFT, in float32, give the tokens that an engine has sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmgraph.runtime.engine import Generation


def reference_model(folder: Path, adapter: Path | None = None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()


def scored(model: Any, prompt_ids: Sequence[int], generation: Generation) -> list[float]:
    """What ``model`` gives the sampled tokens, in nats."""
    import torch

    ids = torch.tensor([[*prompt_ids, *generation.token_ids]])
    with torch.inference_mode():
        logprobs = model(ids).logits[0].float().log_softmax(-1)
    start = len(prompt_ids) - 1
    return [float(logprobs[start + place, token]) for place, token in enumerate(generation.token_ids)]


def widest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference between two lists of the same length."""
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
