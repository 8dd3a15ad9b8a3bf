"""A streamed chat completion: its events put together to the answer that would have come whole."""

from __future__ import annotations

from typing import Any

from lmgraph.engines.http.problems import Malformed

LONGEST_TEXT = 16 << 20
"""Characters. Nobody writes that much; an answer without end does."""


class Events:
    """Takes the events of one completion, in order."""

    def __init__(self) -> None:
        self.begun = False
        """Whether some of its text has come."""
        self._text: list[str] = []
        self._length = 0
        self._choice: dict[str, Any] = {}
        self._refusal: list[str] = []
        self._usage: Any = None

    def take(self, event: object) -> str:
        """The text that the event adds; it may add none. Raises: Malformed."""
        if not isinstance(event, dict) or not isinstance(event.get("choices"), list):
            raise Malformed("an event of the stream has no choices")
        self._usage = event.get("usage") or self._usage
        added = ""
        for choice in event["choices"]:
            said = choice.get("delta") or choice.get("message") if isinstance(choice, dict) else None
            if not isinstance(choice, dict) or choice.get("index", 0) != 0 or not isinstance(said, dict | None):
                raise Malformed("an event of the stream has no delta")
            self._choice |= {"finish_reason": choice.get("finish_reason") or self._choice.get("finish_reason")}
            text, refusal = (said or {}).get("content") or "", (said or {}).get("refusal") or ""
            if not isinstance(text, str) or not isinstance(refusal, str):
                raise Malformed("a delta of the stream is no text")
            added += text
            self._length += len(text) + len(refusal)
            self._refusal.append(refusal)
        if self._length > LONGEST_TEXT:
            raise Malformed(f"the answer is longer than {LONGEST_TEXT >> 20} million characters")
        self.begun = self.begun or bool(added)
        self._text.append(added)
        return added

    def whole(self) -> dict[str, Any]:
        """As `read_answer` takes it."""
        message = {"content": "".join(self._text), "refusal": "".join(self._refusal) or None}
        return {"choices": [{**self._choice, "message": message}], "usage": self._usage}
