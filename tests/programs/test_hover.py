"""programs/hover and its corpus: they compile, rows and corpus fit, search, metrics and unpacking are right."""

from __future__ import annotations

import hashlib
import json
import lzma
import threading
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_path
from lmgraph.program import Program
from lmgraph.program.artifact import save
from lmgraph.program.values import as_record
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 775, "dev": 150, "test": 140}
PACKED = PROGRAMS / "hover" / "corpus" / "wiki17.jsonl.xz"
MOST_BYTES = 12_000_000
"""Of all data files of the programs banking77, extract, hover and papillon and of their corpora."""

PAGES = [
    ("Bird", "A plane that Ace flew over the sea."),
    ("Ace", "A pilot from France. Ace was bold."),
    ("Erdős", "A mathematician from Hungary."),
    ("Twin A", "The very same words."),
    ("Twin B", "The very same words."),
    ("Long", "word " * 200),
]


@pytest.fixture(scope="module")
def corpus() -> dict[str, str]:
    with lzma.open(PACKED, "rt", encoding="utf-8") as file:
        return {row["title"]: row["text"] for row in map(json.loads, file)}


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The retriever, not yet indexed, over a few pages."""
    pytest.importorskip("bm25s")
    path = tmp_path / "pages.jsonl.xz"
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"title": title, "text": text}) + "\n" for title, text in PAGES)
    monkeypatch.setenv("LMGRAPH_HOVER_CORPUS", str(path))
    return load("hover", "search.py")


# -- programs --------------------------------------------------------------------------------------------------------


def test_the_program_has_a_loop_of_three_modules() -> None:
    graph = compile_path(PROGRAMS / "hover" / "program.lmg").graph
    assert set(graph.modules_of("Search")) == {"Note", "Missing", "NextQuery"}
    assert graph.entry == "Search"
    assert {module.lm for module in graph.modules} == {"reader"}
    assert graph.metric("fresh").reads == "trace"


def test_program_and_baseline_are_scored_by_the_same_metric() -> None:
    graphs = [compile_path(PROGRAMS / "hover" / name).graph for name in ("program.lmg", "baseline.lmg")]
    program, baseline = (graph.objective("found") for graph in graphs)
    assert dict(zip(program.metrics, program.weights, strict=True)) == {"recall": 1.0, "fresh": 0.0}
    assert dict(zip(baseline.metrics, baseline.weights, strict=True)) == {"recall": 1.0}
    assert {graph.metric("recall").python for graph in graphs} == {"metrics:title_recall"}
    assert (program.low, program.high) == (baseline.low, baseline.high) == (0.0, 1.0)


# -- rows and corpus -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_rows_fit_the_record_and_their_pages_are_in_the_corpus(split: str, corpus: dict[str, str]) -> None:
    found = rows("hover", split)
    assert len(found) == SIZES[split]
    for row in found:
        assert set(row) == {"question", "titles"}
        assert row["question"].strip()
        assert 2 <= len(row["titles"]) == len(set(row["titles"]))
        assert corpus.keys() >= set(row["titles"])


def test_no_question_stands_in_two_splits() -> None:
    texts = {split: {normal(row["question"]) for row in rows("hover", split)} for split in SPLITS}
    assert {split: len(found) for split, found in texts.items()} == SIZES
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]


def test_the_corpus_has_each_title_once_and_no_entities(corpus: dict[str, str]) -> None:
    with lzma.open(PACKED, "rt", encoding="utf-8") as file:
        assert sum(1 for _ in file) == len(corpus) == 10_375
    assert all(title and text for title, text in corpus.items())
    assert not [title for title in corpus if "&amp;" in title or "&quot;" in title]
    assert list(corpus) == sorted(corpus)


def test_all_packaged_data_is_small() -> None:
    folders = [PROGRAMS / program / "data" for program in ("banking77", "extract", "hover", "papillon")]
    files = [path for folder in folders for path in folder.iterdir()]
    files += (PROGRAMS / "hover" / "corpus").glob("*.xz")
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_making_the_data_keeps_rows_of_one_question_together() -> None:
    make_data = load("hover", "make_data.py")
    known = {"A", "B", "A & B"}
    raw = [
        {"input": f"Question {n // 2} {'xy'[n % 2]}?", "gold_titles": ["A", "B"], "hpqa_id": f"id{n // 2}"}
        for n in range(400)
    ]
    found = make_data.read([json.dumps(row) for row in raw], known)
    test = found[:2]
    splits = make_data.make(found, test)
    assert splits == make_data.make(found, test)
    assert {split: len(splits[split]) for split in SPLITS} == {"train": 248, "dev": 150, "test": 2}
    groups = {split: {row["question"].split()[1] for row in splits[split]} for split in SPLITS}
    assert not groups["dev"] & groups["train"]
    assert not groups["test"] & (groups["dev"] | groups["train"])


def test_making_the_data_leaves_out_rows_whose_pages_are_unknown() -> None:
    make_data = load("hover", "make_data.py")
    row = {"input": " Is  A in B? ", "gold_titles": ["A &amp; B"], "hpqa_id": "x"}
    assert make_data.read([json.dumps(row)], {"A & B"}) == [("x", {"question": "Is A in B?", "titles": ["A & B"]})]
    assert make_data.read([json.dumps(row)], {"A"}) == []
    assert make_data.read([json.dumps({**row, "gold_titles": []})], {"A"}) == []


# -- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("titles", "found", "score"),
    [
        (["A", "B"], ["A", "B"], 1.0),
        (["A", "B"], ["C", "B", "D"], 0.5),
        (["A", "B"], ["a", "b"], 0.0),
        (["A", "B"], [], 0.0),
        (["A", "A"], ["A"], 1.0),
        (["A"], ["A", "A"], 1.0),
        (["Erdo\u030bs"], ["Erd\u0151s"], 1.0),
        (["A  B"], ["A B"], 1.0),
        ([], ["A"], 1.0),
        (["A", "B", "C"], ["C", "A"], 2 / 3),
    ],
)
def test_title_recall(titles: list[str], found: list[str], score: float) -> None:
    title_recall = load("hover", "metrics.py").title_recall
    pred = as_record({"evidence": [{"title": title, "text": "", "score": 0.0} for title in found]})
    assert title_recall(SimpleNamespace(titles=titles), pred) == pytest.approx(score)


@pytest.mark.parametrize(
    ("queries", "score"),
    [
        ([], 1.0),
        (["Ace pilot"], 1.0),
        (["Who is Ace?"], 0.0),
        (["who IS  ace"], 0.0),
        (["Ace pilot", "pilot, ace"], 0.5),
        (["Ace", "ÉCOLE", "école"], 2 / 3),
        ([None, "Ace"], 1.0),
    ],
)
def test_fresh_queries(queries: list[str | None], score: float) -> None:
    fresh_queries = load("hover", "metrics.py").fresh_queries
    calls = [SimpleNamespace(module="Note", outputs={"note": "x"})]
    calls += [SimpleNamespace(module="NextQuery", outputs=None if q is None else {"query": q}) for q in queries]
    assert fresh_queries(SimpleNamespace(question="Who is Ace?"), SimpleNamespace(calls=calls)) == pytest.approx(score)


def test_unique_passes_over_what_was_seen_and_what_comes_twice() -> None:
    unique = load("hover", "passages.py").unique
    pages = [{"title": title, "text": "", "score": 1.0} for title in ("A", "B", "B", "Erdo\u030bs", "a", "D")]
    seen = [{"title": "A", "text": "", "score": 0.0}, {"title": "Erd\u0151s", "text": "", "score": 0.0}]
    assert [page["title"] for page in unique(passages=pages, seen=seen, most=2)] == ["B", "a"]
    assert unique(passages=[], seen=seen, most=2) == []
    assert unique(passages=pages, seen=[], most=0) == []
    assert len(unique(passages=pages, seen=[], most=99)) == 5


# -- search ----------------------------------------------------------------------------------------------------------


def test_the_best_passage_comes_first(search: ModuleType) -> None:
    found = search.bm25(query="bold pilot", k=3)
    assert found[0]["title"] == "Ace"
    assert set(found[0]) == {"title", "text", "score"}
    assert [page["score"] for page in found] == sorted((page["score"] for page in found), reverse=True)


def test_equal_scores_keep_the_order_of_the_corpus(search: ModuleType) -> None:
    assert [page["title"] for page in search.bm25(query="same words", k=5)][:2] == ["Twin A", "Twin B"]


@pytest.mark.parametrize("query", ["", "   ", "?!", "the of and", "zebra", "\u200b", "日本語"])
def test_a_query_without_a_known_word_finds_nothing(search: ModuleType, query: str) -> None:
    assert search.bm25(query=query, k=5) == []


def test_accents_and_case_do_not_count(search: ModuleType) -> None:
    assert {search.bm25(query=query, k=1)[0]["title"] for query in ("erdos", "ERDŐS", "Erdo\u030bs")} == {"Erdős"}


@pytest.mark.parametrize(("k", "count"), [(-1, 0), (0, 0), (1, 1), (2, 2), (99, 2)])
def test_k_bounds_what_comes_back(search: ModuleType, k: int, count: int) -> None:
    assert len(search.bm25(query="ace", k=k)) == count


def test_a_passage_is_cut_at_a_word(search: ModuleType) -> None:
    text = search.bm25(query="word", k=1)[0]["text"]
    assert text.endswith("word…")
    assert len(text) <= search.SHOWN
    assert search.cut("short") == "short"
    assert search.cut("x" * 400, 10) == "x" * 9 + "…"
    assert search.cut("one two, three", 10) == "one two…"
    assert search.cut("éé éé éé", 6) == "éé éé…"


def test_two_first_searches_at_once_build_one_index(search: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = search._build

    def count(pages: list[tuple[str, str]]) -> Any:
        built.append(len(pages))
        return build(pages)

    monkeypatch.setattr(search, "_build", count)
    threads = [threading.Thread(target=search.bm25, kwargs={"query": "ace", "k": 1}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [len(PAGES)]


def test_a_missing_corpus_is_named(search: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGRAPH_HOVER_CORPUS", str(tmp_path / "nothing"))
    with pytest.raises(search.CorpusError, match="which is no file"):
        search.bm25(query="ace")
    monkeypatch.delenv("LMGRAPH_HOVER_CORPUS")
    with pytest.raises(search.CorpusError, match=r"copy it there from lmgraph's .*, or set \$LMGRAPH_HOVER_CORPUS"):
        search.find_corpus(tmp_path / "files" / "search.py")


def test_the_corpus_goes_into_artifacts_with_the_program(
    search: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMGRAPH_HOVER_CORPUS")
    assert search.find_corpus(PROGRAMS / "hover" / "search.py") == PACKED
    graph = compile_path(PROGRAMS / "hover" / "program.lmg").require()
    folder = save(Program.default(graph, PROGRAMS / "hover"), tmp_path / "artifact")
    packed = search.find_corpus(folder / "files" / "search.py")
    assert packed == folder / "files" / "corpus" / PACKED.name
    assert packed.stat().st_size == PACKED.stat().st_size
    assert (folder / "files" / "passages.py").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no xz at all", "is damaged"),
        (lzma.compress(b'{"title": "A", "text": "a"}\n' * 999)[:-20], "is damaged"),
        (lzma.compress(b'{"title": "A"}\n'), "row 1: no object with"),
        (lzma.compress(b'{"title": "A", "text": "a"}\n["A"]\n'), "row 2: no object with"),
        (lzma.compress(b"\xff\xfe\n"), "is damaged"),
    ],
)
def test_a_damaged_corpus_is_refused(search: ModuleType, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl.xz"
    path.write_bytes(content)
    with pytest.raises(search.CorpusError, match=message):
        list(search.read_corpus(path))


def test_a_plain_corpus_file_is_read_too(search: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text('{"title": "A", "text": "a", "more": 1}\n', encoding="utf-8")
    assert list(search.read_corpus(path)) == [("A", "a")]


def test_the_real_corpus_gives_the_recall_that_the_readme_states(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bm25s")
    monkeypatch.delenv("LMGRAPH_HOVER_CORPUS", raising=False)
    real, metrics = load("hover", "search.py"), load("hover", "metrics.py")
    readme = (PROGRAMS / "hover" / "README.md").read_text(encoding="utf-8")
    found = [(as_record(row), real.bm25(query=row["question"], k=7)) for row in rows("hover", "dev")]
    for k, stated in ((3, "0.703"), (7, "0.847")):
        scores = [metrics.title_recall(row, as_record({"evidence": passages[:k]})) for row, passages in found]
        assert stated in readme
        assert sum(scores) / len(scores) == pytest.approx(float(stated), abs=0.0006)


# -- corpus folder ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus folder with one small file."""
    make_corpus = load("hover/corpus", "make_corpus.py")
    lines = ['{"title": "B &amp; C", "text": "b  b"}', '{"title": "A", "text": "a"}', '{"title": "A", "text": "again"}']
    make_corpus.write(make_corpus.paragraphs(lines), tmp_path)
    return tmp_path


