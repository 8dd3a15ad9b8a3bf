"""What goes to `/generate`, and which answers count."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lmgraph.engines.http.problems import Malformed, Refused
from lmgraph.engines.sglang.wire import read_answer, request_body
from lmgraph.errors import EngineError
from lmgraph.runtime.engine import Choices, JsonSchema, Regex, SamplingParams

RID = "r" * 32


def answer(**changes: Any) -> dict[str, Any]:
    meta = {
        "id": RID,
        "finish_reason": {"type": "stop", "matched": 2},
        "output_token_logprobs": [[-0.5, 7, None], [-0.25, 2, None]],
        "cached_tokens": 3,
    }
    whole: dict[str, Any] = {"text": "x", "output_ids": [7, 2], "meta_info": meta}
    for name, value in changes.items():
        (whole if name in whole else meta)[name] = value
    return whole


def test_a_whole_answer_is_read() -> None:
    generation = read_answer(answer(), RID, 8, 100)
    assert generation.token_ids == [7, 2]
    assert generation.logprobs == [-0.5, -0.25]
    assert (generation.finish_reason, generation.cached_tokens) == ("stop", 3)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "other"}, "answers other"),
        ({"meta_info": None}, "no meta_info"),
        ({"finish_reason": None}, "no finish_reason"),
        ({"finish_reason": {"type": "tired"}}, "unknown finish_reason tired"),
        ({"output_ids": [7]}, "differ"),
        ({"output_ids": [8, 2]}, "differ"),
        ({"output_ids": None}, "no output_ids"),
        ({"output_token_logprobs": None}, "no output_ids or no output_token_logprobs"),
        ({"output_token_logprobs": [7, 2]}, "are not"),
        ({"output_token_logprobs": [[None, 7, None], [-0.25, 2, None]]}, "None is no logprob"),
        ({"output_token_logprobs": [[0.5, 7, None], [-0.25, 2, None]]}, "0.5 is no logprob"),
        ({"output_token_logprobs": [[float("-inf"), 7, None], [-0.25, 2, None]]}, "no logprob"),
        ({"output_ids": [700, 2], "output_token_logprobs": [[-1.0, 700, None], [-1.0, 2, None]]}, "vocabulary"),
        ({"output_ids": [True, 2], "output_token_logprobs": [[-1.0, True, None], [-1.0, 2, None]]}, "vocabulary"),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_no_value(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        read_answer(answer(**changes), RID, 8, 100)


@pytest.mark.parametrize("whole", [None, [], "text", {}, {"meta_info": []}])
def test_other_json_is_no_answer(whole: object) -> None:
    with pytest.raises(Malformed):
        read_answer(whole, RID, 8, 100)


def test_more_tokens_than_asked_for_are_no_answer() -> None:
    with pytest.raises(Malformed, match="asked for 1 tokens"):
        read_answer(answer(), RID, 1, 100)


def test_an_abort_is_a_failure_and_one_that_passes_is_sent_again() -> None:
    with pytest.raises(EngineError, match="aborted the call: memory is full"):
        read_answer(answer(finish_reason={"type": "abort", "message": "memory is full"}), RID, 8, 100)
    with pytest.raises(Refused) as refused:
        read_answer(answer(finish_reason={"type": "abort", "message": "busy", "status_code": 503}), RID, 8, 100)
    assert refused.value.status == 503


def test_the_body_asks_for_one_sample_with_logprobs_of_its_own_tokens() -> None:
    sampling = SamplingParams(max_tokens=9, temperature=0.7, top_p=0.9, top_k=0, seed=5)
    body = request_body([1, 2], sampling, (2, 0), None, seeded=False)
    assert body["input_ids"] == [1, 2]
    assert (body["return_logprob"], body["logprob_start_len"], body["stream"]) == (True, -1, False)
    params = body["sampling_params"]
    assert params == {"max_new_tokens": 9, "temperature": 0.7, "top_p": 0.9, "top_k": -1, "stop_token_ids": [2, 0]}
    assert "lora_path" not in body
    assert "n" not in params


def test_the_body_has_seed_adapter_and_no_stops_where_they_are_asked_for() -> None:
    body = request_body([1], SamplingParams(seed=2**63 + 5, top_k=3), (), "a@v1-00", seeded=True)
    assert body["lora_path"] == "a@v1-00"
    assert body["sampling_params"]["sampling_seed"] == 5
    assert body["sampling_params"]["top_k"] == 3
    assert body["sampling_params"]["ignore_eos"] is True


def constraint_of(constraint: Any) -> dict[str, str]:
    params = request_body([1], SamplingParams(constraint=constraint), (2,), None, seeded=False)["sampling_params"]
    return {name: params[name] for name in ("regex", "json_schema", "ebnf") if name in params}


OPTIONS = ("a|b", "(x)", "1.5*", "naïve ☕", "back\\slash", "[q]", "{2}", "a/b", "two\nlines", "$^?+")


def test_choices_become_a_pattern_that_matches_them_alone() -> None:
    pattern = constraint_of(Choices(OPTIONS))["regex"]
    assert all(re.fullmatch(pattern, option) for option in OPTIONS)
    assert not any(re.fullmatch(pattern, other) for other in ("a", "b", "x", "1x5", "1.55", "q", ""))


def test_patterns_lose_inline_flags_that_grammars_do_not_know() -> None:
    pattern = constraint_of(Regex(r"\S(?s:.{0,4})"))["regex"]
    assert "?s" not in pattern
    assert re.fullmatch(pattern, "a\nb c")
    assert not re.fullmatch(pattern, "abcdef")


def test_a_schema_is_passed_as_text() -> None:
    assert constraint_of(JsonSchema('{"type":"object"}')) == {"json_schema": '{"type":"object"}'}
    assert constraint_of(None) == {}
