"""Texts held to decode constraints, for the scripted engine: what a script says where it fits, else what does."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

from lmgraph.errors import EngineRejected
from lmgraph.runtime.engine import Choices, Constraint, JsonSchema, Regex


def held_to(text: str, constraint: Constraint) -> str:
    """``text`` where the constraint allows it, else something that it does allow. Raises: EngineRejected."""
    match constraint:
        case Choices(options=options):
            return text if text in options else options[zlib.crc32(text.encode("utf-8", "replace")) % len(options)]
        case Regex(pattern=pattern):
            for candidate in (text, "0", "0.0", "true", "", *("x" * count for count in range(1, 65))):
                if re.fullmatch(pattern, candidate):
                    return candidate
            raise EngineRejected(f"The script's answer {text!r} does not match {pattern}.")
        case JsonSchema(schema=schema):
            rules = json.loads(schema)
            try:
                value = json.loads(text)
            except ValueError:
                value = None
            return text if _fits(value, rules) else json.dumps(_least(rules))


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(_fits(value, option) for option in schema["anyOf"])
    match schema.get("type"):
        case "string":
            return isinstance(value, str) and _in_bounds(len(value), schema, "minLength", "maxLength")
        case "boolean":
            return isinstance(value, bool)
        case "integer" | "number" as kind:
            whole = isinstance(value, int) and not isinstance(value, bool)
            right = whole or (kind == "number" and isinstance(value, float))
            return right and _in_bounds(value, schema, "minimum", "maximum")
        case "null":
            return value is None
        case "array":
            if not isinstance(value, list) or not _in_bounds(len(value), schema, "minItems", "maxItems"):
                return False
            return all(_fits(item, schema["items"]) for item in value)
        case "object":
            if not isinstance(value, dict):
                return False
            properties = schema.get("properties", {})
            rest = schema.get("additionalProperties", {})
            known = all(name in properties or isinstance(rest, dict) for name in value)
            required = all(name in value for name in schema.get("required", ()))
            return known and required and all(_fits(item, properties.get(name, rest)) for name, item in value.items())
    return True


def _in_bounds(number: float, schema: Mapping[str, Any], least: str, most: str) -> bool:
    above = schema.get("exclusiveMinimum", -math.inf) if least == "minimum" else -math.inf
    below = schema.get("exclusiveMaximum", math.inf) if most == "maximum" else math.inf
    return schema.get(least, -math.inf) <= number <= schema.get(most, math.inf) and above < number < below


def _least(schema: Mapping[str, Any]) -> Any:
    """A small value that fits."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _least(schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            return {name: _least(inner) for name, inner in schema.get("properties", {}).items()}
        case "string":
            return "x" * schema.get("minLength", 0)
        case "array":
            return [_least(schema.get("items", {}))] * schema.get("minItems", 0)
        case "boolean":
            return False
        case "integer" | "number":
            names = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
            ends = [schema[name] for name in names if name in schema]
            tried = [0, *ends, *(end + 1 for end in ends), *(end - 1 for end in ends)]
            tried += [sum(ends) / len(ends)] if ends else []
            return next((number for number in tried if _fits(number, schema)), 0)
        case _:
            return None
