"""A model folder: what must lie in it, and the record `model.json` beside its weights.

A folder is usable if it holds a config, safetensors weights and a tokenizer. Pickled weights are never loaded. This
module reads small JSON files only; it knows neither torch nor where models come from.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lmgraph.errors import ConfigError

RECORD_FILE = "model.json"
HASH_CHUNK_BYTES = 1 << 20


class ModelRecord(BaseModel):
    """`model.json`: where a pulled model came from and what its files hash to."""

    model_config = ConfigDict(frozen=True)

    name: str
    source: str
    """The package and file, or the hub id, in words."""
    revision: str
    licence: str
    source_sha256: str | None = None
    """Hash of the file the weights were made from; None where the weights were downloaded as they are."""
    files: dict[str, str]
    """sha256 of every weight file of the folder, by file name."""


def check_model_folder(folder: Path) -> None:
    """Raises: ConfigError naming what is missing if ``folder`` cannot be a model."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder.", hint="Give the folder that holds config.json.")
    missing: list[str] = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        missing.append("*.safetensors (pickled weights are never loaded)" if pickled else "*.safetensors")
    if not (folder / "tokenizer.json").is_file():
        missing.append("tokenizer.json")
    if missing:
        raise ConfigError(
            f"{folder} is not a usable model folder: missing {', '.join(missing)}.",
            hint="A model folder holds config.json, safetensors weights and tokenizer.json, as save_pretrained writes.",
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{folder / 'config.json'} cannot be read as JSON: {error}.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ConfigError(f"{folder / 'config.json'} is no model config: expected an object with `model_type`.")


def write_record(folder: Path, record: ModelRecord) -> None:
    (folder / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> ModelRecord | None:
    """The record of a pulled model; None if there is none or it cannot be read."""
    try:
        return ModelRecord.model_validate_json((folder / RECORD_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def hash_weights(folder: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in sorted(folder.glob("*.safetensors"))}


def hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
