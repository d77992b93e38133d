"""Help: every command and option has one, and it is printed at once."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from support.commands import COMMAND

from netgen.cli.app import app, command_names


def all_parameters() -> Iterator[Any]:
    group: Any = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):
        for parameter in command.params:
            yield name, parameter


def test_every_command_has_help() -> None:
    group: Any = typer.main.get_command(app)
    names = ["augment", "evaluate", "export", "extract", "import", "info", "models", "show", "synth", "train", "verify"]
    assert command_names() == names
    for name, command in group.commands.items():
        assert command.help, name
        assert command.help.splitlines()[0].endswith("."), name


@pytest.mark.parametrize(
    ("command", "parameter"), [pytest.param(*pair, id=f"{pair[0]}-{pair[1].name}") for pair in all_parameters()]
)
def test_every_option_has_help(command: Any, parameter: Any) -> None:
    assert getattr(parameter, "help", None), f"netgen {command} {parameter.name}"


@pytest.mark.parametrize("command", ["", *command_names()])
def test_help_names_every_option_on_stdout(command: Any, monkeypatch: pytest.MonkeyPatch, netgen_command: Any) -> None:
    """The exit code is 0."""
    monkeypatch.setenv("COLUMNS", "200")
    outcome = netgen_command(*([command] if command else []), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    for name, parameter in all_parameters():
        if name == command:
            for option in parameter.opts:
                assert option in outcome.out or not option.startswith("-")
    if not command:
        assert all(name in outcome.out for name in command_names())


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """torch, pyarrow and numpy take seconds to import."""
    program = (
        "import sys, contextlib, netgen.cli.app\n"
        f"for words in {[[], *([name] for name in command_names())]}:\n"
        "    sys.argv = ['netgen', *words, '--help']\n"
        "    with contextlib.suppress(SystemExit): netgen.cli.app.main()\n"
        "heavy = {'torch', 'pyarrow', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'pyts', 'numba', 'scapy', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"
    assert ran.stdout.count("Usage: netgen") == 1 + len(command_names())


def test_help_takes_less_than_half_a_second() -> None:
    """CPU time is measured, so a busy machine is no failure; the best of three runs counts."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run([COMMAND, "--help"], check=True, capture_output=True, text=True)
        assert "Usage: netgen" in ran.stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5
