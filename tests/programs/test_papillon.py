"""programs/papillon: it compiles, its rows are valid, privacy and quality are measured right. No row is printed."""

from __future__ import annotations

import json
import string
import unicodedata
from itertools import combinations
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmgraph.compiler.compile import compile_path
from lmgraph.program.values import as_record
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 123, "dev": 40, "test": 53}

privacy = load("papillon", "privacy.py")
quality = load("papillon", "quality.py")


@pytest.fixture(scope="module")
def graph() -> Any:
    return compile_path(PROGRAMS / "papillon" / "program.lmg").graph


@pytest.fixture
def make_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(PROGRAMS / "papillon"))
    return load("papillon", "make_data.py")


# -- the program -----------------------------------------------------------------------------------------------------


def test_only_consult_leaves_the_house(graph: Any) -> None:
    lms = {module.name: module.lm for module in graph.modules if module.name != "JudgeQuality"}
    assert lms == {"Rewrite": "local", "Consult": "cloud", "Compose": "local"}
    assert privacy.UNTRUSTED == "Consult"


def test_both_objectives_take_leakage_off(graph: Any) -> None:
    for name, measure in (("cheap", "overlap"), ("quality", "judged")):
        objective = graph.objective(name)
        assert dict(zip(objective.metrics, objective.weights, strict=True)) == {measure: 1.0, "leakage": -1.0}
        assert (objective.low, objective.high) == (-1.0, 1.0)
    assert graph.metric("leakage").reads == "trace"


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_rows_fit_the_record_and_every_unit_is_in_its_query(split: str) -> None:
    found = rows("papillon", split)
    assert len(found) == SIZES[split]
    for number, row in enumerate(found):
        right = (
            set(row) == {"query", "pii", "reference"}
            and bool(row["query"].strip() and row["reference"].strip() and row["pii"])
            and privacy.mentions(row["query"], row["pii"]) == row["pii"]
        )
        assert right, f"{split}, row {number}"


def test_no_query_stands_in_two_splits() -> None:
    texts = {split: {normal(row["query"]) for row in rows("papillon", split)} for split in SPLITS}
    assert {split: len(found) for split, found in texts.items()} == SIZES
    for one, other in combinations(SPLITS, 2):
        shared = len(texts[one] & texts[other])
        assert shared == 0


def test_a_query_as_it_is_leaks_everything_and_struck_out_little() -> None:
    for split in SPLITS:
        leaks = [leak(row["pii"], row["query"]) for row in rows("papillon", split)]
        assert min(leaks) == 1.0
        struck = [
            leak(row["pii"], privacy.redact(row["query"], privacy.suspects(row["query"])))
            for row in rows("papillon", split)
        ]
        assert sum(struck) / len(struck) < 0.25


# -- mentions and redact ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("write to Ms Okafor", "Ms Okafor"),
        ("write to ms  OKAFOR", "Ms Okafor"),
        ("write to Ms\nOkafor.", "ms okafor"),
        ("Ms Okafor's desk", "Okafor"),
        ("josé", "Jose"),
        ("jose\u0301", "josé"),
        ("ＯＫＡＦＯＲ", "okafor"),
        ("Oka\u200bfor", "Okafor"),
        ("Oka\u00adfor", "Okafor"),
        ("STRASSE", "Straße"),
        ("ﬁrma", "Firma"),
        ("call 0803-555-0199", "0803 555 0199"),
        ("tolu.ade@example.org", "Tolu.Ade@Example.org"),
        ("我在北京工作", "北京"),
        ("김철수는 학생", "김철수"),
        ("ผมชื่อสมชายครับ", "สมชาย"),
        ("Иванов уехал", "ИВАНОВ"),
        ("O’Connor", "O'Connor"),
        ("snake_case_name", "case name"),
    ],
)
def test_a_unit_is_found_however_it_is_written(text: str, unit: str) -> None:
    assert privacy.mentions(text=text, units=[unit]) == [unit]
    struck = privacy.redact(text=text, units=[unit])
    assert privacy.STRUCK in struck
    assert privacy.mentions(text=struck, units=[unit]) == []


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("an alias", "Ali"),
        ("also", "Al"),
        ("Okafors", "Okafor"),
        ("Ms. Ade and Okafor", "Ms Okafor"),
        ("", "Okafor"),
        ("anything", ""),
        ("a, b - c", "-"),
        ("a plan", "a"),
        ("5550199", "555 0199"),
    ],
)
def test_what_is_no_mention(text: str, unit: str) -> None:
    assert privacy.mentions(text=text, units=[unit]) == []
    assert privacy.redact(text=text, units=[unit]) == text


