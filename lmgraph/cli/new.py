"""`lmgraph new`: a small project that compiles, passes its tests and can be scored; the files are in `templates/`."""

from __future__ import annotations

import re
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lmgraph.cli import common
from lmgraph.errors import ConfigError

TEMPLATES = Path(__file__).with_name("templates")
MOST_CHARACTERS = 64
_NAME = re.compile(r"[^\W_][\w-]*")
"""The folder names the program in graphs and reports, and its artifacts."""


class Template(StrEnum):
    CLASSIFY = "classify"
    RAG = "rag"


_FIRST_RUN = {
    Template.CLASSIFY: '--text "Where is my parcel?"',
    Template.RAG: '--question "May I bring my dog?"',
}


def new_command(
    name: Annotated[str, typer.Argument(help="The folder to make; its last part names the program.", metavar="NAME")],
    template: Annotated[
        Template,
        typer.Option("--template", help="classify: two labels of a message. rag: answers from a handbook."),
    ] = Template.CLASSIFY,
    as_json: common.JsonFlag = False,
) -> None:
    """Write a small working project: program, data, Python, settings, README."""
    folder = Path(name)
    files = write_project(folder, template)
    steps = [
        *([f"cd {shlex.quote(str(folder))}"] if folder.resolve() != Path.cwd() else []),
        "lmgraph test",
        "lmgraph model pull smollm2-135m",
        f"lmgraph run {_FIRST_RUN[template]}",
        "lmgraph eval --limit 5",
        "lmgraph optimize --with demos",
    ]
    if as_json:
        common.print_json({"folder": str(folder), "template": template.value, "files": files, "next": steps})
        return
    listed = "\n".join(f"  {file}" for file in files)
    common.print_text(f"{folder} has a project now:\n{listed}\n\nnext:\n" + "\n".join(f"  {step}" for step in steps))


def write_project(folder: Path, template: Template) -> list[str]:
    """Write the template's files into ``folder``, which must be new or empty. Returns their paths in it.

    Raises: ConfigError.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name) or len(name) > MOST_CHARACTERS:
        raise ConfigError(
            f"`{name}` does not do as the name of a program.",
            hint=f"use at most {MOST_CHARACTERS} letters, digits, - and _, as in `lmgraph new ticket-desk`",
        )
    _check_free(folder)
    written: list[str] = []
    for source in _files(TEMPLATES / template.value):
        relative = source.relative_to(TEMPLATES / template.value).as_posix().replace("gitignore", ".gitignore")
        text = source.read_text(encoding="utf-8")
        if source.name == "README.md":
            text = text.replace("{name}", name)
        target = folder / relative
        common.check_writable(target)
        target.write_text(text, encoding="utf-8", newline="\n")
        written.append(relative)
    return written


def _check_free(folder: Path) -> None:
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return
        taken = folder.exists() or folder.is_symlink()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror or error}.", hint="choose another name") from None
    if taken:
        what = "is there already and not empty" if folder.is_dir() else "is there already, and no folder"
        raise ConfigError(f"{folder} {what}.", hint="choose another name")


def _files(folder: Path) -> list[Path]:
    """The template's files, the program first."""
    found = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(found, key=lambda path: (path.suffix != ".lmg", path.relative_to(folder).as_posix()))
