"""SGLang servers over their own HTTP interface: token ids in, token ids and logprobs out.

Importing this package is cheap; the HTTP client and the tokenizer are imported by `open_sglang_engine`.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from lmgraph.errors import ConfigError, EngineUnavailable

if TYPE_CHECKING:
    from lmgraph.engines.sglang.engine import SglangEngine

__all__ = ["open_sglang_engine"]


def open_sglang_engine(model: str, *, urls: tuple[str, ...] = (), **options: Any) -> SglangEngine:
    """Connect to the servers at ``urls``, which all serve ``model`` (empty: what is served there); blocks until they
    have said what they serve. Without URLs it is the server that `lmgraph engine up` started for the model.

    ``options`` are the fields of `lmgraph.engines.sglang.options.SglangOptions`.

    Raises: EngineUnavailable if no server answers or a package is missing; ConfigError for an option that is none, or
    a server that serves another model or tokenizer.
    """
    needed = ("aiohttp", "tokenizers", "transformers")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineUnavailable(
            f"the SGLang engine needs {', '.join(missing)}.", hint="pip install 'lmgraph[sglang]', or --engine local"
        )
    from lmgraph.engines.sglang.engine import SglangEngine
    from lmgraph.engines.sglang.known import known_urls, ways_out
    from lmgraph.engines.sglang.options import SglangOptions

    try:
        chosen = SglangOptions(**options)
    except TypeError as error:
        known = ", ".join(SglangOptions.__dataclass_fields__)
        raise ConfigError(f"the SGLang engine has no such option: {error}.", hint=f"Options: {known}.") from error
    places = urls or known_urls(model)
    if not places:
        raise EngineUnavailable(f"No SGLang server is known for {model or 'this LM'}.", hint=ways_out(model))
    return SglangEngine.connect(model, places, chosen)
