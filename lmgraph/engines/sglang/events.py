"""A streamed `/generate`: its events put together to the answer that would have come whole.

An event holds what was sampled so far or, of servers with `--incremental-streaming-output`, what is new. Both say how
much there is in all, and that tells them apart.
"""

from __future__ import annotations

from typing import Any

from lmgraph.engines.http.problems import Malformed
from lmgraph.engines.sglang.wire import checked_answer


class Events:
    """Takes the events of one request, in order."""

    def __init__(self, rid: str, max_tokens: int) -> None:
        self._rid = rid
        self._max_tokens = max_tokens
        self._ids: list[int] = []
        self._sampled: list[Any] = []
        self._meta: dict[str, Any] = {}

    def take(self, event: object) -> list[int]:
        """The ids that the event adds; it may add none.

        Raises: Malformed where it breaks the protocol or answers another request.
        """
        part, meta = checked_answer(event, self._rid)
        self._meta = meta
        reason = meta.get("finish_reason")
        if isinstance(reason, dict) and reason.get("type") == "abort":
            return []
        total, ids, sampled = meta.get("completion_tokens"), part.get("output_ids"), meta.get("output_token_logprobs")
        if not isinstance(total, int) or not isinstance(ids, list) or not isinstance(sampled, list):
            raise Malformed("an event of the stream has no completion_tokens, output_ids or output_token_logprobs")
        if not len(self._ids) <= total <= self._max_tokens:
            raise Malformed(f"{total} tokens of {self._max_tokens} at most, after {len(self._ids)}")
        added, said = (self._new(entries, total) for entries in (ids, sampled))
        if not len(added) == len(said) == total - len(self._ids) or not all(type(token) is int for token in added):
            raise Malformed(f"an event of the stream should add {total - len(self._ids)} tokens and their logprobs")
        self._ids += added
        self._sampled += said
        return added

    def whole(self) -> dict[str, Any]:
        """As `read_answer` takes it."""
        return {"output_ids": self._ids, "meta_info": {**self._meta, "output_token_logprobs": self._sampled}}

    def _new(self, entries: list[Any], total: int) -> list[Any]:
        return entries[len(self._ids) : total] if len(entries) >= total else entries
