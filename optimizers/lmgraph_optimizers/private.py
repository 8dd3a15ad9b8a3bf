"""What may hold private values."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any


def holds_private(part: Any) -> bool:
    """Whether a field, or one inside its type, is labelled private."""
    if isinstance(part, tuple):
        return any(holds_private(one) for one in part)
    if not is_dataclass(part):
        return False
    if hasattr(part, "type") and getattr(part, "label", None) == "private":  # a field: a member has a label only
        return True
    return any(holds_private(getattr(part, one.name)) for one in fields(part))
