"""What a package's `__init__` exports is what its `__all__` says, and plug-ins live on that alone."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import lmgraph

ROOT = Path(__file__).parents[2]
PLUG_INS = ROOT / "optimizers" / "lmgraph_optimizers"
PUBLIC_MODULES = {"lmgraph.errors", "lmgraph.testing"}
"""Public modules that are no packages."""


def packages() -> list[str]:
    inside = [found.name for found in pkgutil.walk_packages(lmgraph.__path__, "lmgraph.") if found.ispkg]
    return ["lmgraph", *sorted(inside)]


def exports(module: ModuleType) -> set[str]:
    """Public names that the module's text binds for others: its definitions, and imports it does not use."""
    source = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    used = {node.id for node in ast.walk(source) if isinstance(node, ast.Name)}
    names: set[str] = set()
    for statement in source.body:
        match statement:
            case ast.ImportFrom(module=origin, names=aliases) if origin != "__future__":
                names |= {alias.asname or alias.name for alias in aliases} - used
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", packages())
def test_all_equals_exports(name: str) -> None:
    module = importlib.import_module(name)
    declared = getattr(module, "__all__", None)
    if declared is None:
        assert not exports(module), f"{name} exports names and has no __all__"
        return
    assert len(declared) == len(set(declared))
    assert exports(module) <= set(declared)
    for public in declared:
        assert hasattr(module, public), f"{name}.__all__ promises {public}"
        assert not public.startswith("_") or public == "__version__"


def test_the_top_package_offers_the_documented_names() -> None:
    documented = {"compile_file", "load", "Runtime", "evaluate", "optimize"}
    assert documented <= set(lmgraph.__all__)


def plug_in_files() -> list[Path]:
    return sorted(PLUG_INS.rglob("*.py"))


@pytest.mark.parametrize("path", plug_in_files(), ids=lambda path: path.relative_to(PLUG_INS).as_posix())
def test_the_optimizers_use_public_names_only(path: Path) -> None:
    """They are written as a third party writes one: `from lmgraph.<package> import <name in its __all__>`."""
    public = set(packages()) | PUBLIC_MODULES
    wrong = []
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match statement:
            case ast.Import(names=aliases):
                origins = [alias.name for alias in aliases]
                wrong += [origin for origin in origins if origin.startswith("lmgraph.") and origin not in public]
            case ast.ImportFrom(module=str(origin), names=aliases, level=0) if origin.split(".")[0] == "lmgraph":
                if origin not in public:
                    wrong.append(origin)
                    continue
                offered = getattr(importlib.import_module(origin), "__all__", None)
                if offered is not None:
                    wrong += [f"{origin}.{alias.name}" for alias in aliases if alias.name not in offered]
    assert not wrong
