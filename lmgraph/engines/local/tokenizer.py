"""The local model's tokenizer: template text and user data are encoded by two different tokenizers.

The data tokenizer has no added tokens at all, so no text a user gives can become `<|im_end|>` or any other control
token. The template tokenizer knows them. This module knows neither torch nor models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from lmgraph.engines.local.tokenizer_class import load_tokenizer
from lmgraph.errors import EngineRejected, EngineUnavailable
from lmgraph.runtime.engine import ChatMessage

END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "</s>", "<eos>")
"""Names of end-of-turn and end-of-text tokens in common models, for configs that list only one of theirs."""


class LocalTokenizer:
    """Text to ids and back. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        try:
            chat = load_tokenizer(folder)
        except (OSError, ValueError) as error:
            raise EngineUnavailable(f"the tokenizer of {folder} cannot be loaded: {error}") from error
        if not getattr(chat, "is_fast", False):
            raise EngineUnavailable(f"{folder} has no fast tokenizer (tokenizer.json).")
        self._chat = chat
        template: tokenizers.Tokenizer = tokenizers.Tokenizer.from_str(chat.backend_tokenizer.to_str())
        template.no_padding()
        template.no_truncation()
        self._template = template
        self.definition: str = template.to_str()
        """The whole tokenizer as JSON, for grammar compilers."""
        parsed: dict[str, Any] = json.loads(self.definition)
        self._added: dict[str, int] = {token["content"]: token["id"] for token in parsed["added_tokens"]}
        self._special = {token["content"] for token in parsed["added_tokens"] if token["special"]}
        self._data = _without_added_tokens(parsed)
        self.open_ids = self._open_ids()
        """Tokens after which the text so far is not certain yet."""
        self.vocabulary_size: int = template.get_vocab_size(with_added_tokens=True)
        chat_template: object = chat.chat_template
        identity = f"{self.definition}\0{chat_template}"
        self._fingerprint = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokenizer's own end-of-sequence id first, then the known end tokens it has."""
        ids: list[int] = [] if self._chat.eos_token_id is None else [int(self._chat.eos_token_id)]
        ids += [self._added[name] for name in END_TOKENS if name in self._special]
        return tuple(dict.fromkeys(ids))

    @property
    def longest_input(self) -> int:
        """Tokens the tokenizer was made for; huge where it does not say."""
        return int(self._chat.model_max_length)

    def encode(self, text: str) -> list[int]:
        return self._data.encode(_well_formed(text), add_special_tokens=False).ids

    def encode_template(self, text: str) -> list[int]:
        return self._template.encode(_well_formed(text), add_special_tokens=False).ids

    def decode(self, token_ids: Sequence[int]) -> str:
        known = [token for token in token_ids if 0 <= token < self.vocabulary_size]
        return self._template.decode(known, skip_special_tokens=True)

    def render_chat(self, messages: Sequence[ChatMessage]) -> str:
        """Raises: EngineRejected if the model has no chat template or its template refuses the roles."""
        if self._chat.chat_template is None:
            raise EngineRejected(
                "this model has no chat template.", hint="Use an instruction-tuned model, such as smollm2-135m."
            )
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self._chat.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            # A template is code of the model: it may raise whatever it likes, most often for an order of roles.
            raise EngineRejected(f"the model's chat template refuses these messages: {error}") from error

    def _open_ids(self) -> frozenset[int]:
        """Single bytes as SentencePiece has them: a run of them that is no UTF-8 as a whole is U+FFFD throughout.
        Special tokens are left out of the text, and so end no run."""
        names = (f"<0x{byte:02X}>" for byte in range(256))
        single = {token for name in names if (token := self._template.token_to_id(name)) is not None}
        return frozenset(single | {self._added[name] for name in self._special} if single else ())


def _without_added_tokens(definition: dict[str, Any]) -> tokenizers.Tokenizer:
    """The same tokenizer for plain text: added tokens gone from matching and, where no merge makes them, from the
    vocabulary, since some models emit a whole pre-token that the vocabulary holds."""
    model = definition["model"]
    contents = {token["content"] for token in definition["added_tokens"]}
    plain_model = dict(model)
    if model.get("type") == "BPE":
        merges: list[Any] = model["merges"]
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
        used = {part for pair in pairs for part in (*pair, "".join(pair))}
        kept = contents - used - {model.get("unk_token")}
        plain_model["vocab"] = {
            text: index for text, index in model["vocab"].items() if text not in kept or len(text) == 1
        }
    plain = {**definition, "added_tokens": [], "model": plain_model, "post_processor": None}
    return tokenizers.Tokenizer.from_str(json.dumps(plain))


def _well_formed(text: str) -> str:
    """``text`` with lone surrogates, which have no UTF-8 form, replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
