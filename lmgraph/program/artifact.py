"""The artifact folder: a program with its learned parameters, complete enough to run, score and tune elsewhere.

    artifact.json   format, program name, hashes of graph, params and every file
    graph.json      the graph, as `lmgraph compile` prints it
    params.json     instructions, demos, adapters, counts
    adapters/       one PEFT folder (safetensors) for each adapter version
    files/          the data and Python files the graph names, under their own relative paths
    ...             whatever a stage adds: report.md, scores.json, events.jsonl

Loading checks every hash first; nothing is unpickled, and no Python of the artifact is imported by loading it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

from lmgraph.errors import ArtifactError, Corrupt, GraphInvariantError, GraphMismatch, VersionMismatch
from lmgraph.graph import dump
from lmgraph.graph.counts import misfits
from lmgraph.graph.graph import Graph
from lmgraph.graph.verify import verify
from lmgraph.program import params as params_module
from lmgraph.program.clearance import mixed_adapters
from lmgraph.program.fingerprints import Fingerprints, fingerprints, interface_hash
from lmgraph.program.params import Params
from lmgraph.program.program import Program, graph_hash
from lmgraph.program.python_files import python_files

FORMAT = 2
"""Format 1 knew two fingerprints of a module in place of five: it is read, and made whole from its graph."""
OLDEST = 1
MANIFEST = "artifact.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_UNHASHED = {MANIFEST}


def is_artifact(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def save(program: Program, folder: Path, *, extra: Mapping[str, str | bytes] | None = None) -> Path:
    """Write the artifact; the folder appears whole or not at all.

    An existing artifact at ``folder`` is replaced; any other non-empty folder is refused.
    ``extra`` maps relative file names to their content. Raises: ArtifactError.
    """
    folder = folder.absolute()
    if folder.exists() and not is_artifact(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtifactError(f"{folder} exists and is no artifact.", hint="choose another output folder, or remove it")
    staging: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _write(program, staging, extra or {})
        _swap(staging, folder)
    except OSError as error:
        where = error.filename or folder
        raise ArtifactError(
            f"The artifact cannot be written to {folder}: {error.strerror or error} ({where}).",
            hint="choose a folder you may write to, with room on its disk",
        ) from None
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def load(folder: Path) -> Program:
    """Raises: ArtifactError where there is none; VersionMismatch, Corrupt, GraphMismatch where it cannot be trusted."""
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = _inside(folder, name)
        if not path.is_file():
            raise Corrupt(f"{folder}: the file {name} is missing.", hint="copy or make the artifact again")
        if _sha256(path) != expected:
            raise Corrupt(
                f"{folder}: {name} is not what was saved (its sha256 differs).", hint="copy or make the artifact again"
            )
    try:
        graph = dump.load((folder / "graph.json").read_text("utf-8"))
    except VersionMismatch as error:
        raise VersionMismatch(f"{folder}: {error.message}", hint="tune the program again with this version") from None
    try:
        verify(graph)
    except GraphInvariantError as error:
        raise Corrupt(f"{folder}: its graph does not hold together: {error}.", hint="make the artifact again") from None
    try:
        data = json.loads((folder / "params.json").read_text("utf-8"))
        params = params_module.from_data(_from_format_1(data, graph) if manifest["format"] == 1 else data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Corrupt(
            f"{folder}: params.json does not hold together: {error}.", hint="make the artifact again"
        ) from None
    refs = {key: replace(ref, folder=_inside(folder, ref.folder.as_posix())) for key, ref in params.adapters.items()}
    params = replace(params, adapters=refs)
    check_fit(graph, params, folder)
    return Program(graph, params, (folder / "files").resolve())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises: ArtifactError, Corrupt, VersionMismatch."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is no lmgraph artifact: it has no {MANIFEST}.", hint="`lmgraph compile -o` makes one"
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Corrupt(f"{path} cannot be read: {error}.", hint="copy or make the artifact again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict) or "format" not in manifest:
        raise Corrupt(f"{path} does not have the form of a manifest.", hint="copy or make the artifact again")
    found = manifest["format"]
    if type(found) is not int or not OLDEST <= found <= FORMAT:
        newer = type(found) is int and found > FORMAT
        raise VersionMismatch(
            f"{folder} has artifact format {found}; this lmgraph reads formats {OLDEST} to {FORMAT}.",
            hint="install the lmgraph that wrote it, or a later one" if newer else "make the artifact again",
        )
    return manifest


def _from_format_1(data: Any, graph: Graph) -> dict[str, Any]:
    """The params of an artifact of format 1, which were made for its own graph: what its fingerprints lack comes from
    there. Raises: KeyError, TypeError or AttributeError on data of another shape."""
    current = fingerprints(graph)
    modules = {}
    for name, node in data["modules"].items():
        known = {} if name not in current else asdict(current[name])
        modules[name] = {**node, "fingerprints": {**asdict(Fingerprints()), **known, "interface": node["interface"]}}
    return {**data, "modules": modules}


def check_fit(graph: Graph, params: Params, where: object) -> None:
    """Whether ``params`` were made for these modules and counts. Raises: GraphMismatch that names all that differ."""
    problems = [
        f"no parameters for module `{module.name}`" for module in graph.modules if module.name not in params.modules
    ]
    known = {module.name: module for module in graph.modules}
    for name, node in params.modules.items():
        if name not in known:
            problems.append(f"parameters for `{name}`, which the program does not have")
        elif node.fingerprints.interface != interface_hash(known[name]):
            problems.append(f"the inputs or outputs of `{name}` are not those its parameters were made for")
        if node.adapter is not None and node.adapter not in params.adapters:
            problems.append(f"`{name}` uses the adapter {node.adapter}, which is not there")
    problems += mixed_adapters(graph, params)
    problems += misfits(graph, params.counts)
    if problems:
        raise GraphMismatch(
            f"{where} does not fit the program: {'; '.join(problems)}.", hint="tune the changed program again"
        )


def program_files(graph: Graph, root: Path) -> list[str]:
    """Relative paths of the data and Python files the graph names, those that are there."""
    names = [dataset.path for dataset in graph.datasets]
    names += [split.path for dataset in graph.datasets for split in dataset.splits if split.path is not None]
    names += [name for extern in graph.externs for name in extern.files]
    references = [metric.python for metric in graph.metrics if metric.python is not None]
    references += [extern.python for extern in graph.externs]
    for reference in references:
        names += python_files(reference, root)
    return sorted({name for name in names if _inside(root, name).is_file()})


def _write(program: Program, folder: Path, extra: Mapping[str, str | bytes]) -> None:
    adapters = {}
    for key, ref in program.params.adapters.items():
        target = folder / "adapters" / key
        target.mkdir(parents=True)
        for name in ADAPTER_FILES:
            shutil.copyfile(ref.folder / name, target / name)
        adapters[key] = replace(ref, folder=Path("adapters") / key)
    stored = replace(program.params, adapters=adapters)
    (folder / "graph.json").write_text(dump.dump(program.graph, indent=1), "utf-8", "surrogatepass")
    (folder / "params.json").write_text(
        json.dumps(params_module.to_data(stored), indent=1, ensure_ascii=True), encoding="utf-8"
    )
    for name in program_files(program.graph, program.root):
        target = _inside(folder / "files", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(program.root / name, target)
    (folder / "files").mkdir(exist_ok=True)
    for name, content in extra.items():
        target = _inside(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    manifest = {
        "format": FORMAT,
        "program": program.graph.name,
        "graph": graph_hash(program.graph),
        "params": params_module.params_hash(program.params),
        "files": {name: _sha256(folder / name) for name in _all_files(folder)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")


def _swap(staging: Path, folder: Path) -> None:
    staging.chmod(0o755)
    if not folder.exists():
        staging.rename(folder)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(retired / "artifact")
    try:
        staging.rename(folder)
    except OSError:
        with contextlib.suppress(OSError):
            (retired / "artifact").rename(folder)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def _all_files(folder: Path) -> Iterable[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in _UNHASHED:
            yield name


def _inside(folder: Path, name: str) -> Path:
    """The path of ``name`` under ``folder``. Raises: Corrupt if it would lie outside."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise Corrupt(f"The path {name!r} leaves its folder {folder}.", hint="do not trust this artifact")
    return folder / pure


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
