"""The response cache: what engines answered, by the whole request.

One small file an answer, named by the hash of all that decides it: engine, model, tokenizer, adapter version, prompt
ids, sampling, the seed where anything is sampled, and the machine where that is another one. A file is written beside
its place and moved there, so processes share a cache without locks. It begins with a checksum over its name and
content: one that was torn, changed or moved is a miss, and is deleted. Values are made anew from the file at each hit.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from array import array
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.runtime.addresses import is_loopback
from lmgraph.runtime.answers import Known
from lmgraph.runtime.engine import Engine, GenerateRequest, Generation, RemoteEngine, TrainableEngine

FORMAT = "lmgraph-answer-1"
"""Takes part in every name, so that another format never meets these files."""
_DIGEST = 32
"""Bytes of names and checksums."""
_WEIGHTS = ("*.safetensors", "config.json")


class ResponseCache:
    """Answers in a folder. Any number of processes may use it at once. Raises: ConfigError where it is not writable.

    ``setup`` is by kind of engine what else decides an answer and the engine does not say: options, such as the number
    format.
    """

    def __init__(self, folder: Path, *, setup: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.hits = 0
        self.misses = 0
        self.damaged = 0
        """Files that were not what was written: misses too."""
        self.unwritten = 0
        """Answers that could not be kept, the disk being full or the folder gone."""
        self._setup = dict(setup or {})
        self._engines: dict[int, tuple[Engine, bytes]] = {}
        self._names = itertools.count()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = self._beside(folder)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"The response cache {folder} cannot be written: {error.strerror or error}.",
                hint="choose a folder you may write to, or leave the cache out",
            ) from None

    def find(self, name: str) -> Generation | None:
        """The answer of this name, or None."""
        path = self._path(name)
        try:
            data = path.read_bytes()
        except OSError:
            self.misses += 1
            return None
        body = data[_DIGEST:]
        if data[:_DIGEST] == _sum(name, body):
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # no answer, whatever the checksum says
                found = _read(body)
                self.hits += 1
                return found
        self.damaged += 1
        self.misses += 1
        with suppress(OSError):
            path.unlink()
        return None

    def keep(self, name: str, generation: Generation) -> None:
        """A disk that takes no more is no reason to fail a run: then the answer is not kept."""
        body = _written(generation)
        path = self._path(name)
        beside = self._beside(path.parent)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(_sum(name, body) + body)
            beside.replace(path)
        except OSError:
            self.unwritten += 1
            with suppress(OSError):
                beside.unlink()

    def name(self, engine: Engine, request: GenerateRequest) -> str:
        """What the answer to this request is kept under. A seed takes part where something is sampled."""
        sampling = request.sampling
        if sampling.temperature == 0:
            sampling = replace(sampling, seed=0)
        digest = hashlib.blake2b(self._engine_part(engine), digest_size=_DIGEST)
        digest.update(json.dumps([request.adapter, repr(sampling)]).encode())
        digest.update(array("q", request.prompt_ids).tobytes())
        return digest.hexdigest()

    def _engine_part(self, engine: Engine) -> bytes:
        known = self._engines.get(id(engine))
        if known is None:
            weights = _weights(engine.model_folder) if isinstance(engine, TrainableEngine) else []
            fingerprint = engine.tokenizer.fingerprint
            options = self._setup.get(engine.name)
            parts = [FORMAT, options, engine.name, engine.model_id, fingerprint, engine.stop_token_ids, weights]
            # Whether another machine is asked must not tell what a model on this one was asked before.
            parts += (
                sorted(url for url in engine.urls if not is_loopback(url)) if isinstance(engine, RemoteEngine) else []
            )
            text = json.dumps(parts, sort_keys=True, default=str)
            known = self._engines[id(engine)] = (engine, text.encode())
        return known[1]

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name[2:]

    def _beside(self, folder: Path) -> Path:
        return folder / f".{os.getpid()}-{id(self):x}-{next(self._names)}"


class CachedAnswers:
    """A response cache as calls see it. ``sampled`` takes calls that an engine need not answer alike twice, too."""

    def __init__(self, cache: ResponseCache, *, sampled: bool = False) -> None:
        self._cache = cache
        self._sampled = sampled

    def find(self, engine: Engine, request: GenerateRequest) -> Known | None:
        if not self._takes(engine, request):
            return None
        found = self._cache.find(self._cache.name(engine, request))
        return None if found is None else Known(found, "cache")

    def name(self, engine: Engine, request: GenerateRequest) -> str | None:
        return self._cache.name(engine, request) if self._takes(engine, request) else None

    def keep(self, engine: Engine, request: GenerateRequest, generation: Generation) -> None:
        if self._takes(engine, request) and generation.finish_reason != "abort":
            self._cache.keep(self._cache.name(engine, request), generation)

    def _takes(self, engine: Engine, request: GenerateRequest) -> bool:
        return self._sampled or request.sampling.temperature == 0 or engine.honours_seed


def _weights(folder: Path) -> list[Any]:
    """What tells the weights in a folder from those that lay there before."""
    files = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _sum(name: str, body: bytes) -> bytes:
    return hashlib.blake2b(name.encode() + body, digest_size=_DIGEST).digest()


def _written(generation: Generation) -> bytes:
    allowed = generation.allowed
    data = {
        "token_ids": generation.token_ids,
        "logprobs": generation.logprobs,
        "finish_reason": generation.finish_reason,
        "allowed": None if allowed is None else [base64.b64encode(one).decode() for one in allowed],
    }
    return json.dumps(data, separators=(",", ":")).encode()


def _read(body: bytes) -> Generation:
    """Without times and counts of tokens computed: nothing was computed. Raises: ValueError, KeyError, TypeError."""
    data = json.loads(body)
    allowed = data["allowed"]
    return Generation(
        data["token_ids"],
        data["logprobs"],
        data["finish_reason"],
        allowed=None if allowed is None else [base64.b64decode(one) for one in allowed],
    )
