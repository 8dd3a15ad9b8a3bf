"""What an SGLang server says of itself, and whether it can serve our token ids: asked before its first call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmgraph.engines.http.problems import Malformed, Refused
from lmgraph.engines.http.transport import Transport
from lmgraph.errors import ConfigError, EngineUnavailable
from lmgraph.runtime.engine import ChatMessage, Tokenizer

OLDEST = (0, 5, 22)
"""Older ones leak references to adapters, and leave an endpoint open that should ask for the key."""
PROBED_PIECES = 512
TEXTS = (
    "plain words",
    "two\nlines",
    "naïve café ☕ 日本語 👩‍🚀",
    '{"json": [1, 2]}',
    "  spaces\tand tabs  ",
    "3.14 0x1F",
)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server, by its own account."""

    model_path: str
    tokenizer_path: str
    served_name: str
    context_length: int
    """Tokens of prompt and completion together that it gives in full."""
    serves_adapters: bool
    deterministic: bool
    """Whether it honours seeds."""

    def can_stand_in_for(self, other: ServerFacts) -> bool:
        """Whether it gives all that ``other`` gives."""
        return (
            self.context_length >= other.context_length
            and self.deterministic >= other.deterministic
            and self.serves_adapters >= other.serves_adapters
        )


async def ask_facts(transport: Transport, url: str, headers: Mapping[str, str]) -> ServerFacts:
    """Raises: Unreachable, Refused, Malformed; ConfigError for a server that is too old or does not generate."""
    model = _table(await _either(transport, url, ("/model_info", "/get_model_info"), headers))
    server = _table(await _either(transport, url, ("/server_info", "/get_server_info"), headers))
    models = _table(await transport.get(f"{url}/v1/models", headers))
    version = str(server.get("version") or "")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if len(numbers) == 3 and numbers < OLDEST:
        raise ConfigError(
            f"The server at {url} is SGLang {version}; {'.'.join(map(str, OLDEST))} or newer is needed.",
            hint="upgrade it, or start one with `lmgraph engine up`",
        )
    if model.get("is_generation") is False:
        raise ConfigError(f"The server at {url} serves no model that generates text.")
    path = model.get("model_path")
    if not isinstance(path, str):
        raise Malformed("/model_info names no model_path: is this an SGLang server?")
    return ServerFacts(
        model_path=path,
        tokenizer_path=str(model.get("tokenizer_path") or path),
        served_name=str(model.get("served_model_name") or server.get("served_model_name") or path),
        context_length=_context(models, server),
        serves_adapters=bool(server.get("enable_lora")),
        deterministic=bool(server.get("enable_deterministic_inference")),
    )


async def compare_tokenizers(
    transport: Transport, url: str, headers: Mapping[str, str], tokenizer: Tokenizer, vocabulary: int
) -> None:
    """Hold the server's tokenizer to ours on texts, on a chat, and on pieces from all over the vocabulary.

    Raises: ConfigError that shows the first difference; EngineUnavailable where the server cannot be asked;
    Unreachable, Refused, Malformed.
    """
    step = max(1, vocabulary // PROBED_PIECES)
    pieces = [tokenizer.decode([token]) for token in range(0, vocabulary, step)]
    chat = tokenizer.render_chat([ChatMessage("system", "Answer briefly."), ChatMessage("user", "Name a colour.")])
    probes = [chat, *TEXTS, *(piece for piece in pieces if piece and "\ufffd" not in piece)]
    try:
        body = {"prompt": probes, "add_special_tokens": False}
        answer = _table(await transport.post(f"{url}/tokenize", body, headers))
    except Refused as problem:
        if problem.status != 404:
            raise
        raise EngineUnavailable(
            f"The server at {url} has no /tokenize, so its tokenizer cannot be compared with ours.",
            hint="give the URLs of SGLang servers themselves, not of what stands before them",
        ) from None
    theirs = answer.get("tokens")
    if not isinstance(theirs, list) or len(theirs) != len(probes):
        raise Malformed("/tokenize gave no list of ids for each text")
    for probe, their_ids in zip(probes, theirs, strict=True):
        our_ids = tokenizer.encode_template(probe)
        if our_ids != their_ids:
            raise ConfigError(
                f"The server at {url} has another tokenizer: {probe[:40]!r} is {_some(their_ids)} there and "
                f"{_some(our_ids)} here.",
                hint="name the model that it serves: --lm NAME=sglang:MODEL@URL",
            )


async def _either(transport: Transport, url: str, paths: tuple[str, str], headers: Mapping[str, str]) -> object:
    """The first path that the server knows: newer ones have renamed theirs."""
    try:
        return await transport.get(url + paths[0], headers)
    except Refused as problem:
        if problem.status != 404:
            raise
        return await transport.get(url + paths[1], headers)


def _table(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise Malformed("the answer is no JSON object: is this an SGLang server?")
    return answer


def _context(models: Mapping[str, Any], server: Mapping[str, Any]) -> int:
    """The scheduler cuts a completion short where prompt and completion pass the longest request less one token. It
    keeps one token of the context, or of its memory, and says the longest prompt, which is 5 shorter."""
    cards = models.get("data")
    lengths = [card.get("max_model_len") for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
    model = next((length for length in lengths if isinstance(length, int)), None)
    longest_prompt = server.get("max_req_input_len")
    bounds = [model - 2] if model is not None else []
    if isinstance(longest_prompt, int):
        bounds.append(longest_prompt + 4)
    if not bounds:
        raise Malformed("neither /v1/models nor /server_info says how long the context is")
    return min(bounds)


def _some(ids: object) -> str:
    return str(ids[:8])[:-1] + ", …]" if isinstance(ids, list) and len(ids) > 8 else str(ids)
