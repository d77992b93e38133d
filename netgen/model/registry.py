"""The bundled models, and finding a model by name, by path or by class."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

from netgen.capture.errors import ModelError, did_you_mean
from netgen.model.class_names import match_classes
from netgen.model.file import read_model_metadata
from netgen.model.model import Model

FOLDER = Path(__file__).parent / "bundled"


@dataclasses.dataclass(frozen=True)
class BundledModel:
    """A model that comes with netgen."""

    name: str
    path: Path  # the weights
    card: Path  # the model card
    metadata: dict[str, Any]  # of its file


def bundled_models() -> list[BundledModel]:
    """Return the models inside the package, by name."""
    return [BundledModel(path.stem, path, path.with_suffix(".md"), read_model_metadata(path)) for path in _files()]


def _files() -> list[Path]:
    # a training into the package keeps its checkpoint in the same folder
    return sorted(path for path in FOLDER.glob("*.safetensors") if not path.stem.endswith(".checkpoint"))


def find_model(name: str | os.PathLike[str]) -> Path:
    """Return the file of a model: a path, or the name of a bundled model; a ModelError if there is neither."""
    path = Path(name)
    if path.is_file():
        return path
    bundled = FOLDER / f"{path}.safetensors"
    if path.name == str(path) and bundled.is_file():
        return bundled
    names = ", ".join(model.stem for model in _files())
    raise ModelError(
        f"no model {name}: there is no such file, and the bundled models are {names or 'none'}",
        did_you_mean(str(name), [model.stem for model in _files()])
        or "netgen models lists them; netgen train makes one",
    )


def load(name: str | os.PathLike[str]) -> Model:
    """Load a model from its path, or a bundled one by its name."""
    return Model.load(find_model(name))


def find_model_for(classes: list[str]) -> Path:
    """Return the bundled model that has all of these classes; the error names the classes that there are."""
    models = bundled_models()
    for model in models:
        if all(match_classes(name, model.metadata["classes"]) for name in classes):
            return model.path
    known = list(itertools.chain.from_iterable(model.metadata["classes"] for model in models))
    missing = next((name for name in classes if not match_classes(name, known)), "")
    by_model = "; ".join(f"{model.name}: {', '.join(model.metadata['classes'])}" for model in models)
    raise ModelError(
        f"no bundled model has {'the class' if len(classes) == 1 else 'all of the classes'} {', '.join(classes)}. "
        f"They have {by_model or 'none'}",
        did_you_mean(missing, known)
        or "Train one on your captures: netgen extract, netgen train; then netgen synth --model FILE",
    )
