"""Instructions that need no model: what the signature says, put in plain words. They help small models most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmgraph.graph import ModuleSpec

MOST_LABELS = 40
"""Lists of labels longer than this are not restated: the prompt has them once already."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One text a module may have."""

    text: str
    origin: str
    """`own`, `rewrite: …` or `proposed by …`."""


def rewrites(module: ModuleSpec, own: str) -> list[Instruction]:
    """Other instructions for a module that has ``own``, from its types and descriptions; none equal to it."""
    reminder = " ".join(_reminders(module))
    named = own.strip()
    made = [
        ("the form restated", _joined(named, reminder)),
        ("brief", _joined(_task(module), reminder)),
        ("labels explained", _joined(named, _explained(module))),
        ("the form first", _joined(reminder, named)),
        ("careful", _joined(named, f"Use only what the input says. {_only(module)}")),
        ("a question", _joined(_question(module), reminder)),
    ]
    if module.reasons:
        made.insert(1, ("reason briefly", _joined(named, "Reason in one or two short sentences, then answer.")))
    found: dict[str, Instruction] = {}
    for name, text in made:
        if text and same(text) != same(own) and text not in (named, reminder):
            found.setdefault(same(text), Instruction(text, f"rewrite: {name}"))
    return list(found.values())


def same(text: str) -> str:
    """Equal for texts that differ in case, spaces and punctuation only."""
    return " ".join("".join(char if char.isalnum() else " " for char in text.casefold()).split())


def _joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part) if all(parts) else ""


def _reminders(module: ModuleSpec) -> list[str]:
    """One sentence an output on what may be written."""
    alone = len(module.outputs) == 1 and not module.reasons
    lines = []
    for field in module.outputs:
        kind = form_of(field.type)
        if kind is not None:
            lines.append(f"Answer with {kind}." if alone else f"{field.name} must be {kind}.")
    return lines


def form_of(type_: object) -> str | None:
    """What a value of the type looks like, in words a small model follows; None where any text will do."""
    labels = labels_of(type_)
    if labels:
        return f"one of: {', '.join(labels)}" if len(labels) <= MOST_LABELS else "one of the labels, copied exactly"
    match getattr(type_, "kind", None):
        case "scalar":
            name = str(type_)
            return {"int": "a whole number in digits", "float": "a number in digits", "bool": "true or false"}.get(name)
        case "optional":
            inner = form_of(getattr(type_, "inner", None))
            return f"{inner or 'the text'}, or null where it is not said"
        case "list":
            inner = form_of(getattr(type_, "element", None))
            return "a list in square brackets, [] where there is none" + (f"; each is {inner}" if inner else "")
        case "map":
            return "an object with a key for each entry"
        case "record":
            names = ", ".join(field.name for field in getattr(type_, "fields", ()))
            return f"an object with the keys {names}"
        case _:
            return None


def labels_of(type_: object) -> tuple[str, ...]:
    """The closed set of texts that a value is one of; empty where there is none."""
    match getattr(type_, "kind", None):
        case "enum":
            return tuple(getattr(type_, "labels", ()))
        case "literal":
            return tuple(str(value) for value in getattr(type_, "values", ()))
        case _:
            return ()


def _task(module: ModuleSpec) -> str:
    inputs = _list([field.description or field.name.replace("_", " ") for field in module.inputs])
    outputs = _list([_described(field.name, field.description) for field in module.outputs])
    return f"Read {inputs}. Write {outputs}." if inputs else f"Write {outputs}."


def _question(module: ModuleSpec) -> str:
    outputs = _list([field.description or field.name.replace("_", " ") for field in module.outputs])
    inputs = _list([field.name.replace("_", " ") for field in module.inputs])
    return f"Given {inputs}: what is {outputs}?" if inputs else f"What is {outputs}?"


def _described(name: str, description: str | None) -> str:
    return f"{name} ({description})" if description else name


def _explained(module: ModuleSpec) -> str:
    lines = []
    for field in module.outputs:
        members = getattr(field.type, "members", ())
        if any(member.description for member in members) and len(members) <= MOST_LABELS:
            lines += [f"- {_described(member.label, member.description)}" for member in members]
    return "\n".join(lines)


def _only(module: ModuleSpec) -> str:
    if any(labels_of(field.type) for field in module.outputs):
        return "Copy the label exactly as it is written, and add nothing."
    return "Add no explanation."


def _list(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
