"""JSON over HTTP: one connection pool for each event loop, bounded bodies, and errors without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from importlib.metadata import version
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json

from lmgraph.engines.http.problems import Malformed, Refused, Unreachable, cut, detail_of

LARGEST_ANSWER = 64 << 20
"""Bytes. An answer, or an event of one, is tokens and their logprobs; more than this is neither."""
CONNECT_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 4.0
"""Shorter than the 5 s after which common servers close an idle connection, so that ours never meets a closed one."""


class Transport:
    """Sends JSON and reads JSON. It knows no engine and retries nothing.

    ``secrets`` are kept out of every error. Redirects are not followed: a key goes to the host that was bound alone.
    """

    def __init__(self, *, secrets: tuple[str, ...] = (), through_proxies: bool = False) -> None:
        """``through_proxies``: take the proxies of the environment."""
        self._secrets = tuple(secret for secret in secrets if secret)
        self._proxies = through_proxies
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """The JSON that answers. Raises: Unreachable, Refused, Malformed."""
        return await self._ask("POST", url, _written(body), headers)

    async def get(self, url: str, headers: Mapping[str, str]) -> Any:
        """As ``post``, without a body; None where the answer has none."""
        return await self._ask("GET", url, None, headers)

    async def events(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> AsyncGenerator[Any, None]:
        """The JSON of each server-sent event that answers, until `[DONE]` or the end; of a server that streams nothing,
        its whole answer. How many events may come is for the caller to bound. Raises: as ``post``."""
        sent = {"Content-Type": "application/json", **headers}
        data = _written(body)
        try:
            async with self._open().request("POST", url, data=data, headers=sent, allow_redirects=False) as response:
                if response.status != 200 or response.content_type == "application/json":
                    yield self._read(response, await _whole(response))
                    return
                async for line in _lines(response):
                    name, _, value = line.partition(b":")
                    if value.strip() == b"[DONE]":
                        return
                    if name == b"data":
                        yield self._event(self._json(value))
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise Unreachable(cut(_why(error), self._secrets)) from None

    async def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        sent = {"Content-Type": "application/json", **headers} if body is not None else dict(headers)
        try:
            async with self._open().request(method, url, data=body, headers=sent, allow_redirects=False) as response:
                return self._read(response, await _whole(response))
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise Unreachable(cut(_why(error), self._secrets)) from None

    def _read(self, response: aiohttp.ClientResponse, data: bytes) -> Any:
        """Raises: Refused, Malformed."""
        if response.status != 200:
            message, code = detail_of(_json_or_text(data))
            retry_after = _seconds(response.headers.get("Retry-After"))
            raise Refused(response.status, cut(message, self._secrets), retry_after, code)
        return self._json(data) if data else None

    def _event(self, event: Any) -> Any:
        """Raises: Refused for what a server would have said with a status, had the stream not begun with a good one."""
        if not isinstance(event, dict) or not event.get("error"):
            return event
        message, code = detail_of(event)
        status = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 500
        raise Refused(status, cut(message, self._secrets), code=code)

    def _json(self, data: bytes) -> Any:
        """Raises: Malformed."""
        try:
            return _parsed(data)
        except (ValueError, RecursionError):
            shown = cut(data[:80].decode("utf-8", "replace"), self._secrets)
            raise Malformed(f"the answer is no JSON: it begins `{shown}`") from None

    async def aclose(self) -> None:
        session, self._session, loop, self._loop = self._session, None, self._loop, None
        if session is not None and loop is asyncio.get_running_loop():
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        """The session of the running loop: connections live and die with their loop."""
        loop = asyncio.get_running_loop()
        if self._session is not None and self._loop is not loop:
            _abandon(self._session)
            self._session = None
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                headers={"User-Agent": f"lmgraph/{version('lmgraph')}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._proxies,
            )
            self._loop = loop
        return self._session


def _abandon(session: aiohttp.ClientSession) -> None:
    """Let go of a session whose loop is gone and cannot close it."""
    connector = session.connector
    session.detach()
    if connector is not None:
        # Its first step closes the sockets; waiting for them would need the loop.
        with contextlib.suppress(RuntimeError):
            next(connector.close().__await__(), None)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > LARGEST_ANSWER:
            raise Malformed(f"the answer is longer than {LARGEST_ANSWER >> 20} MiB")
        pieces.append(piece)
    return b"".join(pieces)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LARGEST_ANSWER:
            raise Malformed(f"an event of the answer is longer than {LARGEST_ANSWER >> 20} MiB")
        for line in lines:
            yield line.rstrip(b"\r")
    yield rest


def _written(body: Mapping[str, Any]) -> bytes:
    """A prompt's ids take pydantic's writer a fifth of the time."""
    try:
        return to_json(body)
    except ValueError:  # it knows no half of a surrogate pair
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _parsed(data: bytes) -> Any:
    """Raises: ValueError, RecursionError."""
    try:
        return from_json(data)
    except ValueError:  # it knows no half of a surrogate pair
        return json.loads(data)


def _json_or_text(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.lstrip().startswith("<") else text  # a proxy's HTML page tells nothing


def _seconds(value: str | None) -> float | None:
    """`Retry-After` in seconds; its other form, a date, is left out."""
    try:
        seconds = float(value) if value else math.nan
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error) or "cannot connect"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError | asyncio.IncompleteReadError):
        return "the connection broke in the middle of the answer"
    return str(error) or type(error).__name__
