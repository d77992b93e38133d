"""netgen learns from network captures and generates new, labelled traffic.

>>> import netgen
>>> flows = netgen.extract("captures/", label_by="folder")  # doctest: +SKIP
>>> model = netgen.train(flows, minutes=10)  # doctest: +SKIP
>>> new = model.sample("netflix", 100, seed=0)  # doctest: +SKIP
>>> X, y = new.to_numpy()  # doctest: +SKIP

Names and options are the same as on the command line: see ``netgen --help``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from netgen._version import __version__ as __version__

if TYPE_CHECKING:
    from netgen.api import extract, extraction, import_traces, load
    from netgen.augmentation.augment import augment
    from netgen.capture.errors import (
        CaptureError,
        InputError,
        ModelError,
        NetgenError,
        OutputError,
        SpecMismatchError,
        TableError,
    )
    from netgen.capture.series.spec import SeriesSpec
    from netgen.capture.table.flow_table import FlowTable, concat
    from netgen.evaluate_files import evaluate
    from netgen.evaluation.usefulness import usefulness
    from netgen.exporters.pcap.options import CaptureOptions
    from netgen.exporters.write import write
    from netgen.model.model import Model
    from netgen.model.registry import bundled_models
    from netgen.torch_dataset import to_torch
    from netgen.training.train import train

#: Module -> names; loaded on first use, so that `netgen --help` does not load torch and pyarrow.
_EXPORTS = {
    "netgen.api": ("extract", "extraction", "import_traces", "load"),
    "netgen.augmentation.augment": ("augment",),
    "netgen.capture.errors": (
        "CaptureError", "InputError", "ModelError", "NetgenError", "OutputError", "SpecMismatchError", "TableError",
    ),
    "netgen.capture.series.spec": ("SeriesSpec",),
    "netgen.capture.table.flow_table": ("FlowTable", "concat"),
    "netgen.evaluate_files": ("evaluate",),
    "netgen.evaluation.usefulness": ("usefulness",),
    "netgen.exporters.pcap.options": ("CaptureOptions",),
    "netgen.exporters.write": ("write",),
    "netgen.model.model": ("Model",),
    "netgen.model.registry": ("bundled_models",),
    "netgen.torch_dataset": ("to_torch",),
    "netgen.training.train": ("train",),
}  # fmt: skip
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "CaptureError", "CaptureOptions", "FlowTable", "InputError", "Model", "ModelError", "NetgenError",
    "OutputError", "SeriesSpec", "SpecMismatchError", "TableError", "augment", "bundled_models", "concat",
    "evaluate", "extract", "extraction", "import_traces", "load", "to_torch", "train", "usefulness", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'netgen' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
