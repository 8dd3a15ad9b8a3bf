"""`lmgraph export`: the adapters of an artifact as PEFT folders, or merged into Hugging Face models."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmgraph.cli import common
from lmgraph.errors import ConfigError

if TYPE_CHECKING:
    from lmgraph.program.params import AdapterRef


class Precision(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def export_command(
    artifact: Annotated[Path, typer.Argument(help="An artifact folder with adapters, as `lmgraph optimize` writes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; new or empty.", metavar="FOLDER")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge each adapter into its base model: a model that transformers loads.")
    ] = False,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="Which of several adapters; default: all, a folder each.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Base model to merge into, where it is not found by its name: a folder."),
    ] = None,
    dtype: Annotated[
        Precision,
        typer.Option("--dtype", help="Number format of merged weights; bfloat16 rounds the adapter away in part."),
    ] = Precision.FLOAT32,
    as_json: common.JsonFlag = False,
) -> None:
    """Write the adapters of an artifact for use elsewhere."""
    program = common.load_program(artifact)
    chosen = _choose(list(program.params.adapters.values()), adapter, artifact)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} exists and is not empty.", hint="choose another folder with --output")
    written = []
    for ref in chosen:
        target = output if len(chosen) == 1 else output / ref.name
        if merge:
            from lmgraph.engines.local.merge import merge_adapter

            merge_adapter(model or ref.base_model, ref.folder, target, dtype.value)
        else:
            _copy(ref.folder, target)
        modules = sorted(name for name, node in program.params.modules.items() if node.adapter == ref.key)
        written.append(
            {
                "adapter": ref.key,
                "base_model": ref.base_model,
                "modules": modules,
                "folder": str(target),
                "form": "merged" if merge else "peft",
            }
        )
    if as_json:
        common.print_json(written)
    else:
        for one in written:
            what = f"{one['adapter']} merged into {one['base_model']}" if merge else f"{one['adapter']}, a PEFT folder"
            common.print_text(f"{one['folder']}  {what}, for {', '.join(one['modules'])}")


def _choose(refs: list[AdapterRef], name: str | None, artifact: Path) -> list[AdapterRef]:
    if not refs:
        raise ConfigError(
            f"{artifact} has no adapters: its program runs on the base models.", hint="train some: --with mmgrpo"
        )
    chosen = [ref for ref in refs if name in (None, ref.name, ref.key)]
    if not chosen:
        raise ConfigError(
            f"{artifact} has no adapter `{name}`.", hint=f"it has: {', '.join(sorted(ref.key for ref in refs))}"
        )
    return chosen


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise ConfigError(f"{target} cannot be written: {error}.", hint="choose a folder you may write to") from None
