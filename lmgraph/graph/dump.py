"""The graph's canonical, versioned JSON form and its published JSON Schema. ``load(dump(g)) == g``.

Writing walks the frozen dataclasses; reading is pydantic's, which tells the members of each union apart by `kind`.
pydantic is imported when first read: writing alone, as `lmgraph compile` does, starts without it.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from lmgraph.errors import Corrupt, VersionMismatch
from lmgraph.graph.graph import Graph

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 2
"""Version of the JSON form. Raised when an older reader could misread a newer file."""


@cache
def _adapter() -> TypeAdapter[Graph]:
    from pydantic import TypeAdapter

    return TypeAdapter(Graph)


def to_data(graph: Graph) -> dict[str, Any]:
    """The graph as JSON-ready data, with its format version."""
    return {"format": FORMAT, "graph": _plain(graph)}


def _plain(value: Any) -> Any:
    """Plain data. Loops, not comprehensions: one stack frame a level, for programs nested as deep as they may be."""
    if isinstance(value, list | tuple):
        items: list[Any] = []
        for item in value:
            items.append(_plain(item))
        return items
    if isinstance(value, dict):
        table: dict[str, Any] = {}
        for name in value:
            table[name] = _plain(value[name])
        return table
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None:
        return value
    data: dict[str, Any] = {}
    for name, about in fields.items():
        inside = getattr(value, name)
        if not (about.metadata and inside == about.default):  # see graph/types.py: LATER
            data[name] = _plain(inside)
    return data


def dump(graph: Graph, *, indent: int | None = None) -> str:
    """Canonical text: sorted keys, no spaces where ``indent`` is None; equal graphs give equal texts."""
    separators = (",", ":") if indent is None else None
    return json.dumps(to_data(graph), ensure_ascii=False, sort_keys=True, indent=indent, separators=separators)


def load(text: str) -> Graph:
    """Raises: Corrupt if this is no graph; VersionMismatch if it is one of another format version."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"The graph is not JSON: {error}.", hint="compile the program again") from None
    # A bool is an int to Python, and no version.
    if not isinstance(data, dict) or type(data.get("format")) is not int or "graph" not in data:
        raise Corrupt(
            "This JSON is no lmgraph graph: it has no `format` and `graph`.", hint="compile the program again"
        )
    if data["format"] != FORMAT:
        raise VersionMismatch(
            f"The graph has format {data['format']}; this lmgraph reads format {FORMAT}.",
            hint="compile the program again with this version",
        )
    from pydantic import ValidationError

    try:
        return _adapter().validate_python(data["graph"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise Corrupt(
            f"The graph does not hold together at {where}: {first['msg']}.", hint="compile it again"
        ) from None


def content_hash(graph: Graph) -> str:
    """sha256 of the canonical text, in hex."""
    return hashlib.sha256(dump(graph).encode("utf-8", "surrogatepass")).hexdigest()


def json_schema() -> dict[str, Any]:
    """JSON Schema of the ``graph`` part."""
    return _adapter().json_schema()
