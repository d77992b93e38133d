"""netgen learns from network captures and makes more: labelled synthetic traffic.

>>> import netgen
>>> flows = netgen.extract("captures/", label_by="folder")  # doctest: +SKIP
>>> model = netgen.train(flows, minutes=10)  # doctest: +SKIP
>>> new = model.sample("netflix", 100, seed=0)  # doctest: +SKIP
>>> X, y = new.to_numpy()  # doctest: +SKIP

The words are the commands': see ``netgen --help``.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from capture.errors import NetgenError
    from capture.flows import FlowTable, concat
    from capture.series import SeriesSpec
    from exporters.write import write
    from netgen.augmentation import augment
    from netgen.evaluation.usefulness import usefulness
    from netgen.judging import evaluate
    from netgen.model import Model
    from netgen.pipeline import extract, import_traces, like
    from netgen.shipped import load, shipped_models
    from netgen.torchdata import to_torch
    from netgen.training import train

# name -> module; loaded when first asked for, so that `netgen --help` need not load torch and pyarrow
_WHERE = {
    "FlowTable": "capture.flows",
    "Model": "netgen.model",
    "NetgenError": "capture.errors",
    "SeriesSpec": "capture.series",
    "augment": "netgen.augmentation",
    "concat": "capture.flows",
    "evaluate": "netgen.judging",
    "extract": "netgen.pipeline",
    "import_traces": "netgen.pipeline",
    "like": "netgen.pipeline",
    "load": "netgen.shipped",
    "shipped_models": "netgen.shipped",
    "to_torch": "netgen.torchdata",
    "train": "netgen.training",
    "usefulness": "netgen.evaluation.usefulness",
    "write": "exporters.write",
}

__all__ = [
    "FlowTable",
    "Model",
    "NetgenError",
    "SeriesSpec",
    "augment",
    "concat",
    "evaluate",
    "extract",
    "import_traces",
    "like",
    "load",
    "shipped_models",
    "to_torch",
    "train",
    "usefulness",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'netgen' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _check_siblings() -> None:
    """Refuse to run on somebody else's ``encoders.py``: the rooms have everyday names."""
    home = Path(__file__).resolve().parent.parent
    for room in ("capture", "encoders", "diffusion", "exporters"):
        found = importlib.util.find_spec(room)
        where = Path(found.origin).resolve() if found and found.origin else None
        if where != home / room / "__init__.py":
            raise ImportError(
                f"netgen needs its own package {room!r} in {home / room}, but Python finds "
                f"{where or 'none'} first. Rename that file, or run from another folder."
            )


_check_siblings()
