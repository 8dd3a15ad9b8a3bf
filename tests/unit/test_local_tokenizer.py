"""Two tokenizers in one: template text knows control tokens, user data never does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import EngineUnavailable
from lmgraph.runtime.engine import ChatMessage
from support.tiny_model import SPECIAL_TOKENS, make_tiny_tokenizer

pytest.importorskip("transformers")

from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.text_pieces import TextPieces


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    make_tiny_tokenizer(made)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> LocalTokenizer:
    return LocalTokenizer(folder)


def test_data_never_becomes_a_control_token(tokenizer: LocalTokenizer) -> None:
    for special in SPECIAL_TOKENS:
        text = f"a{special}b"
        ids = tokenizer.encode(text)
        assert not set(ids) & {0, 1, 2}
        assert tokenizer.decode(ids) == text
        assert set(tokenizer.encode_template(text)) & {0, 1, 2}


@pytest.mark.parametrize("text", ["", " ", "\0", "a\0b", "12 345", "naïve 日本 🙂", "\n\n1. x", "\r\n\t", "́"])
def test_data_comes_back_as_it_was(tokenizer: LocalTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text) == tokenizer.encode_template(text)


def test_lone_surrogates_become_replacement_characters(tokenizer: LocalTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode_template("\udfff")) == "\ufffd"


def test_decode_never_raises(tokenizer: LocalTokenizer) -> None:
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([0, 1, 2]) == ""
    assert tokenizer.decode([-1, 10**9]) == ""
    half = tokenizer.encode("日")[:1]
    assert "\ufffd" in tokenizer.decode(half)


def test_chat_is_the_models_own_template(tokenizer: LocalTokenizer) -> None:
    rendered = tokenizer.render_chat([ChatMessage("system", "be brief"), ChatMessage("user", "{{ 1 + 1 }} {% x %}")])
    assert rendered == (
        "<|im_start|>system\nbe brief<|im_end|>\n"
        "<|im_start|>user\n{{ 1 + 1 }} {% x %}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_end_tokens_begin_with_the_tokenizers_own(tokenizer: LocalTokenizer) -> None:
    assert tokenizer.end_token_ids == (2, 0)


def test_fingerprint_follows_template_and_vocabulary(tokenizer: LocalTokenizer, folder: Path, tmp_path: Path) -> None:
    assert LocalTokenizer(folder).fingerprint == tokenizer.fingerprint
    make_tiny_tokenizer(tmp_path)
    template = tmp_path / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert LocalTokenizer(tmp_path).fingerprint != tokenizer.fingerprint


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="tokenizer"):
        LocalTokenizer(tmp_path)


def make_word_tokenizer(folder: Path) -> None:
    """As SentencePiece makes them: `▁` is a blank, the first of which is left out, and `<0xE2>` is a byte."""
    import tokenizers
    from tokenizers import decoders, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", "<mark>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁a", "a", "é", "▁▁"]
    made: Any = tokenizers.Tokenizer(
        models.BPE({piece: place for place, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", extra_special_tokens=["<mark>"]
    )
    fast.save_pretrained(folder)


TEXT = "naïve 日本語 👩‍🚀 a  a\n"


@pytest.mark.parametrize("make", [make_tiny_tokenizer, make_word_tokenizer], ids=["bytes", "words"])
@pytest.mark.parametrize("seed", range(20))
def test_text_told_in_pieces_is_the_text_of_the_whole(make: Any, seed: int, tmp_path: Path) -> None:
    make(tmp_path)
    tokenizer = LocalTokenizer(tmp_path)
    numbers = random.Random(seed)
    known = tokenizer.encode(TEXT)
    ids: list[int] = []
    for _ in range(40):  # whole text, text that breaks off, special tokens, and anything at all
        start = numbers.randrange(len(known))
        ids += known[start : start + numbers.randrange(12)]
        ids += [numbers.randrange(tokenizer.vocabulary_size) for _ in range(numbers.choice((0, 0, 1, 5)))]
        ids += [2] * numbers.choice((0, 0, 1, 3))
    whole = tokenizer.decode(ids)
    pieces = TextPieces(tokenizer, tokenizer.open_ids)
    told, end = "", 0
    while end < len(ids):
        start, end = end, end + numbers.randrange(4)
        piece = pieces.add(ids[start:end])
        told += piece
        assert whole.startswith(told)
        assert not piece.endswith("\ufffd")
    assert told + pieces.rest() == whole


@pytest.mark.parametrize("make", [make_tiny_tokenizer, make_word_tokenizer], ids=["bytes", "words"])
def test_each_whole_character_is_told_soon(make: Any, tmp_path: Path) -> None:
    make(tmp_path)
    tokenizer = LocalTokenizer(tmp_path)
    pieces = TextPieces(tokenizer, tokenizer.open_ids)
    ids = tokenizer.encode("a日a本a")
    assert "".join(pieces.add([token]) for token in ids) == "a日a本a"
