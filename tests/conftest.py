"""What all tests share: the option that rewrites golden files, and one deterministic hypothesis profile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "lmgraph",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lmgraph")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write what the golden tests got into their files.")


@pytest.fixture
def samples() -> Path:
    """The folder of sample programs."""
    return Path(__file__).parent / "data" / "samples"
