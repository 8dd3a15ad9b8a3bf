"""The guide and the help name every option there is, with its default."""

from __future__ import annotations

import re
from pathlib import Path

from lmgraph.cli.installed import describe_optimizers, installed_optimizers
from lmgraph_optimizers.mmgrpo import MmgrpoConfig

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "mmgrpo.md"


def documented() -> dict[str, str]:
    """Option to default, from the table; a row may have several options."""
    section = GUIDE.read_text("utf-8").split("## Options")[1].split("\n## ")[0]
    found: dict[str, str] = {}
    for row in re.findall(r"^\| (`.*?) \| (.*?) \| .* \|$", section, re.MULTILINE):
        names = re.findall(r"`(\w+)`", row[0])
        defaults = row[1].split(", ") if len(names) > 1 else [row[1]]
        found.update(zip(names, defaults, strict=True))
    return found


def test_the_guide_names_every_option_with_its_default() -> None:
    options = documented()
    fields = MmgrpoConfig.model_fields
    assert options.keys() == fields.keys()
    for name, field in fields.items():
        if field.default is not None:
            assert options[name] == str(field.default), name


def test_every_option_says_what_it_is_in_the_help() -> None:
    assert all(field.description for field in MmgrpoConfig.model_fields.values())
    (entry,) = [one for one in installed_optimizers() if one.name == "mmgrpo"]
    text = describe_optimizers([entry])
    for name in MmgrpoConfig.model_fields:
        assert f"--mmgrpo.{name}" in text
