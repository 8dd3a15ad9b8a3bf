"""Unpacks the corpora of this folder: for every NAME of SHA256SUMS, NAME.xz becomes NAME.

    python programs/hover/corpus/unpack.py [--check] [--to FOLDER]

No program needs this: they read the packed files. It is for reading and searching the corpora with other tools.
A file that is already there and right is left alone. A file appears whole or not at all, and only where its checksum
is right. With `--check` nothing is written: the packed files are read to their end and compared.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

SUMS = "SHA256SUMS"
CHUNK = 1 << 20


class UnpackError(Exception):
    """What is wrong and what to do next, in one line."""


def read_sums(folder: Path) -> dict[str, str]:
    """File name to sha256. Raises: UnpackError."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UnpackError(f"{folder / SUMS} cannot be read: {error.strerror or error}; get the folder again") from None
    sums = {}
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"([0-9a-f]{64}) [ *]([\w.-]+)", line)
        if found is None:
            raise UnpackError(f"{folder / SUMS}, line {number}: not `sha256  name`; get the file again")
        sums[found[2]] = found[1]
    return sums


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def unpack(packed: Path, target: Path | None, expected: str) -> int:
    """Writes ``target``, or only checks where there is none. Returns the number of bytes. Raises: UnpackError."""
    if target is None:
        return _copy(packed, lambda _: None, expected)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    staging = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            size = _copy(packed, file.write, expected)
            file.flush()
            os.fsync(file.fileno())
        staging.chmod(0o644)
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)
    return size


def _copy(packed: Path, write: Callable[[bytes], object], expected: str) -> int:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(packed):
        digest.update(chunk)
        size += len(chunk)
        write(chunk)
    if digest.hexdigest() != expected:
        raise UnpackError(f"{packed.name} holds other data than {SUMS} says; get both files again")
    return size


def _chunks(packed: Path) -> Iterator[bytes]:
    try:
        with lzma.open(packed, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except FileNotFoundError:
        raise UnpackError(f"{packed} is missing; get the folder again") from None
    except (lzma.LZMAError, EOFError) as error:
        raise UnpackError(f"{packed} is damaged ({error}); get the file again") from None


def run(folder: Path, to: Path, *, check: bool) -> list[str]:
    """Unpacks or checks all corpora; one line about each. Raises: UnpackError, OSError."""
    done = []
    for name, expected in read_sums(folder).items():
        packed, target = folder / f"{name}.xz", to / name
        if check:
            done.append(f"{packed.name}: right, {unpack(packed, None, expected):,} bytes unpacked")
        elif target.is_file() and sha256(target) == expected:
            done.append(f"{target}: already there")
        else:
            print(f"unpacking {packed.name} …", file=sys.stderr, flush=True)
            done.append(f"{target}: {unpack(packed, target, expected):,} bytes")
    return done


def main() -> int:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Unpack the corpora that lie beside this file.")
    parser.add_argument("--check", action="store_true", help="write nothing; compare the packed files' contents")
    parser.add_argument("--to", type=Path, default=here, metavar="FOLDER", help="where to; beside the packed files")
    options = parser.parse_args()
    try:
        for line in run(here, options.to, check=options.check):
            print(line)
    except UnpackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or options.to}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
