"""Find the class that a user means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netgen.capture.errors import ModelError, did_you_mean


def match_classes(name: str, classes: Iterable[str]) -> list[str]:
    """Return the classes that `name` may mean: exactly, else those equal but for case, else those containing it."""
    names = list(classes)
    if name in names:
        return [name]
    folded = name.casefold()
    return [known for known in names if known.casefold() == folded] or [
        known for known in names if folded and folded in known.casefold()
    ]


def resolve_class(name: str, classes: Sequence[str], owner: str) -> str:
    """Return the one class that `name` means; a ModelError if there is none, or several, names their `owner`."""
    matches = match_classes(name, classes)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ModelError(f"class {name!r} of {owner} could be {', '.join(matches)}", "Write more of the name")
    raise ModelError(
        f"{owner} has no class {name!r}; it has {', '.join(classes)}",
        did_you_mean(name, classes) or "netgen models lists bundled models; netgen train makes one from your captures",
    )
