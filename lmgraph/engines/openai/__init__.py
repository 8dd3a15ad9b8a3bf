"""Any server or provider with OpenAI's chat completions, as a text engine: it gives text, no token ids, and never
trains.

Importing this package is cheap; the HTTP client is imported by `open_openai_engine`.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from lmgraph.errors import ConfigError, EngineUnavailable
from lmgraph.runtime.addresses import checked_url

if TYPE_CHECKING:
    from lmgraph.engines.openai.engine import OpenAIEngine

__all__ = ["open_openai_engine"]

_DEFAULT_URL = "https://api.openai.com/v1"
_URL_VARIABLE = "OPENAI_BASE_URL"


def open_openai_engine(model: str, *, urls: tuple[str, ...] = (), **options: Any) -> OpenAIEngine:
    """``model`` at ``urls``, each with the path before `/chat/completions`; without any, at `$OPENAI_BASE_URL`, else at
    OpenAI itself. Nothing is sent before the first call.

    ``options`` are the fields of `lmgraph.engines.openai.options.OpenAIOptions`.

    Raises: ConfigError for a missing model, an option that is none, or a key that would go out unencrypted;
    EngineUnavailable if a package is missing.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise EngineUnavailable(
            "the OpenAI-compatible engine needs aiohttp.", hint="pip install 'lmgraph[openai]', or --engine local"
        )
    if not model:
        raise ConfigError(
            "The OpenAI-compatible engine needs the model's name.", hint="--lm NAME=openai:MODEL@URL, or --model MODEL"
        )
    from lmgraph.engines.openai.engine import OpenAIEngine
    from lmgraph.engines.openai.options import OpenAIOptions

    chosen = OpenAIOptions.of(options)
    return OpenAIEngine(model, urls or (checked_url(os.environ.get(_URL_VARIABLE) or _DEFAULT_URL),), chosen)
