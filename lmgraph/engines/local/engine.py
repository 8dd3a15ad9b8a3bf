"""LocalEngine: a model in this process, behind the engine protocol.

Requests are checked here, on the event loop, and handed to the worker thread that owns the model. Batching, sampling,
constraints and adapters each have a file of their own; this one only joins them.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmgraph.engines.local.adapters import AdapterStore
from lmgraph.engines.local.constrain import ConstraintCompiler
from lmgraph.engines.local.decode import RunningBatch
from lmgraph.engines.local.jobs import Job, Rows
from lmgraph.engines.local.lean import take_lean
from lmgraph.engines.local.lean_rows import LeanRows
from lmgraph.engines.local.module_rows import ModuleRows
from lmgraph.engines.local.reader import Reader
from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.local.weights import Precision, Weights, load_weights
from lmgraph.engines.local.whole_rows import WholeRows, why_not_kept
from lmgraph.engines.local.worker import Worker
from lmgraph.engines.request_checks import check_request
from lmgraph.engines.text_pieces import TextPieces
from lmgraph.errors import ConfigError
from lmgraph.runtime.engine import GenerateRequest, Generation, TextSink

SECONDS_TO_CLOSE_AT_EXIT = 5.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How a local engine is run."""

    dtype: Precision = "auto"
    """`auto` is float32 on a CPU and bf16 on CUDA where it is native; or one of them by name. `mixed` multiplies by the
    base weights in bf16 and computes all else in float32, on the lean path."""
    device: str = "auto"
    """`auto` is CUDA where there is one."""
    threads: int | None = None
    """Compute threads; None is one a usable core."""
    max_batch: int = 64
    """Most rows decoded together."""
    max_batch_tokens: int = 32_768
    """Most prompt and completion tokens of a batch, shared ones once, which bound its memory. One request may always
    run alone."""
    share_prefixes: bool = True
    """Compute what prompts have in common once."""
    prefix_cache_mb: int = 512
    """Most MiB of key-values that are kept of prompts for later requests; 0 keeps none. Lean path only."""
    lean: bool = True
    """Run Llama-like models through the lean path; False leaves all to transformers' own forward pass."""
    merged_adapters: int = 3
    """Adapters kept merged in memory where the lean path does not run; others are merged anew when they are used."""

    def __post_init__(self) -> None:
        least = {"max_batch": 1, "max_batch_tokens": 1, "merged_adapters": 1, "threads": 1, "prefix_cache_mb": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < smallest):
                raise ConfigError(
                    f"the local engine's `{name}` must be a whole number of {smallest} or more, got {value!r}."
                )


