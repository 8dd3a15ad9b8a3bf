"""Makes wiki17.jsonl.xz and SHA256SUMS of this folder.

    python programs/hover/corpus/make_corpus.py PART1.jsonl PART2.jsonl

The arguments are JSON Lines files with one paragraph a row: `title` and `text`. Rows with the same title count as
one; the first one stays. Titles lose their HTML entities, white space is tidied, and the rows are sorted by title, so
that the same paragraphs always make the same file.
"""

from __future__ import annotations

import hashlib
import html
import json
import lzma
import sys
from collections.abc import Iterable
from pathlib import Path

NAME = "wiki17.jsonl"


def paragraphs(lines: Iterable[str]) -> list[dict[str, str]]:
    """One row a title, sorted by title."""
    texts: dict[str, str] = {}
    for line in lines:
        row = json.loads(line)
        title = " ".join(html.unescape(row["title"]).split())
        texts.setdefault(title, " ".join(row["text"].split()))
    return [{"title": title, "text": texts[title]} for title in sorted(texts)]


def write(rows: list[dict[str, str]], folder: Path) -> None:
    """The compressed rows, and the checksum of the rows as they are, for unpack.py."""
    plain = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    (folder / f"{NAME}.xz").write_bytes(lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME))
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(plain).hexdigest()}  {NAME}\n", encoding="utf-8")


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit("usage: python make_corpus.py PART.jsonl …")
    rows = paragraphs(line for name in sys.argv[1:] for line in Path(name).read_text(encoding="utf-8").splitlines())
    write(rows, Path(__file__).parent)
    print(f"{NAME}.xz: {len(rows)} paragraphs")


if __name__ == "__main__":
    main()
