"""A base model and a LoRA adapter as one ordinary model folder: for `lmgraph export --merge`.

The merged weights are W + scale * B @ A in float32, rounded once to the precision that is asked for: what the local
engine serves under the adapter.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

from lmgraph.engines.local.supply import resolve
from lmgraph.errors import ConfigError, EngineRejected

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "merges.txt", "tokenizer.model",
)  # fmt: skip


def merge_adapter(model: str, adapter: Path, target: Path, dtype: Literal["float32", "bfloat16"] = "float32") -> None:
    """Write ``model`` (a pulled name or a folder) with the PEFT folder ``adapter`` merged to ``target``.

    Raises: EngineUnavailable where the model is not pulled; EngineRejected where the adapter does not fit it;
    ConfigError where the folder cannot be written.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = resolve(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, that the base lies elsewhere than where it was trained
        base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        try:
            merged: Any = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
        except (RuntimeError, ValueError, KeyError) as error:
            raise EngineRejected(f"The adapter {adapter} does not fit the model {model}: {error}.") from error
    try:
        merged.to(getattr(torch, dtype)).save_pretrained(target, safe_serialization=True)
        for name in TOKENIZER_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written: {error.strerror or error}.", hint="choose a folder with room on its disk"
        ) from error
