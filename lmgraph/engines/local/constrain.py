"""Decode constraints: choices, regular expressions and JSON Schema as masks on logits, compiled by llguidance.

Shape suffixes: R rows with a constraint, V vocabulary. A compiled grammar is kept and copied for every row that uses
it. What a constraint is for, and how tokens are chosen under the mask, is not known here.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy
import torch

from lmgraph.engines.local.progress import LOCAL_EXTRA_HINT
from lmgraph.errors import EngineError, EngineRejected, EngineUnavailable
from lmgraph.runtime.engine import Choices, Constraint, JsonSchema, Regex

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT_GRAMMARS = 256
BITS_A_WORD = 32
"""llguidance writes masks in words of this size."""
JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""Compact or spaced. Free white space would let a small model write blanks to the end of its budget."""

Bits: TypeAlias = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]


class ConstrainedRow:
    """The state of one constrained completion."""

    def __init__(
        self, matcher: LLMatcher, vocabulary_size: int, end_ids: Sequence[int], stop_ids: Sequence[int]
    ) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self._end_ids = list(end_ids)
        """How the grammar spells the end of the text."""
        self._stop_ids = list(stop_ids)
        """What the request stops at; the end of the text is one of these."""

    def write_mask(self, bits: Bits) -> None:
        """Write which tokens the text can go on with, one bit a token, to contiguous ``bits``.

        Raises: EngineError if the grammar is in a state it cannot leave.
        """
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        if self._matcher.is_error():
            raise EngineError(f"the decode constraint cannot go on: {self._matcher.get_error()}")

    def adapt_mask(self, allowed_V: Bits) -> bool:
        """Put the request's own stop tokens for the end of the text; returns whether anything is allowed then.

        Where nothing but the end can follow, it is the first of the stop tokens.
        """
        may_end = bool(allowed_V[self._end_ids].any())
        allowed_V[self._end_ids] = 0
        allowed_V[self._stop_ids] = 0
        more = bool(allowed_V.any())
        allowed_V[self._stop_ids if more else self._stop_ids[:1]] = may_end
        return more or (may_end and bool(self._stop_ids))

    def must_end(self) -> bool:
        """Whether nothing but the end can follow, so that the model need not be asked. Raises: EngineError."""
        bits = numpy.zeros(_mask_bytes(self._vocabulary_size), numpy.uint8)
        self.write_mask(bits)
        may_end = False
        for end in self._end_ids:
            place, bit = divmod(end, 8)
            may_end = may_end or bool(bits[place] >> bit & 1)
            bits[place] &= ~(1 << bit) & 0xFF
        return may_end and not bits.any()

    def end(self) -> tuple[int, bytes] | None:
        """The token that stands for the end where it must follow, and the set of it; None if there is no stop token."""
        if not self._stop_ids:
            return None
        only_V = numpy.zeros(self._vocabulary_size, numpy.uint8)
        only_V[self._stop_ids[0]] = 1
        return self._stop_ids[0], _packed(only_V)

    def accept(self, token_id: int) -> None:
        """Tell the grammar what was chosen."""
        if token_id not in self._stop_ids and not self._matcher.consume_token(token_id):
            raise EngineError(f"the decode constraint refused a token it had allowed: {self._matcher.get_error()}")


@dataclass(frozen=True, slots=True)
class Masks:
    """What some constrained rows may choose from at one step."""

    allowed_RV: Bits
    """0 or 1. Where a row's text cannot go on, or its grammar has failed, all ones."""
    goes_on: list[bool]
    """Whether the text can go on at all; True where the grammar has failed."""
    problems: list[EngineError | None]
    """What is wrong with a row's grammar."""

    def packed(self, row: int) -> bytes:
        """The set as `Generation.allowed` has it. Rows of one grammar go through equal sets, and share one object."""
        return _packed(self.allowed_RV[row])


