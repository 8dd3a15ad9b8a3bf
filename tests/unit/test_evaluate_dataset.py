"""Datasets: rows are checked when loaded, and a row that does not fit is named by file, row and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmgraph.errors import ConfigError, DataError
from lmgraph.evaluate.dataset import load_splits, pick_split
from lmgraph.graph.graph import DatasetSpec, SplitSpec
from lmgraph.graph.types import BOOL, INT, STR, EnumMember, EnumType, Field, ListType, OptionalType, RecordType

KIND = EnumType("Kind", (EnumMember("a", "a"), EnumMember("b", "b")))
ROW = RecordType(
    "Row",
    (
        Field("text", STR),
        Field("kind", KIND),
        Field("n", INT, None, True, 7),
        Field("tags", OptionalType(ListType(STR))),
        Field("ok", BOOL, None, True, False),
    ),
)


def dataset(*splits: SplitSpec, path: str = "rows.jsonl", seed: int = 0) -> DatasetSpec:
    return DatasetSpec("d", ROW, "csv" if path.endswith("csv") else "jsonl", path, splits, seed)


def write(folder: Path, *lines: object, name: str = "rows.jsonl") -> Path:
    path = folder / name
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def rows(count: int) -> list[dict[str, object]]:
    return [{"text": f"t{index}", "kind": "a"} for index in range(count)]


def test_rows_get_defaults_ids_and_lose_other_fields(tmp_path: Path) -> None:
    write(tmp_path, {"text": "x", "kind": "a", "source": "elsewhere"}, "", {"text": "y", "kind": "b", "n": 1})
    splits = load_splits(dataset(SplitSpec("all", share=1.0)), tmp_path)
    found = {row.id: row.values for row in splits["all"]}
    assert found["rows.jsonl:1"] == {"text": "x", "kind": "a", "n": 7, "tags": None, "ok": False}
    assert found["rows.jsonl:3"]["n"] == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"text": "x", "kind": "c"}, ["row 2", "`kind`", '"c"']),
        ({"text": 3, "kind": "a"}, ["row 2", "`text`", "3"]),
        ({"kind": "a"}, ["row 2", "`text`", "missing"]),
        ({"text": "x", "kind": "a", "tags": ["ok", 3]}, ["row 2", "`tags[1]`"]),
        ({"text": "x", "kind": "a", "n": "7"}, ["row 2", "`n`"]),
        ('{"text": "x"', ["row 2", "not JSON"]),
        ("[1, 2]", ["row 2", "expected a JSON object"]),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, line: object, words: list[str]) -> None:
    path = write(tmp_path, {"text": "x", "kind": "a"}, line)
    with pytest.raises(DataError) as caught:
        load_splits(dataset(), tmp_path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_splits(dataset(), tmp_path)
    write(tmp_path)
    with pytest.raises(DataError, match="no rows"):
        load_splits(dataset(), tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(DataError, match="not UTF-8"):
        load_splits(dataset(), tmp_path)
    (tmp_path / "rows.jsonl").unlink()
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        load_splits(dataset(), tmp_path)


def test_csv_cells_are_read_by_type(tmp_path: Path) -> None:
    text = 'text,kind,n,tags,ok,more\n12,a,3,"[""x"", ""y""]",true,z\n"two\nlines",b,,null,false,z\n'
    (tmp_path / "rows.csv").write_text("\ufeff" + text, encoding="utf-8")
    found = load_splits(dataset(SplitSpec("all", share=1.0), path="rows.csv"), tmp_path)["all"]
    values = sorted((dict(row.values) for row in found), key=lambda row: row["kind"])
    assert values == [
        {"text": "12", "kind": "a", "n": 3, "tags": ["x", "y"], "ok": True},
        {"text": "two\nlines", "kind": "b", "n": 7, "tags": None, "ok": False},
    ]


def test_a_csv_row_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,kind,n\nx,a,1\ny,b,many\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2.*`n`"):
        load_splits(dataset(path="rows.csv"), tmp_path)


def test_splits_are_disjoint_and_follow_the_seed(tmp_path: Path) -> None:
    write(tmp_path, *rows(50))
    parts = (SplitSpec("train", share=0.5), SplitSpec("dev", count=10), SplitSpec("test", share=0.3))
    splits = load_splits(dataset(*parts), tmp_path)
    ids = {name: [row.id for row in found] for name, found in splits.items()}
    assert {name: len(found) for name, found in ids.items()} == {"train": 25, "dev": 10, "test": 15}
    assert len({row for found in ids.values() for row in found}) == 50
    assert ids == {name: [row.id for row in found] for name, found in load_splits(dataset(*parts), tmp_path).items()}
    other = load_splits(dataset(*parts, seed=1), tmp_path)
    assert ids["train"] != [row.id for row in other["train"]]


def test_splits_of_their_own_files(tmp_path: Path) -> None:
    write(tmp_path, *rows(4))
    write(tmp_path, *rows(2), name="held.jsonl")
    splits = load_splits(dataset(SplitSpec("train", share=1.0), SplitSpec("test", path="held.jsonl")), tmp_path)
    assert (len(splits["train"]), len(splits["test"])) == (4, 2)
    assert {row.id for row in splits["test"]} == {"held.jsonl:1", "held.jsonl:2"}


def test_too_few_rows_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, *rows(4))
    with pytest.raises(DataError, match="too few for its split `dev`"):
        load_splits(dataset(SplitSpec("train", count=3), SplitSpec("dev", count=2)), tmp_path)


def test_other_data_replaces_every_split(tmp_path: Path) -> None:
    other = write(tmp_path, *rows(3), name="other.jsonl")
    splits = load_splits(dataset(SplitSpec("dev", share=1.0)), tmp_path, other)
    assert {name: len(found) for name, found in splits.items()} == {"dev": 3, "all": 3}


def test_an_unknown_split_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="train, dev"):
        pick_split({"train": [], "dev": []}, "tset")
