"""Chats as ids, for engines that know no token ids: one id a character, and one for each edge of a turn.

The runtime writes prompts as ids. Here an id is a character, so that prompts come back as the chat they are, and no
character that a user gives can ever be the edge of a turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmgraph.errors import EngineRejected
from lmgraph.runtime.engine import ChatMessage

ROLES = ("system", "user", "assistant")
FIRST_MARKER = 0x110000
"""The first number that is no character."""
END = FIRST_MARKER + len(ROLES)
VOCABULARY = END + 1
MARKERS = (*(f"<|{role}|>" for role in ROLES), "<|end|>")
_SPLIT = re.compile("(" + "|".join(re.escape(marker) for marker in MARKERS) + ")")


class TextTokenizer:
    """Text to characters and back."""

    @property
    def fingerprint(self) -> str:
        return "lmgraph-text-1"

    def encode(self, text: str) -> list[int]:
        return [0xFFFD if 0xD800 <= (code := ord(char)) < 0xE000 else code for char in text]

    def encode_template(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in _SPLIT.split(text):
            ids += [FIRST_MARKER + MARKERS.index(piece)] if piece in MARKERS else self.encode(piece)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(
            "\ufffd" if 0xD800 <= token < 0xE000 else chr(token) for token in token_ids if 0 <= token < FIRST_MARKER
        )

    def render_chat(self, messages: Sequence[ChatMessage]) -> str:
        return "".join(f"<|{message.role}|>{message.content}<|end|>" for message in messages) + "<|assistant|>"


def messages_of(token_ids: Sequence[int]) -> list[dict[str, str]]:
    """The chat that ``token_ids`` are, without the open turn of the assistant at its end.

    Raises: EngineRejected where they are none.
    """
    tokenizer = TextTokenizer()
    messages: list[dict[str, str]] = []
    role: str | None = None
    start = 0
    for place, token in enumerate(token_ids):
        if token < FIRST_MARKER:
            continue
        text = tokenizer.decode(token_ids[start:place])
        start = place + 1
        if token == END and role is not None:
            messages.append({"role": role, "content": text})
            role = None
        elif token < END and role is None and not text:
            role = ROLES[token - FIRST_MARKER]
        else:
            raise _no_chat()
    if role != "assistant" or start != len(token_ids) or not messages:
        raise _no_chat()
    return messages


def _no_chat() -> EngineRejected:
    return EngineRejected(
        "the prompt is no chat with an open turn of the assistant at its end.",
        hint="render it with this engine's own tokenizer",
    )
