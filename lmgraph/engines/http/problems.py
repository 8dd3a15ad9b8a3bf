"""What can go wrong with one request, told apart by whether sending it again can help."""

from __future__ import annotations

import re

PASSES = frozenset({408, 425, 429, 502, 503, 504, 529})
"""Statuses that say: later. They are retried until the deadline."""
MAY_PASS = frozenset({500, 520, 521, 522, 523, 524})
"""Statuses that may be the request's own fault: a few tries, no more."""
OVERLOADED = frozenset({429, 503, 529})
LONGEST_DETAIL = 400


class Unreachable(Exception):
    """No whole answer came: refused, reset, closed in the middle. The request may be sent again."""


class Malformed(Exception):
    """A whole answer came and is not what the protocol says. Sending the request again is no remedy."""


class Refused(Exception):
    """A status that is no success. ``detail`` is what the server said, cut and without secrets."""

    def __init__(self, status: int, detail: str, retry_after: float | None = None, code: str = "") -> None:
        super().__init__(f"HTTP {status}: {detail}" if detail else f"HTTP {status}")
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        """Seconds the server asked to wait."""
        self.code = code
        """The provider's own name for the problem, where it gives one."""


def detail_of(body: object) -> tuple[str, str]:
    """(message, code) of an error body in the shapes that servers use: `{"error": {"message", "code"}}`,
    `{"error": "…"}`, `{"message": "…"}`, `{"detail": "…"}`, `{"error_message": "…"}`."""
    if not isinstance(body, dict):
        return (body, "") if isinstance(body, str) else ("", "")
    inner = body.get("error")
    if isinstance(inner, dict):
        return str(inner.get("message") or ""), str(inner.get("code") or inner.get("type") or "")
    for value in (inner, body.get("message"), body.get("error_message"), body.get("detail")):
        if value:
            return str(value), str(body.get("code") or "")
    return "", ""


def cut(text: str, secrets: tuple[str, ...] = ()) -> str:
    """``text`` on one line, no longer than a person reads, with ``secrets`` taken out."""
    for secret in secrets:
        text = text.replace(secret, "…")
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"
