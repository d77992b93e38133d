"""The six sets of real traces that netgen is measured on, each with its own division in training and test.

Each is there as bins, and, as NAME-packets, as the first 128 packets of each trace. Beside them, iot-flows: what
``netgen extract --label-by folder`` makes of captures, a series for each flow, and tor-unseen: pages with which
nothing was ever chosen.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

import netgen
from netgen import FlowTable

DATA = Path(os.environ.get("NETGEN_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a set comes from.

    Parameters
    ----------
    file : str
        Of traces, without ending.
    sizes : str
        What its sizes count, as `netgen.import_traces` takes it.
    classes : int, optional
        So many of them, by name; otherwise all.
    kind : str
        Of the series.
    first : int
        The first of the classes that are taken.
    """

    file: str
    sizes: str
    classes: int | None = None
    view: str = "bins"
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

OF_PACKETS = {f"{name}-packets": dataclasses.replace(source, view="packets") for name, source in SETS.items()}

#: As tor-10, but pages 41 to 50.
UNSEEN = {"tor-unseen": dataclasses.replace(SETS["tor-10"], first=40)}

#: Folders of captures, divided in train and test, whose folders are the classes.
OF_CAPTURES = {"iot-flows": "iot_setup"}


@functools.lru_cache(maxsize=1)
def load(name: str) -> tuple[FlowTable, FlowTable]:
    """Training and test flows: bins as wide as fits the former, the latter cut alike."""
    if name in OF_CAPTURES:
        folder = DATA / "captures" / OF_CAPTURES[name]
        train = netgen.extract(folder / "train", label_by="folder")
        return train, netgen.extract(folder / "test", label_by="folder", spec_from=train)
    source = {**SETS, **OF_PACKETS, **UNSEEN}[name]
    wanted = [("split", "in", ["train", "test"])]
    if source.classes is not None:
        labels = pq.read_table(source.path, columns=["label"], filters=wanted)["label"]
        wanted.append(("label", "in", sorted(set(labels.to_pylist()))[source.first :][: source.classes]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.parquet")
        pq.write_table(pq.read_table(source.path, filters=wanted), path)
        train = netgen.import_traces(path, size_unit=source.sizes, split="train", view=source.view)
        return train, netgen.import_traces(path, size_unit=source.sizes, split="test", spec_from=train)


def there() -> str | None:
    """What to say where the traces are not; None where they are."""
    return None if (DATA / "series").is_dir() else f"the shared data are not at {DATA}: set NETGEN_SHARED_DATA"
