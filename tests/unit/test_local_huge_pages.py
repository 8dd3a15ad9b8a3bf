"""Large pages under the weights: which are asked for and when; answers are the same with and without them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.runtime.engine import GenerateRequest, SamplingParams
from support.tiny_model import make_tiny_model

pytest.importorskip("torch")

from lmgraph.engines.local import huge_pages
from lmgraph.engines.local.huge_pages import HugePages, merge, page_size


def test_neighbours_are_one_and_only_whole_pages_count() -> None:
    stretches = [(1000, 3000), (4064, 936), (50_000, 1500), (90_000, 10)]
    assert merge(stretches, 1000) == [(1000, 5000), (50_000, 51_000)]
    assert merge([(1, 999)], 1000) == []
    assert merge([(1, 1999)], 1000) == [(1000, 2000)]


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    asked: list[tuple[int, int]] = []

    def gather(start: int, end: int) -> bool:
        asked.append((start, end))
        return end != 30_000

    monkeypatch.setattr(huge_pages, "gather", gather)
    monkeypatch.setattr(huge_pages, "page_size", lambda: 1000)
    monkeypatch.setattr(huge_pages, "PATIENCE", 5)
    return asked


def test_it_begins_late_and_takes_one_a_step(gathered: list[tuple[int, int]]) -> None:
    pages = HugePages([(1000, 2000), (50_000, 1000)])
    counts: list[int] = []
    for _ in range(10):
        pages.after_step()
        counts.append(len(gathered))
    assert counts == [0] * 5 + [1] + [2] * 4
    assert sorted(gathered) == [(1000, 3000), (50_000, 51_000)]


def test_a_kernel_that_refuses_is_asked_once(gathered: list[tuple[int, int]]) -> None:
    pages = HugePages([(1000, 2000), (20_000, 10_000)])
    for _ in range(10):
        pages.after_step()
    assert gathered == [(20_000, 30_000)]


def test_who_turned_them_off_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(huge_pages, "SETTINGS", tmp_path)
    assert page_size() is None
    (tmp_path / "hpage_pmd_size").write_text("2097152\n")
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    assert page_size() is None
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    assert page_size() == 2 << 20


async def test_answers_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "PATIENCE", 3)
    monkeypatch.setattr(huge_pages, "page_size", lambda: 4096)  # so small that a tiny model has some
    engine = open_local_engine(str(make_tiny_model(tmp_path / "model")), dtype="float32")
    request = GenerateRequest([5, 6, 7], SamplingParams(40, 1.0, seed=1, stop_token_ids=()))
    first, second = await engine.generate(request), await engine.generate(request)
    await engine.aclose()
    assert second.token_ids == first.token_ids
    assert second.logprobs == pytest.approx(first.logprobs, abs=1e-5)