def test_the_packed_corpus_is_what_its_checksum_says() -> None:
    unpack = load("hover/corpus", "unpack.py")
    (line,) = unpack.run(PROGRAMS / "hover" / "corpus", PROGRAMS, check=True)
    assert line.startswith("wiki17.jsonl.xz: right, 5,985,174 bytes")


def test_unpacking_writes_the_rows_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack = load("hover/corpus", "unpack.py")
    target = folder / "out" / "wiki17.jsonl"
    assert unpack.run(folder, folder / "out", check=False) == [f"{target}: {target.stat().st_size:,} bytes"]
    assert "unpacking wiki17.jsonl.xz" in capsys.readouterr().err
    assert [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()] == [
        {"title": "A", "text": "a"},
        {"title": "B & C", "text": "b b"},
    ]
    before = target.stat().st_mtime_ns
    assert unpack.run(folder, folder / "out", check=False) == [f"{target}: already there"]
    assert target.stat().st_mtime_ns == before
    target.write_text("changed", encoding="utf-8")
    unpack.run(folder, folder / "out", check=False)
    assert "B & C" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed.write_bytes(packed.read_bytes()[:-9]), "is damaged"),
        (lambda packed: packed.write_bytes(b"no xz"), "is damaged"),
        (lambda packed: packed.write_bytes(lzma.compress(b"other rows")), "holds other data"),
        (lambda packed: packed.unlink(), "is missing"),
        (lambda packed: (packed.parent / "SHA256SUMS").write_text("nonsense\n"), "line 1: not"),
        (lambda packed: (packed.parent / "SHA256SUMS").unlink(), "cannot be read"),
    ],
)
def test_damage_is_refused_and_leaves_nothing_behind(folder: Path, damage: Any, message: str) -> None:
    unpack = load("hover/corpus", "unpack.py")
    damage(folder / "wiki17.jsonl.xz")
    with pytest.raises(unpack.UnpackError, match=message):
        unpack.run(folder, folder / "out", check=False)
    out = folder / "out"
    assert not out.exists() or not list(out.iterdir())


def test_a_wrong_packed_file_does_not_replace_a_right_one(folder: Path) -> None:
    unpack = load("hover/corpus", "unpack.py")
    unpack.run(folder, folder, check=False)
    right = (folder / "wiki17.jsonl").read_bytes()
    (folder / "wiki17.jsonl.xz").write_bytes(lzma.compress(b"other rows"))
    sums = hashlib.sha256(b"not what is packed").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{sums}  wiki17.jsonl\n", encoding="utf-8")
    with pytest.raises(unpack.UnpackError, match="holds other data"):
        unpack.run(folder, folder, check=False)
    assert (folder / "wiki17.jsonl").read_bytes() == right
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "wiki17.jsonl", "wiki17.jsonl.xz"]


def test_making_the_corpus_is_repeatable(folder: Path, tmp_path: Path) -> None:
    make_corpus = load("hover/corpus", "make_corpus.py")
    first = (folder / "wiki17.jsonl.xz").read_bytes()
    make_corpus.write(
        make_corpus.paragraphs(['{"title": "A", "text": "a"}', '{"title": "B & C", "text": "b b"}']), tmp_path
    )
    assert (tmp_path / "wiki17.jsonl.xz").read_bytes() == first
