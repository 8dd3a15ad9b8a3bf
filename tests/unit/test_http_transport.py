"""JSON and events over HTTP, from a double that says what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from lmgraph.engines.http import transport as transport_module
from lmgraph.engines.http.problems import Malformed, Refused
from lmgraph.engines.http.transport import Transport
from support.http_double import HttpDouble, Request, Response

EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


class Says(HttpDouble):
    """Answers every request with ``response``."""

    def __init__(self) -> None:
        super().__init__(self._say)
        self.response = Response({})

    async def _say(self, request: Request) -> Response:
        return self.response


@pytest.fixture
def double() -> Iterator[Says]:
    with Says() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    opened = Transport(secrets=("sk-secret",))
    yield opened
    await opened.aclose()


async def all_of(transport: Transport, url: str) -> list[Any]:
    async with aclosing(transport.events(url, {}, {})) as coming:
        return [event async for event in coming]


@pytest.mark.parametrize("text", ["plain", "ünï ☕ 👩‍🚀", "a\x00b\u2028", "\ufffd"])
async def test_text_goes_and_comes_as_it_is(double: Says, transport: Transport, text: str) -> None:
    double.response = Response({"text": text})
    assert await transport.post(double.url, {"text": text, "ids": [1, 2]}, {}) == {"text": text}
    assert double.requests[0].body == {"text": text, "ids": [1, 2]}


async def test_half_a_surrogate_pair_is_no_error(double: Says, transport: Transport) -> None:
    double.response = Response(raw=b'{"text": "a\\ud800"}')
    assert await transport.post(double.url, {"text": "b\udc00"}, {}) == {"text": "a\ud800"}
    assert double.requests[0].body == {"text": "b?"}


@pytest.mark.parametrize("raw", [b"{", b"[1] 2", b"\xff", b"[" * 10_000, b"<html>"])
async def test_what_is_no_json_is_said(double: Says, transport: Transport, raw: bytes) -> None:
    double.response = Response(raw=raw)
    with pytest.raises(Malformed, match="no JSON"):
        await transport.get(double.url, {})


async def test_events_come_until_the_mark_of_their_end(double: Says, transport: Transport) -> None:
    raw = b': a comment\n\nevent: x\r\ndata: {"a": 1}\r\n\r\ndata:[2]\n\ndata: [DONE]\n\ndata: 3\n\n'
    double.response = Response(headers=EVENTS, raw=raw)
    assert await all_of(transport, double.url) == [{"a": 1}, [2]]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (b'{"message": "key sk-secret", "code": 400}', 400),
        (b'{"message": "key sk-secret", "code": "invalid"}', 500),
        (b'"key sk-secret"', 500),
    ],
)
async def test_an_error_in_a_stream_is_a_refusal_without_secrets(
    double: Says, transport: Transport, error: bytes, status: int
) -> None:
    double.response = Response(headers=EVENTS, raw=b'data: {"error": ' + error + b"}\n\n")
    with pytest.raises(Refused) as refused:
        await all_of(transport, double.url)
    assert (refused.value.status, refused.value.detail) == (status, "key …")


async def test_many_events_may_come_and_none_may_be_without_end(
    double: Says, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "LARGEST_ANSWER", 1000)
    double.response = Response(headers=EVENTS, raw=b"data: 1\n\n" * 1000)
    assert await all_of(transport, double.url) == [1] * 1000
    double.response = Response(headers=EVENTS, raw=b"data: " + b"1" * 2000)
    with pytest.raises(Malformed, match="an event of the answer is longer"):
        await all_of(transport, double.url)
