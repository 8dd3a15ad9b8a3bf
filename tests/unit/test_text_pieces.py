"""Text of token ids told in pieces: whatever the ids and however they come, the pieces are the text of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.text_pieces import TextPieces
from lmgraph.testing.tokenizer import ByteTokenizer
from support.tiny_model import VOCABULARY_SIZE, make_tiny_tokenizer

TEXT = "ein café ☕, 日本語, 👩‍🚀 and \ufffd too"


class SentencePieces:
    """Decodes as models from SentencePiece do: a space is part of the word after it, the first one is dropped, and
    bytes stand for what the vocabulary lacks."""

    def __init__(self) -> None:
        import tokenizers
        from tokenizers import decoders, models

        words = ["<unk>", "</s>", "▁a", "▁word", "s", "▁", "é", *(f"<0x{byte:02X}>" for byte in range(256))]
        vocabulary = {word: index for index, word in enumerate(words)}
        self.inner: Any = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
        self.inner.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        self.inner.add_special_tokens(["</s>"])
        self.words = words

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.inner.decode(list(token_ids), skip_special_tokens=True))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LocalTokenizer:
    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny_tokenizer(folder)
    return LocalTokenizer(folder)


def told(tokenizer: Any, chunks: Sequence[Sequence[int]]) -> list[str]:
    pieces = TextPieces(tokenizer)
    return [*(pieces.add(chunk) for chunk in chunks), pieces.rest()]


def cut(ids: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    chunks, rest = [], list(ids)
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    return [*chunks, rest]


@given(st.lists(st.integers(0, VOCABULARY_SIZE + 3), max_size=40), st.lists(st.integers(0, 4), max_size=20))
def test_pieces_of_any_ids_are_their_text(tiny: LocalTokenizer, ids: list[int], sizes: list[int]) -> None:
    assert "".join(told(tiny, cut(ids, sizes))) == tiny.decode(ids)


@given(st.text(max_size=30), st.lists(st.integers(0, 4), max_size=40))
def test_no_piece_has_half_a_character(text: str, sizes: list[int]) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    pieces = told(tokenizer, cut(ids, sizes))
    assert "".join(pieces) == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_each_character_is_told_with_its_last_byte() -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(TEXT)
    pieces = told(tokenizer, [[token] for token in ids])
    before, mark, after = TEXT.partition("\ufffd")
    # Whether this one is the text's own is seen from what comes after it.
    assert [piece for piece in pieces if piece] == [*before, mark + after[0], *after[1:]]


def test_spaces_and_special_tokens_between_words_are_kept_and_dropped() -> None:
    tokenizer: Any = SentencePieces()
    number = {word: index for index, word in enumerate(tokenizer.words)}
    drawn = ["▁a", "▁word", "s", "</s>", "</s>", "▁word", "<0xE2>", "<0x98>", "<0x95>", "▁", "▁a", "<0xC3>"]
    ids = [number[word] for word in drawn]
    pieces = told(tokenizer, [[token] for token in ids])
    assert pieces == ["a", " word", "s", "", "", " word", "", "", "☕", " ", " a", "", "\ufffd"]
    assert told(tokenizer, [ids]) == ["a words word☕  a", "\ufffd"]
    assert "".join(pieces) == tokenizer.decode(ids)


def test_nothing_is_nothing(tiny: LocalTokenizer) -> None:
    assert told(tiny, []) == [""]
    assert told(tiny, [[], [0, 1, 2], []]) == ["", "", "", ""]
