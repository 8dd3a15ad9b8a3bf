"""Which server gets a call, and how many at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from lmgraph.engines.http.limiter import Limiter
from lmgraph.engines.http.pool import MOST_AHEAD, Pool
from lmgraph.engines.http.problems import cut, detail_of

SHARED = list(range(200))


def test_calls_with_a_common_beginning_go_where_it_is_known() -> None:
    pool = Pool(["http://a", "http://b"], 64)
    first, second = pool.servers
    assert pool.choose(SHARED, "") is first
    first.limiter.under_way = 3
    assert pool.choose([*SHARED, 1, 2, 3], "") is first
    assert pool.choose([900] * 200, "") is second
    # Another adapter has other key-values for the same tokens.
    assert pool.choose(SHARED, "adapter") is second


def test_a_server_far_ahead_gets_no_more_for_the_sake_of_a_prefix() -> None:
    pool = Pool(["http://a", "http://b"], 64)
    first, second = pool.servers
    pool.choose(SHARED, "")
    first.limiter.under_way = MOST_AHEAD + 1
    assert pool.choose(SHARED, "") is second


def test_short_prompts_go_to_the_idlest() -> None:
    pool = Pool(["http://a", "http://b"], 64)
    pool.choose([1, 2, 3], "")
    pool.servers[0].limiter.under_way = 1
    assert pool.choose([1, 2, 3], "") is pool.servers[1]


def test_a_lost_server_rests_longer_each_time_and_forgets() -> None:
    pool = Pool(["http://a", "http://b"], 64)
    first, second = pool.servers
    pool.choose(SHARED, "")
    first.lost()
    assert pool.choose(SHARED, "") is second
    rests = []
    for _ in range(12):
        first.rests_until = 0.0  # its rest is over
        for _ in range(5):  # calls that fail together are one failure
            first.lost()
        rests.append(round(first.rests_until - time.monotonic(), 1))
    assert rests == sorted(rests)
    assert rests[:3] == [0.1, 0.2, 0.4]
    assert rests[-1] == 8.0
    second.lost()
    assert pool.choose(SHARED, "") is second  # the one that wakes first
    first.answered()
    assert not first.resting


def test_servers_that_stay_keep_what_is_known_and_those_that_left_get_no_call() -> None:
    pool = Pool(["http://a", "http://b"], 64)
    left, stays = pool.servers
    stays.verified = True
    pool.choose(SHARED, "")
    pool.follow(["http://b", "http://c"])
    assert pool.servers[0] is stays
    assert stays.verified
    assert [server.url for server in pool.servers] == ["http://b", "http://c"]
    assert not pool.servers[1].verified
    left.answered()  # a call that was under way
    assert left.resting
    assert pool.choose(SHARED, "") is not left
    pool.follow(["http://a"])
    assert pool.servers[0] is not left, "it is asked anew what it serves"


async def test_the_limit_is_cut_once_for_one_wave_of_refusals_and_grows_again() -> None:
    limiter = Limiter(100)
    limiter.under_way = 50
    for _ in range(50):
        limiter.overloaded()
    assert limiter.limit == 40
    for _ in range(40):
        limiter.answered()
    assert 40 < limiter.limit <= 42
    limiter.troubled(60)
    before = limiter.limit
    for _ in range(200):
        limiter.answered()
    assert limiter.limit == before


async def test_no_more_than_the_limit_are_under_way_and_all_get_their_turn() -> None:
    limiter = Limiter(3)
    most = 0
    order: list[int] = []

    async def work(index: int) -> None:
        nonlocal most
        await limiter.enter()
        most = max(most, limiter.under_way)
        order.append(index)
        await asyncio.sleep(0.001)
        limiter.leave()

    await asyncio.gather(*map(work, range(20)))
    assert most == 3
    assert order == list(range(20))
    assert limiter.load == 0


@pytest.mark.parametrize("when", ["waiting", "given"])
async def test_a_cancelled_wait_leaves_no_slot_behind(when: str) -> None:
    limiter = Limiter(1)
    release = asyncio.Event()

    async def hold() -> None:
        await limiter.enter()
        try:
            await release.wait()
        finally:
            limiter.leave()

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiters = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    if when == "given":
        release.set()
        await holder
    waiters[0].cancel()
    release.set()
    await asyncio.gather(holder, *waiters, return_exceptions=True)
    assert limiter.load == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "m", "code": "c"}}, ("m", "c")),
        ({"error": "m"}, ("m", "")),
        ({"object": "error", "message": "m", "code": 400}, ("m", "400")),
        ({"detail": "m"}, ("m", "")),
        ({"success": False, "error_message": "m"}, ("m", "")),
        ("m", ("m", "")),
        ({}, ("", "")),
        ([1], ("", "")),
    ],
)
def test_what_servers_say_is_found(body: object, said: tuple[str, str]) -> None:
    assert detail_of(body) == said


def test_secrets_are_taken_out_and_long_texts_cut() -> None:
    assert cut("a  key-1\nb", ("key-1",)) == "a … b"
    assert len(cut("x" * 10_000)) == 400
