"""A tokenizer with no dependencies: one id a byte, and a ChatML-like chat template. It knows no vocabulary files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmgraph.runtime.engine import ChatMessage

MARKERS = ("<|im_start|>", "<|im_end|>", "<|end|>")
FIRST_MARKER = 256
START, END_OF_TURN, END_OF_TEXT = range(FIRST_MARKER, FIRST_MARKER + len(MARKERS))
_SPLIT = re.compile("(" + "|".join(re.escape(marker) for marker in MARKERS) + ")")


class ByteTokenizer:
    """Ids 0 to 255 are bytes of UTF-8; markers follow. Only template text can make a marker."""

    fingerprint = "lmgraph-testing-bytes-1"
    vocabulary_size = FIRST_MARKER + len(MARKERS)

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", "replace"))

    def encode_template(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in _SPLIT.split(text):
            ids += [FIRST_MARKER + MARKERS.index(piece)] if piece in MARKERS else self.encode(piece)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token for token in token_ids if token < FIRST_MARKER).decode("utf-8", "replace")

    def transcript(self, token_ids: Sequence[int]) -> str:
        """As ``decode``, with the markers that are really there; a text that only looks like one is not told apart."""
        text = bytearray()
        for token in token_ids:
            text += bytes([token]) if token < FIRST_MARKER else MARKERS[token - FIRST_MARKER].encode()
        return text.decode("utf-8", "replace")

    def render_chat(self, messages: Sequence[ChatMessage]) -> str:
        start, end, _ = MARKERS
        turns = [f"{start}{message.role}\n{message.content}{end}\n" for message in messages]
        return "".join(turns) + f"{start}assistant\n"
