"""A flow table as a PyTorch data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from netgen.capture.errors import InputError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.feature_spaces import signed_log

#: Name -> function of a series. None learns anything from the table, so two tables are always scaled alike.
SCALES: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {"log": signed_log, None: lambda series: series}


@dataclasses.dataclass(eq=False, repr=False)
class FlowDataset(Dataset[tuple[torch.Tensor, int]]):
    """Series and class numbers, one pair a flow, all in memory; made by `to_torch`."""

    series: torch.Tensor  # float32 (flows, channels, bins)
    targets: torch.Tensor  # int64 (flows,): class numbers
    classes: tuple[str, ...]  # class number -> name
    rows: np.ndarray  # int64 (flows,): row of the table that each flow is; other rows had no label
    spec: SeriesSpec  # what the series' numbers mean

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.series[index], int(self.targets[index])

    def __repr__(self) -> str:
        return f"FlowDataset({len(self)} flows, {len(self.classes)} classes, {self.spec})"


def to_torch(
    table: FlowTable | str | os.PathLike[str], *, classes: Sequence[str] | None = None, scale: str | None = "log"
) -> FlowDataset:
    """Convert a flow table to a map-style data set for `torch.utils.data.DataLoader`.

    Rows without a label are left out.

    Parameters
    ----------
    table : FlowTable or path
        The path of a Parquet flow table.
    classes : sequence of str, optional
        Class names in the order of their numbers; otherwise those of the table, sorted. Give a test
        set its training set's ``classes``, so that both mean the same by a number.
    scale : {"log", None}
        ``"log"``: log(1 + |x|) with the sign of x, since bytes a bin range from none to millions. None: the numbers
        as they are, as float32, which is exact up to 16,777,216. Both look at one number at a time:
        a training and a test set are scaled alike.

    Returns
    -------
    FlowDataset
        Its items are ``(series, class number)``: float32 (channels, bins), int.

    Raises
    ------
    TableError
        If no flow has a label, or one has a class that is not among `classes`.
    InputError
        If `classes` or `scale` cannot be used.
    """
    if scale not in SCALES:
        raise InputError(f"scale {scale!r} is not known", 'Take scale="log" or scale=None')
    flows = table if isinstance(table, FlowTable) else FlowTable.read(table)
    kept = flows.labelled()
    names = tuple(kept.classes if classes is None else classes)
    if isinstance(classes, str) or len(set(names)) != len(names):
        raise InputError(f"classes {classes!r} are no list of different names", "Give a training set's: train.classes")
    number = {name: index for index, name in enumerate(names)}
    for name, count in kept.counts().items():
        if name not in number:
            raise TableError(
                f"{count} flows are of class {name!r}, which is not among the classes given: {', '.join(names)}",
                "Name it in classes=, or take its flows out of the table: table.take(table.labels != NAME)",
            )
    return FlowDataset(
        series=torch.from_numpy(SCALES[scale](kept.series()).astype(np.float32)),
        targets=torch.tensor([number[label] for label in kept.labels], dtype=torch.int64),
        classes=names,
        rows=np.flatnonzero(flows.table["label"].is_valid().to_numpy()),
        spec=kept.spec,
    )