def test_units_keep_their_order_and_count_once() -> None:
    assert privacy.mentions("b c, a b", ["a b", "zz", "A  B", "b c", "a b"]) == ["a b", "b c"]
    assert privacy.mentions("text", []) == []


def test_overlapping_units_are_struck_out_once() -> None:
    assert privacy.redact("Tolu Ade Shell", ["Tolu Ade", "Ade Shell"]) == "[private]"
    assert privacy.redact("from Ade to Ade.", ["ade"]) == "from [private] to [private]."
    assert privacy.redact("Ade, Bo", ["Ade", "Bo", "Ade Bo"]) == "[private]"
    assert privacy.redact("in 北京工作", ["北京"]) == "in [private]工作"


@given(st.text(max_size=60), st.lists(st.text(max_size=12), max_size=4))
def test_what_was_struck_out_is_mentioned_no_more(text: str, units: list[str]) -> None:
    if any("private" in unit.casefold() or unit.casefold() in "private" for unit in units):
        return  # the mark itself
    struck = privacy.redact(text, units)
    found = privacy.mentions(text, units)
    assert (struck == text) == (found == []) or unicodedata.normalize("NFC", text) != text
    # Striking out may push two words together that then are another unit; that one was no mention before.
    assert not set(privacy.mentions(struck, units)) & set(found)


# -- suspects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("I am Tolu Ade at Shell Lagos.", ["Tolu Ade", "Shell Lagos"]),
        ("write to Ms Okafor's office", ["Okafor"]),
        ("My mail is tolu.ade@example.org today", ["tolu.ade@example.org"]),
        ("see https://example.org/me?x=1 and www.example.com", ["https://example.org/me?x=1", "www.example.com"]),
        ("phone +44 20 7946 0958 now", ["+44 20 7946 0958"]),
        ("born 12/03/1987 there", ["12/03/1987"]),
        ("order AB12345 is late", ["AB12345"]),
        ("it costs $5,000 a year", ["$5,000"]),
        ("Please write a letter. Thanks!", []),
        ("Resign for me", []),
        ("the McDonald case", ["McDonald"]),
        ("IBM wrote", ["IBM"]),
        ("i work at shell in lagos", []),
        ("meet J. Smith there", ["J. Smith"]),
        ("Élodie Brûlé arrived", ["Élodie Brûlé"]),
        ("спросите Ивана Петрова", ["Ивана Петрова"]),
        ("", []),
        ("5 or 10 words", []),
        ("Tolu Ade. tolu ade. TOLU ADE.", ["Tolu Ade"]),
    ],
)
def test_suspects(text: str, units: list[str]) -> None:
    assert privacy.suspects(text=text) == units


@given(st.text(alphabet=string.ascii_letters + string.digits + " .,@-/\n'éß", max_size=80))
def test_every_suspect_is_in_its_text(text: str) -> None:
    units = privacy.suspects(text)
    assert privacy.mentions(text, units) == units


# -- leakage ---------------------------------------------------------------------------------------------------------


def leak(pii: list[str], *sent: str) -> float:
    """Leakage where each text was sent to Consult and all units were shown to Rewrite."""
    calls = [SimpleNamespace(module="Rewrite", inputs={"query": " ".join(pii)})]
    calls += [SimpleNamespace(module="Consult", inputs={"prompt": text}) for text in sent]
    score = privacy.leakage(as_record({"pii": pii}), SimpleNamespace(calls=calls))
    assert isinstance(score, float)
    return score


