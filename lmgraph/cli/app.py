"""`lmgraph`: the commands there are, and what becomes of an error. A command's module is imported when it is used.

Exit codes: 0 done; 1 an error that the message explains; 2 wrong usage; 130 interrupted. A traceback is never printed:
that of a bug of ours goes to a file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from lmgraph.errors import CompileError, LmgraphError

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class _Command:
    name: str
    module: str
    attribute: str
    """A function, or a `typer.Typer` with one command or several."""
    summary: str


_COMMANDS = (
    _Command("new", "lmgraph.cli.new", "new_command", "Write a small working project."),
    _Command("compile", "lmgraph.cli.compile", "compile_command", "Check a program and print its graph."),
    _Command("check", "lmgraph.cli.check", "check_command", "Check programs: report what is wrong, print no graph."),
    _Command("explain", "lmgraph.cli.explain", "explain_command", "Say what a diagnostic's code means."),
    _Command("fmt", "lmgraph.cli.fmt", "fmt", "Rewrite programs in the one canonical form."),
    _Command("test", "lmgraph.cli.test", "app", "Run the tests that programs declare."),
    _Command("run", "lmgraph.cli.run", "app", "Run a flow on inputs."),
    _Command("eval", "lmgraph.cli.eval", "app", "Score a program on a split of its data."),
    _Command("plan", "lmgraph.cli.plan", "plan_command", "Say what an optimize run may change and call."),
    _Command("optimize", "lmgraph.cli.optimize", "app", "Improve a program on its data."),
    _Command("diff", "lmgraph.cli.diff", "diff_command", "Show what two artifacts have learned differently."),
    _Command("export", "lmgraph.cli.export", "export_command", "Write an artifact's adapters for use elsewhere."),
    _Command("trace", "lmgraph.cli.trace", "app", "List and show recorded runs."),
    _Command("model", "lmgraph.cli.model", "app", "Pull and list the models of the local engine."),
    _Command("engine", "lmgraph.cli.engine", "app", "Start, stop and list model servers on this machine."),
)


class _Commands(TyperGroup):
    """Holds stand-ins, enough for `lmgraph --help`; the command that is used takes its stand-in's place."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        for command in _COMMANDS:
            if args and args[0] == command.name:
                self.commands[command.name] = _load(command)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with errors_reported():
            return super().invoke(ctx)


def _load(command: _Command) -> Any:
    target = getattr(import_module(command.module), command.attribute)
    if isinstance(target, typer.Typer):
        loaded = get_command(target)
    else:
        single = typer.Typer(add_completion=False)
        single.command(command.name)(target)
        loaded = get_command(single)
    loaded.name = command.name
    return loaded


app = typer.Typer(
    cls=_Commands,
    help="Compile, run, score and optimize programs made of language-model calls.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _stand_in(summary: str) -> Callable[[], None]:
    def command() -> None:
        raise AssertionError("a stand-in is replaced before it is called")

    command.__doc__ = summary
    return command


for _command in _COMMANDS:
    app.command(_command.name)(_stand_in(_command.summary))


def _print_version(asked: bool) -> None:
    if asked:
        import lmgraph

        sys.stdout.write(f"lmgraph {lmgraph.__version__}\n")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    app(prog_name="lmgraph")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn every error into a message and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away, as `| head` does. Python must not flush to it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        say("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None
    except CompileError as error:
        sys.stderr.write(error.message if error.message.endswith("\n") else error.message + "\n")
        raise typer.Exit(1) from None
    except LmgraphError as error:
        show_error(error.message, error.hint)
        raise typer.Exit(1) from None
    except Exception as error:
        if _is_flow_of_control(error):
            raise
        show_error(
            f"{type(error).__name__}: {error}",
            f"this is a bug in lmgraph; please report it with the traceback in {_save_traceback(error)}",
        )
        raise typer.Exit(1) from None


def show_error(message: str, hint: str | None) -> None:
    """Print an error on standard error, with colours where it is a terminal."""
    from lmgraph.source.render import printable

    message = printable(message, keep_lines=True)
    hint = hint and printable(hint, keep_lines=True)
    if not sys.stderr.isatty() or "NO_COLOR" in os.environ:
        sys.stderr.write(f"error: {message}\n" + (f"  next: {hint}\n" if hint else ""))
        return
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble(("error: ", "bold red"), (message, "bold"))
    if hint:
        text.append("\n  next: ", "bold cyan").append(hint)
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def say(line: str) -> None:
    """One line for a person, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _is_flow_of_control(error: Exception) -> bool:
    """Whether typer raised it to end the command: a usage error, an exit, an abort."""
    return isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "exit_code")


def _save_traceback(error: Exception) -> str:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="lmgraph-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(text)
            return file.name
    except OSError:
        return "(no file could be written for it)"
