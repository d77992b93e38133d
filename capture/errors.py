"""The errors that netgen raises.

::

    NetgenError                 exit code 1, and one line on stderr
    ├── InputError              an input or option cannot be used
    │   ├── CaptureError        a file is not a capture, or is damaged from the start
    │   ├── TableError          a file is not a flow table, or lacks what is needed (labels, for example)
    │   ├── SpecMismatchError   two series cannot be compared
    │   └── ModelError          a file is not a model, is of another version, or lacks the class
    └── OutputError             a result cannot be written

A message names the option, file or packet, and the value found. What to type next is in ``hint``, so that a program
can show or drop it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class NetgenError(Exception):
    """The base class of all errors that netgen raises.

    Parameters
    ----------
    message : str
        What is wrong, where, and the value found; one line.
    hint : str, optional
        What to type or do next.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class InputError(NetgenError):
    """An input or option cannot be used."""


class CaptureError(InputError):
    """A file is not a capture, or is damaged from its first bytes on."""


class TableError(InputError):
    """A file is not a flow table, or lacks what is needed."""


class SpecMismatchError(InputError):
    """Two series of different view, length or bin width cannot be compared."""


class ModelError(InputError):
    """A file is not a model, is of another version, or lacks the class."""


class OutputError(NetgenError):
    """A result cannot be written."""


def visible(text: str) -> str:
    r"""Escape characters that would move a terminal's cursor or colour it, such as ``\x1b``."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Suggest the choice that `word` may be a misspelling of: ``"Did you mean 'netflix'?"``; empty if there is none."""
    by_folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f"Did you mean {by_folded[close[0]]!r}?" if close else ""


def first_names(names: Sequence[str], most: int = 4) -> str:
    """Join the first names, and count the rest: ``"a, b, c, d and 3 more"``."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
