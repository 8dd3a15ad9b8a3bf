"""Pictures of the graph in two notations: a Mermaid flowchart and Graphviz dot."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraph.graph.graph import Graph
from lmgraph.graph.scene import ArrowKind, Box, Form, Part, Scene, Shape, scenes


def _names(scene: Scene, number: int) -> dict[str, str]:
    """A name without special signs for each box and shape, unique in the whole picture."""
    return {id: f"n{number}_{position}" for position, id in enumerate(_ids(scene.box))}


def _ids(part: Part) -> Iterator[str]:
    yield part.id
    if isinstance(part, Box):
        for inner in part.parts:
            yield from _ids(inner)


# -- Mermaid ---------------------------------------------------------------------------------------------------------

MERMAID_SHAPES: dict[Form, tuple[str, str]] = {
    "given": ("([", "])"),
    "call": ("[", "]"),
    "extern": ("[[", "]]"),
    "value": ("(", ")"),
    "choice": ("{", "}"),
    "loop": ("{{", "}}"),
    "check": ("[/", "/]"),
    "end": ("([", "])"),
}
MERMAID_ARROWS: dict[ArrowKind, str] = {"data": "-->", "control": "-.->", "again": "-. again .->"}


def to_mermaid(graph: Graph) -> str:
    """A Mermaid flowchart, one subgraph a flow; regions are subgraphs of their own. Dotted arrows are control."""
    lines = ["flowchart TD"]
    for number, scene in enumerate(scenes(graph)):
        names = _names(scene, number)
        lines += _mermaid_part(scene.box, names, "  ")
        lines += [f"  {names[one.source]} {MERMAID_ARROWS[one.kind]} {names[one.target]}" for one in scene.arrows]
    return "\n".join(lines) + "\n"


def _mermaid_part(part: Part, names: dict[str, str], indent: str) -> Iterator[str]:
    match part:
        case Shape(id=id, form=form, label=label):
            before, after = MERMAID_SHAPES[form]
            yield f'{indent}{names[id]}{before}"{_mermaid_text(label)}"{after}'
        case Box(id=id, label=label, parts=parts):
            yield f'{indent}subgraph {names[id]}["{_mermaid_text(label)}"]'
            for inner in parts:
                yield from _mermaid_part(inner, names, f"{indent}  ")
            yield f"{indent}end"


def _mermaid_text(text: str) -> str:
    """Text inside a quoted label: every sign that Mermaid or HTML could read as markup becomes an entity."""
    return "".join(char if char.isalnum() or char in " _.,:=" else f"#{ord(char)};" for char in text)


# -- Graphviz --------------------------------------------------------------------------------------------------------

DOT_SHAPES: dict[Form, str] = {
    "given": "oval",
    "call": "box, style=bold",
    "extern": "component",
    "value": "box, style=rounded",
    "choice": "diamond",
    "loop": "hexagon",
    "check": "note",
    "end": "oval",
}
DOT_ARROWS: dict[ArrowKind, str] = {
    "data": "",
    "control": " [style=dashed]",
    "again": ' [style=dashed, label="again", constraint=false]',
}


def to_dot(graph: Graph) -> str:
    """Graphviz dot, one cluster a flow; regions are clusters of their own. Dashed arrows are control."""
    lines = [f"digraph {_dot_text(graph.name)} {{"]
    for number, scene in enumerate(scenes(graph)):
        names = _names(scene, number)
        lines += _dot_part(scene.box, names, "  ")
        lines += [f"  {names[one.source]} -> {names[one.target]}{DOT_ARROWS[one.kind]};" for one in scene.arrows]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_part(part: Part, names: dict[str, str], indent: str) -> Iterator[str]:
    match part:
        case Shape(id=id, form=form, label=label):
            yield f"{indent}{names[id]} [label={_dot_text(label)}, shape={DOT_SHAPES[form]}];"
        case Box(id=id, label=label, parts=parts):
            yield f"{indent}subgraph cluster_{names[id]} {{"
            yield f"{indent}  label={_dot_text(label)};"
            for inner in parts:
                yield from _dot_part(inner, names, f"{indent}  ")
            yield f"{indent}}}"


def _dot_text(text: str) -> str:
    """A quoted dot string. Backslashes are doubled, so that no text of a program is read as an escape."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "")
    return f'"{escaped}"'
