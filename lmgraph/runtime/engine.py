"""The engine protocol: token ids in, token ids and logprobs out.

An engine serves one base model. It knows nothing of graphs, prompts or types: the runtime renders prompts to
token ids with the engine's own tokenizer and parses what comes back. Engines that cannot give token ids and
logprobs (text engines) say so with ``token_exact = False``, and training refuses them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Choices:
    """Decode constraint: exactly one of these texts, then a stop token."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Regex:
    """Decode constraint: a text that matches ``pattern`` as a whole, then a stop token."""

    pattern: str


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """Decode constraint: a JSON text valid under ``schema``, in compact or spaced form, then a stop token.

    ``schema`` is a JSON Schema as text (hashable; compiled grammars are cached by it).
    """

    schema: str


Constraint: TypeAlias = Choices | Regex | JsonSchema


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample one completion."""

    max_tokens: int = 128
    """Most tokens to sample, the stop token included."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 switches it off."""
    seed: int = 0
    """Two requests with equal prompt, sampling and adapter give equal tokens, whatever batch they are in, as far
    as the numerics of a batch allow; engines that ignore seeds say so with ``honours_seed = False``."""
    stop_token_ids: tuple[int, ...] | None = None
    """None: the model's own end-of-turn and end-of-text ids (``Engine.stop_token_ids``)."""
    constraint: Constraint | None = None


@dataclass(slots=True)
class GenerateRequest:
    """One sample of one prompt. Nobody changes one; a frozen one takes three times as long to make, at every call."""

    prompt_ids: Sequence[int]
    sampling: SamplingParams
    adapter: str | None = None
    """`name@version` of a loaded adapter; None is the base model."""
    request_id: str = ""
    rank: tuple[int, int] = (0, 0)
    """Where more requests wait than an engine takes, the lowest goes first: (number of the run, minus what waits for
    this one, as graph/critical.py measures it)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counts them, and what they cost."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Those of the prompt tokens that the provider had cached."""
    cost: float | None = None
    """In the currency of the price table; None where the table does not name the model."""


@dataclass(slots=True)
class Generation:
    """What the sampler chose. All lists have one entry a sampled token. Not frozen, as GenerateRequest is not."""

    token_ids: list[int]
    """The stop token is included where one was sampled (``finish_reason == "stop"``)."""
    logprobs: list[float]
    """log mu of each token, in nats: fp32 log-softmax of logits / temperature (temperature 0: of the logits), after
    the mask of a constraint, before top-p and top-k."""
    finish_reason: FinishReason
    cached_tokens: int = 0
    """Prompt tokens whose key-values were reused."""
    allowed: list[bytes] | None = None
    """Where a constraint held a sampled completion (temperature above 0): for each token the set that it was chosen
    from, a bit a token id, lowest bit first, zlib-compressed. None otherwise, or from an engine that does not say."""
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    attempts: int = 1
    """Times the request was sent; those before the last did not come through."""
    usage: Usage | None = None
    """What the call took as the provider counts it, from text engines: their ids are no tokens."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Literal["system", "user", "assistant"]
    content: str


class Tokenizer(Protocol):
    """Text to ids and back, for one model."""

    @property
    def fingerprint(self) -> str:
        """Hash of vocabulary and chat template: equal fingerprints render equal prompts."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain data: text that looks like a special token is encoded as ordinary characters."""
        ...

    def encode_template(self, text: str) -> list[int]:
        """Ids of template text: special tokens are recognised. Never give it a user's data."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out. Never raises; bytes that are no UTF-8 become U+FFFD."""
        ...

    def render_chat(self, messages: Sequence[ChatMessage]) -> str:
        """The model's own chat template with the start of the assistant's turn at the end."""
        ...


@runtime_checkable
class Engine(Protocol):
    """One base model behind one door. Safe to share between tasks of one event loop."""

    @property
    def name(self) -> str:
        """Kind: `local`, `sglang`, `openai`, `scripted`."""
        ...

    @property
    def model_id(self) -> str:
        """What the model is called, as traces and artifacts record it."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def stop_token_ids(self) -> tuple[int, ...]: ...

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        ...

    @property
    def token_exact(self) -> bool:
        """Whether sampled ids and logprobs are the sampler's own, so that their calls can train."""
        ...

    @property
    def honours_seed(self) -> bool: ...

    @property
    def constrains(self) -> bool:
        """Whether ``SamplingParams.constraint`` is honoured."""
        ...

    async def generate(self, request: GenerateRequest) -> Generation:
        """Sample one completion.

        Raises: ContextOverflow if prompt and max_tokens do not fit; EngineRejected for an unknown adapter or an
        impossible constraint; EngineError for the rest. Cancelling the awaiting task drops the request.
        """
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class RemoteEngine(Engine, Protocol):
    """An engine that sends what it is given over the network, and says where to: what a binding's clearance is held
    against."""

    @property
    def urls(self) -> tuple[str, ...]: ...


@runtime_checkable
class PrefixEngine(Engine, Protocol):
    """An engine that says whether it keeps what it computed of a prompt's beginning for later calls. Where it does, the
    first of the calls that begin alike goes ahead of the others."""

    @property
    def caches_prefixes(self) -> bool: ...


TextSink: TypeAlias = Callable[[str], Awaitable[None]]
"""Is given the text of an answer piece by piece, in order. A slow one holds the answer up."""


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that tells of an answer while it is written."""

    async def stream(self, request: GenerateRequest, tell: TextSink) -> Generation:
        """As ``generate``; what ``tell`` was given is the text of the answer, in the end."""
        ...


@runtime_checkable
class AdapterEngine(Engine, Protocol):
    """An engine that serves LoRA adapters by name. A version is never overwritten: a new one gets a new name."""

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Make PEFT folder ``folder`` available as ``name`` (`shared@v12`). Loading the same name and folder twice is
        no error. Raises: EngineRejected if the adapter does not fit the base model."""
        ...

    async def unload_adapter(self, name: str) -> None: ...


@runtime_checkable
class TrainableEngine(AdapterEngine, Protocol):
    """An engine whose weights this process can train against: the trainer reads the same folder the sampler does."""

    @property
    def model_folder(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What to open: `kind` picks the engine, the rest is its configuration."""

    kind: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
