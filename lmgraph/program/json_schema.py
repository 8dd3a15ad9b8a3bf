"""JSON Schema of types, for decoders that are held to it. Constraints are in it as far as a schema can say them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from lmgraph.program.constraints import schema_keywords


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
        "properties": {field.name: field_json_schema(field) for field in fields},
        "required": [field.name for field in fields],
        "additionalProperties": False,
    }


def field_json_schema(field: Field) -> dict[str, Any]:
    """Of the field's type, with what a schema can say of its constraint."""
    schema = json_schema(field.type)
    keywords = {} if field.constraint is None else schema_keywords(field.type, field.constraint)
    if keywords and isinstance(field.type, OptionalType):
        inner, null = schema["anyOf"]
        return {"anyOf": [{**inner, **keywords}, null]}
    return {**schema, **keywords}
