"""The Python that the programs of this folder name. Compiling reads it and never runs it."""

from __future__ import annotations

from typing import Any


def score(**values: Any) -> float:
    return float(len(values))


def named(**values: Any) -> dict[str, Any]:
    return values


def listed(**values: Any) -> list[Any]:
    return list(values.values())


def sent(**values: Any) -> bool:
    return bool(values)


def count(gold: Any, pred: Any) -> int:
    return int(gold == pred)


search = distinct = share = notify = kept = score
