"""Every error netgen raises on purpose, as one tree.

::

    NetgenError                 exit code 1: say it in one line, go on with the next thing
    ├── InputError              something given to netgen cannot be used
    │   ├── CaptureError        a file that is no capture, or is damaged from the start
    │   ├── TableError          a flow table that is none, or lacks what is needed (labels, say)
    │   ├── SpecMismatch        two series that must not be compared
    │   └── ModelError          a model that is none, is of another version, or lacks the class
    └── OutputError             a result that cannot be written where it was asked for

A message says what, where (file, packet number), the value found, and what to type next; the last
of these stands in ``hint`` so that a program can show or drop it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetgenError(Exception):
    """The root: anything netgen refuses or cannot do.

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
    """Something given to netgen cannot be used."""


class CaptureError(InputError):
    """A file that is no capture, or is damaged from its first bytes on."""


class TableError(InputError):
    """A flow table that is none, or lacks what is needed."""


class SpecMismatchError(InputError):
    """Two series of different kind, length or bin width were to be compared."""


class ModelError(InputError):
    """A model file that is none, is of another version, or lacks the class asked for."""


class OutputError(NetgenError):
    """A result cannot be written where it was asked for."""


def visible(text: str) -> str:
    """Text with whatever would move a terminal's cursor, or colour it, written out: ``\\x1b``."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Suggest the choice that `word` may be a misspelling of: ``"Did you mean 'netflix'? "``, or nothing."""
    by_folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f"Did you mean {by_folded[close[0]]!r}? " if close else ""
