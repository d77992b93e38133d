"""Fixtures of the tests of flows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.connections import NS, ONE_BIN, T
from support.extraction import extract

from netgen.capture.formats import reader
from netgen.capture.table.flow_table import FlowTable


@pytest.fixture(params=[1 << 25, 100], ids=["one segment", "many segments"])
def flows_of(
    request: pytest.FixtureRequest, pcap_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., FlowTable]:
    """Return a function from (seconds, Ethernet frame) pairs to a flow table, read in one segment and in many."""
    monkeypatch.setattr(reader, "SEGMENT", request.param)

    def flow_table(packets: Any, **options: Any) -> FlowTable:
        path = pcap_file([(T + round(at * NS), frame) for at, frame in packets], nano=True)
        return extract(path, spec=options.pop("spec", ONE_BIN), **options)

    return flow_table
