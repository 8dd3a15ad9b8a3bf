"""Params: fingerprints that guard them, and their JSON form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.types import STR, Field
from lmgraph.program.fingerprints import behaviour_hash, interface_hash
from lmgraph.program.params import AdapterRef, Demo, Params, from_data, params_hash, to_data
from support.scripted import SORT, program_from, sort_program

MODULE = ModuleSpec("M", (Field("a", STR, "first"), Field("b", STR)), (Field("c", STR),), "Do it.")

PARAMS = Params.default(Graph("g", modules=(MODULE,)))


def test_interface_ignores_order_words_and_names_of_types() -> None:
    swapped = replace(MODULE, inputs=MODULE.inputs[::-1], instruction="Other.")
    assert interface_hash(swapped) == interface_hash(MODULE)
    assert behaviour_hash(swapped) != behaviour_hash(MODULE)


def test_interface_sees_names_types_labels_and_sides() -> None:
    renamed = replace(MODULE, inputs=(Field("x", STR), MODULE.inputs[1]))
    private = replace(MODULE, inputs=(replace(MODULE.inputs[0], label="private"), MODULE.inputs[1]))
    moved = replace(MODULE, inputs=MODULE.inputs[:1], outputs=(*MODULE.outputs, MODULE.inputs[1]))
    hashes = {interface_hash(module) for module in (MODULE, renamed, private, moved)}
    assert len(hashes) == 4


def test_moving_and_reformatting_declarations_changes_no_fingerprint(tmp_path: Path) -> None:
    one = sort_program(tmp_path / "one")
    text = SORT.replace("enum Kind { fruit  tool  animal }\n", "").replace("# ", "")
    text = text + "\n\n# moved to the end\nenum Kind {\n  fruit\n  tool\n  animal\n}\n"
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "words.jsonl").write_bytes((tmp_path / "one" / "words.jsonl").read_bytes())
    two = program_from(tmp_path / "two", text, "sort.lmg")
    assert two.params.modules["Classify"] == one.params.modules["Classify"]


def test_params_survive_their_json_form() -> None:
    ref = AdapterRef("shared", 2, Path("adapters/x"), "base", "00")
    params = PARAMS.with_module("M", demos=(Demo({"a": "é"}, {"c": "☕"}, "labelled", "f:1"),)).with_adapter(
        ref, ("M",)
    )
    assert from_data(to_data(params)) == params


def test_the_hash_does_not_depend_on_where_adapters_lie() -> None:
    here = PARAMS.with_adapter(AdapterRef("s", 1, Path("here"), "base", "00"), ("M",))
    there = PARAMS.with_adapter(AdapterRef("s", 1, Path("there"), "base", "00"), ("M",))
    other = PARAMS.with_adapter(AdapterRef("s", 1, Path("here"), "base", "01"), ("M",))
    assert params_hash(here) == params_hash(there) != params_hash(other)


def test_adapters_that_nothing_uses_are_dropped() -> None:
    params = PARAMS.with_adapter(AdapterRef("s", 1, Path("a"), "base", "00"), ("M",))
    newer = params.with_adapter(AdapterRef("s", 2, Path("b"), "base", "01"), ("M",))
    assert list(newer.adapters) == ["s@v2"]
