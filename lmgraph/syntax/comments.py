"""The comments of a file, handed out in order, and what the author's own line breaks say.

The formatter asks in source order; a comment is handed out once. Without text (a tree made by a program) there is
nothing to hand out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

_STRINGS_AND_COMMENTS = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\[^\n])*"|#[^\r\n]*', re.DOTALL)
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_SAME_LINE = re.compile(r"[ \t,]*")
_SAME_LINE_CLOSED = re.compile(r"[ \t,]*\)?[ \t]*")


@dataclass(frozen=True, slots=True)
class Comment:
    text: str
    """With its `#`, without blanks at its end."""
    start: int
    blank_before: bool
    """Whether the author left a blank line above it."""


class Margin:
    """Comments and line breaks of ``text``, by offset."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._comments: list[Comment] = []
        for match in _STRINGS_AND_COMMENTS.finditer(text):
            if match[0].startswith("#"):
                written = match[0].rstrip()
                self._comments.append(Comment(written, match.start(), self.blank_before(match.start())))
        self._next = 0

    @property
    def total(self) -> list[str]:
        """Every comment's text, in order."""
        return [comment.text for comment in self._comments]

    def before(self, offset: int) -> list[Comment]:
        """The comments not handed out yet that start before ``offset``."""
        start = self._next
        while self._next < len(self._comments) and self._comments[self._next].start < offset:
            self._next += 1
        return self._comments[start : self._next]

    def rest(self) -> list[Comment]:
        return self.before(len(self.text))

    def trailing(self, offset: int, *, closed: bool = False) -> str | None:
        """The comment at the end of the line on which ``offset`` ends a construct, if it has not been handed out.

        ``closed``: a `)` may stand between.
        """
        if offset < 0 or self._next >= len(self._comments):
            return None
        comment = self._comments[self._next]
        match = (_SAME_LINE_CLOSED if closed else _SAME_LINE).match(self.text, offset)
        if match is None or match.end() != comment.start:
            return None
        self._next += 1
        return comment.text

    def holds(self, start: int, end: int) -> bool:
        """Whether a comment not handed out yet stands between the offsets."""
        at = bisect_left(self._comments, start, lo=self._next, key=lambda comment: comment.start)
        return at < len(self._comments) and self._comments[at].start < end

    def blank_before(self, offset: int) -> bool:
        """Whether a blank line stands directly above the line that starts with ``offset``."""
        at = min(offset, len(self.text))
        breaks = 0
        while at > 0 and self.text[at - 1] in " \t\r\n,":
            at -= 1
            breaks += self.text[at] == "\n"
        return breaks > 1 and at > 0

    def next_token(self, offset: int) -> int:
        """Where the token at or after ``offset`` starts; -1 without text."""
        match = _GAP.match(self.text, offset) if self.text else None
        return match.end() if match else -1

    def string_end(self, offset: int) -> int:
        """Where the string that starts at ``offset`` ends; -1 if none does."""
        match = _STRINGS_AND_COMMENTS.match(self.text, offset) if offset >= 0 else None
        return match.end() if match else -1

    def find(self, sign: str, offset: int) -> int:
        """Where ``sign`` is next, outside strings and comments, at or after ``offset``; -1 if nowhere."""
        at = offset
        while 0 <= at < len(self.text):
            if self.text.startswith(sign, at):
                return at
            match = _STRINGS_AND_COMMENTS.match(self.text, at)
            if match:
                at = match.end()
            else:
                at += 1
        return -1

    def broken(self, start: int, end: int) -> bool:
        """Whether the author broke the line between the offsets."""
        return "\n" in self.text[max(start, 0) : max(end, 0)]
