"""The retriever of this program: BM25 over lead paragraphs of Wikipedia pages.

The corpus is read from its packed file and indexed on the first search, in one or two seconds; later searches take a
few milliseconds. Nothing is written. Searches may come from several threads.
"""

from __future__ import annotations

import json
import lzma
import os
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

CORPUS = "wiki17.jsonl.xz"
VARIABLE = "LMGRAPH_HOVER_CORPUS"
"""Names another corpus file, `.jsonl` or `.jsonl.xz`, with `title` and `text` in each row."""

SHOWN = 320
"""Characters of a paragraph that a passage shows. The whole paragraph is searched; prompts stay short."""

K1, B = 0.9, 0.4


class CorpusError(Exception):
    """The corpus cannot be read or searched; the message says what to do."""


class _Index(NamedTuple):
    titles: list[str]
    texts: list[str]
    words: frozenset[str]
    scores: Any
    """A bm25s.BM25; the library has no types."""


_index: _Index | None = None
_lock = threading.Lock()


def bm25(query: str, k: int = 5) -> list[dict[str, str | float]]:
    """The ``k`` best passages, best first: title, the beginning of the text, and score.

    Passages that share no word with the query are not returned. Equal scores keep the corpus's order, by title.
    """
    index = _ready()
    words = [word for word in _words([query])[0] if word in index.words]
    if not words or k < 1:
        return []
    scores = index.scores.get_scores(words)
    order = [int(place) for place in (-scores).argsort(kind="stable")[:k] if scores[place] > 0]
    return [
        {"title": index.titles[place], "text": cut(index.texts[place]), "score": round(float(scores[place]), 4)}
        for place in order
    ]


def cut(text: str, limit: int = SHOWN) -> str:
    """The beginning of the text, up to the end of a word."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    if not text[limit - 1].isspace():
        head = head.rpartition(" ")[0] or head
    return f"{head.rstrip(' ,;:')}…"


def find_corpus(start: Path) -> Path:
    """The corpus file: the one that $LMGRAPH_HOVER_CORPUS names, else the one in the folder `corpus` beside ``start``.

    Raises: CorpusError that says where it was looked for.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise CorpusError(f"${VARIABLE} names {named}, which is no file: name a .jsonl or .jsonl.xz file")
        return Path(named)
    place = start.parent / "corpus" / CORPUS
    if place.is_file():
        return place
    raise CorpusError(
        f"There is no corpus/{CORPUS} in {start.parent}: copy it there from lmgraph's programs/hover/corpus, "
        f"or set ${VARIABLE} to a .jsonl or .jsonl.xz file with `title` and `text` in each row"
    )


def read_corpus(path: Path) -> Iterator[tuple[str, str]]:
    """Title and text of each paragraph. Raises: CorpusError."""
    try:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    yield str(row["title"]), str(row["text"])
                except (ValueError, KeyError, TypeError) as error:
                    raise CorpusError(f"{path}, row {number}: no object with `title` and `text` ({error})") from None
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is damaged ({error}): get the file again") from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from None


def _ready() -> _Index:
    global _index
    with _lock:  # two first searches at once must not build two indexes
        if _index is None:
            _index = _build(list(read_corpus(find_corpus(Path(__file__).resolve()))))
        return _index


def _build(paragraphs: list[tuple[str, str]]) -> _Index:
    try:
        import bm25s
    except ImportError as error:
        raise CorpusError(f"Searching needs bm25s ({error}): pip install bm25s") from None
    tokens = _words([f"{title} | {text}" for title, text in paragraphs])
    scores = bm25s.BM25(method="lucene", k1=K1, b=B)
    scores.index(tokens, show_progress=False)
    titles, texts = [title for title, _ in paragraphs], [text for _, text in paragraphs]
    return _Index(titles, texts, frozenset(word for words in tokens for word in words), scores)


def _words(texts: list[str]) -> list[list[str]]:
    """Words without stop words; accents do not count, so that `Erdos` finds `Erdős`."""
    import bm25s

    plain = [_without_accents(text) for text in texts]
    found: list[list[str]] = bm25s.tokenize(plain, stopwords="en", return_ids=False, show_progress=False)
    return found


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
