"""Servers are met before the first call: which ones there are, what they serve, and whether they suit each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

from lmgraph.engines.http.problems import Malformed, Refused, Unreachable
from lmgraph.engines.http.transport import Transport
from lmgraph.engines.sglang.handshake import ServerFacts, ask_facts, compare_tokenizers
from lmgraph.engines.sglang.known import API_KEY_VARIABLE, ways_out
from lmgraph.engines.sglang.model import ServedModel, check_served, find_model
from lmgraph.engines.sglang.refusals import final_error
from lmgraph.engines.sglang.router import workers_behind
from lmgraph.errors import EngineUnavailable


@dataclass(frozen=True, slots=True)
class Met:
    """Servers of one model."""

    model: ServedModel
    facts: ServerFacts
    """What all of them hold to."""
    places: Mapping[str, tuple[str, ...]]
    """What stands behind each URL that was given: the workers of a router, or the URL itself."""
    answered: tuple[str, ...]
    """Those of the servers that have said what they serve."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Of all servers."""
        return _servers(self.places)


async def meet_servers(asked: str, urls: tuple[str, ...], seconds: float) -> Met:
    """Ask the servers at ``urls``, routers among them, what they serve; each may take ``seconds``.

    Raises: EngineUnavailable if none answers; ConfigError if one serves another model than ``asked`` or than the
    others, or has another tokenizer.
    """
    key = os.environ.get(API_KEY_VARIABLE, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = Transport(secrets=(key,))
    until = asyncio.get_running_loop().time() + seconds

    async def behind(url: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout_at(until):
                return await workers_behind(transport, url, headers) or (url,)
        except TimeoutError:
            return (url,)

    async def facts_of(url: str) -> ServerFacts:
        async with asyncio.timeout_at(until):
            return await ask_facts(transport, url, headers)

    try:
        places = dict(zip(urls, await asyncio.gather(*map(behind, urls)), strict=True))
        servers = _servers(places)
        told = await asyncio.gather(*map(facts_of, servers), return_exceptions=True)
        facts: dict[str, ServerFacts] = {}
        problems: list[str] = []
        for url, answer in zip(servers, told, strict=True):
            if isinstance(answer, ServerFacts):
                facts[url] = answer
            elif isinstance(answer, Refused) and answer.status in (401, 403):
                raise final_error(answer, url)
            elif isinstance(answer, Unreachable | Refused | Malformed):
                problems.append(f"{url}: {answer}")
            elif isinstance(answer, TimeoutError):
                problems.append(f"{url}: no word within {seconds:g} s")
            else:
                raise answer
        if not facts:
            raise EngineUnavailable(f"No SGLang server answers ({'; '.join(problems)}).", hint=ways_out(asked))
        first = next(iter(facts))
        model = await asyncio.to_thread(find_model, asked, facts[first], first)
        served = {(one.model_path, one.served_name) for one in facts.values()}
        for url, one in facts.items():
            if len(served) > 1:
                check_served(model.model_id, model.folder, one, url)
            await compare_tokenizers(transport, url, headers, model.tokenizer, model.tokenizer.vocabulary_size)
    finally:
        await transport.aclose()
    return Met(model, _shared(facts), places, tuple(facts))


def _servers(places: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(places.values())))


def _shared(facts: Mapping[str, ServerFacts]) -> ServerFacts:
    """What every server gives."""
    return replace(
        next(iter(facts.values())),
        context_length=min(one.context_length for one in facts.values()),
        serves_adapters=all(one.serves_adapters for one in facts.values()),
        deterministic=all(one.deterministic for one in facts.values()),
    )