def mask_logits(rows: Sequence[ConstrainedRow], logits_RV: torch.Tensor) -> Masks:
    """Set the logits of tokens that may not come next to -inf, in place."""
    bits = numpy.zeros((len(rows), _mask_bytes(logits_RV.shape[1])), numpy.uint8)
    problems: list[EngineError | None] = [None] * len(rows)
    for place, row in enumerate(rows):
        try:
            row.write_mask(bits[place])
        except EngineError as error:
            problems[place] = error
    allowed_RV = numpy.unpackbits(bits, axis=1, count=logits_RV.shape[1], bitorder="little")
    goes_on: list[bool] = []
    for place, row in enumerate(rows):
        goes_on.append(problems[place] is not None or row.adapt_mask(allowed_RV[place]))
        if problems[place] is not None or not goes_on[place]:
            allowed_RV[place] = 1
    logits_RV.masked_fill_(torch.from_numpy(allowed_RV == 0).to(logits_RV.device), float("-inf"))
    return Masks(allowed_RV, goes_on, problems)


def _mask_bytes(vocabulary_size: int) -> int:
    return (vocabulary_size + BITS_A_WORD - 1) // BITS_A_WORD * (BITS_A_WORD // 8)


def _packed(allowed_V: Bits) -> bytes:
    return _compressed(numpy.packbits(allowed_V, bitorder="little").tobytes())


@lru_cache(maxsize=1024)
def _compressed(bits: bytes) -> bytes:
    return zlib.compress(bits, 1)


class ConstraintCompiler:
    """Compiles constraints for one tokenizer. Used by one thread at a time."""

    def __init__(self, tokenizer_definition: str, vocabulary_size: int, end_ids: Sequence[int]) -> None:
        self._definition = tokenizer_definition
        self._vocabulary_size = vocabulary_size
        self._end_ids = list(end_ids)
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[Constraint, LLMatcher] = OrderedDict()

    def start(self, constraint: Constraint, stop_ids: Sequence[int]) -> ConstrainedRow:
        """A fresh row under ``constraint``.

        Raises: EngineRejected if no grammar can be made of it; EngineUnavailable if llguidance is not installed.
        """
        template = self._compiled.get(constraint)
        if template is None:
            template = self._compile(constraint)
            self._compiled[constraint] = template
            if len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(constraint)
        return ConstrainedRow(template.deep_copy(), self._vocabulary_size, self._end_ids, stop_ids)

    def _compile(self, constraint: Constraint) -> LLMatcher:
        try:
            from llguidance import LLMatcher, LLTokenizer
        except ImportError as error:
            raise EngineUnavailable("constrained decoding needs llguidance.", hint=LOCAL_EXTRA_HINT) from error
        if not self._end_ids:
            raise EngineRejected("this model has no stop token, so a constrained text could not end.")
        if self._tokenizer is None:
            self._tokenizer = LLTokenizer(self._definition, n_vocab=self._vocabulary_size, eos_token=self._end_ids)
        try:
            matcher = LLMatcher(self._tokenizer, _grammar(constraint), log_level=0)
        except (ValueError, UnicodeEncodeError) as error:
            raise EngineRejected(f"the decode constraint is not usable: {error}") from error
        if matcher.is_error():
            raise EngineRejected(f"the decode constraint is not usable: {matcher.get_error()}")
        return matcher


def _grammar(constraint: Constraint) -> str:
    from llguidance import LLMatcher

    match constraint:
        case Choices(options):
            if not options:
                raise EngineRejected("a choice needs at least one option.")
            return LLMatcher.grammar_from_lark(
                "start: " + " | ".join(json.dumps(option, ensure_ascii=False) for option in options)
            )
        case Regex(pattern):
            return LLMatcher.grammar_from_regex(pattern)
        case JsonSchema(schema):
            return LLMatcher.grammar_from_json_schema(schema, overrides=JSON_FORM)  # type: ignore[arg-type]
