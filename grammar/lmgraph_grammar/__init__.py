"""The grammar of `.lmg` as package data: the rules, and the parse tables made from them. No code but reading both."""

from __future__ import annotations

from importlib.resources import files

GRAMMAR = "lmg.lark"
TABLES = "lmg.tables.json"

__all__ = ["GRAMMAR", "TABLES", "grammar_text", "tables_text"]


def grammar_text() -> str:
    """The grammar in Lark's notation."""
    return files(__name__).joinpath(GRAMMAR).read_text(encoding="utf-8")


def tables_text() -> str | None:
    """The shipped parse tables as JSON, or None where they are missing."""
    try:
        return files(__name__).joinpath(TABLES).read_text(encoding="utf-8")
    except OSError:
        return None
