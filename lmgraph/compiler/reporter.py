"""Collects the problems of one compilation. Knows codes and labels, nothing of what is checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmgraph.source.codes import CODES
from lmgraph.source.diagnostic import Diagnostic, Fix, Label, Severity
from lmgraph.source.suggest import question, suggest
from lmgraph.source.text import Span

MOST_COMPARED = 30_000
"""Names compared with mistyped ones, in all. A program with so many mistakes has one cause, and takes no longer."""


class Reporter:
    """Every problem found so far. Reporting never stops a phase: the caller goes on with `UNKNOWN` types."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []
        self._told: set[tuple[str, Span, str]] = set()
        self._compared = 0
        self._errors = 0
        self._reports = 0

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return tuple(self._found)

    @property
    def errors(self) -> int:
        """How many errors there were so far, those that were told before included."""
        return self._errors

    @property
    def reports(self) -> int:
        """How often something was reported so far, errors and warnings, those that were told before included."""
        return self._reports

    @property
    def failed(self) -> bool:
        """Whether an error was reported; warnings do not count."""
        return any(diagnostic.severity == "error" for diagnostic in self._found)

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Problems that another part found."""
        self._found.extend(diagnostics)

    def error(
        self,
        code: str,
        span: Span,
        message: str,
        *,
        secondary: Sequence[Label] = (),
        notes: Sequence[str] = (),
        help: str | None = None,
        fix: Fix | None = None,
    ) -> None:
        """An error at ``span``. ``message`` must be readable without the code's title."""
        self._add(code, "error", span, message, secondary, notes, help, fix)

    def warning(
        self,
        code: str,
        span: Span,
        message: str,
        *,
        secondary: Sequence[Label] = (),
        help: str | None = None,
        notes: Sequence[str] = (),
        fix: Fix | None = None,
    ) -> None:
        self._add(code, "warning", span, message, secondary, notes, help, fix)

    def unknown(
        self,
        code: str,
        span: Span,
        message: str,
        name: str,
        candidates: Iterable[str],
        *,
        secondary: Sequence[Label] = (),
        otherwise: str | None = None,
    ) -> None:
        """An error about ``name``, which is none of ``candidates``: says which one was meant, or ``otherwise``.

        Where only one candidate is close a fix puts it in place of ``span``.
        """
        close = self.close_to(name, candidates)
        asked = question(close)
        if len(close) == 1 and asked is not None:
            self.error(code, span, message, secondary=secondary, fix=Fix(span, close[0], asked))
        else:
            self.error(code, span, message, secondary=secondary, help=asked or otherwise)

    def close_to(self, name: str, candidates: Iterable[str]) -> list[str]:
        """The candidates that may have been meant by ``name``; none where too many were compared before."""
        known = list(candidates)
        self._compared += len(known)
        return suggest(name, known) if self._compared <= MOST_COMPARED else []

    def did_you_mean(self, name: str, candidates: Iterable[str]) -> str | None:
        """The question for a help line, where a candidate is close."""
        return question(self.close_to(name, candidates))

    def _add(
        self,
        code: str,
        severity: Severity,
        span: Span,
        message: str,
        secondary: Sequence[Label],
        notes: Sequence[str],
        help: str | None,
        fix: Fix | None,
    ) -> None:
        self._errors += severity == "error"
        self._reports += 1
        if (code, span, message) in self._told:
            return  # two declarations share what is wrong there: a module and one that is made from it
        self._told.add((code, span, message))
        self._found.append(
            Diagnostic(
                code=code,
                title=CODES[code].title,
                primary=Label(span, message),
                secondary=tuple(secondary),
                notes=tuple(notes),
                help=help,
                fix=fix,
                severity=severity,
            )
        )


def listed(names: Iterable[str], last: str = "and") -> str:
    """ "`a`, `b` and `c`": names as a message shows them."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def some(names: Iterable[str], most: int = 6) -> str:
    """ "`a`, `b` and 3 more": the first of the names in alphabetical order."""
    ordered = sorted(names)
    if len(ordered) <= most:
        return listed(ordered)
    return f"{', '.join(f'`{name}`' for name in ordered[:most])} and {len(ordered) - most} more"


def circle_of(names: Sequence[str], most: int = 6) -> str:
    """ "`a` → `b` → `a`", with a gap where it is long."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) > most:
        quoted[most - 2 : -2] = ["…"]
    return " → ".join(quoted)
