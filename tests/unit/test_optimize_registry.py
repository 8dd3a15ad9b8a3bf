"""Optimizers by name: what is unknown, doubled, broken or mistyped is said before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.errors import PluginError
from lmgraph.optimize.registry import list_optimizers, make_optimizer, optimizer_class
from support.scripted import write_distribution

GROUP = "lmgraph.optimizers"
GOOD = """
from lmgraph.optimize import OptimizerConfig

class Config(OptimizerConfig):
    size: int = 3

class Good:
    name = "good"
    Config = Config

    def __init__(self, config):
        self.config = config

    async def optimize(self, program, task, lab): ...
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_those_that_come_with_lmgraph_are_there() -> None:
    assert {"demos", "mmgrpo"} <= {entry.name for entry in list_optimizers()}


def test_an_installed_one_is_found_with_its_options(site: Path) -> None:
    write_distribution(site, "good-one", "good_one", GOOD, GROUP, {"good": "good_one:Good"})
    optimizer, config = make_optimizer("good", {"size": 5})
    assert (optimizer.name, config.model_dump()) == ("good", {"size": 5})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sise": 5}, ["`sise`", "its options are: size"]),
        ({"size": "many"}, ["`size`", "integer", "'many'"]),
        ({"size": None}, ["`size`"]),
    ],
)
def test_a_mistyped_option_is_an_error(site: Path, options: dict[str, object], words: list[str]) -> None:
    write_distribution(site, "good-two", "good_two", GOOD, GROUP, {"good2": "good_two:Good"})
    with pytest.raises(PluginError) as caught:
        make_optimizer("good2", options)
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(PluginError) as caught:
        optimizer_class("demoz")
    assert "`demoz`" in str(caught.value)
    assert "demos" in str(caught.value.hint)


def test_two_claims_on_one_name_are_an_error(site: Path) -> None:
    write_distribution(site, "first-one", "first_one", GOOD, GROUP, {"twice": "first_one:Good"})
    write_distribution(site, "second-one", "second_one", GOOD, GROUP, {"twice": "second_one:Good"})
    with pytest.raises(PluginError, match="Two optimizers are named `twice`") as caught:
        list_optimizers()
    assert "first-one" in str(caught.value)
    assert "second-one" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "text", "value", "words"),
    [
        ("broken_one", "import not_there_at_all", "broken_one:X", "does not import"),
        ("broken_two", "", "broken_two:Missing", "does not import"),
        ("broken_three", "class X: ...", "broken_three:X", "is no optimizer"),
        ("broken_four", "X = 3", "broken_four:X", "is no optimizer"),
        ("broken_five", "1 / 0", "broken_five:X", "ZeroDivisionError"),
    ],
)
def test_a_broken_plug_in_is_named_with_its_origin(site: Path, module: str, text: str, value: str, words: str) -> None:
    write_distribution(site, f"dist-{module}", module, text, GROUP, {module: value})
    with pytest.raises(PluginError, match=words) as caught:
        optimizer_class(module)
    assert value in str(caught.value)