class LocalEngine:
    """A TrainableEngine and StreamingEngine on torch and transformers. Safe to share between tasks, and between event
    loops in turn."""

    def __init__(self, model_id: str, folder: Path, options: LocalOptions | None = None) -> None:
        """Load the model of ``folder``; blocks for seconds. Raises: EngineUnavailable, ConfigError."""
        options = options or LocalOptions()
        self._model_id = model_id
        self._folder = folder
        self._tokenizer = LocalTokenizer(folder)
        self._weights = load_weights(folder, options.dtype, options.device, options.threads)
        in_vocabulary = self._weights.vocabulary_size
        stops = (*self._weights.stop_token_ids, *self._tokenizer.end_token_ids)
        self._stop_token_ids = tuple(dict.fromkeys(stop for stop in stops if 0 <= stop < in_vocabulary))
        self._context_length = min(self._weights.context_length, self._tokenizer.longest_input)
        self._rows = self._open_rows(options)
        self._adapters = AdapterStore(self._weights, self._rows.forget)
        compiler = ConstraintCompiler(self._tokenizer.definition, in_vocabulary, self._stop_token_ids)
        self._worker = Worker(RunningBatch(self._rows, compiler), max_batch=options.max_batch)
        self._finalizer = weakref.finalize(self, self._worker.close, SECONDS_TO_CLOSE_AT_EXIT)

    @property
    def name(self) -> str:
        return "local"

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def model_folder(self) -> Path:
        return self._folder

    @property
    def tokenizer(self) -> LocalTokenizer:
        return self._tokenizer

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return self._stop_token_ids

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def token_exact(self) -> bool:
        return True

    @property
    def honours_seed(self) -> bool:
        return True

    @property
    def constrains(self) -> bool:
        return True

    @property
    def lean(self) -> bool:
        """Whether the lean path runs, and not transformers' own forward pass."""
        return isinstance(self._rows, LeanRows)

    @property
    def keeps_state(self) -> bool:
        """Whether a token costs one token's work; False where every token runs its whole sequence again."""
        return not isinstance(self._rows, WholeRows)

    @property
    def prefix_cache_bytes(self) -> int:
        """Bytes of the key-values that are kept for later requests, without those of requests under way."""
        return self._rows.cached_bytes

    @property
    def weights(self) -> Weights:
        """How the model was loaded. Its own forward pass is gone where the lean path has taken the weights."""
        return self._weights

    async def generate(self, request: GenerateRequest) -> Generation:
        job = self._accept(request)
        self._worker.submit(job)
        # Cancelling this task cancels the job's future, and the worker drops the row at its next token.
        return await asyncio.wrap_future(job.future)

    async def stream(self, request: GenerateRequest, tell: TextSink) -> Generation:
        """As ``generate``. While ``tell`` is busy the model goes on; what it writes meanwhile is told in one piece."""
        reader = Reader()
        job = self._accept(request, reader.wake)
        self._worker.submit(job)
        return await reader.read(job, TextPieces(self._tokenizer, self._tokenizer.open_ids), tell)

    async def load_adapter(self, name: str, folder: Path) -> None:
        await asyncio.wrap_future(self._worker.call(lambda: self._adapters.load(name, folder)))

    async def unload_adapter(self, name: str) -> None:
        await asyncio.wrap_future(self._worker.call(lambda: self._adapters.unload(name)))

    async def aclose(self) -> None:
        """Fail what is under way and stop the thread. Closing twice is no error."""
        await asyncio.to_thread(self._worker.close)

    def _open_rows(self, options: LocalOptions) -> Rows:
        lean = take_lean(self._weights) if options.lean else None
        if lean is not None:
            return LeanRows(
                lean,
                share_prefixes=options.share_prefixes,
                cache_bytes=options.prefix_cache_mb << 20,
                max_rows=options.max_batch,
                max_tokens=options.max_batch_tokens,
            )
        if options.dtype == "mixed":
            logger.warning("%s does not take the lean path: all is in float32.", self._model_id)
        if self._weights.model is None:
            self._weights = load_weights(self._folder, options.dtype, options.device, options.threads)
        reason = why_not_kept(self._weights)
        if reason is not None:
            logger.warning("%s: every token runs its whole sequence again, which is slow: %s.", self._model_id, reason)
            return WholeRows(self._weights, merged_adapters=options.merged_adapters, max_rows=options.max_batch)
        return ModuleRows(
            self._weights,
            share_prefixes=options.share_prefixes,
            merged_adapters=options.merged_adapters,
            max_rows=options.max_batch,
            max_tokens=options.max_batch_tokens,
        )

    def _accept(self, request: GenerateRequest, on_token: Callable[[], None] | None = None) -> Job:
        """Raises: EngineRejected, ContextOverflow."""
        check_request(request, self._weights.vocabulary_size, self._context_length, self._model_id)
        sampling = request.sampling
        stop_ids = self._stop_token_ids if sampling.stop_token_ids is None else sampling.stop_token_ids
        adapter = None if request.adapter is None else self._adapters.get(request.adapter)
        return Job(tuple(request.prompt_ids), sampling, stop_ids, adapter, request.rank, on_token)
