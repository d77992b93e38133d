"""What a file holds, told by its first bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from capture.errors import InputError
from capture.series import BINS


def describe(file: str | os.PathLike[str]) -> dict[str, Any]:
    """A flow table, a model or a capture as JSON types.

    Raises
    ------
    InputError
        If it is none of these.
    """
    path = Path(file)
    if not path.exists() and path.suffix in ("", ".safetensors"):
        from netgen.shipped import find_model

        path = find_model(file)  # a shipped model's name
    if path.is_dir():
        raise InputError(f"{path} is a folder", f"For all captures in it type: netgen extract {path}")
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", "Name a flow table, a model or a capture"
        ) from error
    if head[:4] == b"PAR1":
        from capture.flows import FlowTable

        return {"file": str(path), "kind": "flow table", **FlowTable.read(path).summary()}
    if head[8:10] == b'{"':
        from netgen.model import read_about

        about = read_about(path)
        kept = ("name", "netgen", "series", "classes", "conditions", "encoder", "network", "noise", "training")
        return {
            "file": str(path),
            "kind": "model",
            "bytes": path.stat().st_size,
            **{key: about[key] for key in kept if key in about},
        }
    from capture.extract import extract
    from capture.extraction import AFTER

    table = extract([path], label_by="sni", length=4)  # the series are not shown
    facts = table.summary()
    facts["account"]["notes"].pop(AFTER[BINS], None)  # of bins that are not shown
    start = table.table["start_ns"].drop_null()
    names = sorted(set(table.table["name"].drop_null().to_pylist()))
    return {
        "file": str(path),
        "kind": "capture",
        "bytes_of_file": path.stat().st_size,
        "first_packet": _time(min(start.to_pylist())) if len(start) else None,
        "flows": facts["flows"],
        "packets": facts["account"]["packets"],
        "ip_bytes": facts["bytes"],
        "server_names": names,
        "classes": facts["classes"],
        "account": facts["account"],
    }


def _time(ns: int) -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)).isoformat()
