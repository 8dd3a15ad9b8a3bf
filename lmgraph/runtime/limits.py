"""One budget over everything a command or an optimize run does: calls, tokens, seconds, money. A hard stop, checked
before each call; calls under way when it is reached are finished and counted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from lmgraph.errors import BudgetExhausted, ConfigError


@dataclass(frozen=True, slots=True)
class Budget:
    """None is no limit. Tokens are prompt and completion tokens together."""

    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None
    """Money, by the price tables of the engines; a model of one's own machine costs nothing."""

    @staticmethod
    def parse(text: str) -> Budget:
        """`calls=2000,tokens=1e6,minutes=10,usd=2.50`. Raises: ConfigError."""
        limits: dict[str, float] = {}
        for part in text.split(","):
            name, equals, value = part.strip().partition("=")
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            known = name in ("calls", "tokens", "seconds", "minutes", "hours", "usd")
            if not equals or not known or not 0 <= number < math.inf:
                raise ConfigError(
                    f"The budget has `{part.strip()}`; expected calls, tokens, seconds, minutes, hours or usd and a"
                    " number.",
                    hint="for example --budget calls=2000,minutes=10",
                )
            limits[name] = number
        units = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
        seconds = [limits[unit] * size for unit, size in units.items() if unit in limits]
        return Budget(
            int(limits["calls"]) if "calls" in limits else None,
            int(limits["tokens"]) if "tokens" in limits else None,
            sum(seconds) if seconds else None,
            limits.get("usd"),
        )


class Meter:
    """Counts against one budget. ``spent_before`` is what earlier, interrupted parts of the same study used."""

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        calls: int = 0,
        tokens: int = 0,
        seconds: float = 0.0,
        usd: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget or Budget()
        self.calls = calls
        self.tokens = tokens
        self.usd = usd
        self._before = seconds
        self._clock = clock
        self._since = clock()
        self._under_way = 0
        self._reserved = Budget()

    def reserve(self, calls: int = 0, tokens: int = 0, seconds: float = 0.0, usd: float = 0.0) -> None:
        """Keep this much of the budget back until ``reserve()`` gives it free: for the scoring that must follow."""
        self._reserved = Budget(calls, tokens, seconds, usd)

    @property
    def seconds(self) -> float:
        return self._before + self._clock() - self._since

    def admit(self) -> None:
        """Called before each LM call. Raises: BudgetExhausted that says which limit was reached."""
        limit = self.budget.calls
        if limit is not None and self.calls + self._under_way >= limit - (self._reserved.calls or 0):
            raise self._exhausted("calls", limit, self._reserved.calls)
        self.check()
        self._under_way += 1

    def check(self) -> None:
        """The limits that work other than calls uses up too. Raises: BudgetExhausted."""
        budget, reserved = self.budget, self._reserved
        if budget.tokens is not None and self.tokens >= budget.tokens - (reserved.tokens or 0):
            raise self._exhausted("tokens", budget.tokens, reserved.tokens)
        if budget.seconds is not None and self.seconds >= budget.seconds - (reserved.seconds or 0.0):
            raise self._exhausted("seconds", budget.seconds, reserved.seconds)
        if budget.usd is not None and self.usd >= budget.usd - (reserved.usd or 0.0):
            raise self._exhausted("usd", budget.usd, reserved.usd)

    def _exhausted(self, unit: str, limit: float, reserved: float | None) -> BudgetExhausted:
        form = ".4g" if unit == "usd" else ".0f"
        kept = f" ({reserved:{form}} of them kept back to score the result)" if reserved else ""
        return BudgetExhausted(f"The budget of {limit:{form}} {unit}{kept} is used up.", hint=f"raise --budget {unit}=")

    def count(self, tokens: int, usd: float = 0.0) -> None:
        """Called after each admitted call, whatever came of it."""
        self._under_way -= 1
        self.calls += 1
        self.tokens += tokens
        self.usd += usd
