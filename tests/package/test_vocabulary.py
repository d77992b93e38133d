"""Names in the code are the field's terms (docs/glossary.md): words of the retired dialect name nothing."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT

#: Words that no function, class, parameter, attribute or variable may have in its name.
RETIRED = frozenset(
    [
        "told",
        "said",
        "say",
        "says",
        "asked",
        "ask",
        "mine",
        "theirs",
        "lent",
        "lend",
        "lends",
        "bears",
        "drawn",
        "draw",
        "draws",
        "drawing",
        "mended",
        "mend",
        "mends",
        "each",
        "found",
        "here",
        "there",
        "somewhere",
        "place",
        "places",
        "part",
        "parts",
        "some",
        "somebody",
        "whole",
        "how",
        "what",
        "whose",
        "who",
        "odds",
        "traits",
        "shares",
        "judged",
        "judging",
        "",
        "heed",
    ]
)

#: Modules that a later change removes as a whole, as listed once in pyproject.toml.
EXEMPT = frozenset(
    path
    for path, ignored in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"][
        "per-file-ignores"
    ].items()
    if ignored == ["ALL"]
)

#: Names that other libraries give: hypothesis hands `draw` to composite strategies.
FOREIGN = {"draw": "tests/"}

FOLDERS = ("netgen", "capture", "encoders", "diffusion", "exporters", "benchmarks", "tests")


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that a file defines, with their lines: definitions, parameters, targets, attributes, aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, 0


def words(name: str) -> set[str]:
    """Split an identifier at underscores and capitals."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def files() -> list[Path]:
    """List the Python files of the checkout, each once: the links in netgen/ lead to folders that are listed too."""
    listed = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if not any((ROOT / parent).is_symlink() for parent in relative.parents):
                listed.append(relative)
    return listed


def retired_names(path: Path) -> list[str]:
    """List the names in a file that hold a retired word."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    bad = []
    for name, line in bound_names(tree):
        if not words(name) & RETIRED:
            continue
        if name in FOREIGN and str(path).startswith(FOREIGN[name]):
            continue
        bad.append(f"{path}:{line}: {name}")
    return bad


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_name_holds_a_retired_word(folder: str) -> None:
    paths = [path for path in files() if path.parts[0] == folder and path.as_posix() not in EXEMPT]
    assert paths, f"no files in {folder}"
    assert [line for path in paths for line in retired_names(path)] == []


def test_the_exempt_modules_exist() -> None:
    """An exemption goes with the module that it is for."""
    assert EXEMPT
    assert [name for name in EXEMPT if not (ROOT / name).is_file()] == []
