"""Print the reference of the command line, docs/cli.md, from the commands' own help.

    python docs/make_cli.py > docs/cli.md

The text is the help as `netgen COMMAND --help` says it, without colours and boxes and at a fixed
width, so that it is the same on every machine; a test holds docs/cli.md equal to it.
"""

from __future__ import annotations

from typing import Any

import typer

from netgen.cli.app import app

WIDTH = 100

INTRODUCTION = """\
# The commands

<!-- Made by docs/make_cli.py from the commands' help: change that, not this. -->

Results go to stdout, all else to stderr; `--json` prints one object instead of tables. Exit code 0:
done; 1: refused or failed, with one line that says why and what to type next; 2: the command line
itself could not be understood. An output that exists is refused unless `--force` is given, and a
file appears whole or not at all.
"""


def reference() -> str:
    """Build the whole page."""
    group: Any = typer.main.get_command(app)
    parts = [INTRODUCTION, _section("netgen", "netgen", group)]
    parts += [_section(f"netgen {name}", name, command, parent=group) for name, command in group.commands.items()]
    return "\n".join(parts).rstrip("\n") + "\n"


def _section(title: str, name: str, command: Any, parent: Any = None) -> str:
    command.rich_markup_mode = None  # plain text
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    # without parsing, as a command with a required option refuses to be parsed without it
    above = parent.context_class(parent, info_name="netgen", **width) if parent else None
    settings = {"help_option_names": ["-h", "--help"], **width}
    context = command.context_class(command, info_name=name, parent=above, **settings)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return f"## `{title}`\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    print(reference(), end="")
