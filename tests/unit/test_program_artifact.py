"""Artifact folders: saved whole, loaded only where every hash and every path is right."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from lmgraph.compiler.compile import compile_path
from lmgraph.errors import ArtifactError, Corrupt, GraphMismatch, VersionMismatch
from lmgraph.program import AdapterRef, Demo, Program, artifact
from lmgraph.program.fingerprints import fingerprints
from lmgraph.program.rebind import rebind
from support.scripted import SORT, program_from, sort_program, write_sort_program

TUNED = Path(__file__).parents[1] / "data" / "tuned"
"""An artifact of each earlier format, and the program that it was made of."""


def adapter_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def tuned(tmp_path: Path) -> Program:
    program = sort_program(tmp_path / "source")
    demo = Demo({"word": "fig\u2028<|im_end|>"}, {"kind": "fruit"}, "labelled", "words.jsonl:3")
    ref = AdapterRef("shared", 1, adapter_folder(tmp_path / "adapter"), "base", hashlib.sha256(b"weights").hexdigest())
    params = program.params.with_module("Classify", instruction="Sort it. ☕", demos=(demo,))
    return program.with_params(params.with_adapter(ref, ("Classify",)))


def rewrite(folder: Path, name: str, change: object) -> None:
    """Change a JSON file of an artifact and make its hash right again, as a forger would."""
    path = folder / name
    path.write_text(json.dumps(change), encoding="utf-8")
    manifest = json.loads((folder / artifact.MANIFEST).read_text("utf-8"))
    manifest["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / artifact.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    program = tuned(tmp_path)
    folder = artifact.save(program, tmp_path / "out", extra={"report.md": "# ☕", "raw.bin": b"\0\1"})
    loaded = artifact.load(folder)
    assert loaded.hash == program.hash
    assert loaded.graph == program.graph
    assert loaded.params.modules == program.params.modules
    ref = loaded.params.adapters["shared@v1"]
    assert (ref.folder / "adapter_model.safetensors").read_bytes() == b"weights"
    assert (loaded.root / "words.jsonl").is_file()
    assert (folder / "report.md").read_text("utf-8") == "# ☕"


def test_an_artifact_can_be_moved_and_saved_again(tmp_path: Path) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    moved = folder.rename(tmp_path / "moved")
    again = artifact.save(artifact.load(moved), tmp_path / "again")
    assert artifact.load(again).hash == artifact.load(moved).hash


def test_saving_over_an_artifact_replaces_it_whole(tmp_path: Path) -> None:
    program = tuned(tmp_path)
    folder = artifact.save(program, tmp_path / "out", extra={"old.txt": "old"})
    artifact.save(sort_program(tmp_path / "source"), folder)
    assert not (folder / "old.txt").exists()
    assert artifact.load(folder).params.adapters == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "out", "source"]


def test_a_save_onto_itself_works(tmp_path: Path) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    before = artifact.load(folder)
    artifact.save(before, folder)
    assert artifact.load(folder).hash == before.hash


def test_a_save_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    program = tuned(tmp_path)
    folder = artifact.save(program, tmp_path / "out")
    missing = AdapterRef("shared", 2, tmp_path / "nowhere", "base", "00")
    broken = program.with_params(program.params.with_adapter(missing, ("Classify",)))
    with pytest.raises(ArtifactError, match="cannot be written"):
        artifact.save(broken, folder)
    assert artifact.load(folder).hash == program.hash
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_foreign_folder_is_not_overwritten(tmp_path: Path) -> None:
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "me.png").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="is no artifact"):
        artifact.save(sort_program(tmp_path / "source"), foreign)
    assert (foreign / "me.png").exists()


def test_a_foreign_folder_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no artifact\.json"):
        artifact.load(tmp_path)


@pytest.mark.parametrize("name", ["graph.json", "params.json", "files/words.jsonl"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(Corrupt, match=name):
        artifact.load(folder)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    (folder / "adapters" / "shared@v1" / "adapter_model.safetensors").unlink()
    with pytest.raises(Corrupt, match="missing"):
        artifact.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\0"])
def test_a_broken_manifest_is_refused(tmp_path: Path, text: str) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    (folder / artifact.MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(Corrupt):
        artifact.load(folder)


def test_another_format_is_refused(tmp_path: Path) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    manifest = json.loads((folder / artifact.MANIFEST).read_text("utf-8"))
    (folder / artifact.MANIFEST).write_text(json.dumps({**manifest, "format": 99}), encoding="utf-8")
    with pytest.raises(VersionMismatch, match="99"):
        artifact.load(folder)


@pytest.mark.parametrize(
    ("version", "hint"), [(3, "a later one"), (0, "make the artifact again"), ("2", "again"), (True, "")]
)
def test_why_a_format_is_refused_is_said(tmp_path: Path, version: object, hint: str) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    manifest = json.loads((folder / artifact.MANIFEST).read_text("utf-8"))
    (folder / artifact.MANIFEST).write_text(json.dumps({**manifest, "format": version}), encoding="utf-8")
    with pytest.raises(VersionMismatch, match="this lmgraph reads formats 1 to 2") as caught:
        artifact.load(folder)
    assert hint in str(caught.value)


def test_a_graph_of_another_format_is_refused_with_the_folder(tmp_path: Path) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    graph = json.loads((folder / "graph.json").read_text("utf-8"))
    rewrite(folder, "graph.json", {**graph, "format": 1})
    with pytest.raises(VersionMismatch, match="out: The graph has format 1"):
        artifact.load(folder)


def test_an_artifact_of_format_1_is_read_and_its_fingerprints_come_from_its_graph() -> None:
    program = artifact.load(TUNED / "format-1")
    classify = program.params.modules["Classify"]
    assert classify.instruction == "Is it fruit, or was it made?"
    assert classify.descriptions == {"word": "a noun"}
    assert classify.demos == (Demo({"word": "fig", "hint": "short"}, {"kind": "fruit"}, "labelled", "words.jsonl:1"),)
    ref = program.params.adapters["shared@v1"]
    assert (ref.folder / "adapter_model.safetensors").read_bytes() == b"weights"
    assert {name: node.fingerprints for name, node in program.params.modules.items()} == fingerprints(program.graph)


def test_an_artifact_of_format_1_loads_onto_its_program_of_today() -> None:
    program = artifact.load(TUNED / "format-1")
    rebound = rebind(program, compile_path(TUNED / "sort.lmg").require())
    assert (rebound.problems, rebound.notes) == ((), ())
    assert rebound.require() == program.params


def test_an_artifact_of_format_1_is_saved_in_this_one(tmp_path: Path) -> None:
    program = artifact.load(TUNED / "format-1")
    folder = artifact.save(program, tmp_path / "out")
    assert artifact.read_manifest(folder)["format"] == artifact.FORMAT
    again = artifact.load(folder)
    assert again.params.modules == program.params.modules
    assert again.hash == program.hash


@pytest.mark.parametrize("name", ["Classify", "Other"])
def test_params_of_format_1_that_are_not_its_graphs_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    shutil.copytree(TUNED / "format-1", folder)
    params = json.loads((folder / "params.json").read_text("utf-8"))
    node = params["modules"].pop("Classify")
    rewrite(folder, "params.json", {**params, "modules": {**params["modules"], name: {**node, "interface": "0"}}})
    with pytest.raises(GraphMismatch, match=f"`{name}`"):
        artifact.load(folder)


@pytest.mark.parametrize("change", [[], {"modules": []}, {"modules": {"Classify": []}}, {"modules": {"Classify": {}}}])
def test_params_of_format_1_of_another_shape_are_refused(tmp_path: Path, change: object) -> None:
    folder = tmp_path / "out"
    shutil.copytree(TUNED / "format-1", folder)
    rewrite(folder, "params.json", change)
    with pytest.raises(Corrupt, match="does not hold together"):
        artifact.load(folder)


@pytest.mark.parametrize("change", [[], {}, {"graph": []}, {"graph": {}, "data": 5}])
def test_fingerprints_of_another_shape_are_refused(tmp_path: Path, change: object) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    params = json.loads((folder / "params.json").read_text("utf-8"))
    known = params["modules"]["Classify"]["fingerprints"]
    params["modules"]["Classify"]["fingerprints"] = (
        {**known, **change} if isinstance(change, dict) and change else change
    )
    rewrite(folder, "params.json", params)
    with pytest.raises(Corrupt, match="does not hold together"):
        artifact.load(folder)


def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    manifest = json.loads((folder / artifact.MANIFEST).read_text("utf-8"))
    for escape in ("../secret", "/etc/passwd", "a/../../b", "..\\b"):
        (folder / artifact.MANIFEST).write_text(
            json.dumps({**manifest, "files": {**manifest["files"], escape: "0"}}), encoding="utf-8"
        )
        with pytest.raises(Corrupt, match="leaves its folder"):
            artifact.load(folder)


def test_an_adapter_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    params = json.loads((folder / "params.json").read_text("utf-8"))
    params["adapters"]["shared@v1"]["folder"] = "../adapter"
    rewrite(folder, "params.json", params)
    with pytest.raises(Corrupt, match="leaves its folder"):
        artifact.load(folder)


@pytest.mark.parametrize("change", [[], {"modules": {}}, {"modules": {"Classify": {}}, "adapters": {}}, "text"])
def test_params_of_another_shape_are_refused(tmp_path: Path, change: object) -> None:
    folder = artifact.save(tuned(tmp_path), tmp_path / "out")
    rewrite(folder, "params.json", change)
    with pytest.raises(ArtifactError):
        artifact.load(folder)


def test_params_of_another_program_are_refused_by_module(tmp_path: Path) -> None:
    folder = artifact.save(sort_program(tmp_path / "source"), tmp_path / "out")
    other_text = SORT.replace("fruit  tool  animal", "fruit  tool  animal  plant")
    write_sort_program(tmp_path / "other", other_text)
    other = artifact.save(program_from(tmp_path / "other", other_text, "sort.lmg"), tmp_path / "other-out")
    rewrite(folder, "params.json", json.loads((other / "params.json").read_text("utf-8")))
    with pytest.raises(GraphMismatch, match="`Classify`"):
        artifact.load(folder)


def test_loading_runs_no_python_of_the_artifact(tmp_path: Path) -> None:
    text = SORT.replace(" = gold.kind == pred.kind", ' = py "metrics:exact"').replace("-> bool", "-> float")
    write_sort_program(tmp_path / "source")
    (tmp_path / "source" / "metrics.py").write_text(
        "def exact(gold: dict, pred: dict) -> float:\n    return 1.0\n\n\nraise SystemExit('imported')\n",
        encoding="utf-8",
    )
    program = program_from(tmp_path / "source", text, "sort.lmg")
    loaded = artifact.load(artifact.save(program, tmp_path / "out"))
    assert (loaded.root / "metrics.py").is_file()
