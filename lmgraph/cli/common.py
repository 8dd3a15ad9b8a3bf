"""What the commands that take a program share: its loading, the binding of its LMs, the trace store, output.

Importing this module is cheap; programs, runtime and engines are imported by the functions that need them.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.errors import ConfigError

if TYPE_CHECKING:  # these would be imported at every start
    from lmgraph.program.program import Program
    from lmgraph.runtime.bind import Binding
    from lmgraph.runtime.service import Runtime

SETTINGS_FILE = "lmgraph.toml"
SETTINGS = ("program", "engine", "model", "lm", "options", "lints", "passes")
TABLES = {
    "lm": 'a table of texts: [lm] name = "engine:model"',
    "lints": 'a table of levels: [lints] unused_value = "off"',
    "options": "a table for each engine: [options.sglang] deadline_seconds = 60",
    "passes": 'a table of texts: [passes] hoist = "off"',
}
DEFAULT_TRACE = Path(".lmgraph") / "traces.db"
DEFAULT_CACHE = Path(".lmgraph") / "cache"


class DecodingChoice(StrEnum):
    CONSTRAINED = "constrained"
    STRICT = "strict"
    TOLERANT = "tolerant"


class Dtype(StrEnum):
    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    MIXED = "mixed"


ProgramArgument = Annotated[
    Path | None,
    typer.Argument(
        help=f"A .lmg file or an artifact folder; else `program` of {SETTINGS_FILE}.",
        metavar="[PROGRAM]",
        show_default=False,
    ),
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="Engine for every LM of the program.", metavar="KIND[:[MODEL@]URL]")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Model for every LM of the program.", metavar="MODEL")]
LmOption = Annotated[
    list[str] | None,
    typer.Option("--lm", help="Bind one LM; may be given several times.", metavar="NAME=[ENGINE:]MODEL[@URL]"),
]
DtypeOption = Annotated[
    Dtype | None, typer.Option("--dtype", help="Number format of the local engine.", show_default=False)
]
TraceOption = Annotated[
    Path, typer.Option("--trace", help="The file that keeps the trace of every call.", metavar="FILE")
]
NoTraceOption = Annotated[bool, typer.Option("--no-trace", help="Keep no traces.")]
CacheOption = Annotated[
    bool,
    typer.Option(
        "--cache", help=f"Answer calls that were made before from {DEFAULT_CACHE.as_posix()}, and keep new ones there."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="All random choices follow from it.")]
DecodingOption = Annotated[
    DecodingChoice,
    typer.Option(
        "--decoding",
        help="constrained: only fitting answers can be written. strict: free, and must be exact."
        " tolerant: free, and what was plainly meant counts.",
    ),
]
AllowEffectsOption = Annotated[
    bool,
    typer.Option("--allow-effects", help="Let the flow call tools, which may act outside the program, on every row."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@dataclass(frozen=True, slots=True)
class Settings:
    """What `lmgraph.toml` says."""

    file: Path | None = None
    program: Path | None = None
    engine: str | None = None
    model: str | None = None
    lms: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the engine's kind."""
    passes_off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BindingFlags:
    """What the command line says about LMs."""

    engine: str | None = None
    model: str | None = None
    lms: tuple[str, ...] = ()
    dtype: Dtype | None = None


def read_settings(folder: Path | None = None) -> Settings:
    """The settings of ``folder`` (the current one), empty where it has no file. Raises: ConfigError."""
    path = (folder or Path()) / SETTINGS_FILE
    if not path.is_file():
        return Settings()
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", hint="mend it, or run from another folder") from None
    for name, value in data.items():
        if name not in SETTINGS:
            raise ConfigError(f"{path} has the unknown key `{name}`.", hint=f"it may have: {', '.join(SETTINGS)}")
        inside = {"lm": str, "options": dict, "lints": str, "passes": str}.get(name)
        fits = isinstance(value, str) if inside is None else isinstance(value, dict)
        if not fits or (inside is not None and not all(isinstance(one, inside) for one in value.values())):
            raise ConfigError(
                f"{path}: `{name}` is not {TABLES.get(name, 'a text')}.", hint="see the command line's reference"
            )
    program = data.get("program")
    return Settings(
        path,
        path.parent / program if program else None,
        data.get("engine"),
        data.get("model"),
        data.get("lm", {}),
        data.get("options", {}),
        _passes_off(path, data.get("passes", {})),
    )


def _passes_off(path: Path, passes: Mapping[str, str]) -> tuple[str, ...]:
    for name, value in passes.items():
        if value not in ("on", "off"):
            raise ConfigError(f'{path}: the pass `{name}` is "{value}".', hint='it may be "on" or "off"')
    return tuple(name for name, value in passes.items() if value == "off")


def settings_of(path: Path) -> Settings:
    """The settings beside the program, or of the current folder where it has none. Raises: ConfigError."""
    beside = read_settings(path.parent) if not path.is_dir() else Settings()
    return beside if beside.file else read_settings()


