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

# name -> module; loaded when first asked for, so that `netgen --help` need not load torch and pyarrow
_WHERE = {
    "CaptureOptions": "netgen.exporters.pcap.options",
    "FlowTable": "netgen.capture.table.flow_table",
    "Model": "netgen.model.model",
    "NetgenError": "netgen.capture.errors",
    "SeriesSpec": "netgen.capture.series.spec",
    "augment": "netgen.augmentation.augment",
    "concat": "netgen.capture.table.flow_table",
    "evaluate": "netgen.evaluate_files",
    "extract": "netgen.api",
    "import_traces": "netgen.api",
    "like": "netgen.api",
    "load": "netgen.model.registry",
    "bundled_models": "netgen.model.registry",
    "to_torch": "netgen.torch_dataset",
    "train": "netgen.training.train",
    "usefulness": "netgen.evaluation.usefulness",
    "write": "netgen.exporters.write",
}

__all__ = [
    "CaptureOptions",
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
    "bundled_models",
    "to_torch",
    "train",
    "usefulness",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'netgen' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
