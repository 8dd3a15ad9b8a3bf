"""Layers that are computed again in the backward pass: the same gradients from less memory, where memory is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lmgraph_optimizers.mmgrpo import recompute
from lmgraph_optimizers.mmgrpo.base_model import BaseModel
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.recompute import SHARE_OF_FREE, bytes_kept
from lmgraph_optimizers.mmgrpo.trie import TokenTrie, build_trie, unique_sequences
from support.tiny_model import make_tiny_model
from support.training import ragged_samples


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def trained(folder: Path, **options: Any) -> tuple[BaseModel, TokenTrie, list[tuple[str, torch.nn.Parameter]]]:
    base = BaseModel(folder, MmgrpoConfig(precision="float32", rank=4, **options))
    parameters = base.add_adapter("a", seed=0)
    return base, build_trie(unique_sequences(ragged_samples()), base.device), parameters


def gradients_and_bytes(folder: Path, **options: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Of one backward pass: the gradients, and the bytes of all tensors that were kept for it."""
    base, trie, parameters = trained(folder, **options)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs_N, _ = base.logprobs(trie, "a")
        before = sum(kept.values())
        torch.autograd.backward(logprobs_N.sum())
    return {name: p.grad.clone() for name, p in parameters if p.grad is not None}, before


def test_the_gradients_are_the_same_to_the_bit_from_less_memory(model_folder: Path) -> None:
    plain, much = gradients_and_bytes(model_folder, recompute="never")
    again, little = gradients_and_bytes(model_folder, recompute="always")
    assert plain.keys() == again.keys()
    assert plain
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert little < 0.7 * much


def test_auto_goes_by_the_memory_that_is_free(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, trie, _ = trained(model_folder)
    layers = base._layers
    needed = bytes_kept(trie, base._base.config)
    for share, expected in ((0.9, True), (1.1, False)):
        free = int(needed / SHARE_OF_FREE * share)
        monkeypatch.setattr(recompute, "free_bytes", lambda device, free=free: free)
        assert layers.are_recomputed(trie, base.device) is expected


def test_the_real_amount_of_free_memory_is_known() -> None:
    assert 2**20 < recompute.free_bytes(torch.device("cpu")) < 2**50


def test_no_layer_stays_in_training(model_folder: Path) -> None:
    base, trie, _ = trained(model_folder, recompute="always")
    base.logprobs(trie, "a")
    assert not any(module.training for module in base.model.modules())
