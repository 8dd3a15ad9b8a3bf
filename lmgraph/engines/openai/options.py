"""Options of the OpenAI-compatible engine, and the price table that a person gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.types import NonNegativeFloat

from lmgraph.engines.http.checks import positive
from lmgraph.errors import ConfigError
from lmgraph.runtime.engine import Usage

TOKENS_A_PRICE = 1_000_000


class Price(BaseModel):
    """What a million tokens of one model cost."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    input: NonNegativeFloat
    output: NonNegativeFloat
    cached_input: NonNegativeFloat | None = None
    """None: as ``input``."""

    def cost(self, usage: Usage) -> float:
        """In the table's currency."""
        cached_price = self.input if self.cached_input is None else self.cached_input
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
        total = fresh * self.input + usage.cached_tokens * cached_price + usage.completion_tokens * self.output
        return total / TOKENS_A_PRICE


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """How a provider is used."""

    structured: bool = True
    """Whether it holds answers to a JSON Schema (`response_format`). Where it does not, answers are read tolerantly."""
    deadline_seconds: float = 300.0
    """Longest a call may take, waiting and retries included."""
    unreachable_seconds: float = 20.0
    """How long it may be out of reach before calls fail."""
    max_requests: int = 64
    """Most requests under way at once; fewer while it says that it is overloaded."""
    context_length: int = 131_072
    """Tokens of prompt and completion together; the provider itself decides on prompts that are nearly as long."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key."""
    token_limit_field: str = ""
    """What the most tokens to sample are called: empty is `max_completion_tokens` at OpenAI, else `max_tokens`."""
    omit: tuple[str, ...] = ()
    """Fields of the request that the model does not take, such as `temperature` or `seed`."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By model: {"MODEL": {"input": 0.15, "cached_input": 0.075, "output": 0.6}}, for a million tokens."""

    @staticmethod
    def of(options: Mapping[str, Any]) -> OpenAIOptions:
        """Raises: ConfigError for an option that is none, or does not fit."""
        known = OpenAIOptions.__dataclass_fields__
        for name in options:
            if name not in known:
                raise ConfigError(
                    f"the OpenAI-compatible engine has no option `{name}`.", hint=f"Options: {', '.join(known)}."
                )
        given = dict(options)
        for name, kind in (("structured", bool), ("key_variable", str), ("token_limit_field", str)):
            if name in given and not isinstance(given[name], kind):
                raise ConfigError(f"the OpenAI-compatible engine's `{name}` must be a {kind.__name__}.")
        omit = given.get("omit", ())
        if not isinstance(omit, list | tuple) or not all(isinstance(name, str) for name in omit):
            raise ConfigError("the OpenAI-compatible engine's `omit` must be a list of names of fields.")
        try:
            prices = {str(model): Price.model_validate(price) for model, price in dict(given.get("prices", {})).items()}
        except (ValidationError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the price table does not fit: {error}",
                hint="expected prices of a million tokens by model: "
                '[options.openai.prices."MODEL"] input = 0.15, output = 0.6, cached_input = 0.075',
            ) from None
        return OpenAIOptions(**{**given, "omit": tuple(omit), "prices": prices})

    def __post_init__(self) -> None:
        positive("OpenAI-compatible", self, "deadline_seconds", "unreachable_seconds", "max_requests", "context_length")