def find_program(path: Path | None) -> Path:
    """``path``, or the program that lmgraph.toml names. Raises: ConfigError."""
    if path is not None:
        return path
    settings = read_settings()
    if settings.program is None:
        where = f"{SETTINGS_FILE} names none" if settings.file else f"there is no {SETTINGS_FILE} here"
        raise ConfigError(f"No program is given, and {where}.", hint="give a .lmg file or an artifact folder")
    return settings.program


def load_program(path: Path | None, learned: Path | None = None) -> Program:
    """The program of a `.lmg` file or of an artifact folder, with what the artifact ``learned`` has learned.

    Raises: ConfigError, CompileError, ArtifactError, each saying what is wrong with ``path`` or ``learned``.
    """
    path = find_program(path)
    from lmgraph.cli.learned import load_learned, load_stored
    from lmgraph.program import artifact
    from lmgraph.program.program import Program

    if path.is_dir():
        programs = sorted(path.glob("*.lmg"))
        if programs and not artifact.is_artifact(path):
            raise ConfigError(f"{path} is a folder and no artifact.", hint=f"did you mean {programs[0]}?")
        return load_stored(path, learned)
    if path.name == artifact.MANIFEST and path.is_file():
        raise ConfigError(f"{path} is a file inside an artifact.", hint=f"give its folder: {path.parent}")
    if path.suffix != ".lmg" and path.is_file():
        raise ConfigError(f"{path} is neither a .lmg file nor an artifact folder.", hint="give one of them")
    from lmgraph.compiler.compile import compile_path

    compilation = compile_path(path)
    if learned is not None:
        return load_learned(compilation, path.parent, learned)
    return Program.default(compilation.require(), path.parent)


def program_title(path: Path, program: Program) -> str:
    """What to call the program in file names: a file that is just `program.lmg` is called as its folder is."""
    name = path.resolve().name if path.is_dir() else path.stem
    return path.resolve().parent.name if name == "program" else name or program.graph.name


def make_runtime(
    program: Program,
    path: Path,
    flags: BindingFlags,
    *,
    trace: Path | None,
    cache: bool = False,
) -> Runtime:
    """A runtime with every LM bound; ``trace`` is the store's file, and the response cache is the default one.

    Raises: ConfigError.
    """
    from lmgraph.runtime.bind import Binding
    from lmgraph.runtime.service import Runtime

    settings = settings_of(path)
    lms, everything = bind(program, settings, flags, os.environ)
    options = dict(settings.options)
    if flags.dtype is not None:
        options["local"] = {**options.get("local", {}), "dtype": flags.dtype.value}
    unset = everything == Binding()
    return Runtime(
        lms=lms,
        everything=None if unset else everything,
        engine_options=options,
        store=trace,
        cache=DEFAULT_CACHE if cache else None,
        passes_off=settings.passes_off,
    )


def bind(
    program: Program, settings: Settings, flags: BindingFlags, environment: Mapping[str, str]
) -> tuple[dict[str, Binding], Binding]:
    """(bindings by LM, binding of the rest). Flags win over the environment, and it over lmgraph.toml, each for engine
    and model apart; `--lm` wins over all. An engine and its URLs go together."""
    from lmgraph.runtime.bind import Binding

    asked = Binding.parse_engine(flags.engine or environment.get("LMGRAPH_ENGINE") or "")
    model = flags.model or environment.get("LMGRAPH_MODEL") or asked.model or None
    known = {spec.name for spec in program.graph.lms} | {module.lm for module in program.graph.modules}
    lms: dict[str, Binding] = {}
    for name, text in settings.lms.items():
        if name in known:  # one file may serve several programs
            given = Binding.parse(text)
            lms[name] = _over(asked, model, given)
    for text in flags.lms:
        name, equals, bound = text.partition("=")
        if not (name and equals and bound):
            raise ConfigError(
                f"--lm has `{text}`, expected NAME=ENGINE:MODEL.",
                hint=f"the program's LMs are: {', '.join(sorted(known)) or 'none'}",
            )
        lms[name] = Binding.parse(bound)
    whole = Binding.parse_engine(settings.engine or "")
    return lms, _over(asked, model, Binding(whole.engine, settings.model or whole.model, whole.urls))


def _over(asked: Binding, model: str | None, under: Binding) -> Binding:
    """``asked`` and ``model`` over what ``under`` says."""
    from lmgraph.runtime.bind import Binding

    place = asked if asked.engine else under
    return Binding(place.engine or None, model or under.model, place.urls)


def print_json(data: object, *, line: bool = False) -> None:
    """JSON on standard output; lone surrogates are escaped, so that any terminal takes it."""
    text = json.dumps(data, ensure_ascii=False, indent=None if line else 2)
    print_text(text)


def print_text(text: str) -> None:
    """A line on standard output. What its encoding cannot write becomes an escape."""
    try:
        sys.stdout.write(text + "\n")
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def check_writable(path: Path) -> None:
    """Before calls are paid for: whether the file can be written. What is in it stays. Raises: ConfigError."""
    _write(path, "", "a")


def write_file(path: Path, text: str) -> None:
    """Raises: ConfigError."""
    _write(path, text, "w")


def _write(path: Path, text: str, mode: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}.", hint="choose a file you may write to"
        ) from None


def as_text(value: Any) -> str:
    """A value for a person: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