@pytest.mark.parametrize(
    ("pii", "sent", "score"),
    [
        (["Tolu Ade", "Shell"], ["A letter for TOLU  ADE."], 0.5),
        (["Tolu Ade", "Shell"], ["A letter."], 0.0),
        (["Tolu Ade", "Shell"], ["Tolu Ade", "Shell"], 1.0),
        (["Tolu Ade", "tolu ade"], ["Tolu Ade"], 1.0),
        (["Tolu Ade"], [], 0.0),
        (["Tolu Ade"], [""], 0.0),
        ([], ["Tolu Ade"], 0.0),
        (["José", "北京"], ["jose in 我在北京"], 1.0),
        (["Tolu Ade"], ["Tolu", "Ade"], 0.0),
    ],
)
def test_leakage_is_the_share_of_units_sent(pii: list[str], sent: list[str], score: float) -> None:
    assert leak(pii, *sent) == score


def test_leakage_looks_into_nested_inputs() -> None:
    call = SimpleNamespace(module="Consult", inputs={"items": [{"note": "for Tolu Ade"}, None, 7]})
    assert privacy.leakage(as_record({"pii": ["Tolu Ade", "Shell"]}), SimpleNamespace(calls=[call])) == 0.5


# -- overlap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "reply", "score"),
    [
        ("Dear Ms Okafor, I resign.", "Dear Ms Okafor, I resign.", 1.0),
        ("Dear Ms Okafor, I resign.", "dear ms okafor i RESIGN", 1.0),
        ("a b c d", "x y z", 0.0),
        ("a b c d", "", 0.0),
        ("", "a b", 0.0),
        ("", "", 1.0),
        ("a b c d", "a b", 2 * 2 / 6),
        ("a b", "b a", 0.5),
        ("a a a", "a", 0.5),
        ("北京 天气", "北京的天气", 2 * 4 / 9),
        ("Straße", "STRASSE", 1.0),
        ("ｆｕｌｌ", "full", 1.0),
        ("?!", "...", 1.0),
    ],
)
def test_overlap(reference: str, reply: str, score: float) -> None:
    assert quality.overlap(SimpleNamespace(reference=reference), SimpleNamespace(reply=reply)) == pytest.approx(score)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_common_subsequence_is_symmetric_and_bounded(one: list[str], other: list[str]) -> None:
    common = quality.longest_common(one, other)
    assert common == quality.longest_common(other, one)
    assert 0 <= common <= min(len(one), len(other))
    assert quality.longest_common(one, one) == len(one)


def test_a_very_long_reply_is_cut_before_it_is_compared() -> None:
    assert len(quality.words("a " * 100_000)) == quality.MOST_WORDS


# -- making the data -------------------------------------------------------------------------------------------------


def test_making_the_data_leaves_out_what_cannot_be_measured(make_data: ModuleType) -> None:
    query = "Tolu Ade of Shell wrote to <PRESIDIO_ANONYMIZED_PERSON> about AL, also"
    units = ["Tolu Ade", "tolu ade", "presidio_anonymized_person", "AL", "als", "Shell"]
    assert make_data.units_of(query, units) == ["Tolu Ade", "Shell"]

    def line(**changes: Any) -> str:
        raw = {"input": query, "label": "Done.", "pii_units_in_query": units, "conversation_hash": "x"}
        return json.dumps({**raw, **changes})

    assert make_data.read([line()]) == [("x", {"query": query, "pii": ["Tolu Ade", "Shell"], "reference": "Done."})]
    assert make_data.read([line(pii_units_in_query=["AL"]), line(label=""), line(input="Tolu Ade " * 400)]) == []


def test_making_the_data_keeps_conversations_together(make_data: ModuleType) -> None:
    found = [(f"c{n // 2}", {"query": f"Ask {n}", "pii": ["Ask"], "reference": "r"}) for n in range(120)]
    splits = make_data.make(found, found[:2])
    assert {split: len(splits[split]) for split in SPLITS} == {"train": 78, "dev": 40, "test": 2}
    groups = {split: {int(row["query"].split()[1]) // 2 for row in splits[split]} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not groups[one] & groups[other]
