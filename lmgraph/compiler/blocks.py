"""Settings: the `key: value` blocks of lm, module, dataset and objective. Reads values; their meaning is elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.source.diagnostic import Fix, Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree


class Settings:
    """One block's entries by key. Unknown and repeated keys are reported when it is made, wrong values when read."""

    def __init__(self, owner: str, entries: Sequence[tree.Entry], known: Sequence[str], reporter: Reporter) -> None:
        self._reporter = reporter
        self._entries: dict[str, tree.Entry] = {}
        for entry in entries:
            key = entry.key
            if key.text not in known:
                reporter.unknown(
                    "E0203",
                    key.span,
                    f"{owner} has no setting `{key.text}`",
                    key.text,
                    known,
                    otherwise=f"its settings are {listed(known)}",
                )
            elif key.text in self._entries:
                reporter.error(
                    "E0202",
                    key.span,
                    f"`{key.text}` is set a second time",
                    secondary=[Label(self._entries[key.text].key.span, "first set here")],
                    help="delete one of the two",
                )
            else:
                self._entries[key.text] = entry

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def span(self, key: str) -> Span:
        return self._entries[key].key.span

    def value(self, key: str) -> tree.Expression | tree.Block | None:
        entry = self._entries.get(key)
        return entry.value if entry else None

    def expression(self, key: str) -> tree.Expression | None:
        """The value where it is no block."""
        value = self.value(key)
        if isinstance(value, tree.Block):
            self._refuse(key, value, "a value")
            return None
        return value

    def text(self, key: str) -> str | None:
        value = self.value(key)
        if value is None:
            return None
        if isinstance(value, tree.Constant) and isinstance(value.value, str) and value.value.strip():
            return value.value
        if isinstance(value, tree.Reference):
            self._reporter.error(
                "E0312",
                value.span,
                f"`{key}` is a text; put it in quotes",
                help=f'write `{key}: "{value.name}"`',
            )
            return None
        self._refuse(key, value, 'a text, as in "…"')
        return None

    def name(self, key: str) -> tree.Reference | None:
        """A bare name."""
        value = self.value(key)
        if value is None or isinstance(value, tree.Reference):
            return value
        self._refuse(key, value, "a name", _unquoted(value))
        return None

    def word(self, key: str, choices: Sequence[str]) -> str | None:
        """One of ``choices``, a name without quotes."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, tree.Reference):
            self._refuse(key, value, f"{listed(choices, 'or')}, without quotes", _unquoted(value))
            return None
        if value.name in choices:
            return value.name
        self._reporter.unknown(
            "E0312",
            value.span,
            f"`{key}` cannot be `{value.name}`",
            value.name,
            choices,
            otherwise=f"it is {listed(choices, 'or')}",
        )
        return None

    def flag(self, key: str) -> bool | None:
        value = self.value(key)
        if value is None:
            return None
        if isinstance(value, tree.Constant) and isinstance(value.value, bool):
            return value.value
        self._refuse(key, value, "`true` or `false`")
        return None

    def integer(self, key: str, low: int, high: int) -> int | None:
        value = self.value(key)
        if value is None:
            return None
        number = number_of(value)
        if isinstance(number, int) and low <= number <= high:
            return number
        self._refuse(key, value, f"a whole number from {low} to {high:,}")
        return None

    def number(self, key: str, low: float, high: float) -> float | None:
        value = self.value(key)
        if value is None:
            return None
        number = number_of(value)
        if number is not None and low <= number <= high:
            return float(number)
        self._refuse(key, value, f"a number from {low:g} to {high:g}")
        return None

    def numbers(self, key: str) -> list[float] | None:
        """A list of numbers."""
        value = self.value(key)
        if value is None:
            return None
        if isinstance(value, tree.ListExpression):
            found = [number_of(item) for item in value.items]
            numbers = [float(number) for number in found if number is not None]
            if len(numbers) == len(found):
                return numbers
        self._refuse(key, value, "a list of numbers, as in `[0, 1]`")
        return None

    def _refuse(self, key: str, value: tree.Expression | tree.Block, wanted: str, fix: Fix | None = None) -> None:
        self._reporter.error("E0312", value.span, f"`{key}` must be {wanted}", fix=fix)


def _unquoted(value: tree.Expression | tree.Block) -> Fix | None:
    """The text as a name, where it can be one."""
    if isinstance(value, tree.Constant) and isinstance(value.value, str) and value.value.isidentifier():
        return Fix(value.span, value.value, "leave the quotes out")
    return None


def number_of(value: tree.Expression | tree.Block) -> int | float | None:
    """The number written there, with its sign; None for anything else."""
    match value:
        case tree.Unary(operator="-", operand=operand):
            inner = number_of(operand)
            return None if inner is None else -inner
        case tree.Constant(value=bool()):
            return None
        case tree.Constant(value=int() | float() as number):
            return number
        case _:
            return None
