"""Adapters on SGLang servers: copied to a folder of their own content, which is never overwritten, and known by it.

A server remembers the path of an adapter that it evicts or unloads, and reloads it from there unasked. So each content
has one path and one name there for good: whatever a server reloads is what was loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from lmgraph.errors import ConfigError, EngineRejected

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
UNUSED_DAYS = 7


@dataclass(frozen=True, slots=True)
class PublishedAdapter:
    name: str
    """As the caller knows it: `shared@v12`."""
    served_as: str
    """As the servers know it: the name and its content."""
    folder: Path


@dataclass(slots=True)
class AdapterShelf:
    """Adapters by name, in a folder that the servers can read."""

    root: Path
    _by_name: dict[str, PublishedAdapter] = field(default_factory=dict)

    def get(self, name: str) -> PublishedAdapter:
        """Raises: EngineRejected if no adapter of this name is loaded."""
        adapter = self._by_name.get(name)
        if adapter is None:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise EngineRejected(f"the adapter `{name}` is not loaded.", hint=f"Loaded adapters: {known}.")
        return adapter

    def publish(self, name: str, folder: Path) -> PublishedAdapter:
        """Copy ``folder`` and remember it as ``name``.

        Raises: EngineRejected if it is no PEFT adapter, or ``name`` is another adapter already; ConfigError if it
        cannot be copied.
        """
        digest = _digest(folder)
        adapter = PublishedAdapter(name, f"{name}-{digest[:16]}", self.root / digest[:32])
        present = self._by_name.get(name)
        if present is not None:
            if present != adapter:
                raise EngineRejected(
                    f"the adapter `{name}` is loaded already with other weights.", hint="Give a new version a new name."
                )
            return present
        self._copy(folder, adapter.folder)
        self._by_name[name] = adapter
        return adapter

    def forget(self, name: str) -> None:
        self._by_name.pop(name, None)

    def _copy(self, source: Path, target: Path) -> None:
        staging = self.root / f".{target.name}-{uuid.uuid4().hex[:8]}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not target.is_dir():
                staging.mkdir()
                for file in (CONFIG_FILE, WEIGHTS_FILE):
                    shutil.copyfile(source / file, staging / file)
                try:
                    staging.rename(target)
                except OSError:
                    if not target.is_dir():  # else another process was first, with the same content
                        raise
            os.utime(target)
            self._drop_unused()
        except OSError as error:
            raise ConfigError(
                f"The adapter {source} cannot be copied to {self.root}: {error.strerror or error}.",
                hint="free space there, or set LMGRAPH_HOME to a folder you can write",
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _drop_unused(self) -> None:
        """Copies that nobody has loaded for days: training makes many."""
        oldest = time.time() - UNUSED_DAYS * 86_400
        for folder in self.root.iterdir():
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


def _digest(folder: Path) -> str:
    try:
        config = (folder / CONFIG_FILE).read_bytes()
        peft_type = json.loads(config)["peft_type"]
        digest = hashlib.sha256(len(config).to_bytes(8, "big") + config)
        with (folder / WEIGHTS_FILE).open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineRejected(f"{folder} is no PEFT adapter folder: {error}.") from error
    if peft_type != "LORA":
        raise EngineRejected(f"{folder} holds an adapter of type {peft_type}; SGLang serves LORA.")
    return digest.hexdigest()
