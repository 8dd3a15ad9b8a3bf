"""What a value must be to have a type. Values are plain data (graph/types.py).

Validation is pydantic-core's, built straight from the type; constraints are checked with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, ValidationError, core_schema

from lmgraph.errors import DataError
from lmgraph.graph.expressions import IT
from lmgraph.graph.types import (
    Constraint,
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
from lmgraph.program.expressions import NoValue, compile_expression, shown


class Record(dict[str, Any]):
    """A record as Python references see it: a dict whose fields are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no field `{name}`; there are: {', '.join(self) or 'none'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def as_record(value: Any) -> Any:
    """``value`` with every dict inside it as a Record. Lists and dicts are copied: a caller may change them."""
    if isinstance(value, dict):
        return Record({name: as_record(item) for name, item in value.items()})
    if isinstance(value, list):
        return [as_record(item) for item in value]
    return value


def plain_copy(value: Any) -> Any:
    """``value`` with every dict and list inside it copied."""
    if isinstance(value, dict):
        return {name: plain_copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain_copy(item) for item in value]
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


def check_field(value: Any, field: Field) -> None:
    """Whether a value of the field's type meets its constraint. Raises: Misfit."""
    if field.constraint is not None:
        try:
            _meeting(field.constraint)(value)
        except PydanticCustomError as problem:
            raise Misfit(f"{problem.message()}, got {shown(value)}", "") from None


def misfit(error: ValidationError) -> Misfit:
    first = error.errors(include_url=False)[0]
    path = ""
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    where = f"`{path}`: " if path else ""
    got = shown(first.get("input"))
    if first["type"] == "missing":
        return Misfit(f"{where}the field is missing", path)
    if first["type"] == "extra_forbidden":
        return Misfit(f"{where}there is no such field", path)
    if first["type"].startswith("union_tag"):
        context = first.get("ctx", {})
        expected = f", one of {context['expected_tags']}" if "expected_tags" in context else ""
        tag = context.get("discriminator")
        return Misfit(f"{where}should be told apart by its field {tag}{expected}, got {got}", path)
    return Misfit(f"{where}{first['msg'][0].lower()}{first['msg'][1:]}, got {got}", path)


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
            return _union_schema(options)
        case RecordType(fields=fields):
            return fields_schema(fields)


def _union_schema(options: Sequence[Type]) -> CoreSchema:
    """Of records that a literal field tells apart, the one meant is read, so that a problem inside it is named."""
    tag = tag_of(options)
    if tag is None:
        return core_schema.union_schema(
            [_core_schema(option) for option in options],
            mode="left_to_right",
            custom_error_type="union",
            custom_error_message=f"should be {' or '.join(map(str, options))}".replace("{", "{{").replace("}", "}}"),
        )
    choices = {
        value: fields_schema(option.fields)
        for option in options
        if isinstance(option, RecordType)
        for value in _tags(option, tag)
    }
    return core_schema.tagged_union_schema(choices, tag, strict=True)


def tag_of(options: Sequence[Type]) -> str | None:
    """The field that tells records of a union apart: literal texts in each, none of them in two."""
    records = [option for option in options if isinstance(option, RecordType)]
    for field in records[0].fields if records and len(records) == len(options) else ():
        tags = [_tags(record, field.name) for record in records]
        if all(tags) and len({tag for found in tags for tag in found}) == sum(map(len, tags)):
            return field.name
    return None


def _tags(record: RecordType, name: str) -> tuple[str, ...]:
    field = record.field(name)
    if field is None or field.has_default or not isinstance(field.type, LiteralType):
        return ()
    return tuple(value for value in field.type.values if isinstance(value, str))


def fields_schema(fields: Sequence[Field], *, extra: core_schema.ExtraBehavior = "forbid") -> CoreSchema:
    """Schema of a dict with these fields; a field with a default, or an optional one, may be left out."""
    return core_schema.typed_dict_schema(
        {field.name: core_schema.typed_dict_field(_field_schema(field)) for field in fields},
        extra_behavior=extra,
        strict=True,
    )


def _field_schema(field: Field) -> CoreSchema:
    schema = _core_schema(field.type)
    if field.constraint is not None:
        schema = core_schema.no_info_after_validator_function(_meeting(field.constraint), schema)
    if field.has_default:
        return core_schema.with_default_schema(schema, default_factory=partial(copy.deepcopy, field.default))
    if isinstance(field.type, OptionalType):
        return core_schema.with_default_schema(schema, default=None)
    return schema


def _meeting(constraint: Constraint) -> Callable[[Any], Any]:
    """A function that gives its value back. It raises PydanticCustomError where the constraint is not met."""
    holds = compile_expression(constraint.condition)

    def check(value: Any) -> Any:
        try:
            if holds({IT: value}):
                return value
        except (NoValue, TypeError):  # null where numbers are compared: not met either
            pass
        raise PydanticCustomError("constraint", "must meet {text}", {"text": constraint.text})

    return check


def least_value(type_: Type) -> Any:
    """A small value of the type; constraints are not looked at."""
    match type_:
        case ScalarType(name=name):
            return {"str": "", "int": 0, "float": 0.0, "bool": False, "null": None}[name]
        case EnumType():
            return type_.labels[0]
        case LiteralType(values=values):
            return values[0]
        case ListType():
            return []
        case MapType():
            return {}
        case OptionalType():
            return None
        case UnionType(options=options):
            return least_value(options[0])
        case RecordType(fields=fields):
            return {
                field.name: copy.deepcopy(field.default) if field.has_default else least_value(field.type)
                for field in fields
            }
