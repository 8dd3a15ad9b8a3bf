"""Type <-> validation <-> JSON Schema: what a value must be, said once.

Values are plain data (graph/types.py). Validation is pydantic-core's, built straight from the type.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema

from lmgraph.errors import DataError
from lmgraph.graph.types import (
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    ScalarType,
    Type,
    UnionType,
)


class Record(dict[str, Any]):
    """A record as Python references see it: a dict whose fields are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no field `{name}`; there are: {', '.join(self) or 'none'}") from None


def as_record(value: Any) -> Any:
    """``value`` with every dict inside it as a Record. Lists and dicts are copied: a caller may change them."""
    if isinstance(value, dict):
        return Record({name: as_record(item) for name, item in value.items()})
    if isinstance(value, list):
        return [as_record(item) for item in value]
    return value


class Misfit(DataError):
    """A value does not fit its type. ``path`` is where inside it (`issues[2].team`)."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


@lru_cache(maxsize=1024)
def validator(type_: Type) -> SchemaValidator:
    """Validator of one type: `validate_python` for data, `validate_json` for a model's text."""
    return SchemaValidator(_core_schema(type_))


def validate(value: Any, type_: Type) -> Any:
    """The value with defaults filled in and ints widened where a float is expected.

    Raises: Misfit with the first problem, what was expected and what it got.
    """
    try:
        return validator(type_).validate_python(value)
    except ValidationError as error:
        raise misfit(error) from None


def validate_json(text: str, type_: Type) -> Any:
    """As ``validate``, of JSON text. Raises: Misfit."""
    try:
        return validator(type_).validate_json(text)
    except ValidationError as error:
        raise misfit(error) from None


def misfit(error: ValidationError) -> Misfit:
    first = error.errors(include_url=False)[0]
    path = ""
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    got = _short(first.get("input"))
    where = f"`{path}`: " if path else ""
    if first["type"] == "missing":
        return Misfit(f"{where}the field is missing", path)
    if first["type"] == "extra_forbidden":
        return Misfit(f"{where}there is no such field", path)
    return Misfit(f"{where}{first['msg'][0].lower()}{first['msg'][1:]}, got {got}", path)


def _short(value: Any, limit: int = 60) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _core_schema(type_: Type) -> CoreSchema:
    match type_:
        case ScalarType(name="str"):
            return core_schema.str_schema(strict=True)
        case ScalarType(name="int"):
            return core_schema.int_schema(strict=True)
        case ScalarType(name="float"):
            return core_schema.float_schema(strict=True, allow_inf_nan=False)
        case ScalarType(name="bool"):
            return core_schema.bool_schema(strict=True)
        case ScalarType():
            return core_schema.none_schema()
        case EnumType():
            return core_schema.literal_schema(list(type_.labels))
        case LiteralType(values=values):
            return core_schema.literal_schema(list(values))
        case ListType(element=element):
            return core_schema.list_schema(_core_schema(element), strict=True)
        case MapType(value=value):
            return core_schema.dict_schema(core_schema.str_schema(strict=True), _core_schema(value), strict=True)
        case OptionalType(inner=inner):
            return core_schema.nullable_schema(_core_schema(inner))
        case UnionType(options=options):
            return core_schema.union_schema([_core_schema(option) for option in options], mode="left_to_right")
        case RecordType(fields=fields):
            return fields_schema(fields)


def fields_schema(fields: Sequence[Field], *, extra: core_schema.ExtraBehavior = "forbid") -> CoreSchema:
    """Schema of a dict with these fields; a field with a default, or an optional one, may be left out."""
    return core_schema.typed_dict_schema(
        {field.name: core_schema.typed_dict_field(_field_schema(field)) for field in fields},
        extra_behavior=extra,
        strict=True,
    )


def _field_schema(field: Field) -> CoreSchema:
    schema = _core_schema(field.type)
    if field.has_default:
        return core_schema.with_default_schema(schema, default_factory=partial(copy.deepcopy, field.default))
    if isinstance(field.type, OptionalType):
        return core_schema.with_default_schema(schema, default=None)
    return schema


def json_schema(type_: Type) -> dict[str, Any]:
    """JSON Schema that a decoder can be held to: fields in order, all required, nothing else allowed."""
    match type_:
        case ScalarType(name=name):
            names = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "null": "null"}
            return {"type": names[name]}
        case EnumType():
            return {"enum": list(type_.labels)}
        case LiteralType(values=values):
            return {"enum": list(values)}
        case ListType(element=element):
            return {"type": "array", "items": json_schema(element)}
        case MapType(value=value):
            return {"type": "object", "additionalProperties": json_schema(value)}
        case OptionalType(inner=inner):
            return {"anyOf": [json_schema(inner), {"type": "null"}]}
        case UnionType(options=options):
            return {"anyOf": [json_schema(option) for option in options]}
        case RecordType(fields=fields):
            return object_schema(fields)


def object_schema(fields: Sequence[Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: json_schema(field.type) for field in fields},
        "required": [field.name for field in fields],
        "additionalProperties": False,
    }
