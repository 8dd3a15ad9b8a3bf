"""transformers' tokenizer of a folder, with the class that reads it remembered.

Which class that is, only `AutoTokenizer` knows, and to import it imports torch: seconds that the client of a server
pays for nothing, since the class itself needs no torch. So its name is kept under a key of all that it was chosen by.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmgraph.engines.home import lmgraph_home

CHOSEN_BY = ("config.json", "tokenizer_config.json", "tokenizer.json")


def load_tokenizer(folder: Path) -> Any:
    """What ``AutoTokenizer.from_pretrained(folder)`` gives. Raises what that raises: OSError, ValueError."""
    folder = folder.absolute()  # a relative path could be taken for the name of a repository
    known = lmgraph_home() / "tokenizers" / _key(folder)
    cls = _class_named_in(known)
    if cls is not None:
        return cls.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if getattr(tokenizer, "is_fast", False):
        with suppress(OSError):  # a full disk or a folder that may not be written costs time, no more
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(type(tokenizer).__name__, encoding="utf-8")
    return tokenizer


def _class_named_in(known: Path) -> Any:
    """None where nothing is known, or what is there names no class of fast tokenizers."""
    try:
        name = known.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    import transformers

    found: object = getattr(transformers, name, None)
    backend: type = transformers.PreTrainedTokenizerFast
    return found if isinstance(found, type) and issubclass(found, backend) else None


def _key(folder: Path) -> str:
    """Of the version of transformers, the names in the folder, and the files that `AutoTokenizer` reads first."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    digest = hashlib.sha256("\0".join([version("transformers"), *names]).encode())
    for name in CHOSEN_BY:
        with suppress(OSError):
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
        digest.update(name.encode())
    return digest.hexdigest()[:32]
