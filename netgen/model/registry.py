"""The models inside the package, and finding a model by name, by path or by class."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from netgen.capture.errors import ModelError
from netgen.model.model import Model, match_classes, read_model_metadata

FOLDER = Path(__file__).parent / "bundled"


@dataclasses.dataclass(frozen=True)
class BundledModel:
    """A model that comes with netgen.

    Parameters
    ----------
    name : str
    path, card : Path
        The weights, and the text that says where they come from and what they are good for.
    about : dict
        The metadata of its file.
    """

    name: str
    path: Path
    card: Path
    metadata: dict[str, Any]


def bundled_models() -> list[BundledModel]:
    """The models inside the package, by name."""
    return [BundledModel(path.stem, path, path.with_suffix(".md"), read_model_metadata(path)) for path in _files()]


def _files() -> list[Path]:
    # a model that is being trained into the package keeps its checkpoint there
    return sorted(path for path in FOLDER.glob("*.safetensors") if not path.stem.endswith(".checkpoint"))


def find_model(name: str | os.PathLike[str]) -> Path:
    """The file of a model: a path, or the name of a shipped one.

    Raises
    ------
    ModelError
        If there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = FOLDER / f"{path}.safetensors"
    if path.name == str(path) and shipped.is_file():
        return shipped
    names = ", ".join(model.stem for model in _files())
    raise ModelError(
        f"there is no model {name}: no such file, and the shipped models are {names or 'none'}",
        "netgen models lists them; netgen train makes one",
    )


def load(name: str | os.PathLike[str]) -> Model:
    """A model from its path, or a shipped one by its name."""
    return Model.load(find_model(name))


def find_model_for(classes: list[str]) -> Path:
    """The shipped model that has all of these classes.

    Raises
    ------
    ModelError
        If none has, naming what there is.
    """
    models = bundled_models()
    for model in models:
        if all(match_classes(name, model.metadata["classes"]) for name in classes):
            return model.path
    known = "; ".join(f"{model.name}: {', '.join(model.metadata['classes'])}" for model in models)
    raise ModelError(
        f"no shipped model has {'the class' if len(classes) == 1 else 'all of the classes'} {', '.join(classes)}. "
        f"They have {known or 'none'}",
        "Train one on captures of your own: netgen extract, netgen train; then netgen synth --model FILE",
    )
