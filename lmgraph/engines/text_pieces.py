"""Text of token ids that come a few at a time: told in pieces that are never taken back."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lmgraph.runtime.engine import Tokenizer

BROKEN = "\ufffd"
"""What a tokenizer decodes bytes to that are no whole character, or not yet."""


class TextPieces:
    """Takes the ids of one answer, in order. Together the pieces are the text of all ids; none has half a character or
    a special token.

    ``open_ids`` are tokens after which nothing is certain until another one follows.
    """

    def __init__(self, tokenizer: Tokenizer, open_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._open_ids = open_ids
        self._ids: list[int] = []
        """From the last place but one where a character ended: what a token says may depend on the one before it."""
        self._settled = 0
        """How many of them are told in full."""
        self._told = ""
        """Of the text of these ids."""

    def add(self, token_ids: Sequence[int]) -> str:
        """The text that these ids make certain; it may be empty."""
        self._ids += token_ids
        if self._ids and self._ids[-1] in self._open_ids:
            return ""
        text = self._tokenizer.decode(self._ids)
        certain = text.rstrip(BROKEN)
        piece = certain[len(self._told) :]
        if piece and certain == text:
            del self._ids[: self._settled]
            self._settled = len(self._ids)
            self._told = self._tokenizer.decode(self._ids)
        else:
            self._told += piece
        return piece

    def rest(self) -> str:
        """What was held back, once all ids have come."""
        return self._tokenizer.decode(self._ids)[len(self._told) :]
