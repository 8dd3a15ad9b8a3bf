"""The embedded engine: a model in this process, on torch and transformers.

Importing this package is cheap; torch is imported by `open_local_engine`. `supply` turns names into model folders.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraph.engines.local.progress import LOCAL_EXTRA_HINT
from lmgraph.engines.local.supply import is_folder_spec, resolve
from lmgraph.errors import ConfigError, EngineUnavailable

if TYPE_CHECKING:
    from lmgraph.engines.local.engine import LocalEngine

__all__ = ["open_local_engine"]


def open_local_engine(model: str, **options: Any) -> LocalEngine:
    """Load ``model`` (a pulled name, a hub id that was pulled, or a folder); blocks for seconds.

    ``options`` are the fields of `lmgraph.engines.local.engine.LocalOptions`: dtype, device, threads, max_batch,
    max_batch_tokens, share_prefixes, prefix_cache_mb, lean, merged_adapters.

    Raises: EngineUnavailable if the local extra is not installed or the model is not pulled; ConfigError for an
    option that is none.
    """
    needed = ("torch", "transformers", "safetensors", "tokenizers", "numpy")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineUnavailable(f"the local engine needs {', '.join(missing)}.", hint=LOCAL_EXTRA_HINT)
    folder: Path = resolve(model)

    from lmgraph.engines.local.engine import LocalEngine, LocalOptions

    try:
        chosen = LocalOptions(**options)
    except TypeError as error:
        known = ", ".join(LocalOptions.__dataclass_fields__)
        raise ConfigError(f"the local engine has no such option: {error}.", hint=f"Options: {known}.") from error
    return LocalEngine(folder.name if is_folder_spec(model) else model, folder, chosen)
