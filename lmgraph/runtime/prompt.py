"""From a module, its parameters and one call's inputs to prompt ids.

A prompt is rendered from signature, instruction, demos and values; there are no templates to write. The static part
(system turn and demos) comes first and is tokenised once a module version, so that calls share a prefix; a call
tokenises its own values only. Values are data: they are encoded without special tokens, and a value that could be
taken for another field is written as a JSON string, so no value can change a prompt's structure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmgraph.errors import EngineError
from lmgraph.graph.graph import ModuleSpec
from lmgraph.graph.types import (
    BOOL,
    STR,
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
)
from lmgraph.program.constraints import constraint_text
from lmgraph.program.params import Demo, NodeParams
from lmgraph.runtime.engine import ChatMessage, Tokenizer
from lmgraph.runtime.parse import OutputForm

_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})
_MARK = "\u2063LMG{index}\u2063"
"""Stands for a message's content while the chat template is rendered; contents are encoded apart from it."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A completion that did not fit and what was wrong with it: shown on a retry."""

    text: str
    problem: str


class PromptRenderer:
    """Renders one version of one module for one tokenizer."""

    def __init__(self, module: ModuleSpec, params: NodeParams, tokenizer: Tokenizer) -> None:
        self.form = OutputForm.of(module)
        self._inputs = module.inputs
        self._tokenizer = tokenizer
        self._static = [ChatMessage("system", system_text(module, params, self.form))]
        for demo in params.demos:
            self._static += [
                ChatMessage("user", self._user_text(demo.inputs)),
                ChatMessage("assistant", self.form.write(_complete(demo, self.form))),
            ]
        self._layout = self._template([*self._static, ChatMessage("user", "")])
        self._prefix = self._encode_static(self._layout[:-1])
        self._suffix = tokenizer.encode_template(self._layout[-1])
        digest = hashlib.sha256(tokenizer.fingerprint.encode())
        for message in self._static:
            digest.update(f"\0{message.role}\0{message.content}".encode("utf-8", "replace"))
        self.template_hash = digest.hexdigest()

    @property
    def static_tokens(self) -> int:
        """Tokens that every prompt of it has, whatever the inputs."""
        return len(self._prefix) + len(self._suffix)

    def render(self, inputs: Mapping[str, Any], corrections: Sequence[Correction] = ()) -> list[int]:
        """Prompt ids of one call, generation prompt included."""
        user = self._tokenizer.encode(self._user_text(inputs))
        if not corrections:
            return [*self._prefix, *user, *self._suffix]
        turns = [*self._static, ChatMessage("user", self._user_text(inputs))]
        for correction in corrections:
            turns += [
                ChatMessage("assistant", correction.text),
                ChatMessage("user", f"That does not fit: {correction.problem}. Answer again, in the form asked for."),
            ]
        pieces = self._template(turns)
        ids = self._tokenizer.encode_template(pieces[0])
        for turn, piece in zip(turns, pieces[1:], strict=True):
            ids += self._tokenizer.encode(turn.content)
            ids += self._tokenizer.encode_template(piece)
        return ids

    def _user_text(self, inputs: Mapping[str, Any]) -> str:
        lines = [f"{field.name}: {value_text(inputs[field.name])}" for field in self._inputs]
        if self.form.bare is not None:
            lines.append(f"{self.form.bare.name}:")
        return "\n".join(lines)

    def _template(self, turns: Sequence[ChatMessage]) -> list[str]:
        """The template's own text around the contents: one piece more than there are turns."""
        marks = [_MARK.format(index=index) for index in range(len(turns))]
        text = self._tokenizer.render_chat(
            [ChatMessage(turn.role, mark) for turn, mark in zip(turns, marks, strict=True)]
        )
        pieces = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found or mark in text:
                raise EngineError(
                    "The model's chat template drops, repeats or reorders messages: no exact prompt can be made.",
                    hint="use a model whose chat template has system, user and assistant turns",
                )
            pieces.append(before)
        return [*pieces, text]

    def _encode_static(self, pieces: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for piece, message in zip(pieces, self._static, strict=False):
            ids += self._tokenizer.encode_template(piece)
            ids += self._tokenizer.encode(message.content)
        return ids + self._tokenizer.encode_template(pieces[-1])


def system_text(module: ModuleSpec, params: NodeParams, form: OutputForm) -> str:
    """The system turn: instruction, what each field means, the form of the answer."""
    sections = [params.instruction] if params.instruction else []
    inputs = [_describe(field, params, allowed=False) for field in module.inputs]
    outputs = [_describe(field, params, allowed=True) for field in form.fields]
    sections.append("Input:\n" + "\n".join(inputs) + "\nOutput:\n" + "\n".join(outputs))
    if form.bare is not None:
        sections.append(f"Answer with the {form.bare.name} alone.")
    else:
        names = ", ".join(f'"{field.name}"' for field in form.fields)
        sections.append(f"Answer with one JSON object with the keys {names}, in this order.")
    return "\n\n".join(sections)


def value_text(value: Any) -> str:
    """A value on one line. A plain text stands as it is; one that has line breaks or starts like JSON is quoted."""
    if isinstance(value, str):
        plain = value not in ("", "null") and value == value.strip() and value[0] not in '"[{' and value.isprintable()
        return value if plain else _quoted(value)
    return _quoted(value)


def _quoted(value: Any) -> str:
    """JSON on one line, whatever somebody takes for the end of one."""
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)


def _describe(field: Field, params: NodeParams, *, allowed: bool) -> str:
    described = replace(field, description=params.descriptions.get(field.name, field.description))
    parts = _field_parts(described) if allowed else [described.description] if described.description else []
    return f"- {field.name}: {'; '.join(parts)}" if parts else f"- {field.name}"


def _field_parts(field: Field) -> list[str]:
    """What is told of a field that is written: description, type, constraint."""
    constraint = None if field.constraint is None else constraint_text(field.type, field.constraint)
    return [part for part in (field.description, type_text(field.type), constraint) if part]


def type_text(type_: Type) -> str | None:
    """What may be written, in words; None where any text may."""
    match type_:
        case EnumType(members=members):
            described = any(member.description for member in members)
            if not described:
                return f"one of: {', '.join(type_.labels)}"
            lines = [f"{m.label} ({m.description})" if m.description else m.label for m in members]
            return f"one of: {'; '.join(lines)}"
        case LiteralType(values=(value,)):
            return f"always {json.dumps(value, ensure_ascii=False)}"
        case LiteralType(values=values):
            return f"one of: {', '.join(str(value) for value in values)}"
        case ListType(element=element):
            inner = type_text(element)
            return f"a list, each {inner}" if inner else "a list"
        case MapType(value=value):
            inner = type_text(value)
            return f"an object with keys of your choice, each value {inner or 'a text'}"
        case OptionalType(inner=inner_type):
            return f"{type_text(inner_type) or 'a text'}, or null"
        case UnionType(options=options):
            return "; or ".join(type_text(option) or "a text" for option in options)
        case RecordType(fields=fields):
            return "an object with " + ", ".join(_key_text(field) for field in fields) if fields else "an empty object"
        case _ if type_ == BOOL:
            return "true or false"
        case _:
            return None if type_ == STR else str(type_)


def _key_text(field: Field) -> str:
    parts = _field_parts(field)
    return f'"{field.name}" ({"; ".join(parts)})' if parts else f'"{field.name}"'


def _complete(demo: Demo, form: OutputForm) -> Mapping[str, Any]:
    """A demo's outputs with nothing missing: a labelled row has no reasoning to show."""
    return {field.name: demo.outputs.get(field.name, "") for field in form.fields}
