"""Flows of three classes, one of them rare, for the tests of augmentation."""

from pathlib import Path

import numpy as np
import pytest

from netgen.capture.table.flow_table import FlowTable


@pytest.fixture(scope="session")
def rare(tiny_flows: FlowTable) -> FlowTable:
    """Build the tiny flows with 5 of class dns-doh and two without a label; flow numbers with gaps, and addresses."""
    labels = tiny_flows.labels
    labels[[3, 25]] = None
    rows = np.flatnonzero((labels != "dns-doh") | (np.arange(60) < 25))
    table = FlowTable.build(
        tiny_flows.series(), tiny_flows.spec, label=labels.tolist(), src="10.0.0.1", source="a.pcap",
        flow=7 + 3 * np.arange(60), metadata={"made_by": "extract", "read_report": {"packets": 9}},
    )  # fmt: skip
    return table.take(rows)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rare: FlowTable) -> Path:
    """Make a current folder that holds the table."""
    path = tmp_path / "folder"
    path.mkdir()
    monkeypatch.chdir(path)
    rare.write(path / "rare.flows.parquet")
    return path
