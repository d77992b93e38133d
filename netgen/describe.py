"""What a file holds, by its first bytes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from netgen.capture.errors import InputError
from netgen.capture.series.spec import BINS


def describe(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a flow table, a model, a capture or the ground truth of one, as JSON types; else an InputError."""
    path = Path(file)
    if not path.exists() and path.suffix in ("", ".safetensors"):
        from netgen.model.registry import find_model

        path = find_model(file)  # a shipped model's name
    if path.is_dir():
        raise InputError(f"{path} is a folder", f"For all captures in it type: netgen extract {path}")
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", "Name a flow table, a model, a capture or its labels"
        ) from error
    if path.suffix.lower() in (".csv", ".parquet") and (labels := _labels(path)):
        return labels
    if head[:4] == b"PAR1":
        from netgen.capture.table.flow_table import FlowTable

        return {"file": str(path), "kind": "flow table", **FlowTable.read(path).summary()}
    if head[8:10] == b'{"':
        from netgen.model.file import read_model_metadata

        metadata = read_model_metadata(path)
        kept = ("name", "netgen", "series", "classes", "strata", "encoder", "network", "noise", "training")
        return {
            "file": str(path),
            "kind": "model",
            "bytes": path.stat().st_size,
            **{key: metadata[key] for key in kept if key in metadata},
        }
    from netgen.capture.extract import TRUNCATED, ExtractOptions, extract

    table = extract(path, ExtractOptions(label_by="sni", length=4))  # the series are not shown
    facts = table.summary()
    facts["read_report"]["warnings"].pop(TRUNCATED[BINS], None)  # of bins that are not shown
    start = table.table["start_ns"].drop_null()
    names = sorted(set(table.table["server_name"].drop_null().to_pylist()))
    return {
        "file": str(path),
        "kind": "capture",
        "bytes_of_file": path.stat().st_size,
        "first_packet": _time(min(start.to_pylist())) if len(start) else None,
        "flows": facts["flows"],
        "packets": facts["read_report"]["packets"],
        "ip_bytes": facts["bytes"],
        "server_names": names,
        "classes": facts["classes"],
        "read_report": facts["read_report"],
    }


def _labels(path: Path) -> dict[str, Any] | None:
    """Describe the ground truth of a capture; None if the file is another."""
    from netgen.exporters.pcap.ground_truth import is_ground_truth, read_ground_truth

    if not is_ground_truth(path):
        return None
    rows = read_ground_truth(path)
    packets, size = (pc.add(rows[f"up_{unit}"], rows[f"down_{unit}"]) for unit in ("packets", "bytes"))
    start = pc.min(rows["start_ns"]).as_py()
    return {
        "file": str(path),
        "kind": "ground truth",
        "flows": rows.num_rows,
        "packets": pc.sum(packets).as_py() or 0,
        "ip_bytes": pc.sum(size).as_py() or 0,
        "first_packet": None if start is None else _time(start),
        "labels": _counts(rows, "label"),
        "connections": _counts(rows, "connection"),
        "repaired": pc.sum(rows["repaired"]).as_py() or 0,
    }


def _counts(rows: pa.Table, column: str) -> dict[str, int]:
    """Count the rows of each value, the most frequent first; a missing column has none."""
    values = rows[column].drop_null().to_pylist() if column in rows.column_names else []
    return dict(Counter(values).most_common())


def _time(ns: int) -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)).isoformat()
