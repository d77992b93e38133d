"""The six sets of real traces that netgen is measured on, each with its own training and test split.

NAME holds bins, NAME-packets the first 128 packets of each trace. iot-flows is what ``netgen extract --label-by
folder`` makes of captures, one series per flow. tor-unseen holds pages that no setting was chosen with.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

import netgen
from netgen import FlowTable, choices

DATA = Path(os.environ.get("NETGEN_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


@dataclasses.dataclass(frozen=True)
class Source:
    """The file of a set.

    Parameters
    ----------
    file : str
        File of traces, without suffix.
    size_unit : {"ip", "frame", "payload"}
        As for `netgen.import_traces`.
    classes : int, optional
        Number of classes to use, by name; by default all.
    view : {"bins", "packets"}
        Of the series.
    first : int
        First class to use.
    """

    file: str
    size_unit: choices.SizeUnit
    classes: int | None = None
    view: choices.View = "bins"
    first: int = 0

    @property
    def path(self) -> Path:
        return DATA / "series" / f"{self.file}.parquet"


SETS = {
    "video": Source("video_platform", "frame"),
    "certta": Source("certta_flows", "ip"),
    "tor-10": Source("tor_wikipedia", "payload", 10),
    "tor-20": Source("tor_wikipedia", "payload", 20),
    "iot": Source("iot_setup", "frame"),
    "alexa": Source("alexa_voice", "ip"),
}

PACKET_SETS = {f"{name}-packets": dataclasses.replace(source, view="packets") for name, source in SETS.items()}

#: As tor-10, but pages 41 to 50.
UNSEEN_SETS = {"tor-unseen": dataclasses.replace(SETS["tor-10"], first=40)}

#: Folder of captures, with train and test, which hold a folder for each class.
CAPTURE_SETS = {"iot-flows": "iot_setup"}


@functools.lru_cache(maxsize=1)
def load(name: str) -> tuple[FlowTable, FlowTable]:
    """Load training and test flows, with the bin width that fits the training flows."""
    if name in CAPTURE_SETS:
        folder = DATA / "captures" / CAPTURE_SETS[name]
        train = netgen.extract(folder / "train", label_by="folder")
        return train, netgen.extract(folder / "test", label_by="folder", spec_from=train)
    source = {**SETS, **PACKET_SETS, **UNSEEN_SETS}[name]
    filters: list[tuple[str, str, list[str]]] = [("split", "in", ["train", "test"])]
    if source.classes is not None:
        labels = pq.read_table(source.path, columns=["label"], filters=filters)["label"]
        filters.append(("label", "in", sorted(set(labels.to_pylist()))[source.first :][: source.classes]))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, f"{name}.parquet")
        pq.write_table(pq.read_table(source.path, filters=filters), path)
        train = netgen.import_traces(path, size_unit=source.size_unit, split="train", view=source.view)
        return train, netgen.import_traces(path, size_unit=source.size_unit, split="test", spec_from=train)


def missing_data() -> str | None:
    """Return an error message if the traces are absent."""
    return None if (DATA / "series").is_dir() else f"the shared data are not at {DATA}: set NETGEN_SHARED_DATA"
