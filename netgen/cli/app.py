"""The command line: `app` holds the commands; `main` runs one, and prints an error in one line."""

from __future__ import annotations

import atexit
import contextlib
import copy
import gc
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from netgen.capture.errors import NetgenError, visible
from netgen.cli.augment import augment
from netgen.cli.evaluate import evaluate
from netgen.cli.export import export
from netgen.cli.extract import extract
from netgen.cli.import_traces import import_traces
from netgen.cli.info import info
from netgen.cli.models import models
from netgen.cli.show import show
from netgen.cli.synth import synth
from netgen.cli.train import train
from netgen.cli.verify import verify


class _Group(TyperGroup):
    """Raises a `NetgenError` on Ctrl-C, where typer would end without a word and with exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise NetgenError("interrupted", "No file was left half-written; run the command again") from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[:1] == ["version"]:
            ctx.fail("No such command 'version'. Did you mean 'netgen --version'?")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="netgen",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")] = False,
) -> None:
    """Learn from network captures, and generate new, labelled traffic."""
    if version:
        from netgen._version import __version__

        print(f"netgen {__version__}")
        raise typer.Exit


for _command in (extract, import_traces, train, synth, augment, export, verify, evaluate, models, info, show):
    app.command("import" if _command is import_traces else _command.__name__)(_command)


def _app_for(command: list[str]) -> typer.Typer:
    """Return the app with one command only, if it is known: typer takes 2 ms to build each of the eleven."""
    chosen = [info for info in app.registered_commands if [info.name] == command]
    if not chosen:
        return app
    small = copy.copy(app)
    small.registered_commands = chosen
    return small


def main() -> None:
    """Run the command line; an error that netgen raises is printed in one line and gives exit code 1."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  (None where the caller closed it)
    sys.stderr = sys.stderr or sys.stdout
    warnings.showwarning = _print_warning
    # at exit Python searches all that was imported for cycles: 35 ms of the 300 that a small capture takes
    atexit.register(gc.freeze)
    try:
        try:
            _app_for(sys.argv[1:2])(prog_name="netgen")
        finally:
            _flush()
    except NetgenError as error:
        _fail(error.message, error.hint)
    except BrokenPipeError:
        sys.exit(1)  # the program that read stdout has ended
    except OSError as error:
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}", None)
    except MemoryError:
        _fail("out of memory", "Use fewer files or flows at a time")


def _print_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
    """Print a warning of netgen's own in one line; those of libraries are for programmers."""
    if issubclass(category, UserWarning) and Path(filename).is_relative_to(Path(__file__).parents[1]):
        print(visible(f"netgen: {message}"), file=sys.stderr)


def _flush() -> None:
    """Write out stdout, so that a full disk is an error and not a warning after the end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # drop what could not be written, or Python tries again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = error.filename or "standard output"
        raise


def _fail(message: str, hint: str | None) -> None:
    line = message[:1].lower() + message[1:] if message[:2].istitle() else message
    line = f"netgen: {line}" + (f". {hint}" if hint else "")
    print(visible(line), file=sys.stderr)  # a message may quote control characters from a file
    sys.exit(1)


def command_names() -> list[str]:
    """List the names of all commands."""
    group: Any = typer.main.get_command(app)
    return sorted(group.commands)
