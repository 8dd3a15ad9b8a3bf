"""Decode constraints: choices, regular expressions and JSON Schema as masks on logits, compiled by llguidance.

Shape suffixes: V vocabulary. A compiled grammar is kept and copied for every row that uses it. What a constraint is
for, and how tokens are chosen under the mask, is not known here.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy
import torch

from lmgraph.engines.local.progress import LOCAL_EXTRA_HINT
from lmgraph.errors import EngineError, EngineRejected, EngineUnavailable
from lmgraph.runtime.engine import Choices, Constraint, JsonSchema, Regex

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT_GRAMMARS = 256
JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""Compact or spaced. Free white space would let a small model write blanks to the end of its budget."""


class ConstrainedRow:
    """The state of one constrained completion."""

    def __init__(self, matcher: LLMatcher, end_ids: Sequence[int], stop_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._end_ids = list(end_ids)
        """How the grammar spells the end of the text."""
        self._stop_ids = list(stop_ids)
        """What the request stops at; the end of the text is one of these."""
        self._stopped = False

    def allowed(self) -> torch.Tensor:
        """Which tokens may come next, bool [V]; none at all if the text is complete and there is no stop token."""
        bits_V = numpy.unpackbits(numpy.frombuffer(self._matcher.compute_bitmask(), numpy.uint8), bitorder="little")
        if self._matcher.is_error():
            raise EngineError(f"the decode constraint cannot go on: {self._matcher.get_error()}")
        may_end = bool(bits_V[self._end_ids].any())
        bits_V[self._end_ids] = 0
        bits_V[self._stop_ids] = may_end
        return torch.from_numpy(bits_V).bool()

    def accept(self, token_id: int) -> None:
        """Tell the grammar what was chosen."""
        if token_id not in self._stop_ids and not self._matcher.consume_token(token_id):
            raise EngineError(f"the decode constraint refused a token it had allowed: {self._matcher.get_error()}")


@lru_cache(maxsize=1024)
def _compressed(bits: bytes) -> bytes:
    return zlib.compress(bits, 1)


def pack_allowed(allowed_V: torch.Tensor) -> bytes:
    """The set as `Generation.allowed` has it. Rows of one grammar go through equal sets, and share one object."""
    return _compressed(numpy.packbits(allowed_V.cpu().numpy(), bitorder="little").tobytes())


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
        return ConstrainedRow(template.deep_copy(), self._end_ids, stop_ids)

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
