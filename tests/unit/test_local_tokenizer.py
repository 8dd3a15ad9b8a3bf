"""Two tokenizers in one: template text knows control tokens, user data never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.errors import EngineUnavailable
from lmgraph.runtime.engine import ChatMessage
from support.tiny_model import SPECIAL_TOKENS, make_tiny_tokenizer

pytest.importorskip("transformers")

from lmgraph.engines.local.tokenizer import LocalTokenizer


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
